package overlay

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

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
		pings(20)
		settle(70 * time.Second) // one may have to change twice
		pings(20)
		settle(3 * time.Second)
		if lost := pings(30); lost != [3]int{} {
			t.Errorf("of 30 pings each were lost: %v", lost)
		}
		ids := map[uint8]bool{}
		for _, n := range all {
			ids[n.peerID()] = true
		}
		if len(ids) != len(all) {
			t.Errorf("%d peer IDs of %d machines", len(ids), len(all))
		}
		for _, n := range append(all, x.b, x.r) {
			n.stop()
		}
	})
}
