// Package overlay is the engine of a node: it finds peers, keeps sealed sessions
// with them, and moves packets between a Device and the network.
//
//	out.go    Queue.Read -> route -> Queue.Next -> Session.Seal -> link.Write
//	in.go     link.Read -> header -> session -> Session.Open -> Queue.Put
//	relay.go  link.Read -> recipient -> hop+1 -> link.Write        (no keys)
//
// These lanes run to completion on a goroutine each, one of each kind for each of the
// device's queues, without channels or allocation; the one lock on their way is that of
// a replay window, which hardly anybody else wants. Everything else happens in one
// loop (loop.go), which owns the peers, their paths and sessions, and all timers. It
// shows the lanes what they need through an index of contacts (index.go), in which each
// fact is an atomic pointer to an immutable value.
//
// Programs of the same process are a second source and sink beside the Device: Dial, Listen
// and ListenPacket (dial.go) give them streams and datagrams with peers (programs.go,
// socket.go). A node needs no Device for that.
//
// What comes in for the loop waits in inboxes of which each has its bound: what is
// authentic, what the adapter sends to peers without a session, and what anybody can
// send share none. messages.go has the rules about who may send what.
package overlay

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// Errors that callers tell apart.
var (
	ErrUnknownPeer = book.ErrUnknownPeer
	ErrSelf        = book.ErrSelf
	ErrUnreachable = peer.ErrUnreachable
	ErrBlocked     = peer.ErrBlocked
	ErrClosed      = errors.New("the node is closed")
)

// Clock is a node's time: Now for what people and peers see, Since for
// ages, which count sleep (CLOCK_BOOTTIME).
type Clock interface {
	Now() time.Time
	Since() time.Duration // monotonic, from any fixed point
}

// Config is what a node is made of. Identity and Network are required.
type Config struct {
	Identity    *anode.Identity
	Book        *book.Book // nil: one in memory, with nobody in it
	Network     link.Network
	Device      Device       // nil: no adapter; the node still answers pings and relays
	Queues      []Queue      // the device's; each has a lane: goroutines, a socket, a receiver index
	Gateway     Gateway      // joins TCP of the adapter to streams of peers without one; nil: nobody does
	Incoming    Queue        // the device's incoming half for what comes beside UDP; nil: none
	Port        uint16       // UDP port; 0 lets the system choose
	TCP         []uint16     // ports on which connections are taken; 0 is the UDP port
	Ethernet    []string     // interfaces on which frames are sent and taken (Linux, CAP_NET_RAW)
	Open        bool         // let everybody in, not only the peers that were added
	PSK         [32]byte     // the network secret; zeros: none
	StandardAES bool         // seal with the standard library's AES-GCM, even where ours runs
	Relay       bool         // forward for the peers that were added
	RelayZones  []anode.Zone // and for addresses of these zones that register; see SetRelayZones
	RelayLimits *RelayLimits // of the latter; nil: DefaultRelayLimits
	LAN         LANConfig    // who is in our virtual LAN, and how much may pass
	Aliases     *alias.Table // the IPv4 aliases of our added peers, which the node keeps up to date; nil: there are none
	Discovery   Discovery    // on the real LAN
	Proxy       Proxy        // for connections that cannot be opened directly
	Web         http.Handler // answers on the TCP ports what is no packet; nil: nothing is there
	Clock       Clock        // nil: the system's
	Log         *slog.Logger
	Version     string

	// Counters returns counters of what runs beside the node, for its Status. It is called by
	// the loop and must not wait. It may be nil.
	Counters func() map[string]uint64

	// Known returns the address of a ULA that a program found by the address itself, so that nobody
	// is asked whose it is. It may be nil, and must not wait.
	Known func(anode.ULA) (anode.Address, bool)
	// WantZone is told that the file of a zone is wanted: of our own, of an added peer's, or of
	// one that somebody looks for an address in. SetZone brings it. It is called by the loop
	// and must not wait; of one zone once a minute at most. It may be nil.
	WantZone func(anode.Zone)
}

// Node is a running node. New makes it, Run runs it.
type Node struct {
	lanes
	cfg      Config
	book     *book.Book
	instance wire.Instance // of this run
	started  time.Time
	conns    []link.Conn // one for each lane; what is not sealed comes in by the first
	beacons  link.Conn   // nil: conns have the port of the beacons
	mux      *link.Mux   // nil: UDP alone
	listening

	events    events
	newID     chan uint8 // a peer ID to keep
	blocking  *meta      // networks in which UDP gets no answer
	diagnoses chan diagnosis
	done      chan struct{} // closed when Run ends
}

// New opens the node's socket, so that a port that is taken is an error at once.
func New(cfg Config) (*Node, error) {
	if cfg.Clock == nil {
		cfg.Clock = SystemClock()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	address := cfg.Identity.Address()
	if cfg.Book == nil {
		var err error
		if cfg.Book, _, err = book.Open(address, book.NewMemory(), nil); err != nil {
			return nil, err
		}
	}
	if err := checkRelayZones(cfg.RelayZones); err != nil {
		return nil, err
	}
	peerID, err := ownPeerID(cfg.Book, address)
	if err != nil {
		return nil, err
	}
	conns, err := listen(&cfg)
	if err != nil {
		return nil, err
	}
	n := &Node{
		lanes: lanes{address: address, id: address.ID(), ula: address.ULA(), clock: cfg.Clock, device: cfg.Device, log: cfg.Log},
		cfg:   cfg, book: cfg.Book, started: cfg.Clock.Now(),
		conns: conns,
		newID: make(chan uint8, 1), blocking: newMeta(metaBlockage), diagnoses: make(chan diagnosis, diagnosesWaiting),
		done: make(chan struct{}),
	}
	n.init()
	rand.Read(n.instance[:])
	n.ownID.Store(uint32(peerID))
	n.setOpen(cfg.Open)
	n.relays.Store(cfg.Relay)
	n.setRelayZones(cfg.RelayZones)
	if cfg.RelayLimits != nil {
		n.setLimits(*cfg.RelayLimits)
	}
	if conns[0].LocalPort() != link.Port {
		if n.beacons, err = cfg.Network.ListenBeacons(); err != nil {
			n.log.Warn("no beacons can be heard: peers on the LAN find this node only if it finds them", "err", err)
		}
	}
	n.openMux()
	n.programs.writeTo(len(n.conns), func(lane int) link.Writer { return n.writer(lane, true) })
	if cfg.Gateway != nil && cfg.Device != nil {
		n.junction = &junction{&n.lanes, cfg.Gateway}
		n.programs.host.Otherwise(n.junction)
	}
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

// Address returns the node's address.
func (n *Node) Address() anode.Address { return n.address }

// Port returns the UDP port that the node has.
func (n *Node) Port() uint16 { return n.conns[0].LocalPort() }

// metaPeerID is where the book keeps our peer ID.
const metaPeerID = "peer-id"

// ownPeerID is this machine's among those that share its address (draft 3.4): drawn
// once, then kept. Where nothing is kept it follows from the address: after a restart with
// another one, peers would go on speaking to the machine that is gone, until they notice.
func ownPeerID(b *book.Book, a anode.Address) (uint8, error) {
	if !b.Kept() {
		id := a.ID()
		return 1 + id[0]%15, nil
	}
	v, err := b.Meta(metaPeerID)
	if err != nil {
		return 0, err
	}
	if len(v) == 1 && v[0] >= 1 && v[0] <= 15 {
		return v[0], nil
	}
	id := uint8(1 + mathrand.IntN(15))
	return id, b.PutMeta(metaPeerID, []byte{id})
}

// keepPeerIDs writes the peer IDs that the loop draws, which does not wait for the disk.
func (n *Node) keepPeerIDs(ctx context.Context) {
	keep := func(id uint8) {
		if err := n.book.PutMeta(metaPeerID, []byte{id}); err != nil {
			n.log.Warn("the new peer ID is not kept", "err", err)
		}
	}
	for {
		select {
		case id := <-n.newID:
			keep(id)
		case <-ctx.Done():
			select {
			case id := <-n.newID:
				keep(id)
			default:
			}
			return
		}
	}
}

// keepPeerID has a peer ID written, in place of one that still waits. Only the loop calls
// it, so there is room.
func (n *Node) keepPeerID(id uint8) {
	select {
	case <-n.newID:
	default:
	}
	n.newID <- id
}

// Run runs the node until ctx ends or a loop fails, and returns when all its
// goroutines are gone. It closes the device and the socket.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	start := func(run func() error) {
		running.Go(func() {
			if err := run(); err != nil {
				cancel(err)
			}
		})
	}
	known, err := n.cfg.Network.State()
	if err != nil {
		n.log.Warn("links cannot be listed", "err", err)
	}
	l := newLoop(n, known)
	queues := n.cfg.Queues
	if len(queues) == 0 {
		queues = []Queue{&noQueue{counters: &n.counters}}
	} else {
		for i, q := range queues {
			start(func() error { return n.outLoop(q, n.writer(i%len(n.conns), true), i%len(n.conns)) })
		}
	}
	for i, conn := range n.conns {
		start(func() error { return n.inLoop(conn, queues[i], i, n.writer(i, false), false) })
	}
	if n.beacons != nil {
		start(func() error {
			return n.inLoop(n.beacons, &noQueue{counters: &n.counters}, 0, n.conns[0].NewWriter(), true)
		})
	}
	if n.mux != nil {
		q := n.cfg.Incoming
		if q == nil {
			q = &noQueue{counters: &n.counters}
		}
		start(func() error { return n.inLoop(n.mux, q, 0, n.writer(0, false), false) })
	}
	left := make(chan struct{}) // the loop has said what it has to say at the end
	start(func() error {
		defer close(left)
		return l.run(ctx)
	})
	start(func() error { return n.cfg.Network.Watch(ctx, known, n.inbox.putLinks) })
	running.Go(func() { n.book.Run(ctx, n.log) })
	running.Go(func() { n.keepPeerIDs(ctx) })
	running.Go(func() { n.blocking.run(ctx, n) })
	for range diagnosing {
		running.Go(func() { n.diagnose(ctx) })
	}

	<-ctx.Done()
	n.programs.close()
	<-left
	n.close()
	running.Wait()
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
	if n.mux != nil {
		n.mux.Close()
	}
	close(n.done)
}
