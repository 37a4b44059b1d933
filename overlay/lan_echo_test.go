package overlay

import (
	"fmt"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/vnet"
)

// reflector is a program that joins the adapter of a node with a LAN: what comes by one it sends by the other,
// from its own port.
type reflector struct {
	node *testNode
	port uint16
	slow int // steps that it takes to send what it hears on the LAN
	done int // what the adapter delivered so far
	late [][]string
}

// reflect lets reflectors run for a time, in steps of a millisecond. All of them hear what one sends on the
// LAN, except itself. It returns how many packets they sent by the adapters in the last second.
func reflect(rs []*reflector, d time.Duration, first ...string) (last int) {
	heard := make([][]string, len(rs))
	for i := range rs {
		heard[i] = first // somebody on the LAN
	}
	steps := int(d / time.Millisecond)
	for k := range steps {
		next := make([][]string, len(rs))
		for i, r := range rs {
			all := r.node.dev.delivered()
			for _, m := range all[r.done:] {
				if m.msg[0] != byte(wire.Group) {
					continue
				}
				for j := range rs {
					if j != i {
						next[j] = append(next[j], m.msg[32:]) // behind the headers
					}
				}
			}
			r.done = len(all)
			r.late = append(r.late, heard[i])
			if len(r.late) <= r.slow {
				continue
			}
			for _, text := range r.late[0] {
				r.node.shoutsFrom(broadcast, r.port, text)
				if k >= steps-1000 {
					last++
				}
			}
			r.late = r.late[1:]
		}
		heard = next
		settle(time.Millisecond)
	}
	return last
}

// Two nodes that are joined by reflectors into one real LAN send nothing round in circles: neither what a
// program of theirs sends, nor what comes from that LAN, however quick the reflectors are.
func TestReflectorsEnd(t *testing.T) {
	for _, slow := range [][2]int{{0, 0}, {0, 1}, {0, 5}, {5, 0}, {3, 30}} {
		t.Run(fmt.Sprint(slow), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				nodes := newLAN(t, w, 3, 3)
				startAll(nodes...)
				defer stopAll(nodes...)
				settle(3 * time.Second)
				a, b, c := nodes[0], nodes[1], nodes[2]
				rs := []*reflector{{node: a, port: 9000, slow: slow[0]}, {node: b, port: 9000, slow: slow[1]}}
				a.shouts(broadcast, "of a program")
				c.shouts(broadcast, "of a third node")
				if n := reflect(rs, 4*time.Second); n != 0 {
					t.Errorf("%d packets in the last second", n)
				}
				if n := reflect(rs, 4*time.Second, "of the LAN"); n != 0 {
					t.Errorf("%d packets in the last second", n)
				}
				echoes := a.counter("drop_lan_echo") + b.counter("drop_lan_echo")
				sent := a.counter("lan_tx_packets") + b.counter("lan_tx_packets")
				if echoes < 3 || sent > 60 {
					t.Errorf("%d packets left, %d echoes were dropped", sent, echoes)
				}
				if c.hears(a, "of the LAN")+c.hears(b, "of the LAN") == 0 || c.hears(a, "of a program") == 0 {
					t.Error("a packet got lost")
				}
			})
		})
	}
}

// What programs say again and again is no echo, nor what another one says elsewhere, nor the same words of
// several players. What turns at once, again and again, is.
func TestEchoes(t *testing.T) {
	e := newEchoes()
	now := mono.At(time.Hour)
	p := func(port uint16, text string) []byte { return groupMsg(broadcast, port, 7000, text) }
	for range 1000 {
		if e.leaves(now, p(1, "x")) {
			t.Fatal("the same program was refused")
		}
	}
	for i := range 100 { // two players say the same ten times a second, not in step
		if e.came(now, p(7, "here")) || e.leaves(now.Add(time.Duration(i%40+60)*time.Millisecond), p(8, "here")) {
			t.Fatalf("the words of two players are refused after %d times", i)
		}
		now = now.Add(100 * time.Millisecond)
	}
	for i := range 100 { // four players say the same twice a second, in step
		for player := range uint16(3) {
			if e.came(now, p(20+player, "still here")) {
				t.Fatalf("the words of a player are refused after %d times", i)
			}
		}
		if e.leaves(now.Add(10*time.Millisecond), p(23, "still here")) {
			t.Fatalf("our words are refused after %d times", i)
		}
		now = now.Add(500*time.Millisecond - time.Duration(i%5)*10*time.Millisecond)
	}
	for name, turn := range map[string]func(text string) bool{
		"of another node": func(text string) bool {
			return e.came(now, p(5, text)) || e.leaves(now.Add(20*time.Millisecond), p(9, text))
		},
		"of another port": func(text string) bool {
			return e.leaves(now, p(1, text)) || e.leaves(now.Add(20*time.Millisecond), p(2, text))
		},
		"of several nodes": func(text string) bool {
			return e.came(now, p(5, text)) || e.came(now, p(6, text)) || e.leaves(now, p(9, text))
		},
	} {
		passed := 0
		for !turn(name) && passed < 100 {
			passed++
			now = now.Add(100 * time.Millisecond)
		}
		if passed == 0 || passed > 2*turnLimit {
			t.Errorf("%s: passed %d times", name, passed)
		}
		if !e.came(now.Add(500*time.Millisecond), p(5, name)) || !e.leaves(now.Add(500*time.Millisecond), p(1, name)) {
			t.Errorf("%s: goes on after half a second", name)
		}
		if e.leaves(now, p(1, "other than "+name)) || e.leaves(now, groupMsg(ssdp4, 2, 7000, name)) || e.leaves(now, groupMsg(broadcast, 2, 7001, name)) {
			t.Errorf("%s: something else is refused", name)
		}
		if e.leaves(now.Add(3*time.Second), p(9, name)) {
			t.Errorf("%s: refused after three seconds", name)
		}
	}
	question := groupMsg(mdns6, 5353, 5353, "who")
	if e.came(now, question) || !e.leaves(now.Add(900*time.Millisecond), question) || e.leaves(now.Add(3*time.Second), question) {
		t.Error("mDNS says what has just been said")
	}
	if e.leaves(now, p(1, "other")) || e.leaves(now, []byte{byte(wire.Group)}) || e.came(now, groupMsg(mdns6, 5, 5, "")[:20]) {
		t.Error("what is cut off is refused at once")
	}
	msg := p(1, "allocates")
	if n := testing.AllocsPerRun(100, func() { e.leaves(now, msg); e.came(now, msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
