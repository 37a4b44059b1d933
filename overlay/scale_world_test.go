//go:build linux

package overlay

import (
	"encoding/binary"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// scaleClock is a clock that stands still until it is set.
type scaleClock struct{ since time.Duration }

func (c *scaleClock) Now() time.Time          { return time.Unix(1_700_000_000, 0).Add(c.since) }
func (c *scaleClock) Since() time.Duration    { return c.since }
func (c *scaleClock) advance(d time.Duration) { c.since += d }

// scaleWire is a Conn that keeps what is written.
type scaleWire struct {
	link.Conn
	sent []sentPacket
	mute bool
}

type sentPacket struct {
	to link.Endpoint
	b  []byte
}

func (w *scaleWire) NewWriter() link.Writer      { return w }
func (w *scaleWire) Rung() string                { return link.RungBatch }
func (w *scaleWire) LocalPort() uint16           { return link.Port }
func (w *scaleWire) Counters() map[string]uint64 { return nil }

func (w *scaleWire) Write(ts []link.Train) (int, error) {
	if w.mute {
		return len(ts), nil
	}
	for _, t := range ts {
		for p := range slices.Chunk(t.Buf, t.Size) {
			w.sent = append(w.sent, sentPacket{t.Endpoint, slices.Clone(p)})
		}
	}
	return len(ts), nil
}

// take returns what was written since it was last called.
func (w *scaleWire) take() []sentPacket {
	s := w.sent
	w.sent = nil
	return s
}

// scaleWorld is a node with added peers, some of which have sessions.
type scaleWorld struct {
	tb     testing.TB
	clock  *scaleClock
	wire   *scaleWire
	n      *Node
	l      *loop
	rx     *receiver
	peers  []anode.Address
	live   []*remote // the peers with sessions
	by     map[netip.AddrPort]*remote
	guests int // strangers who came

	began            time.Duration // CPU time of the start
	atStart, perLive float64       // bytes of the heap: of all peers, and of one session
}

// scaleAddress is an address of which nobody has the key: such a peer costs as much as
// another as long as nobody speaks to it.
func scaleAddress(k int) anode.Address {
	for try := 0; ; try++ { // half of all numbers are no point's
		if a, err := anode.AddressFromBytes(scaleBytes(k, try)); err == nil {
			return a
		}
	}
}

func scaleBytes(k, try int) []byte {
	a := make([]byte, anode.AddressSize)
	a[0], a[7] = 1, 2
	binary.BigEndian.PutUint64(a[8:], uint64(k+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(a[24:], uint64(k))
	a[39] = byte(try)
	return a
}

func newScaleWorld(tb testing.TB, size int) *scaleWorld {
	w := &scaleWorld{tb: tb, clock: &scaleClock{since: time.Hour}, wire: &scaleWire{}, by: map[netip.AddrPort]*remote{}}
	own := newIdentity(tb)
	for k := range max(size/10, 1) {
		r := newRemote(tb, own.Address(), netip.AddrFrom4([4]byte{198, 18, byte(k >> 8), byte(k)}))
		w.live = append(w.live, r)
		w.peers = append(w.peers, r.local.Identity.Address())
	}
	for k := len(w.live); k < size; k++ {
		w.peers = append(w.peers, scaleAddress(k))
	}
	var entries []book.Entry
	for _, a := range w.peers {
		entries = append(entries, book.Entry{Address: a, Added: true})
	}

	store := book.NewMemory(entries...)
	w.n = &Node{cfg: Config{Identity: own, Clock: w.clock, Relay: true}, conns: []link.Conn{w.wire},
		lanes: lanes{address: own.Address(), id: own.Address().ID(), ula: own.Address().ULA(), clock: w.clock,
			log: slog.New(slog.DiscardHandler)}}
	w.n.init()
	w.n.relays.Store(true)
	w.n.ownID.Store(9)
	w.rx = newReceiver(&w.n.lanes, &noQueue{counters: &w.n.counters}, 0, w.wire)

	before, cpu := heapInUse(), cpuTime()
	var err error
	if w.n.book, _, err = book.Open(own.Address(), store, nil); err != nil {
		tb.Fatal(err)
	}
	w.l = newLoop(w.n, scaleLinks(0))
	w.l.settle()
	w.began = cpuTime() - cpu
	w.atStart = float64(heapInUse() - before)
	runtime.KeepAlive(entries)

	before = heapInUse()
	w.connect()
	for _, r := range w.live {
		r.set, r.session = nil, nil // they are not the node's
	}
	w.perLive = float64(heapInUse()-before) / float64(len(w.live))
	w.connect()
	return w
}

// connect has each far end begin a session, and the size of each path measured.
func (w *scaleWorld) connect() {
	for _, r := range w.live {
		w.by[r.ep.Addr] = r
		w.handshake(r, new(meter))
		if c := w.contact(r); c == nil || c.Route.Load() == nil {
			w.tb.Fatal("a peer has no route after its handshake")
		}
	}
	for range 50 {
		w.run(200 * time.Millisecond)
	}
}

func scaleLinks(n byte) link.State {
	return link.State{Interfaces: []link.Interface{{Name: "eth0", Index: 2, MTU: 1500,
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, n, 1}), 24)}}}}
}

func (w *scaleWorld) now() mono.Time { return mono.At(w.clock.since) }

func (w *scaleWorld) contact(r *remote) *peer.Contact {
	return w.n.index.byULA(r.local.Identity.Address().ULA())
}

// feed has the node take a packet, as its lane and loop do.
func (w *scaleWorld) feed(p []byte, from link.Endpoint) {
	w.rx.now = w.now()
	t := link.Train{Buf: p, Size: len(p), Endpoint: from}
	w.rx.train(&t)
	w.rx.reply.flush()
	w.rx.relay.flush()
	w.rx.answers.flush()
	w.drain()
}

// drain has the loop take what waits for it.
func (w *scaleWorld) drain() {
	w.l.now = w.now()
	for {
		select {
		case e := <-w.n.inbox.authentic:
			w.l.handle(e)
		case e := <-w.n.inbox.unsigned:
			w.l.handle(e)
		case e := <-w.n.inbox.clients:
			w.l.handle(e)
		default:
			w.l.settle()
			return
		}
	}
}

// answer has the far ends answer what the node sent, and so on until all is quiet.
func (w *scaleWorld) answer() {
	for list := w.wire.take(); len(list) > 0; list = w.wire.take() {
		for _, s := range list {
			if r := w.by[s.to.Addr]; r != nil {
				for _, p := range r.take(w.clock, s.b) {
					w.feed(p, r.ep)
				}
			}
		}
	}
}

// run lets time pass.
func (w *scaleWorld) run(d time.Duration) {
	w.clock.advance(d)
	w.drain()
	w.answer()
}

// handshake has a far end begin a session, and measures what that costs the node.
func (w *scaleWorld) handshake(r *remote, m *meter) {
	hello := r.hello(w.clock)
	m.start()
	w.feed(hello, r.ep)
	m.stop(0)
	var confirm [][]byte
	for _, s := range w.wire.take() {
		confirm = append(confirm, r.take(w.clock, s.b)...)
	}
	m.start()
	for _, p := range confirm {
		w.feed(p, r.ep)
	}
	m.stop(1)
	w.answer()
}

// remote is the far end of a session.
type remote struct {
	tb      testing.TB
	local   *seal.Local
	node    anode.Address
	ep      link.Endpoint
	mac     *seal.MAC
	scratch seal.Scratch
	set     *seal.Set
	session *seal.Session
	pongs   int
}

func endpointAt(a netip.Addr) link.Endpoint {
	return link.Endpoint{Addr: netip.AddrPortFrom(a, link.Port)}
}

func newRemote(tb testing.TB, node anode.Address, a netip.Addr) *remote {
	r := &remote{tb: tb, local: &seal.Local{Identity: newIdentity(tb), PeerID: 3}, node: node}
	r.ep = endpointAt(a)
	key, err := seal.SharedKey(r.local.Identity, node)
	if err != nil {
		tb.Fatal(err)
	}
	r.mac = seal.NewMAC(key)
	return r
}

// hello is a HELLO of a handshake that r begins.
func (r *remote) hello(c *scaleClock) []byte {
	r.local.Clock = c.Now
	r.set = seal.NewSet(r.local, r.node, 0)
	if err := r.set.Want(c.since); err != nil {
		r.tb.Fatal(err)
	}
	do, _ := r.set.Tick(c.since)
	return r.plain(wire.Hello, do.Hello.Body)
}

func (r *remote) plain(t wire.Type, body []byte) []byte {
	h := wire.Header{Sender: wire.Party{Address: r.local.Identity.Address()}, Recipient: wire.Party{Address: r.node}, SenderPeer: r.local.PeerID, Type: t}
	b := h.Append(nil, body)
	r.mac.Sign(b, &r.scratch)
	return b
}

func (r *remote) sealed(c *scaleClock, msg []byte) []byte {
	n, ok := r.session.Reserve(0, 1, int64(c.since))
	if !ok {
		r.tb.Fatal("the session has ended")
	}
	return r.session.Seal(nil, n, msg)
}

// take answers a packet: WELCOME by the packet that confirms, and checks.
func (r *remote) take(c *scaleClock, p []byte) (answers [][]byte) {
	if wire.IsSealed(p) {
		if r.session == nil {
			return nil
		}
		msg, err := r.session.Open(make([]byte, len(p)), p, int64(c.since))
		if err != nil || len(msg) == 0 {
			return nil
		}
		switch wire.Type(msg[0]) {
		case wire.EPCReq:
			return [][]byte{r.sealed(c, append([]byte{byte(wire.EPC)}, msg[1:]...))}
		case wire.Probe:
			x, err := wire.ParseProbe(msg[1:])
			if err != nil {
				r.tb.Fatal(err)
			}
			return [][]byte{r.sealed(c, x.AppendAck([]byte{byte(wire.ProbeAck)}))}
		}
		return nil
	}
	h, msg, err := wire.Parse(p)
	if err != nil {
		r.tb.Fatal(err)
	}
	switch h.Type {
	case wire.EPCReq:
		return [][]byte{r.plain(wire.EPC, msg)}
	case wire.Pong:
		r.pongs++
	case wire.Welcome:
		if r.session, err = r.set.OnWelcome(c.since, h.SenderPeer, msg); err != nil {
			r.tb.Fatal(err)
		}
		return [][]byte{r.sealed(c, nil)}
	}
	return nil
}
