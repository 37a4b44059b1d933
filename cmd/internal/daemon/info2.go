package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay"
	"anodenet/overlay/store"
	"anodenet/platform"
)

// talk is the text networks of a node. They are two, and a text goes from one to the
// other only by a bridge that was asked for:
//
//	adapter  own ULA, port 26000   neighbours: the peers that were added; encrypted
//	bare     IPv4, port 26000      anybody; clear text
//
// One that cannot run, as when another program has the port, is reported and left
// out: the machine's network must not depend on its chat.
type talk struct {
	log      *slog.Logger
	store    *store.Store
	history  *history
	circle   *circle
	networks []*network
	bridged  bool
	node     peerLister // set before anything runs

	mu     sync.Mutex
	nudged time.Time // last
}

// peerLister is what the text networks need of the node.
type peerLister interface {
	Status(ctx context.Context) (overlay.Status, error)
}

// network is a servent and what became of it.
type network struct {
	*info2.Servent
	name control.Network
	port uint16

	mu     sync.Mutex
	failed error // of Run
}

// keepAlive finds out that a neighbour has vanished without a word. Rarely, since
// each probe wakes two machines that may have nothing else to do.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Minute, Interval: time.Minute, Count: 3}

// newTalk makes the networks that the configuration asks for. ula is the adapter's,
// or the zero address without one.
func newTalk(c config.Info2, ula netip.Addr, store *store.Store, log *slog.Logger) (*talk, error) {
	t := &talk{log: log, store: store, history: newHistory(store, log), circle: newCircle(), bridged: c.Bridge}
	if c.Enabled && ula.IsValid() {
		err := t.add(control.NetworkAdapter, info2.Config{
			Port: c.Port,
			Dial: t.circle.dial(ula), Listen: t.circle.listen(ula),
			Allow: t.circle.has, NameOf: t.circle.name, Closed: true,
		})
		if err != nil {
			return nil, err
		}
	}
	if c.Bare {
		known, err := loadHosts(store)
		if err == nil {
			err = t.add(control.NetworkBare, info2.Config{
				Port: c.Port, Dial: dialBare, Listen: listenBare, Known: known,
				Allow: func(a netip.Addr) bool { return a.Is4() },
			})
		}
		if err != nil {
			return nil, err
		}
		log.Warn("Info2 on the bare network is clear text: everybody on the way can read it, and write it", "port", c.Port)
	}
	if t.bridged && t.find(control.NetworkAdapter) == nil {
		log.Warn("there is no adapter, so info2.bridge has nothing to bridge")
	}
	return t, nil
}

func (t *talk) add(name control.Network, c info2.Config) error {
	c.Name, c.Logger = string(name), t.log
	c.History = recorder{t.history, name}
	s, err := info2.New(c)
	if err != nil {
		return err
	}
	t.networks = append(t.networks, &network{Servent: s, name: name, port: c.Port})
	return nil
}

// dialBare and listenBare are IPv4 only, as the memo's addresses are: and so the bare
// network never reaches into the adapter.
func dialBare(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	return d.DialContext(ctx, "tcp4", to.String())
}

func listenBare(ctx context.Context, port uint16) (net.Listener, error) {
	c := net.ListenConfig{KeepAliveConfig: keepAlive}
	return c.Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
}

// Of nudges: how often, and how long a text waits for what comes of one.
const (
	nudgeEvery = 5 * time.Second
	nudgeWait  = 2 * time.Second
	nudgeLook  = 100 * time.Millisecond
)

// find gives a network, nil if it is off.
func (t *talk) find(name control.Network) *network {
	for _, n := range t.networks {
		if n.name == name {
			return n
		}
	}
	return nil
}

// run takes part in the networks until ctx ends. It never fails.
func (t *talk) run(ctx context.Context) {
	defer t.history.close()
	if len(t.networks) == 0 {
		return
	}
	// The servents outlive ctx for as long as it takes to ask whom they know.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group sync.WaitGroup
	for _, n := range t.networks {
		group.Go(func() { n.run(running, t.log) })
	}
	if a, b := t.find(control.NetworkAdapter), t.find(control.NetworkBare); t.bridged && a != nil && b != nil {
		group.Go(func() { info2.Bridge(running, a.Servent, b.Servent) }) // ends with either
	}
	group.Go(func() {
		err := platform.Watch(ctx, func() { t.wake(ctx) })
		if err != nil && ctx.Err() == nil {
			t.log.Warn("info2 does not hear of changes of the network", "err", err)
		}
	})
	t.refresh(ctx)
	<-ctx.Done()
	t.saveHosts()
	stop()
	group.Wait()
}

func (n *network) run(ctx context.Context, log *slog.Logger) {
	err := n.Servent.Run(ctx)
	if err == nil {
		return
	}
	n.mu.Lock()
	n.failed = err
	n.mu.Unlock()
	log.Error("Info2 does not run; the rest does", "network", n.name, "err", err)
}

// problem says why the network does not run, nil if it does.
func (n *network) problem() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

// refresh makes the peers that were added the adapter's neighbours.
func (t *talk) refresh(ctx context.Context) {
	n := t.find(control.NetworkAdapter)
	if n == nil {
		return
	}
	status, err := t.node.Status(ctx)
	if err == nil {
		err = n.SetFriends(ctx, t.circle.set(status.Peers))
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, info2.ErrStopped) {
		t.log.Error("info2 did not learn which peers were added", "err", err)
	}
}

// nudge dials the peers that are reachable and not linked, when somebody looks or
// speaks: a servent that could not reach them pauses for up to hours, and nobody tells
// it that there is a way now. It reports whether there are any.
func (t *talk) nudge(ctx context.Context) bool {
	n := t.find(control.NetworkAdapter)
	if n == nil || n.problem() != nil {
		return false
	}
	t.mu.Lock()
	early := time.Since(t.nudged) < nudgeEvery
	if !early {
		t.nudged = time.Now()
	}
	t.mu.Unlock()
	if early {
		return false
	}
	peers, err := t.node.Status(ctx)
	if err != nil {
		return false
	}
	status, err := n.Servent.Status(ctx)
	if err != nil {
		return false
	}
	linked := map[netip.Addr]bool{}
	for _, l := range status.Links {
		linked[l.Addr] = true
	}
	for _, p := range peers.Peers {
		if p.Allowed && p.State == overlay.StateUp && !linked[p.ULA.Addr()] {
			return n.NetworkChanged(ctx) == nil
		}
	}
	return false
}

// wake tries again whom it could not reach.
func (t *talk) wake(ctx context.Context) {
	for _, n := range t.networks {
		if err := n.NetworkChanged(ctx); err != nil {
			t.log.Debug("info2 does not run", "network", n.name)
		}
	}
}

// Status tells how the networks are.
func (t *talk) Status(ctx context.Context) (control.Info2Status, error) {
	t.nudge(ctx)
	status := control.Info2Status{Schema: 1, Networks: []control.Info2Network{}, Bridged: t.bridged, History: historyMax}
	for _, n := range t.networks {
		one := control.Info2Network{Encrypted: n.name == control.NetworkAdapter, Counters: map[string]uint64{}}
		s, err := n.Servent.Status(ctx)
		switch {
		case errors.Is(err, info2.ErrStopped):
			s = info2.Status{Network: string(n.name), Port: n.port, Inbound: info2.InboundOff,
				Links: []info2.LinkStatus{}, Neighbours: []info2.NeighbourStatus{}}
			one.Failed = "it is ending"
			if err := n.problem(); err != nil {
				one.Failed = err.Error()
			}
		case err != nil:
			return status, err
		}
		for counter, count := range s.Counters {
			one.Counters[counter.String()] = count
		}
		one.Status = s
		status.Networks = append(status.Networks, one)
	}
	return status, nil
}

// Hosts tells who is known.
func (t *talk) Hosts(ctx context.Context) (control.Info2Hosts, error) {
	answer := control.Info2Hosts{Schema: 1, Hosts: []control.Info2Host{}}
	for _, n := range t.networks {
		list, err := n.Servent.Hosts(ctx)
		if err != nil && !errors.Is(err, info2.ErrStopped) {
			return answer, err
		}
		for _, h := range list {
			answer.Hosts = append(answer.Hosts, control.Info2Host{Network: n.name, HostStatus: h})
		}
	}
	return answer, nil
}

// Say says a text on one network. Without a name it is the adapter's if that was
// asked for, even if it failed: what was meant for peers never becomes clear text.
func (t *talk) Say(ctx context.Context, r control.SayRequest) (control.Said, error) {
	if r.Network == "" && len(t.networks) > 0 {
		r.Network = t.networks[0].name
	}
	n, err := t.running(r.Network)
	if err != nil {
		return control.Said{}, err
	}
	say := n.Servent.Say
	if r.Anyway {
		say = n.Servent.SayAnyway
	}
	nudged := n.name == control.NetworkAdapter && t.nudge(ctx)
	mid, err := say(ctx, r.Text)
	for until := time.Now().Add(nudgeWait); nudged && errors.Is(err, info2.ErrNobody) && time.Now().Before(until); {
		if pause(ctx, nudgeLook) != nil {
			break
		}
		mid, err = say(ctx, r.Text)
	}
	return control.Said{Network: n.name, MID: mid}, err
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Connect dials an address, and remembers it for the next start if it is a
// stranger's.
func (t *talk) Connect(ctx context.Context, addr netip.Addr) (control.Connecting, error) {
	addr = addr.Unmap()
	name := control.NetworkAdapter
	if addr.Is4() {
		name = control.NetworkBare
	}
	n, err := t.running(name)
	if err != nil {
		return control.Connecting{}, err
	}
	err = n.Servent.Connect(ctx, addr)
	switch {
	case errors.Is(err, info2.ErrForbidden) && name == control.NetworkAdapter:
		err = &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("%s is no peer that you added", addr), Try: "anode peers list, or an IPv4 address for the bare network"}
	case errors.Is(err, info2.ErrForbidden):
		err = &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("%s is this machine itself, or an address that is never dialled", addr)}
	case err == nil && name == control.NetworkBare:
		err = rememberHosts(t.store, addr)
	}
	return control.Connecting{Network: name}, err
}

// Log gives the history, and what comes after it.
func (t *talk) Log(_ context.Context, last int, follow bool) ([]control.Entry, <-chan control.Entry, func(), error) {
	return t.history.read(last, follow)
}

// running gives a network, or says why it cannot.
func (t *talk) running(name control.Network) (*network, error) {
	n := t.find(name)
	switch {
	case n != nil:
		if err := n.problem(); err != nil {
			return nil, &control.Error{Code: control.CodeRefused, Message: fmt.Sprintf("Info2 on the %s network does not run: %v", name, err), Try: "stop the program that has the port, and restart the daemon"}
		}
		return n, nil
	case name == control.NetworkBare:
		return nil, &control.Error{Code: control.CodeRefused, Message: "Info2 on the bare network is off", Try: "the daemon with --info2-bare; it is clear text"}
	case name == control.NetworkAdapter || name == "":
		return nil, &control.Error{Code: control.CodeRefused, Message: "Info2 is off", Try: "info2.enabled = true in the configuration, and a daemon with an adapter"}
	}
	return nil, &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("there is no network %q", name), Try: "adapter, or bare"}
}
