package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/vnet"
)

// blockScene is a node b, a peer a, another address a2 of the same key that b has added
// too, and a third, a3, that is a stranger.
type blockScene struct {
	b          *testNode
	a, a2, a3  *testNode
	everything []*testNode
}

func newBlockScene(t *testing.T, w *vnet.World, where string) *blockScene {
	x := &blockScene{b: newTestNode(t, w.Host("b"), nil), a: newTestNode(t, w.Host("a"), nil)}
	key := x.a.cfg.Identity
	x.a2 = newTestNode(t, w.Host("a2"), func(c *Config) { c.Identity = twin(t, key, 5, false) })
	x.a3 = newTestNode(t, w.Host("a3"), func(c *Config) { c.Identity = twin(t, key, 0, true) })
	x.everything = []*testNode{x.a, x.a2, x.a3}
	lan(w, "lan", 0, x.b.host, x.a.host, x.a2.host, x.a3.host)
	for _, n := range x.everything {
		n.cfg.Peers = []Peer{{Address: x.b.address0(), Name: "b"}}
	}
	added := []Peer{{Address: x.a.address0(), Name: "a"}, {Address: x.a2.address0(), Name: "a2"}}
	if where != "store" {
		x.b.cfg.Peers = added
	}
	x.b.start()
	if where != "configuration" {
		for _, p := range added {
			if _, err := x.b.AddPeer(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range x.everything {
		n.start()
	}
	return x
}

func (x *blockScene) stop() {
	for _, n := range append(x.everything, x.b) {
		n.stop()
	}
}

// speaks checks whether everything of the key gets through, or nothing.
func (x *blockScene) speaks(t *testing.T, when string, blocked bool) {
	t.Helper()
	for _, n := range x.everything {
		n.say(x.b, when)
	}
	settle(3 * time.Second)
	for _, n := range x.everything {
		times := 1
		if blocked {
			times = 0
		}
		x.b.heard(n, when, times)
		_, err := n.ping(x.b, 3*time.Second)
		if (err == nil) == blocked {
			t.Errorf("%s: ping by %s: %v, blocked %v", when, n.host.Name(), err, blocked)
		}
		if _, err := x.b.ping(n, 3*time.Second); errors.Is(err, ErrBlocked) != blocked || !blocked && err != nil {
			t.Errorf("%s: ping of %s: %v, blocked %v", when, n.host.Name(), err, blocked)
		}
		p := x.b.peer(n)
		added := n != x.a3
		if !blocked && (p.Allowed != added || p.Blocked) || blocked && (p.Allowed || p.State != StateBlocked && !p.Address.IsZero()) {
			t.Errorf("%s: %s is %+v", when, n.host.Name(), p)
		}
	}
	for _, d := range x.b.dev.delivered() {
		if d.from == x.a3.address0().ULA() && d.trusted {
			t.Errorf("%s: the stranger is trusted", when)
		}
	}
	x.b.call(t.Context(), func(l *loop) error {
		for a, p := range l.peers.byAddress {
			if _, counted := l.peers.strangers.of[p]; counted != (p.Standing() == book.Stranger) {
				t.Errorf("%s: %s has standing %v and is counted as a stranger: %v", when, a.ID(), p.Standing(), counted)
			}
		}
		return nil
	})
}

// A block is of the key: whichever of its addresses is named, wherever the peer was
// added, in mid-session and after a restart. Its end brings back what was before.
func TestBlockIsOfTheKey(t *testing.T) {
	for _, where := range []string{"store", "configuration", "both"} {
		for _, by := range []string{"itself", "another added address", "a stranger of the key", "an address never heard of"} {
			t.Run(where+", "+by, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					x := newBlockScene(t, w, where)
					defer x.stop()
					settle(time.Second)
					x.speaks(t, "before", false)
					var named anode.Address
					switch by {
					case "itself":
						named = x.a.address0()
					case "another added address":
						named = x.a2.address0()
					case "a stranger of the key":
						named = x.a3.address0()
					default:
						named = twin(t, x.a.cfg.Identity, 77, true).Address()
					}
					block := func(on bool, a anode.Address) {
						t.Helper()
						if _, err := x.b.BlockPeer(t.Context(), a, on); err != nil {
							t.Fatal(err)
						}
					}
					block(true, named)
					x.speaks(t, "blocked", true)
					x.b.stop()
					x.b.start()
					x.speaks(t, "after a restart", true)
					block(false, x.a2.address0()) // ended under another name than it was set
					x.speaks(t, "unblocked", false)
					block(true, named)
					block(false, named)
					x.b.stop()
					x.b.start()
					settle(time.Second)
					for _, n := range x.everything {
						n.say(x.b, "a stranger's session ended with the restart, which it has to notice")
					}
					settle(3 * time.Second)
					x.speaks(t, "unblocked and restarted", false)
				})
			})
		}
	}
}

// Nothing of a blocked key is answered: not what the draft knows, under no address, and
// not what is broadcast.
func TestBlockedGetsNoAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		s := lan(w, "lan", 0, n.host, h)
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address()}}
		n.start()
		defer n.stop()
		settle(time.Second)
		const at = "10.0.0.1:8737"
		b.send(at, b.packet(n, true, wire.Ping, []byte("before")))
		b.next(n, wire.Pong)
		if _, err := n.BlockPeer(t.Context(), b.id.Address(), true); err != nil {
			t.Fatal(err)
		}
		settle(time.Minute)
		b.drain()
		tap := record(s)
		for _, id := range []*anode.Identity{b.id, twin(t, b.id, 9, false), twin(t, b.id, 0, true)} {
			x := &bare{t: t, id: id, addr: b.addr, conn: b.conn, w: b.w, got: b.got}
			for _, full := range []bool{true, false} {
				for typ, body := range map[wire.Type][]byte{
					wire.Ping: []byte("hello?"), wire.EPCReq: wire.AppendEPC(nil, 7), wire.EPI: wire.EPIMsg{}.Append(nil),
					wire.NetIDReq: wire.NetIDMsg{Request: 1}.Append(nil), wire.Hello: make([]byte, 100), wire.Error: {1, 2, 3, 4},
					wire.Whois: wire.WhoisMsg{Request: 1, Kind: wire.WhoisID, ID: n.address0().ID()}.Append(nil),
				} {
					x.send(at, x.packet(n, full, typ, body))
				}
			}
			x.send(at, forgedBeacon(id.Address(), 1))
			whois := wire.Header{Sender: wire.Party{Address: id.Address()}, Recipient: wire.Party{ID: n.address0().ID()}, SenderPeer: 1, Type: wire.Whois}
			x.send(at, whois.Append(nil, wire.WhoisMsg{Request: 1, Kind: wire.WhoisULA, ULA: n.address0().ULA()}.Append(nil)))
		}
		settle(5 * time.Second)
		if sent := tap.from("10.0.0.1"); sent > 1 { // a beacon may be due
			t.Errorf("a blocked key got %d packets", sent)
		}
	})
}

// A relay forwards nothing from or to a blocked key, and does not say where it is.
func TestBlockedIsNotRelayed(t *testing.T) {
	for _, other := range []bool{false, true} {
		t.Run(fmt.Sprint("another address of the key is named: ", other), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newRelayed(t, w, true)
				defer x.stop()
				x.meet(t)
				named := x.a.address0()
				if other {
					named = twin(t, x.a.cfg.Identity, 3, true).Address()
				}
				if _, err := x.r.BlockPeer(t.Context(), named, true); err != nil {
					t.Fatal(err)
				}
				before := x.r.counter("relayed_packets")
				x.a.say(x.b, "from the blocked one")
				x.b.say(x.a, "to the blocked one")
				settle(5 * time.Second)
				x.b.heard(x.a, "from the blocked one", 0)
				x.a.heard(x.b, "to the blocked one", 0)
				if n := x.r.counter("relayed_packets") - before; n != 0 {
					t.Errorf("%d packets were relayed", n)
				}
				c := newTestNode(t, w.Host("c"), nil) // that r would tell
				c.host.Attach(x.east, netip.MustParsePrefix("10.2.0.3/24"))
				c.cfg.Peers = []Peer{{Address: x.r.address0()}}
				if _, err := x.r.AddPeer(t.Context(), Peer{Address: c.address0()}); err != nil {
					t.Fatal(err)
				}
				c.start()
				defer c.stop()
				settle(2 * time.Second)
				if got, err := c.ResolveULA(t.Context(), x.a.address0().ULA()); !errors.Is(err, ErrUnknownPeer) {
					t.Errorf("the relay told where a blocked one is: %v, %v", got, err)
				}
				if _, err := x.r.BlockPeer(t.Context(), named, false); err != nil {
					t.Fatal(err)
				}
				settle(3 * time.Second)
				x.a.say(x.b, "unblocked")
				settle(3 * time.Second)
				x.b.heard(x.a, "unblocked", 1)
				if got, err := c.ResolveULA(t.Context(), x.a.address0().ULA()); err != nil || got != x.a.address0() {
					t.Errorf("resolved %v, %v", got, err)
				}
			})
		})
	}
}
