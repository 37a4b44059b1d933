package daemon

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/platform"
)

// Resolver returns the addresses of a host name. It must return soon after its context has
// ended. A *net.DNSError says whether there is no such name.
type Resolver func(ctx context.Context, name string) ([]netip.Addr, error)

// hosts resolves the names of machines among the endpoints that people gave, and passes
// their addresses to the node as hints. A name is resolved when it appears, and again, less
// and less often, while a peer that has it is not reached directly:
//
//	new name, or a peer that has it fails --> due --> asking --> found: hints of its peers
//	                                           ^        |
//	                                           '--------' after a rest, while it is needed
//
// DNS can be forged. All that this can do is name a wrong endpoint, and what answers there
// must prove that it is the peer.
//
// Without names it sleeps until people decide something about a peer.
type hosts struct {
	node    hostNode
	self    anode.ULA
	watch   func(...overlay.EventKind) hostEvents
	resolve Resolver
	network func(ctx context.Context, changed func()) error // see platform.Watch
	log     *slog.Logger

	mu    sync.Mutex
	known map[string]control.Host // for look, by name
}

// hostNode is what hosts needs of a node.
type hostNode interface {
	Entries() []overlay.Peer
	PeerStatus(ctx context.Context, a anode.Address) (overlay.PeerStatus, error)
	SetHints(ctx context.Context, a anode.Address, hints []wire.Endpoint) error
}

// hostEvents is an *overlay.Watch.
type hostEvents interface {
	Next(ctx context.Context) ([]overlay.Event, error)
	Close()
}

// The bounds of resolving.
const (
	queryLimit    = 5 * time.Second  // for one query
	maxQueries    = 4                // that run at once
	firstHostRest = 15 * time.Second // between two queries for a name; doubles
	lastHostRest  = 10 * time.Minute
	freshHostRest = time.Second // after the network has changed
)

// systemResolver asks the system: its hosts file, DNS, and what else it is told to.
func systemResolver(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// resolver returns what resolves the names of machines.
func (d *daemon) resolver() Resolver {
	if d.options.Resolve != nil {
		return d.options.Resolve
	}
	return systemResolver
}

func (d *daemon) newHosts() *hosts {
	watch := func(kinds ...overlay.EventKind) hostEvents { return d.node.Watch(kinds...) }
	return &hosts{node: d.node, self: d.identity.Address().ULA(), watch: watch, resolve: d.resolver(), network: platform.Watch, log: d.log}
}

// run resolves until ctx ends.
func (h *hosts) run(ctx context.Context) error {
	decided := h.watch(overlay.EventDecided)
	defer decided.Close()
	for {
		if slices.ContainsFunc(h.node.Entries(), named) {
			h.serve(ctx)
		}
		if _, err := decided.Next(ctx); err != nil {
			return nil
		}
	}
}

// named reports whether an entry has names to resolve.
func named(e overlay.Peer) bool { return e.Standing() == book.Added && len(e.Hosts) > 0 }

// look returns what is known of a host name. It may be called from any goroutine.
func (h *hosts) look(host book.Host) control.Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.known[host.Name]
	if !ok {
		return control.Host{Endpoint: host, State: control.HostAsking, Addresses: []netip.Addr{}}
	}
	x.Endpoint = host
	return x
}

// serve resolves for as long as there are names.
func (h *hosts) serve(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	w := h.watch(overlay.EventDecided, overlay.EventPeer)
	defer w.Close()
	r := &resolving{
		hosts: h, queries: &running, names: map[string]*hostName{}, peers: map[anode.Address]*namedPeer{},
		answers: make(chan hostAnswer, maxQueries),
	}
	events, moved := make(chan []overlay.Event), make(chan struct{}, 1)
	running.Go(func() { pump(ctx, w, events) })
	running.Go(func() {
		err := h.network(ctx, func() {
			select {
			case moved <- struct{}{}:
			default:
			}
		})
		if err != nil {
			h.log.Debug("changes of the network do not have host names resolved again", "err", err)
		}
	})
	r.run(ctx, events, moved)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = nil
}

// pump passes on events until ctx ends.
func pump(ctx context.Context, w hostEvents, events chan<- []overlay.Event) {
	for {
		list, err := w.Next(ctx)
		if err != nil {
			return
		}
		select {
		case events <- list:
		case <-ctx.Done():
			return
		}
	}
}

// resolving is the names that there are now. It belongs to one goroutine.
type resolving struct {
	*hosts
	queries *sync.WaitGroup
	names   map[string]*hostName
	peers   map[anode.Address]*namedPeer // that have names
	inside  map[netip.Addr]bool          // addresses of the overlay
	asking  int                          // queries that run
	answers chan hostAnswer              // has room for all of them
}

// hostName is what is known of one name.
type hostName struct {
	name    string
	answer  control.Host // without the endpoint
	running bool         // a query is
	last    time.Time    // when it was last answered; zero: never
	rest    time.Duration
}

// namedPeer is a peer that has names.
type namedPeer struct {
	hosts []book.Host
	needs bool            // it is not reached directly, although somebody wants it
	up    bool            // it is connected
	told  bool            // the node has hints
	hints []wire.Endpoint // these, if told
}

// hostAnswer is the end of a query.
type hostAnswer struct {
	name  string
	addrs []netip.Addr
	err   error
}

// run returns when there are no more names, or ctx has ended.
func (r *resolving) run(ctx context.Context, events <-chan []overlay.Event, moved <-chan struct{}) {
	r.read(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(r.peers) > 0 {
		if next := r.launch(ctx); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case list := <-events:
			r.follow(ctx, list)
		case a := <-r.answers:
			r.take(ctx, a)
		case <-moved:
			for _, n := range r.names {
				n.rest = min(n.rest, freshHostRest)
			}
		case <-timer.C:
		}
	}
}

// follow acts on events.
func (r *resolving) follow(ctx context.Context, list []overlay.Event) {
	seen := map[anode.Address]bool{}
	decided := false
	for _, e := range list {
		decided = decided || e.Kind != overlay.EventPeer
		seen[e.Address] = true
		if p := r.peers[e.Address]; p != nil && e.Kind == overlay.EventDecided {
			p.told = false // the node may have forgotten it, and its hints with it
		}
		if e.Kind == overlay.EventMissed {
			for a, p := range r.peers {
				seen[a], p.told = true, false
			}
		}
	}
	if decided {
		r.read(ctx)
	}
	for a := range seen {
		if r.peers[a] != nil {
			r.check(ctx, a)
		}
	}
}

// read takes the names from the book, and forgets those that are gone.
func (r *resolving) read(ctx context.Context) {
	before := r.peers
	r.peers, r.inside = map[anode.Address]*namedPeer{}, map[netip.Addr]bool{r.self.Addr(): true}
	used := map[string]bool{}
	for _, e := range r.node.Entries() {
		if e.Standing() == book.Added {
			r.inside[e.Address.ULA().Addr()] = true
		}
		if !named(e) {
			continue
		}
		p := before[e.Address]
		if p == nil {
			p = &namedPeer{}
		}
		p.hosts = e.Hosts
		r.peers[e.Address] = p
		for _, x := range e.Hosts {
			used[x.Name] = true
			if r.names[x.Name] == nil {
				r.names[x.Name] = &hostName{name: x.Name}
			}
		}
	}
	maps.DeleteFunc(r.names, func(name string, _ *hostName) bool { return !used[name] })
	r.publish()
	for a := range before {
		if r.peers[a] == nil {
			r.node.SetHints(ctx, a, nil) // an error means that it is gone altogether
		}
	}
	for a := range r.peers {
		if before[a] == nil {
			r.check(ctx, a)
		}
		r.hint(ctx, a)
	}
}

// check looks how a peer is. One that was reached has its names resolved soon when it is
// lost the next time.
func (r *resolving) check(ctx context.Context, a anode.Address) {
	s, err := r.node.PeerStatus(ctx, a)
	if err != nil {
		return // it is gone: the book says so as well
	}
	p := r.peers[a]
	p.up = s.State == overlay.StateUp
	p.needs = s.State == overlay.StateConnecting || s.State == overlay.StateUnreachable || p.up && s.Path.Kind == overlay.PathRelay
	if p.up && !p.needs {
		for _, x := range p.hosts {
			n := r.names[x.Name]
			n.rest = min(n.rest, firstHostRest)
		}
	}
}

// launch begins the queries that are due, and returns when the next is: zero if none is, or
// if it has to wait for another to end.
func (r *resolving) launch(ctx context.Context) (next time.Time) {
	var waiting []*hostName
	for _, n := range r.names {
		if !n.running && r.wanted(n) {
			waiting = append(waiting, n)
		}
	}
	slices.SortFunc(waiting, func(a, b *hostName) int { return a.due().Compare(b.due()) })
	for _, n := range waiting {
		switch {
		case time.Until(n.due()) > 0:
			return n.due()
		case r.asking == maxQueries:
			return time.Time{}
		}
		r.ask(ctx, n)
	}
	return time.Time{}
}

// wanted reports whether a name is to be resolved as soon as it is due: at first, while a
// peer needs it, and after a failure until a peer is reached without it.
func (r *resolving) wanted(n *hostName) bool {
	if n.last.IsZero() {
		return true
	}
	failed, up := n.answer.State != control.HostFound, false
	for _, p := range r.peers {
		if slices.ContainsFunc(p.hosts, func(x book.Host) bool { return x.Name == n.name }) {
			if p.needs {
				return true
			}
			up = up || p.up
		}
	}
	return failed && !up
}

// due returns when a name may be resolved next.
func (n *hostName) due() time.Time {
	if n.last.IsZero() {
		return n.last
	}
	return n.last.Add(n.rest)
}

// ask begins a query.
func (r *resolving) ask(ctx context.Context, n *hostName) {
	n.running = true
	r.asking++
	r.queries.Go(func() {
		limited, cancel := context.WithTimeout(ctx, queryLimit)
		defer cancel()
		addrs, err := r.resolve(limited, n.name)
		r.answers <- hostAnswer{n.name, addrs, err}
	})
}

// take takes an answer, and passes on what is new.
func (r *resolving) take(ctx context.Context, a hostAnswer) {
	r.asking--
	n := r.names[a.name]
	if n == nil || ctx.Err() != nil {
		return
	}
	n.running, n.last = false, time.Now()
	n.rest = min(max(2*n.rest, firstHostRest), lastHostRest)
	before := n.answer
	n.answer = r.judge(a, before.Addresses)
	if n.answer.Since = before.Since; before.State != n.answer.State {
		n.answer.Since = new(n.last)
	}
	r.publish()
	for address := range r.peers {
		r.hint(ctx, address)
	}
	r.note(n.name, before, n.answer)
}

// hint passes the addresses of a peer's names to the node if they are not what it has.
func (r *resolving) hint(ctx context.Context, a anode.Address) {
	p := r.peers[a]
	hints := r.hintsOf(p.hosts)
	if p.told && slices.Equal(hints, p.hints) {
		return
	}
	p.told, p.hints = r.node.SetHints(ctx, a, hints) == nil, hints
}

// hintsOf returns the endpoints that names have now: the first of each, then the second of
// each, since the node does not try many at a time.
func (r *resolving) hintsOf(list []book.Host) (hints []wire.Endpoint) {
	for k := range maxHostAddrs {
		for _, x := range list {
			if addrs := r.names[x.Name].answer.Addresses; k < len(addrs) {
				if e := x.At(addrs[k]); !slices.Contains(hints, e) {
					hints = append(hints, e)
				}
			}
		}
	}
	return hints
}

// publish has look see what is known now.
func (r *resolving) publish() {
	known := make(map[string]control.Host, len(r.names))
	for name, n := range r.names {
		if !n.last.IsZero() {
			known[name] = n.answer
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = known
}
