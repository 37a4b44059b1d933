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
	for _, slow := range [][2]int{{0, 0}, {0, 1}, {0, 5}, {5, 0}, {3, 50}, {300, 20}} {
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
				if echoes < 3 || sent > 20 {
					t.Errorf("%d packets left, %d echoes were dropped", sent, echoes)
				}
				if c.hears(a, "of the LAN")+c.hears(b, "of the LAN") == 0 || c.hears(a, "of a program") != 1 {
					t.Error("a packet got lost")
				}
			})
		})
	}
}

// What a program says again and again is no echo, nor what another one says elsewhere.
func TestEchoes(t *testing.T) {
	e := newEchoes()
	now := mono.At(time.Hour)
	p := func(port uint16, text string) []byte { return groupMsg(broadcast, port, 7000, text) }
	for range 3 {
		if e.leaves(now, p(1, "x")) {
			t.Error("the same program was refused")
		}
	}
	for _, x := range []struct {
		name string
		msg  []byte
		want bool
	}{
		{"another port", p(2, "x"), true},
		{"another payload", p(2, "y"), false},
		{"another group", groupMsg(ssdp4, 2, 7000, "x"), false},
		{"another port to send to", groupMsg(broadcast, 2, 7001, "x"), false},
	} {
		if got := e.leaves(now, x.msg); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	if e.leaves(now.Add(2*time.Second), p(2, "x")) {
		t.Error("refused after two seconds")
	}
	if e.came(now, p(5, "in")) || e.came(now, p(5, "in")) {
		t.Error("what comes twice is refused")
	}
	if !e.leaves(now.Add(900*time.Millisecond), p(9, "in")) || !e.came(now.Add(time.Second), p(5, "in")) {
		t.Error("what turned around here was not refused")
	}
	if e.came(now.Add(3*time.Second), p(5, "in")) || e.leaves(now.Add(5*time.Second), p(9, "in")) {
		t.Error("refused later")
	}
	if e.leaves(now, p(1, "other")) || e.leaves(now, []byte{byte(wire.Group)}) || e.came(now, groupMsg(mdns6, 5, 5, "")[:20]) {
		t.Error("what is cut off is refused at once")
	}
	msg := p(1, "allocates")
	if n := testing.AllocsPerRun(100, func() { e.leaves(now, msg); e.came(now, msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
