package daemon

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/dns"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/people"
	"anodenet/platform"
)

// nameService has other programs find peers by name: it answers DNS on our ULA, and has the
// system's resolver ask there.
//
//	book, friends' services -> snapshot -> dns.Server <- queries of this machine
//	                               |
//	                           settings -> platform.Names -> the system's resolver
//
// Nothing is done while nothing happens. Names come from the book alone.
type nameService struct {
	self     anode.Address
	off      string // why it does not run; empty: it does
	log      *slog.Logger
	entries  func() []book.Entry
	link     func() platform.State // of the adapter
	server   *dns.Server           // nil: off
	resolver platform.Names
	lan      *virtualLAN
	// friends returns the services that friends told; nil: nobody knows any. Whoever sets it does
	// so before run, and calls again when they changed.
	friends func() map[anode.Address][]dns.Service

	changed chan struct{} // holds one: the snapshot is out of date
	moved   chan struct{} // holds one: links or addresses changed
	apply   chan struct{} // holds one: the resolver is to be told
	serial  uint32        // owned by followBook

	mu       sync.Mutex
	settings config.Names
	services []dns.Service // our own
	snapshot *dns.Snapshot
	domains  []string
	at       netip.AddrPort // where the server listens; not valid: nowhere
	problem  string         // why nowhere, or not at the wanted port
	failed   string         // of the last attempt to tell the resolver
	flush    bool           // a name went, which the resolver may remember
	told     bool           // the resolver was told something
}

func (d *daemon) newNames() *nameService {
	n := &nameService{
		self: d.identity.Address(), log: d.log, lan: d.lan,
		changed: make(chan struct{}, 1), moved: make(chan struct{}, 1), apply: make(chan struct{}, 1),
		settings: d.cfg.Names, services: d.cfg.Services,
	}
	switch {
	case !d.cfg.Names.Enabled:
		n.off = "names.enabled is false"
		return n
	case d.cfg.Tun.Name == config.NoTun:
		n.off = "there is no adapter; the SOCKS proxy, forwards and the commands of anode know the names"
		return n
	}
	n.server, n.resolver = dns.NewServer(d.log, clock{}.Since), platform.NewNames(d.log)
	n.entries = func() []book.Entry { return d.book.Entries() }
	n.link = func() platform.State { return d.adapter.keeper.State() }
	return n
}

// Suffix implements control.Names.
func (n *nameService) Suffix() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settings.Suffix
}

// again notes that what names mean may have changed. Any goroutine may call it and mended.
func (n *nameService) again() { note(n.changed) }

// mended notes that the adapter's address or link was away: the resolver forgets its settings
// then.
func (n *nameService) mended() {
	note(n.moved)
	note(n.apply)
}

// note leaves a note, unless there is one. It never waits.
func note(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// known returns the address of a ULA that a program asked DNS for by the address itself, a short
// while ago. Any goroutine may call it.
func (n *nameService) known(u anode.ULA) (anode.Address, bool) {
	if n.server == nil {
		return anode.Address{}, false
	}
	return n.server.Asked(u)
}

// offers returns our own services as friends are told of them.
func (n *nameService) offers() []people.Service {
	n.mu.Lock()
	defer n.mu.Unlock()
	return peopleServices(n.services)
}

// Set takes up the settings that can change while the daemon runs.
func (n *nameService) Set(s config.Names, services []dns.Service) {
	n.mu.Lock()
	s.Enabled, s.Port = n.settings.Enabled, n.settings.Port
	n.settings, n.services = s, services
	n.mu.Unlock()
	n.again()
	note(n.apply)
}

// run serves names and tells the resolver of them until ctx ends.
func (n *nameService) run(ctx context.Context, watch func(...overlay.EventKind) *overlay.Watch) error {
	var running sync.WaitGroup
	defer running.Wait()
	w := watch(overlay.EventDecided)
	n.publish()
	running.Go(func() { n.followBook(ctx, w) })
	running.Go(func() { n.followLinks(ctx) })
	running.Go(func() { n.serve(ctx) })
	running.Go(func() { n.followResolver(ctx) })
	return nil
}

// followResolver has the resolver told and watched. It begins after startPause: at the start of the daemon the
// processors are for the first packets.
func (n *nameService) followResolver(ctx context.Context) {
	select {
	case <-time.After(startPause):
	case <-ctx.Done():
		return
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		if err := n.resolver.Run(ctx); err != nil {
			n.log.Warn("the system's resolver is not watched", "err", err)
		}
	})
	n.tellResolver(ctx)
}

// followBook publishes what names mean after each decision about a peer.
func (n *nameService) followBook(ctx context.Context, w *overlay.Watch) {
	defer w.Close()
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		for {
			if _, err := w.Next(ctx); err != nil {
				return
			}
			n.again()
		}
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		n.publish()
	}
}

// publish makes a snapshot of what names mean now.
func (n *nameService) publish() {
	n.serial++
	n.mu.Lock()
	c := dns.Contents{Suffix: n.settings.Suffix, Serial: n.serial, Self: n.self, Alias: n.aliasOf, Stranger: n.server.Asked, Services: map[anode.Address][]dns.Service{}}
	own := n.services
	n.mu.Unlock()
	if n.friends != nil {
		maps.Copy(c.Services, n.friends())
	}
	c.Services[n.self] = own
	zones := []anode.Zone{n.self.Zone()}
	for _, e := range n.entries() {
		switch e.Standing() {
		case book.Added:
			c.Peers = append(c.Peers, dns.Peer{Address: e.Address, Name: e.Name})
			zones = append(zones, e.Address.Zone())
		case book.Blocked:
			c.Blocked = append(c.Blocked, e.Address)
		}
	}
	slices.Sort(zones)
	c.Zones = slices.Compact(zones)
	next := dns.New(c)
	n.server.Publish(next)
	n.published(next, domainsOf(c))
}

// aliasOf returns the IPv4 alias of a machine, as it is now.
func (n *nameService) aliasOf(u anode.ULA) (netip.Addr, bool) {
	if u == n.self.ULA() {
		return n.lan.ownAlias()
	}
	return n.lan.aliasOf(u)
}

// domainsOf lists the domains that are answered for, the suffix first.
func domainsOf(c dns.Contents) []string {
	list := []string{c.Suffix}
	for _, z := range c.Zones {
		list = append(list, dns.ReverseZone(z))
	}
	return list
}

// published has the resolver told of what a new snapshot changes for it.
func (n *nameService) published(next *dns.Snapshot, domains []string) {
	n.mu.Lock()
	before := n.snapshot
	another := !slices.Equal(domains, n.domains)
	n.snapshot, n.domains = next, domains
	if before != nil && went(before.Names(), next.Names()) {
		n.flush, another = true, true
	}
	n.mu.Unlock()
	if another {
		note(n.apply)
	}
}

// went reports whether a name is gone, or is somebody else's.
func went(before, after map[string]anode.ULA) bool {
	for name, u := range before {
		if after[name] != u {
			return true
		}
	}
	return false
}

// followLinks keeps to the addresses that this machine has: queries come from these alone.
func (n *nameService) followLinks(ctx context.Context) {
	n.server.SetOwn(ownAddrs(n.self, nil))
	err := platform.Watch(ctx, func() {
		list, err := net.InterfaceAddrs()
		if err != nil {
			n.log.Warn("this machine's addresses cannot be read", "err", err)
		}
		n.server.SetOwn(ownAddrs(n.self, list))
		note(n.moved)
	})
	if err != nil {
		n.log.Warn("changes of links are not noticed by the name server", "err", err)
	}
}

// ownAddrs returns a system's list of addresses, and our ULA, which may be away just now.
func ownAddrs(self anode.Address, list []net.Addr) []netip.Addr {
	own := []netip.Addr{self.ULA().Addr()}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr().WithZone("").Unmap())
		}
	}
	return own
}

// Waits of the service.
const (
	retryFirst  = time.Second // before the server tries again to listen
	retryLast   = time.Minute
	applyPause  = 200 * time.Millisecond // between two changes of the resolver's settings
	startPause  = 100 * time.Millisecond
	applyLimit  = 10 * time.Second
	revertLimit = 2 * time.Second
)

// serve answers queries. Where the sockets cannot be had it tries again, at once if links or
// addresses change.
func (n *nameService) serve(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		sockets, err := n.listen()
		if err == nil {
			note(n.apply)
			wait = retryFirst
			if err = n.server.Serve(ctx, sockets); ctx.Err() != nil {
				return
			}
		}
		n.silent(err)
		select {
		case <-ctx.Done():
		case <-n.moved:
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLast)
	}
}

// listen opens the sockets, and notes where.
func (n *nameService) listen() (*dns.Sockets, error) {
	n.mu.Lock()
	port := n.settings.Port
	n.mu.Unlock()
	at := n.self.ULA().Addr()
	s, err := dns.Listen(netip.AddrPortFrom(at, port))
	problem := ""
	if err != nil && port != dns.OtherPort {
		problem = err.Error()
		var other error
		if s, other = dns.Listen(netip.AddrPortFrom(at, dns.OtherPort)); other != nil {
			return nil, errors.Join(err, other)
		}
	} else if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at != s.At() || n.problem != problem {
		n.log.Info("names of peers are answered", "suffix", n.settings.Suffix, "server", s.At(), "problem", problem)
	}
	n.at, n.problem = s.At(), problem
	return s, nil
}

// silent notes that nothing answers, and why.
func (n *nameService) silent(err error) {
	problem := "the server ended"
	if err != nil {
		problem = err.Error()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at.IsValid() || n.problem != problem {
		n.log.Warn("names of peers are not answered; it will be retried", "err", problem)
	}
	n.at, n.problem = netip.AddrPort{}, problem
}

// tellResolver has the resolver ask us, again after each change, and takes that back in the end.
func (n *nameService) tellResolver(ctx context.Context) {
	defer n.revert()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.apply:
		}
		n.tellOnce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(applyPause):
		}
	}
}

// tellOnce brings the resolver to what is wanted now.
func (n *nameService) tellOnce(ctx context.Context) {
	settings, managed, ready := n.wanted()
	if !managed {
		n.revert()
		return
	}
	if !ready {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	err := n.resolver.Apply(ctx, settings)
	n.mu.Lock()
	flush := n.flush
	n.flush, n.told = false, true
	n.mu.Unlock()
	if f, ok := n.resolver.(platform.NameFlusher); ok && flush && err == nil {
		err = f.Flush(ctx)
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return
	}
	n.outcome(err)
}

// outcome notes what came of telling the resolver.
func (n *nameService) outcome(err error) {
	failed, why := "", ""
	if err != nil {
		failed = err.Error()
		why = cmp.Or(n.resolver.Describe().Why, failed) // people have no use for the system's words
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if failed != n.failed && failed != "" {
		n.log.Warn("other programs do not find peers by name; try: anode dns", "err", why)
		n.log.Debug("the system's resolver was not told of the names", "err", failed)
	}
	n.failed = failed
}

// wanted returns what the resolver is to know, whether we are to tell it, and whether there is
// something to tell.
func (n *nameService) wanted() (s platform.NameSettings, managed, ready bool) {
	link := n.link()
	if link.Index == 0 {
		if i, err := net.InterfaceByName(link.Name); err == nil {
			link.Index = i.Index
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s = platform.NameSettings{Link: link.Index, Name: link.Name, Server: n.at, Domains: slices.Clone(n.domains), Search: n.settings.Search, MulticastDNS: n.lan.ethernet()}
	return s, n.settings.Manage == config.ManageAuto, n.at.IsValid() && len(n.domains) > 0
}

// revert takes back what the resolver was told.
func (n *nameService) revert() {
	n.mu.Lock()
	told := n.told
	n.told, n.failed = false, ""
	n.mu.Unlock()
	if !told {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), revertLimit)
	defer cancel()
	if err := n.resolver.Revert(ctx); err != nil {
		n.log.Warn("the system's resolver was not told of the end of the names", "err", err)
	}
}

// View implements control.Names.
func (n *nameService) View() control.NamesView {
	if n.off != "" {
		return control.NamesView{Suffix: n.Suffix(), Off: n.off, Domains: []string{}, Counters: map[string]uint64{}, Resolver: control.NamesResolver{Manager: platform.ManagerNone}}
	}
	r := n.resolver.Describe()
	n.mu.Lock()
	defer n.mu.Unlock()
	v := control.NamesView{
		Suffix: n.settings.Suffix, Problem: n.problem, Services: len(n.services), Domains: slices.Clone(n.domains), Search: n.settings.Search, Counters: map[string]uint64{},
		Resolver: control.NamesResolver{Managed: n.settings.Manage == config.ManageAuto, Manager: cmp.Or(r.Manager, platform.ManagerNone), Applied: r.Applied, Why: r.Why, Try: r.Try, Instructions: r.Instructions, Error: n.failed},
	}
	if v.Domains == nil {
		v.Domains = []string{n.settings.Suffix}
	}
	if n.at.IsValid() {
		at := n.at
		v.Server = &at
	} else {
		v.Try = "names.port in the configuration; or end the program that has the port"
	}
	if !v.Resolver.Managed {
		v.Resolver.Why, v.Resolver.Try = "names.manage is off", "anode dns instructions"
	}
	if n.snapshot != nil {
		v.Names = len(n.snapshot.Names()) - 1 // without our own
	}
	n.server.Count(v.Counters)
	return v
}

// takeNames takes up the settings of names that can change, and the services.
func (d *daemon) takeNames(ctx context.Context, c config.Config) error {
	d.names.Set(c.Names, c.Services)
	return d.people.ServicesChanged(ctx)
}

// keepNames notes the settings of names that can change.
func keepNames(r *config.Config, c config.Config) {
	r.Names.Suffix, r.Names.Search, r.Names.Manage, r.Services = c.Names.Suffix, c.Names.Search, c.Names.Manage, c.Services
}

// takeServices takes up the services, where nothing else of names changed.
func (d *daemon) takeServices(c config.Config) (changed bool, err error) {
	if !d.names.setServices(c.Services) {
		return false, nil
	}
	d.log.Info("the services changed", "services", len(c.Services))
	return true, d.people.ServicesChanged(context.Background())
}

// setServices replaces our own services, and reports whether they are others.
func (n *nameService) setServices(list []dns.Service) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if equalServices(n.services, list) {
		return false
	}
	n.services = list
	note(n.changed)
	return true
}
