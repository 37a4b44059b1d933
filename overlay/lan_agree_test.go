package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/alias"
	"anodenet/overlay/vnet"
)

// newLANPair starts two nodes that have each other in their virtual LAN, and know it.
func newLANPair(t *testing.T, w *vnet.World) (a, b *testNode) {
	t.Helper()
	nodes := newLAN(t, w, 2, 2)
	startAll(nodes...)
	settle(3 * time.Second)
	wantLAN(nodes[0], nodes[1], LANMember, LANMember)
	return nodes[0], nodes[1]
}

// wantLAN checks what two nodes say about each other.
func wantLAN(a, b *testNode, ab, ba LANState) {
	a.t.Helper()
	if got := a.lanState(b); got != ab {
		a.t.Errorf("%s is %s for %s, want %s", b.host.Name(), got, a.host.Name(), ab)
	}
	if got := b.lanState(a); got != ba {
		a.t.Errorf("%s is %s for %s, want %s", a.host.Name(), got, b.host.Name(), ba)
	}
}

// Nothing is exchanged until both sides have chosen each other, in whatever order, and nothing from the
// moment on at which one of them ends it.
func TestLANNeedsBoth(t *testing.T) {
	for _, way := range []string{"taken out", "removed", "blocked"} {
		t.Run(way, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				nodes := newLAN(t, w, 2, 0)
				a, b := nodes[0], nodes[1]
				a.cfg.Peers, b.cfg.Peers = nil, nil
				startAll(a, b)
				defer stopAll(a, b)
				add := func(n, other *testNode) {
					if _, err := n.AddPeer(t.Context(), Peer{Address: other.address0()}); err != nil {
						t.Fatal(err)
					}
				}
				add(a, b)
				add(b, a)
				settle(time.Second)
				a.setLAN(b, true)
				settle(40 * time.Second)
				wantLAN(a, b, LANChosen, LANOff)
				a.shouts(broadcast, "too early")
				settle(time.Second)
				b.wantHears(a, "too early", 0)

				b.setLAN(a, true)
				settle(time.Second)
				wantLAN(a, b, LANMember, LANMember)
				a.shouts(broadcast, "hello")
				settle(100 * time.Millisecond)
				b.wantHears(a, "hello", 1)

				a.shouts(broadcast, "on its way")
				b.shouts(broadcast, "to a")
				switch way { // at once: what comes after this is not let in
				case "taken out":
					b.setLAN(a, false)
				case "removed":
					b.RemovePeer(t.Context(), a.address0())
				case "blocked":
					b.BlockPeer(t.Context(), a.address0(), true)
				}
				settle(time.Millisecond / 2)
				b.dev.mu.Lock()
				heard := len(b.dev.got)
				b.dev.mu.Unlock()
				b.shouts(broadcast, "after all")
				settle(time.Second)
				wantLAN(a, b, LANChosen, map[string]LANState{"taken out": LANOff, "removed": LANOff, "blocked": LANOff}[way])
				a.shouts(broadcast, "still there?")
				settle(time.Second)
				a.wantHears(b, "after all", 0)
				if got := len(b.dev.delivered()); got != heard {
					t.Errorf("%d packets came in after the end", got-heard)
				}
				if n := a.counter("drop_lan_nobody"); n < 2 {
					t.Errorf("a counted %d packets that nobody wants", n)
				}

				switch way {
				case "blocked":
					b.BlockPeer(t.Context(), a.address0(), false)
				case "removed":
					add(b, a)
					fallthrough
				case "taken out":
					b.setLAN(a, true)
				}
				settle(3 * time.Second)
				b.say(a, "session")
				settle(3 * time.Second)
				wantLAN(a, b, LANMember, LANMember)
				a.shouts(broadcast, "welcome back")
				b.shouts(broadcast, "thanks")
				settle(time.Second)
				b.wantHears(a, "welcome back", 1)
				a.wantHears(b, "thanks", 1)
			})
		})
	}
}

// All added peers can be in the virtual LAN without being named, and leave it again.
func TestLANOfAll(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		nodes := newLAN(t, w, 2, 0)
		a, b := nodes[0], nodes[1]
		a.cfg.LAN.All = true
		startAll(a, b)
		defer stopAll(a, b)
		settle(3 * time.Second)
		wantLAN(a, b, LANChosen, LANOff)
		if err := b.SetLANAll(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		wantLAN(a, b, LANMember, LANMember)
		b.SetLANAll(t.Context(), false)
		settle(time.Second)
		wantLAN(a, b, LANChosen, LANOff)
	})
}

// A group's packets go to those who have joined it, and broadcasts to everybody.
func TestLANGroups(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		nodes := newLAN(t, w, 3, 3)
		a, b, c := nodes[0], nodes[1], nodes[2]
		startAll(nodes...)
		defer stopAll(nodes...)
		settle(3 * time.Second)
		hears := func(what string, n *testNode, group netip.Addr, times int) {
			t.Helper()
			text := fmt.Sprint(what, " ", group)
			if n == b {
				a.shouts(group, text)
			}
			settle(100 * time.Millisecond)
			n.wantHears(a, text, times)
		}
		all := []netip.Addr{mdns4, mdns6, ssdp4}
		for _, g := range all {
			hears("before", b, g, 0)
		}
		b.joins(append(all, netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff02::1:ff00:1"), netip.MustParseAddr("ff01::1"), netip.MustParseAddr("10.0.0.1"))...)
		c.joins(ssdp4, ssdp4)
		settle(time.Second)
		if got := a.peer(b).LANGroups; fmt.Sprint(got) != fmt.Sprint([]netip.Addr{mdns4, ssdp4, mdns6}) {
			t.Errorf("b wants %v", got)
		}
		for _, g := range all {
			hears("joined", b, g, 1)
			want := 0
			if g == ssdp4 {
				want = 1
			}
			hears("joined", c, g, want)
		}
		for _, g := range []netip.Addr{broadcast, netip.MustParseAddr("100.127.255.255"), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("224.0.0.1")} {
			hears("all", b, g, 1)
			hears("all", c, g, 1)
		}
		b.joins(mdns6)
		settle(time.Second)
		hears("left", b, mdns4, 0)
		hears("left", b, mdns6, 1)
		if got := b.status().LAN.Groups; len(got) != 1 || got[0] != mdns6 {
			t.Errorf("our groups: %v", got)
		}
		var many []netip.Addr
		for k := range 100 {
			many = append(many, netip.AddrFrom4([4]byte{239, 1, 1, byte(k)}))
		}
		b.joins(many...)
		settle(time.Second)
		if got := len(a.peer(b).LANGroups); got != wire.MaxGroups || b.counter("drop_lan_groups") != 36 {
			t.Errorf("%d groups were told, %d left out", got, b.counter("drop_lan_groups"))
		}
		early := netip.MustParseAddr("ff05::99")
		b.joins(early)
		settle(time.Second)
		b.joins(append(many, early, mdns6)...)
		settle(time.Second)
		if got := a.peer(b).LANGroups; len(got) != wire.MaxGroups || !slices.Contains(got, early) || !slices.Contains(got, mdns6) {
			t.Errorf("%v were told: not mDNS, or not what was told before", got)
		}
	})
}

// What is lost is said again, and what nobody answers is not said for ever.
func TestLostGroupsAreRepeated(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer stopAll(a, b)
		for _, n := range []*testNode{a, b} {
			if err := n.SetLANAll(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		settle(3 * time.Second)
		wantLAN(a, b, LANMember, LANMember)
		s.SetLink(vnet.Link{Delay: time.Millisecond, Loss: 1})
		b.joins(mdns4)
		settle(2 * time.Second)
		s.SetLink(vnet.Link{Delay: time.Millisecond})
		settle(3 * time.Second)
		if got := a.peer(b).LANGroups; len(got) != 1 {
			t.Errorf("a knows of %v", got)
		}
		told := func() (n int) {
			b.call(t.Context(), func(l *loop) error {
				for _, x := range l.lan.peers {
					for _, m := range x.machines {
						n += m.tries
					}
				}
				if len(l.lan.due) != 0 && n == lanTries {
					t.Error("something is due although all was tried")
				}
				return nil
			})
			return n
		}
		a.SetLANAll(t.Context(), false) // from now on, it answers nothing
		settle(time.Second)
		b.joins(ssdp4)
		settle(10 * time.Minute)
		if n := told(); n != lanTries {
			t.Errorf("said %d times, want %d", n, lanTries)
		}
	})
}

// Where nothing happens, a virtual LAN sends nothing more than nodes send without one.
func TestLANIsSilent(t *testing.T) {
	packets := func(members int) (count int) {
		bubble(t, func(t *testing.T, w *vnet.World) {
			nodes := newLAN(t, w, 2, members)
			startAll(nodes...)
			defer stopAll(nodes...)
			settle(3 * time.Second)
			nodes[0].say(nodes[1], "session")
			settle(10 * time.Minute)
			before := nodes[0].counter("tx_packets") + nodes[1].counter("tx_packets") + nodes[0].counter("control_tx") + nodes[1].counter("control_tx")
			settle(time.Hour)
			count = int(nodes[0].counter("tx_packets") + nodes[1].counter("tx_packets") + nodes[0].counter("control_tx") + nodes[1].counter("control_tx") - before)
		})
		return count
	}
	without, with := packets(0), packets(2)
	if with > without {
		t.Errorf("%d packets in an hour, and %d without a virtual LAN", with, without)
	}
}

// A node that starts again is in the virtual LAN again, whether it said that it ends or not.
func TestLANAfterRestart(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				nodes := newLAN(t, w, 2, 2)
				a, b := nodes[0], nodes[1]
				startAll(a, b)
				defer stopAll(a, b)
				settle(3 * time.Second)
				b.joins(mdns4)
				settle(time.Second)
				if crash {
					b.call(t.Context(), func(l *loop) error { // it has no time to say anything
						l.lan.peers = nil
						return nil
					})
				}
				b.stop()
				settle(time.Second)
				if want := map[bool]LANState{false: LANChosen, true: LANMember}[crash]; a.lanState(b) != want {
					t.Errorf("b is %s after its end, want %s", a.lanState(b), want)
				}
				b.start()
				settle(4 * time.Second)
				wantLAN(a, b, LANMember, LANMember)
				if got := a.peer(b).LANGroups; len(got) != 0 {
					t.Errorf("b wants %v, as in its last run", got)
				}
				a.shouts(broadcast, "again")
				b.shouts(broadcast, "again")
				settle(time.Second)
				b.wantHears(a, "again", 1)
				a.wantHears(b, "again", 1)
			})
		})
	}
}

// A member without a session gets the first packets as soon as there is one, and no error comes back where
// there is none.
func TestLANMakesSessions(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newLANPair(t, w)
		settle(2 * time.Hour)
		if a.peer(b).State == StateUp {
			t.Error("the session lasts although nothing is said")
		}
		a.shouts(broadcast, "awake?")
		settle(2 * time.Second)
		b.wantHears(a, "awake?", 1)
		b.call(t.Context(), func(l *loop) error { l.lan.peers = nil; return nil })
		b.stop()
		settle(2 * time.Hour)
		for k := range 100 {
			a.shouts(broadcast, fmt.Sprint("anybody? ", k))
			settle(50 * time.Millisecond)
		}
		settle(10 * time.Second)
		if got := a.dev.answers(); len(got) != 0 {
			t.Errorf("the adapter got errors: %v", got)
		}
		if n := a.counter("drop_lan_waiting"); n < 80 {
			t.Errorf("%d of 100 packets to a silent member did not wait", n)
		}
		a.stop()
	})
}

// Each machine of an address is a member of its own: it hears a packet once, and only of the groups that its
// own programs have joined.
func TestLANOfTwoMachines(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, twin, b := newCopies(t, w, true)
		a.stop()
		a.keepPeerID(3)
		twin.keepPeerID(7)
		for _, n := range []*testNode{a, twin, b} {
			n.cfg.LAN.All = true
		}
		b.stop()
		startAll(a, twin, b)
		defer stopAll(a, twin, b)
		settle(3 * time.Second)
		twin.joins(mdns4)
		settle(3 * time.Second)
		if s := b.peer(a); s.Machines != 2 || s.LAN != LANMember {
			t.Fatalf("%d machines, %s", s.Machines, s.LAN)
		}
		b.shouts(broadcast, "both")
		b.shouts(mdns4, "one")
		a.shouts(broadcast, "from a")
		twin.shouts(broadcast, "from its twin")
		settle(time.Second)
		a.wantHears(b, "both", 1)
		twin.wantHears(b, "both", 1)
		a.wantHears(b, "one", 0)
		twin.wantHears(b, "one", 1)
		b.wantHears(a, "from a", 1)
		b.wantHears(a, "from its twin", 1)
		a.SetLANAll(t.Context(), false)
		settle(time.Second)
		if s := b.lanState(a); s != LANMember {
			t.Errorf("with one machine left: %s", s)
		}
		b.shouts(broadcast, "one left")
		settle(time.Second)
		a.wantHears(b, "one left", 0)
		twin.wantHears(b, "one left", 1)
	})
}

// Whoever watches a node learns of members, and of the groups that they want.
func TestLANEvents(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newLANPair(t, w)
		defer stopAll(a, b)
		watch := a.Watch(EventPeer)
		defer watch.Close()
		for _, change := range []func(){
			func() { b.joins(mdns4) },
			func() { b.SetFixed(t.Context(), []Peer{{Address: a.address0()}}) },
			func() { b.SetFixed(t.Context(), []Peer{{Address: a.address0(), LAN: true}}) },
		} {
			change()
			settle(time.Second)
			select {
			case <-watch.wake:
			default:
				t.Fatal("nothing was told")
			}
			watch.wake <- struct{}{}
			if list, err := watch.Next(t.Context()); err != nil || len(list) == 0 || list[0].Address != b.address0() {
				t.Errorf("%v, %v", list, err)
			}
		}
	})
}

// A packet that waits for the loop while its receiver is removed is not sent, not even by a look-up.
func TestLANPacketOfTheRemoved(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newLANPair(t, w)
		defer stopAll(a, b)
		if _, _, err := a.SetFixed(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		a.post(event{kind: evWaiting, ula: b.address0().ULA(), msg: groupMsg(broadcast, 1, 1, "late")})
		settle(10 * time.Second)
		b.wantHears(a, "late", 0)
		if n := a.counter("drop_lan_nobody"); n != 1 {
			t.Errorf("%d packets were counted", n)
		}
		if got := a.dev.answers(); len(got) != 0 {
			t.Errorf("errors: %v", got)
		}
	})
}

// A node without an adapter is in nobody's virtual LAN, whatever it chose, and gets nothing. Who chose it can see
// why, and that it has no IPv4 address, also when there is no session any more.
func TestLANWithoutAdapter(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		nodes := newLAN(t, w, 2, 2)
		a, b := nodes[0], nodes[1]
		table := alias.New(alias.Range, a.address0().ULA())
		a.cfg.Aliases = table
		b.bare = true
		startAll(a, b)
		defer stopAll(a, b)
		settle(3 * time.Second)
		wantLAN(a, b, LANChosen, LANMember) // what a said holds for b
		for _, what := range []string{"a session", "no session"} {
			if s := a.peer(b); !s.NoAdapter || s.Alias != "" {
				t.Errorf("%s: no adapter %v, alias %q", what, s.NoAdapter, s.Alias)
			}
			if s := b.peer(a); s.NoAdapter {
				t.Errorf("%s: a has one", what)
			}
			settle(2 * time.Hour)
		}
		// What is sent to it is refused, and not led elsewhere.
		if _, ok := table.Alias(b.address0().ULA()); !ok {
			t.Error("no route leads to it")
		}
		a.shouts(broadcast, "anybody?")
		settle(time.Second)
		if n := a.counter("lan_tx_copies") + b.counter("drop_no_adapter"); n != 0 {
			t.Errorf("%d packets were sent to it", n)
		}
	})
}
