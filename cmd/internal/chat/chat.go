// Package chat runs the text networks of a node (package info2) as one service of
// the daemon:
//
//	adapter  own ULA, port 26000   neighbours: the peers that were added; encrypted
//	bare     IPv4, port 26000      anybody; clear text
//
// They are two networks: a text goes from one to the other only by a bridge that was
// asked for, and each has a history of its own. A network that cannot run, for
// instance because another program has the port, is reported and left out: the
// machine's network must not depend on its chat.
package chat

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// Node is what the chat needs of the overlay.
type Node interface {
	// Peers lists the peers that were added and are not blocked.
	Peers(ctx context.Context) ([]Peer, error)
}

// Peer is somebody who may be a neighbour on the adapter.
type Peer struct {
	ULA  netip.Addr
	Name string
	Up   bool // whether a path to it is known now
}

// Store keeps what must outlive the chat. Its methods may be called from any goroutine;
// those that write wait for the disk.
type Store interface {
	// AppendLog adds values to a log and drops its oldest beyond max entries, all or
	// nothing. Without values and with a max of 0 it empties the log.
	AppendLog(name string, values [][]byte, max int) error
	// TailLog returns the last n values of a log, oldest first.
	TailLog(name string, n int) ([][]byte, error)
	// Meta returns a value, nil if there is none.
	Meta(name string) ([]byte, error)
	// PutMeta keeps a value.
	PutMeta(name string, value []byte) error
}

// Transport is how a text network reaches others.
type Transport struct {
	Dial   func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Listen func(ctx context.Context, port uint16) (net.Listener, error)
}

// Config is what New needs.
type Config struct {
	Settings config.Info2
	// ULA is the adapter's address, the zero address without an adapter.
	ULA   netip.Addr
	Node  Node // used from Run on
	Store Store
	// Adapter and Bare reach the two networks; see FromULA and FromIPv4.
	Adapter, Bare Transport
	// Watch calls changed when the system's network changes, until ctx ends.
	Watch func(ctx context.Context, changed func()) error
	Log   *slog.Logger
}

// Chat is the text networks. It implements control.Info2.
type Chat struct {
	config   Config
	log      *slog.Logger
	node     Node
	watch    func(ctx context.Context, changed func()) error
	hosts    hostBook
	history  *history
	peers    *peers
	networks []*network
	bridged  bool
}

// network is a servent and its state.
type network struct {
	*info2.Servent
	name control.Network
	port uint16

	mu     sync.Mutex
	failed error // owned by Run
}

// New makes the networks that the settings switch on.
func New(c Config) (*Chat, error) { return newChat(c, newHistory(c.Store, c.Log)) }

// With makes the networks for other settings, with the same history. Its RunNetworks can
// take the place of t's when that has returned.
func (t *Chat) With(settings config.Info2) (*Chat, error) {
	c := t.config
	c.Settings = settings
	return newChat(c, t.history)
}

// Settings returns the settings of the networks.
func (t *Chat) Settings() config.Info2 { return t.config.Settings }

func newChat(c Config, h *history) (*Chat, error) {
	t := &Chat{
		config: c, log: c.Log, node: c.Node, watch: c.Watch, hosts: hostBook{c.Store},
		history: h, peers: newPeers(), bridged: c.Settings.Bridge,
	}
	if c.Settings.Enabled && c.ULA.IsValid() {
		err := t.add(control.NetworkAdapter, info2.Config{
			Port: c.Settings.Port,
			Dial: t.peers.circle.dial(c.Adapter.Dial), Listen: t.peers.circle.listen(c.Adapter.Listen),
			Allow: t.peers.circle.has, NameOf: t.peers.circle.name, Closed: true,
		})
		if err != nil {
			return nil, err
		}
	}
	if c.Settings.Bare {
		known, err := t.hosts.load()
		if err == nil {
			err = t.add(control.NetworkBare, info2.Config{
				Port: c.Settings.Port, Dial: c.Bare.Dial, Listen: c.Bare.Listen, Known: known,
				Allow: func(a netip.Addr) bool { return a.Is4() },
			})
		}
		if err != nil {
			return nil, err
		}
		c.Log.Warn("Info2 on the bare network is clear text: everybody on the path can read and forge it", "port", c.Settings.Port)
	}
	if t.bridged && t.find(control.NetworkAdapter) == nil {
		c.Log.Warn("info2.bridge has no effect: there is no adapter")
	}
	return t, nil
}

func (t *Chat) add(name control.Network, c info2.Config) error {
	c.Name, c.Logger = string(name), t.log
	c.History = recorder{t.history, name}
	s, err := info2.New(c)
	if err != nil {
		return err
	}
	t.networks = append(t.networks, &network{Servent: s, name: name, port: c.Port})
	return nil
}

// find returns a network, nil if it is off.
func (t *Chat) find(name control.Network) *network {
	for _, n := range t.networks {
		if n.name == name {
			return n
		}
	}
	return nil
}

// Run takes part in the networks until ctx ends, and returns when all that it received is
// written. It logs failures, and never returns an error.
func (t *Chat) Run(ctx context.Context) error {
	return t.RunHistory(ctx, t.RunNetworks)
}

// RunHistory writes texts while it runs a function with ctx, and until all that came
// meanwhile is written.
func (t *Chat) RunHistory(ctx context.Context, networks func(context.Context) error) error {
	writing, flush := context.WithCancel(context.WithoutCancel(ctx))
	written := make(chan struct{})
	go func() {
		t.history.run(writing)
		close(written)
	}()
	err := networks(ctx)
	flush()
	<-written
	return err
}

// RunNetworks takes part in the networks until ctx ends. RunHistory must run meanwhile.
func (t *Chat) RunNetworks(ctx context.Context) error {
	if len(t.networks) > 0 {
		t.run(ctx)
	}
	<-ctx.Done()
	return nil
}

func (t *Chat) run(ctx context.Context) {
	// The servents outlive ctx until they were asked which hosts they know.
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
		err := t.watch(ctx, func() { t.wake(ctx) })
		if err != nil && ctx.Err() == nil {
			t.log.Warn("info2 does not learn about changes of the network", "err", err)
		}
	})
	group.Go(func() { t.followPeers(ctx) })
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
	log.Error("Info2 does not run; everything else does", "network", n.name, "err", err)
}

// problem returns why the network does not run, nil if it does.
func (n *network) problem() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed
}

// wake lets the servents dial those again that they could not reach.
func (t *Chat) wake(ctx context.Context) {
	for _, n := range t.networks {
		if err := n.NetworkChanged(ctx); err != nil {
			t.log.Debug("info2 does not run", "network", n.name)
		}
	}
}

// saveHosts keeps, at the end, the hosts that the bare network's servent has talked with.
func (t *Chat) saveHosts() {
	n := t.find(control.NetworkBare)
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list, err := n.Servent.Hosts(ctx)
	var good []netip.Addr
	for _, h := range list {
		if !h.Verified.IsZero() && h.Failures == 0 && !h.PerMessage {
			good = append(good, h.Addr)
		}
	}
	if err == nil && len(good) > 0 {
		err = t.hosts.remember(good...)
	}
	if err != nil && !errors.Is(err, info2.ErrStopped) {
		t.log.Warn("info2 could not save the hosts that it knows", "err", err)
	}
}
