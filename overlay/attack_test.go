package overlay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// bare is somebody who speaks the draft and nothing of ours, or who means us harm:
// a socket, an identity, and whatever packets a test makes.
type bare struct {
	t    *testing.T
	id   *anode.Identity
	addr netip.AddrPort
	conn link.Conn
	w    link.Writer
	got  chan []byte
}

func newBare(t *testing.T, h *vnet.Host, addr string) *bare {
	t.Helper()
	conn, err := h.Listen(link.Port)
	if err != nil {
		t.Fatal(err)
	}
	b := &bare{t: t, id: newIdentity(t), addr: netip.MustParseAddrPort(addr), conn: conn, w: conn.NewWriter(), got: make(chan []byte, 4096)}
	go func() {
		ts := make([]link.Train, 8)
		for {
			n, err := conn.Read(ts)
			if err != nil {
				close(b.got)
				return
			}
			for _, x := range ts[:n] {
				for p := x.Buf; len(p) > 0; p = p[min(x.Size, len(p)):] {
					select {
					case b.got <- bytes.Clone(p[:min(x.Size, len(p))]):
					default:
					}
				}
			}
		}
	}()
	return b
}

// send sends bytes as they are.
func (b *bare) send(to string, packet []byte) {
	ep := link.Endpoint{Addr: netip.MustParseAddrPort(to)}
	b.w.Write([]link.Train{{Buf: bytes.Clone(packet), Size: len(packet), Endpoint: ep}})
}

// packet makes a signed packet of the draft for a node; full tells how it names itself.
func (b *bare) packet(to *testNode, full bool, t wire.Type, msg []byte) []byte {
	h := wire.Header{Sender: wire.Party{ID: b.id.Address().ID()}, Recipient: wire.Party{ID: to.address0().ID()}, SenderPeer: 1, Type: t}
	if full {
		h.Sender = wire.Party{Address: b.id.Address()}
	}
	p := h.Append(nil, msg)
	b.mac(to).Sign(p, new(seal.Scratch))
	return p
}

func (b *bare) mac(to *testNode) *seal.MAC {
	b.t.Helper()
	k, err := seal.SharedKey(b.id, to.address0())
	if err != nil {
		b.t.Fatal(err)
	}
	return seal.NewMAC(k)
}

// next gives the next packet of one type that the node sent us, checked as the draft
// says, or fails; beacons are passed over.
func (b *bare) next(from *testNode, want wire.Type) (wire.Header, []byte) {
	b.t.Helper()
	settle(50 * time.Millisecond)
	for {
		select {
		case p := <-b.got:
			h, msg, err := wire.Parse(p)
			if err != nil || h.MAC == [8]byte{} || h.Type != want {
				continue
			}
			if !b.mac(from).Verify(p, new(seal.Scratch)) {
				b.t.Fatalf("%v with a wrong MAC", h.Type)
			}
			return h, msg
		default:
			b.t.Fatalf("no %v came", want)
		}
	}
}

// drain gives all signed or sealed packets that came.
func (b *bare) drain() (all [][]byte) {
	settle(50 * time.Millisecond)
	for {
		select {
		case p := <-b.got:
			if h, _, err := wire.Parse(p); err == nil && h.MAC == [8]byte{} {
				continue
			}
			all = append(all, p)
		default:
			return all
		}
	}
}

// Somebody else's program that speaks the draft is understood and answered, byte for
// byte; data it does not get, since it cannot seal.
func TestDraftPeer(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		s := lan(w, "lan", 0, n.host, h)
		_ = s
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address(), Name: "bare"}}
		n.start()
		defer n.stop()
		settle(time.Second)
		const at = "10.0.0.1:8737"

		b.send(at, b.packet(n, true, wire.Ping, []byte("echo me")))
		head, msg := b.next(n, wire.Pong)
		if string(msg) != "echo me" || head.Hop != 0 {
			t.Errorf("PONG %+v %q", head, msg)
		}
		b.send(at, b.packet(n, false, wire.Ping, []byte("short now")))
		head, msg = b.next(n, wire.Pong)
		if string(msg) != "short now" || head.Sender.Full() || head.Sender.ID != n.address0().ID() || head.SenderPeer == 0 {
			t.Errorf("PONG %+v %q: want a short sender within 60 s of our packet", head, msg)
		}
		settle(61 * time.Second)
		b.drain()
		b.send(at, b.packet(n, false, wire.EPCReq, wire.AppendEPC(nil, 0xcafe)))
		if _, msg = b.next(n, wire.EPC); !bytes.Equal(msg, wire.AppendEPC(nil, 0xcafe)) {
			t.Errorf("EPC %x", msg)
		}
		b.send(at, b.packet(n, true, wire.NetIDReq, wire.NetIDMsg{Request: 7}.Append(nil)))
		_, msg = b.next(n, wire.NetID)
		if m, err := wire.ParseNetID(msg); err != nil || m.Request != 7 || m.Endpoint != wire.UDP(b.addr) {
			t.Errorf("NETID %+v, %v", m, err)
		}
		b.drain()
		b.send(at, b.packet(n, true, wire.NetIDReq, wire.NetIDMsg{Request: 8, Endpoint: wire.UDP(netip.MustParseAddrPort("10.0.0.3:53"))}.Append(nil)))
		if got := b.drain(); len(got) != 0 {
			t.Errorf("a NETID_REQ for a third party was answered: %x", got)
		}
		b.send(at, b.packet(n, true, wire.Dgram, []byte{0, 1, 0, 2, 'x'}))
		b.send(at, b.packet(n, true, wire.Type(99), []byte("?")))
		if got := b.drain(); len(got) != 0 {
			t.Errorf("data in clear or an unknown type was answered: %x", got)
		}
		if len(n.dev.delivered()) != 0 || n.counter("drop_cleartext") != 1 {
			t.Errorf("data in clear: delivered %v, counted %d", n.dev.delivered(), n.counter("drop_cleartext"))
		}
		full := wire.Header{Sender: wire.Party{Address: b.id.Address()}, Recipient: wire.Party{Address: n.address0()}, SenderPeer: 1, Type: wire.Ping}
		p := full.Append(nil, []byte("both full"))
		b.mac(n).Sign(p, new(seal.Scratch))
		b.send(at, p)
		if _, msg = b.next(n, wire.Pong); string(msg) != "both full" {
			t.Errorf("PONG %q", msg)
		}
	})
}

// An EPI over a path tells an endpoint: it is asked by EPC_REQ, once known it is used.
func TestToldEndpoint(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		tap := record(lan(w, "lan", 0, n.host, h, w.Host("third")))
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address()}}
		n.start()
		defer n.stop()
		settle(time.Second)
		tell := func(e string) {
			m := wire.EPIMsg{Endpoint: wire.UDP(netip.MustParseAddrPort(e))}
			b.send("10.0.0.1:8737", b.packet(n, true, wire.EPI, m.Append(nil)))
		}
		tell("10.0.0.2:8737")
		_, msg := b.next(n, wire.EPCReq)
		b.send("10.0.0.1:8737", b.packet(n, true, wire.EPC, msg))
		settle(50 * time.Millisecond)
		if e := n.status().Peers[0].Path; e.Kind != PathLAN || e.Endpoint != "udp:10.0.0.2:8737" {
			t.Errorf("path %+v", e)
		}
		for _, e := range []string{"127.0.0.1:22", "224.0.0.1:22", "10.0.0.255:22", "255.255.255.255:22", "[ff02::1]:22",
			"192.168.5.5:22", "[fd00::1]:22", "10.0.0.1:22"} {
			tell(e)
		}
		tell("10.0.0.3:22") // a neighbour's, which is allowed: the test would notice
		settle(time.Second)
		var sent []vnet.Packet
		for _, p := range tap.all() {
			if p.To.Port() == 22 {
				sent = append(sent, p)
			}
		}
		if len(sent) == 0 || slices.ContainsFunc(sent, func(p vnet.Packet) bool { return p.To.Addr() != netip.MustParseAddr("10.0.0.3") }) {
			t.Errorf("somebody named places, and this was sent: %v", sent)
		}
	})
}

// What is recorded and sent again, cut, turned or put in another order does nothing but
// count, and what goes on goes on.
func TestTampering(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		h := w.Host("eve")
		adds(a, b)
		s := lan(w, "lan", 0, a.host, b.host, h)
		tap := record(s)
		eve := newBare(t, h, "10.0.0.3:8737")
		defer eve.conn.Close()
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		for i := range 10 {
			a.say(b, fmt.Sprint("msg ", i))
		}
		settle(time.Second)
		recorded := tap.all()
		seen := b.dev.delivered()
		if len(seen) != 10 {
			t.Fatalf("%d messages arrived", len(seen))
		}
		endpoint := b.peer(a).Path.Endpoint

		inject := func(p []byte) {
			eve.send("10.0.0.2:8737", p)
			settle(100 * time.Microsecond)
		}
		for range 3 { // all of it, in another order each time
			for _, k := range rand.Perm(len(recorded)) {
				inject(recorded[k].Data)
			}
		}
		for _, p := range recorded {
			if len(p.Data) > 200 || p.To.Addr() != netip.MustParseAddr("10.0.0.2") {
				continue
			}
			for i := range p.Data { // each bit, and each length
				flipped := bytes.Clone(p.Data)
				flipped[i] ^= 1 << rand.IntN(8)
				inject(flipped)
				inject(p.Data[:i])
			}
		}
		settle(3 * time.Second)
		if got := b.dev.delivered(); len(got) != len(seen) {
			t.Errorf("%d messages were delivered of tampered packets: %v", len(got)-len(seen), got[len(seen):])
		}
		if p := b.peer(a); p.State != StateUp || p.Path.Endpoint != endpoint {
			t.Errorf("the peer's path moved: %+v", p)
		}
		a.say(b, "unharmed")
		b.say(a, "as well")
		settle(10 * time.Millisecond)
		b.heard(a, "unharmed", 1)
		a.heard(b, "as well", 1)
		c := b.status().Counters
		// A replay of an ended session begins handshakes, after some of which the recorded
		// session is one of those that nobody knows any more.
		c["drop_seal"] = c["drop_seal_auth"] + c["drop_unknown_session"]
		for _, name := range []string{"drop_seal_replay", "drop_seal", "drop_mac", "drop_short"} {
			if c[name] == 0 {
				t.Errorf("%s counted nothing", name)
			}
		}
	})
}

// Rubbish at the port, a great deal of it, well-formed and not: nothing grows and
// nothing stops. scripts/test throws far more at a real socket.
func TestRubbish(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		h := w.Host("eve")
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host, h)
		eve := newBare(t, h, "10.0.0.3:8737")
		defer eve.conn.Close()
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "before")
		settle(time.Second)
		types := []wire.Type{wire.Error, wire.Ping, wire.Pong, wire.EPCReq, wire.EPC, wire.EPI, wire.NATT, wire.NetIDReq, wire.NetID,
			wire.Dgram, wire.SOpen, wire.Hello, wire.Welcome, wire.Cookie, wire.Stale, wire.Whois, wire.IAm, wire.Probe, wire.IP6, wire.Frag}
		for i := range 20000 {
			body := make([]byte, rand.IntN(120))
			for k := range body {
				body[k] = byte(rand.Uint32())
			}
			p := eve.packet(b, i%2 == 0, types[i%len(types)], body)
			switch rand.IntN(4) {
			case 0:
				p = body
			case 1:
				p[rand.IntN(len(p))] ^= 0x40
			case 2:
				clear(p[2:10])
			}
			eve.send("10.0.0.2:8737", p)
			if i%100 == 0 {
				settle(10 * time.Millisecond)
			}
		}
		a.say(b, "after")
		settle(time.Second)
		b.heard(a, "after", 1)
		if n := len(b.status().Peers); n > strangersMax+1 {
			t.Errorf("%d peers are known", n)
		}
	})
}

// Under a flood of HELLOs a cookie is asked for, and those who answer it get in.
func TestCookieUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		lan(w, "lan", 0, n.host, h)
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.start()
		defer n.stop()
		settle(time.Second)
		body := seal.Hello{Index: 1, Noise: make([]byte, 33+12+16)}.Append(nil)
		hello := b.packet(n, true, wire.Hello, body)
		err := n.call(t.Context(), func(l *loop) error {
			head, msg, err := wire.Parse(hello)
			if err != nil {
				return err
			}
			for len(n.inbox.unsigned) <= unsignedInbox/4 {
				n.inbox.unsigned <- event{kind: evUnsigned}
			}
			if l.gate.cookie(&head, msg, link.Endpoint{Addr: b.addr}) {
				t.Error("a HELLO without a cookie passed under load")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if n.counter("drop_cookie") != 1 {
			t.Error("no COOKIE was counted")
		}
		found := false
		for p := range drained(b) {
			if head, msg, err := wire.Parse(p); err == nil && head.Type == wire.Cookie {
				found = true
				if len(p) > len(hello) {
					t.Errorf("a COOKIE of %d bytes for a HELLO of %d", len(p), len(hello))
				}
				if _, err := seal.ParseChallenge(msg); err != nil {
					t.Error(err)
				}
			}
		}
		if !found {
			t.Error("no COOKIE came")
		}
	})
}

// drained iterates over everything that came, unsigned packets too.
func drained(b *bare) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for {
			select {
			case p := <-b.got:
				if !yield(p) {
					return
				}
			default:
				return
			}
		}
	}
}
