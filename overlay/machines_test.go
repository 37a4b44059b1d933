package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/store"
	"anodenet/overlay/vnet"
)

// copyOf is a node on another host with a copy of one's state directory, which is not
// running.
func (n *testNode) copyOf(h *vnet.Host) *testNode {
	n.t.Helper()
	c := newTestNode(n.t, h, nil)
	c.cfg = n.cfg
	c.cfg.Config.Network = h
	files, err := os.ReadDir(n.dir)
	if err != nil || len(files) == 0 {
		n.t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(n.dir, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(c.dir, f.Name()), b, 0o600)
		}
		if err != nil {
			n.t.Fatal(err)
		}
	}
	return c
}

// keptPeerID is what the store of a node that is not running has.
func (n *testNode) keptPeerID() uint8 {
	n.t.Helper()
	s, err := store.Open(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	defer s.Close()
	v, err := s.Meta(metaPeerID)
	if err != nil || len(v) != 1 {
		n.t.Fatalf("peer ID %x, %v", v, err)
	}
	return v[0]
}

// keepPeerID gives a node that is not running a peer ID. Two machines that choose theirs
// may choose the same, and then need some time.
func (n *testNode) keepPeerID(id uint8) {
	n.t.Helper()
	s, err := store.Open(n.dir)
	if err == nil {
		err = errors.Join(s.PutMeta(metaPeerID, []byte{id}), s.Close())
	}
	if err != nil {
		n.t.Fatal(err)
	}
}

// copies starts two nodes with copies of one state, and a third that knows them; on one
// link, or on one each with the third.
func newCopies(t *testing.T, w *vnet.World, together bool) (a, twin, b *testNode) {
	a = newTestNode(t, w.Host("a"), nil)
	b = newTestNode(t, w.Host("b"), nil)
	adds(a, b)
	h := w.Host("twin")
	if together {
		lan(w, "lan", 0, a.host, h, b.host)
	} else {
		lan(w, "west", 1, a.host, b.host)
		lan(w, "east", 2, h, b.host)
	}
	a.start()
	settle(time.Millisecond)
	a.stop()
	twin = a.copyOf(h)
	return a.start(), twin, b.start()
}

// Two machines with copies of one state reach others and are reached, and draw peer IDs
// that differ, which they keep.
func TestCopiesOfOneState(t *testing.T) {
	for _, together := range []bool{true, false} {
		for _, first := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprintf("together %v, the copy %v later", together, first), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					a, twin, b := newCopies(t, w, together)
					settle(first)
					if first > 0 {
						flow(a, b, time.Second, "before", nil)
					}
					twin.start()
					if twin.peerID() != a.peerID() {
						t.Fatalf("the copy begins with peer ID %d, and not %d", twin.peerID(), a.peerID())
					}
					settle(4 * time.Second)
					pings := func(n int) (lost [3]int) {
						for range n {
							for k, x := range []struct{ from, to *testNode }{{a, b}, {twin, b}, {b, a}} {
								if _, err := x.from.ping(x.to, time.Second); err != nil {
									lost[k]++
								}
							}
							settle(100 * time.Millisecond)
						}
						return lost
					}
					pings(10) // the first show that there are two
					settle(3 * time.Second)
					if lost := pings(60); lost != [3]int{} {
						t.Errorf("of 60 pings each from a, from its copy and to them were lost: %v", lost)
					}
					if a.peerID() == twin.peerID() {
						t.Errorf("both have the peer ID %d", a.peerID())
					}
					if !a.status().Copies && !twin.status().Copies {
						t.Error("neither says that there is another")
					}
					if together && !(a.status().Copies && twin.status().Copies) {
						t.Error("one does not say that there is another")
					}
					if n := b.peer(a).Machines; n != 2 {
						t.Errorf("%d machines are known", n)
					}
					ids := [2]uint8{a.peerID(), twin.peerID()}
					a.stop()
					twin.stop()
					if kept := [2]uint8{a.keptPeerID(), twin.keptPeerID()}; kept != ids {
						t.Errorf("peer IDs %v, kept %v", ids, kept)
					}
					a.start()
					twin.start()
					settle(3 * time.Second)
					if now := [2]uint8{a.peerID(), twin.peerID()}; now != ids {
						t.Errorf("peer IDs %v, after a restart %v", ids, now)
					}
					for _, n := range []*testNode{a, twin, b} {
						n.stop()
					}
				})
			})
		}
	}
}

// Forged signs of a copy change the peer ID once a minute at most, and the peers stay
// reachable.
func TestForgedCopies(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all peer IDs ", all), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, s := pair(t, w)
				defer a.stop()
				defer b.stop()
				eve := newSpoofer(t, w, s, "10.0.0.250/24")
				settle(time.Second)
				a.say(b, "session")
				settle(time.Second)
				changes, old, n := 0, a.peerID(), 0
				for k := range 5 * 60 * 4 {
					id := a.peerID()
					if id != old {
						changes++
						old = id
					}
					if all {
						id = uint8(k) & 15
					}
					eve.send(netip.AddrPortFrom(netip.MustParseAddr("10.0.0.250"), uint16(1000+k%8)), ap("10.0.0.1:8737"), forgedBeacon(a.address0(), id))
					if k%4 == 0 {
						n++
						a.say(b, fmt.Sprint("n", n))
						b.say(a, fmt.Sprint("n", n))
					}
					settle(250 * time.Millisecond)
				}
				if changes > 6 {
					t.Errorf("%d other peer IDs in five minutes", changes)
				}
				if changes == 0 {
					t.Error("no beacon had an effect: the test shows nothing")
				}
				for _, x := range []*testNode{a, b} {
					if got := len(x.dev.delivered()); got < n-2*6 {
						t.Errorf("%s: %d of %d messages arrived", x.host.Name(), got, n)
					}
				}
			})
		})
	}
}

// Copies are told apart behind a relay too, and there may be three of them.
func TestThreeCopiesBehindARelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, false)
		x.a.start()
		settle(time.Millisecond)
		x.a.stop()
		all := []*testNode{x.a}
		for k := range 2 {
			h := w.Host(fmt.Sprint("copy", k))
			net := w.Segment(h.Name(), vnet.Link{Delay: time.Millisecond})
			h.Attach(net, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(20 + k), 0, 1}), 24))
			x.r.host.Attach(net, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(20 + k), 0, 2}), 24))
			all = append(all, x.a.copyOf(h))
		}
		x.b.start()
		x.r.start()
		for k, n := range all {
			n.start()
			settle(time.Duration(k) * 20 * time.Second)
		}
		pings := func(n int) (lost [3]int) {
			for range n {
				for k, from := range all {
					if _, err := from.ping(x.b, time.Second); err != nil {
						lost[k]++
					}
				}
				settle(100 * time.Millisecond)
			}
			return lost
		}
		ids := func() int {
			m := map[uint8]bool{}
			for _, n := range all {
				m[n.peerID()] = true
			}
			return len(m)
		}
		for range 6 { // each changes once a minute, and two may draw the same
			if pings(20); ids() == len(all) {
				break
			}
			settle(70 * time.Second)
		}
		pings(5)
		settle(3 * time.Second)
		if lost := pings(30); lost != [3]int{} {
			t.Errorf("of 30 pings each were lost: %v", lost)
		}
		if n := ids(); n != len(all) {
			t.Errorf("%d peer IDs of %d machines", n, len(all))
		}
		for _, n := range append(all, x.b, x.r) {
			n.stop()
		}
	})
}

// Who is told of a clash again and again changes once a minute at most, and stays
// reachable; what names another instance does nothing.
func TestClashAgainAndAgain(t *testing.T) {
	for _, right := range []bool{true, false} {
		t.Run(fmt.Sprint("right instance ", right), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newTestNode(t, w.Host("a"), nil)
				b := newTestNode(t, w.Host("b"), nil)
				c := newTestNode(t, w.Host("c"), nil)
				adds(a, b, c)
				lan(w, "lan", 0, a.host, b.host, c.host)
				for _, n := range []*testNode{a, b, c} {
					n.start()
					defer n.stop()
				}
				settle(time.Second)
				instance := a.instance
				if !right {
					instance[0] ^= 1
				}
				changes, old, failed := 0, a.peerID(), 0
				for range 180 {
					a.say(b, "session")
					if _, err := c.ping(a, time.Second); err != nil {
						failed++
					}
					b.call(t.Context(), func(l *loop) error {
						if k := b.index.byULA(a.address0().ULA()); k.Route.Load() != nil {
							l.shell.Seal(k, k.Route.Load(), instance.Append([]byte{byte(wire.Clash)}), 0)
						}
						return nil
					})
					settle(time.Second)
					if id := a.peerID(); id != old {
						changes, old = changes+1, id
					}
				}
				if changes > 4 || (changes > 0) != right {
					t.Errorf("%d other peer IDs in three minutes", changes)
				}
				if failed > 4 {
					t.Errorf("%d of 180 pings of another peer failed", failed)
				}
			})
		})
	}
}

// What is answered without seal goes to the machine that asked.
func TestAnswersGoToTheMachine(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		n := newTestNode(t, w.Host("n"), nil)
		h := w.Host("bare")
		lan(w, "lan", 0, n.host, h)
		b := newBare(t, h, "10.0.0.2:8737")
		defer b.conn.Close()
		n.cfg.Peers = []Peer{{Address: b.id.Address()}}
		n.start()
		defer n.stop()
		settle(time.Second)
		for _, machine := range []uint8{3, 15, 1, 3} {
			for _, x := range []struct {
				ask, answer wire.Type
				body        []byte
			}{
				{wire.Ping, wire.Pong, []byte("ping")},
				{wire.EPCReq, wire.EPC, wire.AppendEPC(nil, 7)},
				{wire.NetIDReq, wire.NetID, wire.NetIDMsg{Request: 7}.Append(nil)},
				{wire.Whois, wire.IAm, wire.WhoisMsg{Request: 7, Kind: wire.WhoisID, ID: n.address0().ID()}.Append(nil)},
			} {
				b.drain()
				head := wire.Header{Sender: wire.Party{Address: b.id.Address()}, Recipient: wire.Party{ID: n.address0().ID()}, SenderPeer: machine, Type: x.ask}
				p := head.Append(nil, x.body)
				b.mac(n).Sign(p, new(seal.Scratch))
				b.send("10.0.0.1:8737", p)
				if got, _ := b.next(n, x.answer); got.RecipientPeer != machine || got.SenderPeer != n.peerID() {
					t.Errorf("%v for machine %d, asked by %d", x.answer, got.RecipientPeer, machine)
				}
			}
		}
	})
}

// After a sleep longer than keys live nothing leaves under old ones, and the first
// message arrives.
func TestSleep(t *testing.T) {
	for _, both := range []bool{true, false} {
		t.Run(fmt.Sprint("both ", both), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, _ := pair(t, w)
				defer a.stop()
				defer b.stop()
				settle(time.Second)
				a.say(b, "before")
				settle(time.Second)
				old := a.index.byULA(b.address0().ULA()).Route.Load().Session
				a.clock.set(0, time.Hour)
				if both {
					b.clock.set(0, time.Hour)
				}
				if _, ok := old.Reserve(0, 1, int64(a.now())); ok {
					t.Error("the old key still seals")
				}
				a.say(b, "after")
				settle(time.Second)
				b.heard(a, "after", 1)
			})
		})
	}
}
