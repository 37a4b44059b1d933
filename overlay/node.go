// Package overlay is the engine of a node: it finds peers, keeps sealed sessions
// with them, and moves packets between a Device and the network.
//
//	out.go    Queue.Read -> route -> Queue.Next -> Session.Seal -> link.Write
//	in.go     link.Read -> header -> session -> Session.Open -> Queue.Put
//	relay.go  link.Read -> recipient -> hop+1 -> link.Write        (no keys)
//
// These loops run to completion on a goroutine each, one of each kind for each of the
// device's queues, without channels or allocation; the one lock on their way is that of
// a replay window, which hardly anybody else wants. Everything else happens in one
// control loop (control.go), which owns the peers, their paths and sessions, and all
// timers. It publishes what the data path needs as immutable snapshots (table.go), and
// has two bounded inboxes: for what is authentic, and for whatever else came in.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/overlay/link"
)

// Errors that callers tell apart.
var (
	ErrUnknownPeer = errors.New("no such peer")
	ErrUnreachable = errors.New("the peer cannot be reached")
	ErrClosed      = errors.New("the node is closed")
	ErrBlocked     = fmt.Errorf("%w: it is blocked", ErrUnreachable)
	ErrSelf        = errors.New("that is this node's own address")
)

// Clock tells the time to a node: Now for what people and peers see, Since for
// ages, which count sleep (CLOCK_BOOTTIME).
type Clock interface {
	Now() time.Time
	Since() time.Duration // monotonic, from any fixed point
}

// Config is what a node is made of. Identity, Store and Network are required.
type Config struct {
	Identity    *anode.Identity
	Store       *Store
	Network     link.Network
	Device      Device   // nil: no adapter; the node still answers pings and relays
	Queues      []Queue  // the device's; each has a lane: goroutines, a socket, a receiver index
	Port        uint16   // UDP port; 0 lets the system choose
	Open        bool     // let everybody in, not only the peers that were added
	PSK         [32]byte // the network secret; zeros: none
	StandardAES bool     // seal with the standard library's AES-GCM, even where ours runs
	Relay       bool     // forward for the peers that were added
	Peers       []Peer   // in addition to the Store's; not kept
	Clock       Clock    // nil: the system's
	Log         *slog.Logger
	Version     string
}

// Node is a running node. New makes it, Run runs it.
type Node struct {
	cfg     Config
	log     *slog.Logger
	address anode.Address
	id      anode.ID
	ula     anode.ULA
	peerID  uint8
	started time.Time

	conns   []link.Conn // one for each lane; what is not sealed comes in by the first
	beacons link.Conn   // nil: conns have the port of the beacons

	// shared by the loops
	counters      counters
	table         atomic.Pointer[table]
	pings         pings
	strangerPings limiter
	strangerCalls limiter // their sealed messages to the control loop
	fragments     fragments

	// towards the control loop
	sealed   chan event // from authentic packets and from the adapter
	unsealed chan event // whatever else came in
	links    chan link.State
	calls    chan call
	done     chan struct{} // closed when Run ends
}

// The bounds of the inboxes; what does not fit is dropped and counted.
const (
	sealedInbox   = 1024
	unsealedInbox = 1024
)

// New opens the node's socket, so that a port that is taken is an error at once.
func New(cfg Config) (*Node, error) {
	if cfg.Clock == nil {
		cfg.Clock = SystemClock()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	address := cfg.Identity.Address()
	peerID, err := ownPeerID(cfg.Store)
	if err != nil {
		return nil, err
	}
	conns, err := listen(&cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, address: address, id: address.ID(), ula: address.ULA(), peerID: peerID,
		started:  cfg.Clock.Now(),
		conns:    conns,
		sealed:   make(chan event, sealedInbox),
		unsealed: make(chan event, unsealedInbox),
		links:    make(chan link.State, 1),
		calls:    make(chan call),
		done:     make(chan struct{}),

		strangerPings: limiter{rate: 10, burst: 10},
		strangerCalls: limiter{rate: 100, burst: 100},
	}
	if conns[0].LocalPort() != link.Port {
		if n.beacons, err = cfg.Network.ListenBeacons(); err != nil {
			n.log.Warn("no beacons can be heard: peers on the LAN find this node only if it finds them", "err", err)
		}
	}
	n.table.Store(&table{})
	return n, nil
}

// listen opens a socket for each of the device's queues, or one for all where the
// network has no groups of sockets.
func listen(cfg *Config) ([]link.Conn, error) {
	if g, ok := cfg.Network.(link.Grouper); ok && len(cfg.Queues) > 1 {
		return g.ListenGroup(cfg.Port, min(len(cfg.Queues), seal.MaxLanes))
	}
	conn, err := cfg.Network.Listen(cfg.Port)
	return []link.Conn{conn}, err
}

// ownPeerID is this machine's among those that share its address (draft 3.4): drawn
// once, then kept.
func ownPeerID(s *Store) (uint8, error) {
	const name = "peer-id"
	b, err := s.Meta(name)
	if err != nil {
		return 0, err
	}
	if len(b) == 1 && b[0] >= 1 && b[0] <= 15 {
		return b[0], nil
	}
	id := uint8(1 + rand.IntN(15))
	return id, s.PutMeta(name, []byte{id})
}

// Run runs the node until ctx ends or a loop fails, and returns when all its
// goroutines are gone. It closes the device and the socket.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	start := func(run func() error) {
		loops.Go(func() {
			if err := run(); err != nil {
				cancel(err)
			}
		})
	}
	c, err := newControl(n)
	if err != nil {
		n.close()
		return err
	}
	links, err := n.cfg.Network.State()
	if err != nil {
		n.log.Warn("links cannot be listed", "err", err)
	}
	c.linksChanged(links)
	queues := n.cfg.Queues
	if len(queues) == 0 {
		queues = []Queue{new(noQueue)}
	} else {
		for i, q := range queues {
			start(func() error { return n.outLoop(q, i%len(n.conns)) })
		}
	}
	for i, conn := range n.conns {
		start(func() error { return n.inLoop(conn, queues[i], i) })
	}
	if n.beacons != nil {
		start(func() error { return n.inLoop(n.beacons, new(noQueue), 0) })
	}
	start(func() error { return c.run(ctx) })
	start(func() error { return n.cfg.Network.Watch(ctx, links, n.postLinks) })

	<-ctx.Done()
	n.close()
	loops.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (n *Node) close() {
	if n.cfg.Device != nil {
		n.cfg.Device.Close()
	}
	for _, conn := range n.conns {
		conn.Close()
	}
	if n.beacons != nil {
		n.beacons.Close()
	}
	close(n.done)
}

// now is the node's time in nanoseconds; it counts sleep.
func (n *Node) now() int64 { return int64(n.cfg.Clock.Since()) }

// post gives an event to the control loop, unless its inbox is full.
func (n *Node) post(e event) bool {
	select {
	case n.sealed <- e:
		return true
	default:
		n.counters.count(dInboxFull)
		return false
	}
}

// postLinks hands over a new state, in the place of one that was not taken yet. Only the
// goroutine that watches the links calls it.
func (n *Node) postLinks(links link.State) {
	select {
	case <-n.links:
	default:
	}
	n.links <- links
}

func (n *Node) postUnsealed(e event) {
	select {
	case n.unsealed <- e:
	default:
		n.counters.count(dInboxFull)
	}
}

// call is a function to be run by the control loop.
type call struct {
	run  func(*control) error
	done chan error
}

// call has the control loop run f and waits for it.
func (n *Node) call(ctx context.Context, f func(*control) error) error {
	k := call{f, make(chan error, 1)}
	select {
	case n.calls <- k:
	case <-n.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-k.done:
		return err
	case <-n.done:
		return ErrClosed
	}
}
