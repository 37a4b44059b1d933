package overlay

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// floods are the packets by which somebody on a's link can have a look at endpoints,
// in the name of b or by replaying what b once sent.
var floods = []struct {
	name   string
	packet func(t *testing.T, x *relayed) func(k int) []byte
	most   int // packets to the places that it names, in 10 s; 0: 250
}{
	{"beacons", func(_ *testing.T, x *relayed) func(int) []byte {
		return func(int) []byte { return forgedBeacon(x.b.address0(), x.b.peerID()) }
	}, 0},
	{"beacons of all machines", func(_ *testing.T, x *relayed) func(int) []byte {
		return func(k int) []byte { return forgedBeacon(x.b.address0(), uint8(k)&15) }
	}, 0},
	{"WHOIS", func(_ *testing.T, x *relayed) func(int) []byte {
		h := wire.Header{Sender: wire.Party{Address: x.b.address0()}, Recipient: wire.Party{ID: x.a.address0().ID()}, SenderPeer: x.b.peerID(), Type: wire.Whois}
		return func(k int) []byte {
			return h.Append(nil, wire.WhoisMsg{Request: uint32(k), Kind: wire.WhoisULA, ULA: x.a.address0().ULA()}.Append(nil))
		}
	}, 0},
	{"replayed EPC_REQ", replay(wire.EPCReq, func(*relayed) []byte { return wire.AppendEPC(nil, 7) }), answers},
	{"replayed PING", replay(wire.Ping, func(*relayed) []byte { return []byte("ping") }), answers},
	{"replayed EPI", replay(wire.EPI, func(*relayed) []byte { return wire.EPIMsg{}.Append(nil) }), 0},
	{"replayed IAM", replay(wire.IAm, func(x *relayed) []byte { return wire.IAmMsg{Request: 9, Address: x.b.address0()}.Append(nil) }), 0},
	{"replayed HELLO", replay(wire.Hello, func(*relayed) []byte { return seal.Hello{Index: 1, Noise: make([]byte, 61)}.Append(nil) }), 0},
}

// answers is how many answers of the same length a peer gets that asks all the time.
const answers = 200 + 10*100 + 100

// replay is one signed packet of b's, again and again.
func replay(typ wire.Type, body func(*relayed) []byte) func(*testing.T, *relayed) func(int) []byte {
	return func(t *testing.T, x *relayed) func(int) []byte {
		p := signedPacket(t, x.b, x.a, x.b.peerID(), typ, body(x))
		return func(int) []byte { return p }
	}
}

// A flood of hints of any kind neither keeps a relayed peer from being reached nor makes
// many packets to the places that it names.
func TestFloodOfHints(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newRelayed(t, w, true)
				defer x.stop()
				eve := newSpoofer(t, w, x.west, "10.1.0.200/24")
				settle(2 * time.Second)
				tap := record(x.west)
				packet := f.packet(t, x)
				const rate, seconds = 190, 10
				for k := range rate * seconds {
					from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(200 + k%4)}), uint16(1000+k%64))
					eve.send(from, ap("10.1.0.1:8737"), packet(k))
					if k%(rate/2) == 0 {
						x.a.say(x.b, fmt.Sprint("n", k))
					}
					settle(time.Second / rate)
				}
				settle(time.Second)
				if n := len(x.b.dev.delivered()); n < 2*seconds-1 {
					t.Errorf("%d of %d messages arrived by the relay", n, 2*seconds)
				}
				sent := 0
				for _, p := range tap.all() {
					if p.From.Addr() == netip.MustParseAddr("10.1.0.1") && p.To.Addr().As4()[3] >= 200 && p.To.Addr().As4()[3] < 255 {
						sent++
					}
				}
				if sent > cmp.Or(f.most, 250) {
					t.Errorf("%d packets went to places that %d packets named", sent, rate*seconds)
				}
			})
		})
	}
}

// An added peer that turned bad cannot have us send to many places: by what it signs and
// by what it seals, by one kind of message and by all.
func TestPeerNamesThirdParties(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprint("sealed ", sealed), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, s := pair(t, w)
				defer a.stop()
				defer b.stop()
				w.Host("victim").Attach(s, netip.MustParsePrefix("10.0.0.66/24"))
				eve := newSpoofer(t, w, s, "10.0.0.250/24")
				settle(time.Second)
				b.say(a, "session")
				settle(time.Second)
				tap := record(s)
				for k := range 2000 {
					m := wire.EPIMsg{Endpoint: wire.UDP(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.66"), uint16(1000+k)))}
					if sealed {
						b.seals(a, append([]byte{byte(wire.EPI)}, m.Append(nil)...))
					} else {
						eve.send(ap("10.0.0.2:8737"), ap("10.0.0.1:8737"), signedPacket(t, b, a, b.peerID(), wire.EPI, m.Append(nil)))
					}
					settle(2500 * time.Microsecond)
				}
				settle(10 * time.Second)
				n := 0
				for _, p := range tap.all() {
					if p.To.Addr() == netip.MustParseAddr("10.0.0.66") {
						n++
					}
				}
				if n > 120 {
					t.Errorf("2000 endpoints were named in 5 s, and %d packets went there", n)
				}
				if p := a.peer(b); p.Path.Endpoint != "udp:10.0.0.2:8737" || p.State != StateUp {
					t.Errorf("the peer is %+v", p)
				}
			})
		})
	}
}

// Packets that seem to come from the relay and bear another peer's MAC do not have the
// relay asked for each of them.
func TestReplayFromTheRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, true)
		defer x.stop()
		x.meet(t)
		eve := newSpoofer(t, w, x.west, "10.1.0.200/24")
		p := signedPacket(t, x.b, x.a, x.b.peerID(), wire.EPCReq, wire.AppendEPC(nil, 7))
		tap := record(x.west)
		for range 1000 {
			eve.send(ap("10.1.0.2:8737"), ap("10.1.0.1:8737"), p)
			settle(10 * time.Millisecond)
		}
		asked := 0
		for _, p := range tap.all() {
			h, _, err := wire.Parse(p.Data)
			if err == nil && p.From.Addr() == netip.MustParseAddr("10.1.0.1") && h.Type == wire.EPCReq {
				asked++
			}
		}
		if asked > 100 {
			t.Errorf("1000 replayed packets in 10 s: %d EPC_REQs", asked)
		}
	})
}

// rubbish makes all kinds of packets that a peer's own endpoint may be made to send.
func rubbish(t *testing.T, from, to *testNode) func(k int) []byte {
	types := []wire.Type{wire.Error, wire.Ping, wire.Pong, wire.EPCReq, wire.EPC, wire.EPI, wire.NATT, wire.NetIDReq, wire.NetID,
		wire.Dgram, wire.SOpen, wire.Hello, wire.Welcome, wire.Cookie, wire.Stale, wire.Whois, wire.IAm, wire.Probe, wire.Type(99)}
	signed := map[wire.Type][]byte{}
	for _, typ := range types {
		signed[typ] = signedPacket(t, from, to, from.peerID(), typ, make([]byte, 40))
	}
	return func(k int) []byte {
		p := bytes.Clone(signed[types[k/5%len(types)]])
		switch k % 5 {
		case 0:
			p[wire.MACOffset] ^= 1
		case 1:
			clear(p[wire.MACOffset : wire.MACOffset+wire.MACSize])
		case 2:
			p = forgedSealed(from, to, uint16(rand.Uint32()))
		case 3:
			p[1] |= wire.FlagAuthError
		default:
			p = make([]byte, rand.IntN(100))
			for i := range p {
				p[i] = byte(rand.Uint32())
			}
		}
		return p
	}
}

// Rubbish from a peer's own endpoint costs its sessions nothing, and neither keeps them
// from being renewed nor made anew.
func TestRubbishFromThePeer(t *testing.T) {
	for _, restarts := range []string{"nobody", "the peer", "the node"} {
		t.Run(restarts+" restarts", func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, s := pair(t, w)
				eve := newSpoofer(t, w, s, "10.0.0.250/24")
				settle(time.Second)
				a.say(b, "before")
				settle(time.Second)
				b.heard(a, "before", 1)
				make := rubbish(t, a, b)
				flood := func(d time.Duration, f func()) {
					for k := range int(d / time.Second * 4000) {
						eve.send(ap("10.0.0.1:8737"), ap("10.0.0.2:8737"), make(k))
						if k%4 == 0 {
							settle(time.Millisecond)
						}
						if k%400 == 0 {
							f()
						}
					}
				}
				flood(time.Second, func() {})
				switch restarts {
				case "the peer":
					a.stop()
					a.start()
				case "the node":
					b.stop()
					b.start()
				}
				n := 0
				flood(3*time.Second, func() { n++; a.say(b, fmt.Sprint("under fire ", n)) })
				missed := 0
				got := map[string]bool{}
				for _, d := range b.dev.delivered() {
					got[d.msg] = true
				}
				for k := 1; k < n; k++ { // the last one is under way
					if !got[string(ip6(fmt.Sprint("under fire ", k)))] {
						missed++
					}
				}
				limit := 0
				if restarts == "the node" {
					limit = 20 // until the silence is noticed
				}
				if missed > limit {
					t.Errorf("%d of %d messages were lost", missed, n)
				}
				a.stop()
				b.stop()
			})
		})
	}
}

// A peer that asks for cookies is reached though rubbish comes from its address.
func TestCookieUnderRubbish(t *testing.T) {
	for _, rate := range []int{0, 1000, 4000} {
		t.Run(fmt.Sprint(rate, " a second"), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				n := newTestNode(t, w.Host("n"), nil)
				h := w.Host("bare")
				s := lan(w, "lan", 0, n.host, h)
				eve := newSpoofer(t, w, s, "10.0.0.250/24")
				b := newBare(t, h, "10.0.0.2:8737")
				defer b.conn.Close()
				n.cfg.Peers = []Peer{{Address: b.id.Address(), Endpoints: []wire.Endpoint{wire.UDP(b.addr)}}}
				n.start()
				defer n.stop()
				settle(time.Second)
				peer := &testNode{Node: n.Node, t: t}
				peer.cfg.Identity = b.id
				make := rubbish(t, peer, n)
				cookie, k := [16]byte{1, 2, 3}, 0
				pass := false
				for ms := range 4000 {
					if ms == 1000 { // so long there is only rubbish
						n.dev.out <- outgoing{b.id.Address().ULA(), [][]byte{ip6("x")}}
					}
					for range rate / 1000 {
						k++
						p := make(k)
						if h, _, err := wire.Parse(p); err == nil && h.Type == wire.Cookie { // without one
							p = p[:20]
						}
						eve.send(b.addr, ap("10.0.0.1:8737"), p)
					}
					settle(time.Millisecond)
					for p := range drained(b) {
						head, msg, err := wire.Parse(p)
						if err != nil || head.Type != wire.Hello {
							continue
						}
						hello, err := seal.ParseHello(msg)
						if err != nil {
							t.Fatal(err)
						}
						if pass = pass || hello.Cookie == cookie; !pass {
							m := hello.Challenge(cookie)
							head := wire.Header{Sender: wire.Party{ID: b.id.Address().ID()}, Recipient: wire.Party{ID: n.address0().ID()}, SenderPeer: 1, Type: wire.Cookie}
							b.send("10.0.0.1:8737", head.Append(nil, m.Body))
						}
					}
				}
				if !pass {
					t.Error("the cookie did not come back within 3 s")
				}
			})
		})
	}
}

// Strangers of one site share its places; others get in, and so do those that somebody
// here calls.
func TestStrangersShares(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		many := []*testNode{}
		hosts := []*vnet.Host{n.host}
		for k := range strangersSite + 6 {
			x := newTestNode(t, w.Host(fmt.Sprint("s", k)), nil)
			many, hosts = append(many, x), append(hosts, x.host)
		}
		lan(w, "crowd", 0, hosts...)
		other := newTestNode(t, w.Host("other"), nil)
		lan(w, "quiet", 1, n.host, other.host)
		n.start()
		defer n.stop()
		called := many[len(many)-1]
		for _, x := range append(many, other) {
			if x != called {
				x.start()
				defer x.stop()
			}
		}
		settle(10 * time.Second)
		for _, x := range many {
			if x != called {
				x.ping(n, 2*time.Second)
				settle(150 * time.Millisecond)
			}
		}
		site := 0
		n.call(t.Context(), func(l *loop) error {
			site = l.peers.strangers.site[netip.MustParseAddr("10.0.0.0")]
			return nil
		})
		if site == 0 || site > strangersSite {
			t.Errorf("%d strangers of one site are known, want 1 to %d", site, strangersSite)
		}
		if _, err := other.ping(n, 3*time.Second); err != nil {
			t.Errorf("a stranger of another site: %v", err)
		}
		called.start()
		defer called.stop()
		if _, err := n.ping(called, 3*time.Second); err != nil {
			t.Errorf("a stranger that is called: %v", err)
		}
	})
}

// Beacons and WHOIS of strangers, of however many keys, make few packets to the place
// that they seem to come from; the first of them is answered.
func TestStrangersOnTheLinkAsReflector(t *testing.T) {
	for _, typ := range []wire.Type{wire.EPI, wire.Whois} {
		t.Run(fmt.Sprint(typ), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				n := newTestNode(t, w.Host("n"), nil)
				s := lan(w, "lan", 0, n.host)
				w.Host("victim").Attach(s, netip.MustParsePrefix("10.0.0.66/24"))
				eve := newSpoofer(t, w, s, "10.0.0.250/24")
				n.start()
				defer n.stop()
				settle(time.Second)
				tap := record(s)
				var keys []anode.Address
				for range 100 {
					keys = append(keys, newIdentity(t).Address())
				}
				for k := range 1000 {
					p := forgedBeacon(keys[k%len(keys)], 1)
					if typ == wire.Whois {
						h := wire.Header{Sender: wire.Party{Address: keys[k%len(keys)]}, Recipient: wire.Party{ID: n.address0().ID()}, SenderPeer: 1, Type: typ}
						p = h.Append(nil, wire.WhoisMsg{Request: uint32(k), Kind: wire.WhoisID, ID: n.address0().ID()}.Append(nil))
					}
					eve.send(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.66"), uint16(1000+k%100)), ap("10.0.0.1:8737"), p)
					settle(5 * time.Millisecond)
				}
				settle(10 * time.Second)
				sent := 0
				for _, p := range tap.all() {
					if p.To.Addr() == netip.MustParseAddr("10.0.0.66") {
						sent++
					}
				}
				if sent == 0 || sent > 5*5+10 {
					t.Errorf("1000 packets in 5 s made %d", sent)
				}
			})
		})
	}
}
