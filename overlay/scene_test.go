package overlay

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"net/netip"
	"sync"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// twin is an identity with the same X coordinate as id: in another zone, or with the
// other sign.
func twin(t *testing.T, id *anode.Identity, zone anode.Zone, negative bool) *anode.Identity {
	t.Helper()
	scalar := new(big.Int).SetBytes(id.PrivateKey().Bytes())
	a := id.Address()
	if negative {
		scalar.Sub(elliptic.P256().Params().N, scalar)
		a[7] ^= 1
	}
	a[1], a[2], a[3], a[4] = byte(zone>>24), byte(zone>>16), byte(zone>>8), byte(zone)
	x, err := anode.ParseIdentity(fmt.Sprintf("ANODE-256-40:%s:%064x", a, scalar))
	if err != nil {
		t.Fatal(err)
	}
	if x.Address() == id.Address() || x.Address().X() != id.Address().X() {
		t.Fatal("no twin")
	}
	return x
}

// spoofer sends packets that bear any source of its segment.
type spoofer struct {
	t       *testing.T
	host    *vnet.Host
	iface   *vnet.Interface
	addrs   []netip.Prefix
	writers map[uint16]link.Writer
}

// newSpoofer attaches one to a segment; at is its own address there.
func newSpoofer(t *testing.T, w *vnet.World, s *vnet.Segment, at string) *spoofer {
	h := w.Host("eve")
	own := netip.MustParsePrefix(at)
	return &spoofer{t: t, host: h, iface: h.Attach(s, own), addrs: []netip.Prefix{own}, writers: map[uint16]link.Writer{}}
}

// send sends one packet as if it came from another endpoint.
func (x *spoofer) send(from, to netip.AddrPort, packet []byte) {
	x.t.Helper()
	known := false
	for _, p := range x.addrs {
		known = known || p.Addr() == from.Addr()
	}
	if !known {
		x.addrs = append(x.addrs, netip.PrefixFrom(from.Addr(), from.Addr().BitLen()))
		x.iface.SetAddrs(x.addrs...)
	}
	if x.writers[from.Port()] == nil {
		c, err := x.host.Listen(from.Port())
		if err != nil {
			x.t.Fatal(err)
		}
		x.writers[from.Port()] = c.NewWriter()
	}
	x.writers[from.Port()].Write([]link.Train{{Buf: bytes.Clone(packet), Size: len(packet), Endpoint: link.Endpoint{Addr: to, Local: from.Addr()}}})
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// forgedSealed is a packet that looks sealed, from one node to another, in a session
// that does not exist.
func forgedSealed(from, to *testNode, index uint16) []byte {
	p := make([]byte, wire.SealedMin)
	h := wire.NewSealedHeader(from.address0().ID(), to.address0().ID(), 0, 0)
	copy(p, h[:])
	wire.PutSealedNumber(p, wire.SealedNumber(index, 1<<40))
	return p
}

// forgedBeacon is a beacon, which anybody can make, in the name of an address.
func forgedBeacon(of anode.Address, peerID uint8) []byte {
	h := wire.Header{Sender: wire.Party{Address: of}, SenderPeer: peerID, Type: wire.EPI}
	return h.Append(nil, wire.EPIMsg{}.Append(nil))
}

// signedPacket is an unsealed packet that a node might have sent to another.
func signedPacket(t *testing.T, from, to *testNode, machine uint8, typ wire.Type, body []byte) []byte {
	t.Helper()
	k, err := seal.SharedKey(from.cfg.Identity, to.address0())
	if err != nil {
		t.Fatal(err)
	}
	h := wire.Header{Sender: wire.Party{Address: from.address0()}, Recipient: wire.Party{ID: to.address0().ID()}, SenderPeer: machine, Type: typ}
	p := h.Append(nil, body)
	seal.NewMAC(k).Sign(p, new(seal.Scratch))
	return p
}

// seals has a node send a message sealed to another, whatever is in it.
func (n *testNode) seals(to *testNode, msg []byte) {
	n.t.Helper()
	err := n.call(n.t.Context(), func(l *loop) error {
		c := n.index.byULA(to.address0().ULA())
		if c == nil || c.Route.Load() == nil {
			return peer.ErrUnreachable
		}
		l.shell.Seal(c, c.Route.Load(), msg, 1)
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// from is how many packets of a tape a host sent.
func (t *tape) from(a string) (n int) {
	addr := netip.MustParseAddr(a)
	for _, p := range t.all() {
		if p.From.Addr() == addr {
			n++
		}
	}
	return n
}

// reset forgets what was recorded.
func (t *tape) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets = nil
}

// relayed is two nodes, a and b, on a link each, and a relay r on both.
type relayed struct {
	a, b, r    *testNode
	west, east *vnet.Segment
}

func newRelayed(t *testing.T, w *vnet.World, start bool) *relayed {
	t.Helper()
	x := &relayed{a: newTestNode(t, w.Host("a"), nil), b: newTestNode(t, w.Host("b"), nil), r: newTestNode(t, w.Host("r"), nil)}
	adds(x.a, x.b, x.r)
	x.west = lan(w, "west", 1, x.a.host, x.r.host)
	x.east = lan(w, "east", 2, x.b.host, x.r.host)
	if start {
		x.start()
	}
	return x
}

func (x *relayed) nodes() []*testNode { return []*testNode{x.a, x.b, x.r} }

func (x *relayed) start() {
	for _, n := range x.nodes() {
		n.start()
	}
}

func (x *relayed) stop() {
	for _, n := range x.nodes() {
		n.stop()
	}
}

// meet has a and b reach each other.
func (x *relayed) meet(t *testing.T) {
	t.Helper()
	settle(2 * time.Second)
	x.a.say(x.b, "first")
	settle(time.Second)
	x.b.heard(x.a, "first", 1)
	if t.Failed() {
		t.FailNow()
	}
}

// flow sends a numbered message each way every 50 ms, calls each if it is not nil, and
// returns the longest times without anything that arrives.
func flow(a, b *testNode, d time.Duration, name string, each func(k int)) (toA, toB time.Duration) {
	const step = 50 * time.Millisecond
	var sinceA, sinceB time.Duration
	na, nb := len(a.dev.delivered()), len(b.dev.delivered())
	for k := range int(d / step) {
		if each != nil {
			each(k)
		}
		a.say(b, fmt.Sprint(name, " a", k))
		b.say(a, fmt.Sprint(name, " b", k))
		settle(step)
		sinceA, sinceB = sinceA+step, sinceB+step
		if n := len(a.dev.delivered()); n > na {
			na, sinceA = n, 0
		}
		if n := len(b.dev.delivered()); n > nb {
			nb, sinceB = n, 0
		}
		toA, toB = max(toA, sinceA), max(toB, sinceB)
	}
	return toA, toB
}

// natted is a host whose packets leave from another port each time Rebind is called, as
// when a NAT in front of it restarts. Its node does not notice.
type natted struct {
	*vnet.Host
	mu   sync.Mutex
	conn *nattedConn
}

func (h *natted) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(0)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conn = &nattedConn{Conn: c, host: h, port: port}
	return h.conn, nil
}

func (h *natted) Rebind(t *testing.T) {
	t.Helper()
	c, err := h.Host.Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	old := h.conn.Conn
	h.conn.Conn = c
	h.conn.generation++
	h.mu.Unlock()
	old.Close()
}

type nattedConn struct {
	link.Conn  // under host.mu
	generation int
	closed     bool
	host       *natted
	port       uint16
}

func (c *nattedConn) now() (link.Conn, int, bool) {
	c.host.mu.Lock()
	defer c.host.mu.Unlock()
	return c.Conn, c.generation, c.closed
}

func (c *nattedConn) LocalPort() uint16 { return c.port }

func (c *nattedConn) Rung() string {
	conn, _, _ := c.now()
	return conn.Rung()
}

func (c *nattedConn) Read(ts []link.Train) (int, error) {
	for {
		conn, generation, _ := c.now()
		n, err := conn.Read(ts)
		if _, g, closed := c.now(); err != nil && g != generation && !closed {
			continue
		}
		return n, err
	}
}

func (c *nattedConn) Close() error {
	c.host.mu.Lock()
	c.closed = true
	conn := c.Conn
	c.host.mu.Unlock()
	return conn.Close()
}

func (c *nattedConn) Counters() map[string]uint64 {
	conn, _, _ := c.now()
	return conn.Counters()
}

func (c *nattedConn) NewWriter() link.Writer { return &nattedWriter{c: c, generation: -1} }

type nattedWriter struct {
	c          *nattedConn
	w          link.Writer
	generation int
}

func (w *nattedWriter) Write(ts []link.Train) (int, error) {
	if conn, g, _ := w.c.now(); g != w.generation {
		w.w, w.generation = conn.NewWriter(), g
	}
	return w.w.Write(ts)
}
