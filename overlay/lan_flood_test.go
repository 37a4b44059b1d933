package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// floods has a node send packets to a group that no adapter would send so fast, k of them now.
func (n *testNode) floods(to *testNode, text string, k int) {
	n.t.Helper()
	err := n.call(n.t.Context(), func(l *loop) error {
		c := n.index.byULA(to.address0().ULA())
		for i := range k {
			l.shell.Seal(c, c.Route.Load(), groupMsg(broadcast, 1, 1, fmt.Sprint(text, i)), 0)
		}
		l.shell.flush()
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// count is how many packets a node got from another one.
func (n *testNode) count(from *testNode) (k int) {
	for _, d := range n.dev.delivered() {
		if d.from == from.address0().ULA() && d.msg[0] == byte(wire.Group) {
			k++
		}
	}
	return k
}

// Members that flood reach their limits, and take nothing from one that does not.
func TestLANFlood(t *testing.T) {
	for _, flooders := range []int{1, 6} {
		t.Run(fmt.Sprint(flooders), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				nodes := newLAN(t, w, flooders+2, flooders+2)
				a, honest := nodes[0], nodes[1]
				startAll(nodes...)
				defer stopAll(nodes...)
				settle(3 * time.Second)
				for k := range 300 { // 3 s: 5,000 packets/s of each flooder, 50 of the honest one
					for _, n := range nodes[2:] {
						n.floods(a, fmt.Sprint(n.host.Name(), " ", k, " "), 50)
					}
					if k%2 == 0 {
						honest.shouts(broadcast, fmt.Sprint("honest ", k))
					}
					settle(10 * time.Millisecond)
				}
				settle(time.Second)
				if got := a.count(honest); got != 150 {
					t.Errorf("%d of 150 packets of the honest member arrived", got)
				}
				limits, total := DefaultLANLimits(), 0
				for _, n := range nodes[2:] {
					got := a.count(n)
					total += got
					if most := 3*limits.PeerPackets + limits.PeerPackets/4; got > most || flooders == 1 && got < 3*limits.PeerPackets {
						t.Errorf("%d packets of one flooder came in, at most %d should", got, most)
					}
				}
				if most := 4 * limits.InPackets; total > most {
					t.Errorf("%d packets of all came in, at most %d should", total, most)
				}
				if a.counter("drop_lan_peer_limit") == 0 || flooders > 4 && a.counter("drop_lan_in_limit") == 0 {
					t.Errorf("counters: %v", a.status().Counters)
				}
				honest.say(a, "as ever")
				settle(100 * time.Millisecond)
				a.heard(honest, "as ever", 1)
			})
		})
	}
}

// A program that floods a group here reaches the limit before anything is sealed.
func TestLANFloodOfOurs(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newLANPair(t, w)
		defer stopAll(a, b)
		for k := range 100 {
			for i := range 100 {
				a.shouts(broadcast, fmt.Sprint(k, " ", i))
			}
			a.say(b, fmt.Sprint("beside it ", k))
			settle(10 * time.Millisecond)
			b.heard(a, fmt.Sprint("beside it ", k), 1)
		}
		got, out := b.count(a), int(a.counter("drop_lan_out_limit"))
		if sent := 10000 - out; sent < 2000 || sent > 2600 || got > sent || got < 2000 {
			t.Errorf("%d packets left of 10,000, %d came in, %d were dropped here", sent, got, out)
		}
		if n := len(a.dev.answers()); n != 0 {
			t.Errorf("%d errors", n)
		}
	})
}

// Long packets are cut, and count by their bytes.
func TestLANLongPackets(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newLANPair(t, w)
		defer stopAll(a, b)
		long := string(make([]byte, 8000))
		a.shouts(broadcast, long+"end")
		settle(100 * time.Millisecond)
		b.wantHears(a, long+"end", 1)
		if n := len(a.dev.answers()); n != 0 {
			t.Errorf("%d errors", n)
		}
	})
}

// What a member says about its groups costs little, whatever it says.
func TestHostileGroups(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		nodes := newLAN(t, w, 3, 3)
		a, b, c := nodes[0], nodes[1], nodes[2]
		startAll(nodes...)
		defer stopAll(nodes...)
		settle(3 * time.Second)
		c.joins(mdns4)
		say := func(serial uint32, groups ...netip.Addr) {
			b.seals(a, wire.GroupsMsg{Serial: serial, Member: true, Groups: groups}.Append([]byte{byte(wire.Groups)}))
		}
		const first = 1 << 30 // beyond what b has said
		say(first, mdns4)
		settle(time.Second)
		say(first-1, ssdp4)
		say(first-1000, ssdp4)
		settle(time.Second)
		if got := a.peer(b).LANGroups; len(got) != 1 || got[0] != mdns4 {
			t.Errorf("a serial that goes back was taken: %v", got)
		}
		if n := a.counter("drop_lan_groups"); n != 2 {
			t.Errorf("%d were counted, want 2", n)
		}
		published := 0
		views := map[*lanView]bool{}
		var many []netip.Addr
		for k := range wire.MaxGroups {
			many = append(many, netip.AddrFrom4([4]byte{239, 1, 1, byte(k)}))
		}
		before := a.counter("drop_budget")
		for k := range uint32(3000) { // in 3 s: in and out of it, and other groups each time
			if k%2 == 0 {
				many[0] = netip.AddrFrom4([4]byte{239, 2, byte(k >> 8), byte(k)})
				say(first+1+k, many...)
			} else {
				b.seals(a, wire.GroupsMsg{Serial: first + 1 + k}.Append([]byte{byte(wire.Groups)}))
			}
			settle(time.Millisecond)
			if v := a.lan.view.Load(); !views[v] {
				views[v], published = true, published+1
			}
		}
		settle(time.Second)
		if dropped := a.counter("drop_budget") - before; dropped < 2900 || published > 60 {
			t.Errorf("%d of 3000 were dropped, %d times the lanes were shown another view", dropped, published)
		}
		b.seals(a, append([]byte{byte(wire.Groups)}, wire.GroupsMsg{Serial: first + 9000, Member: true, Groups: many}.Append(nil)[:40]...))
		a.shouts(mdns4, "as ever")
		settle(time.Second)
		c.wantHears(a, "as ever", 1)
	})
}
