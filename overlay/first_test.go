package overlay

import (
	"testing"
	"time"

	"anodenet/overlay/vnet"
)

// arrives waits until a text arrives from a node, and returns how long that took.
func (n *testNode) arrives(from *testNode, text string, most time.Duration) time.Duration {
	n.t.Helper()
	for begin := time.Now(); ; settle(time.Millisecond) {
		for _, d := range n.dev.delivered() {
			if d.from == from.address0().ULA() && d.msg == string(ip6(text)) {
				return time.Since(begin)
			}
		}
		if time.Since(begin) > most {
			n.t.Errorf("%q did not arrive within %v", text, most)
			return most
		}
	}
}

// What a program sends right after the start goes out as soon as a relay is reached: a round
// trip to the relay, one to the peer by the relay, and the way there.
func TestFirstPacketByRelay(t *testing.T) {
	relay, peer := 2*oneWay, 4*oneWay
	for name, wait := range map[string]time.Duration{"at once": 0, "soon": 10 * time.Millisecond, "later": 50 * time.Millisecond, "much later": 5 * time.Second} {
		for _, together := range []bool{false, true} {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := siteNodes(t, w, vnet.Home, vnet.Home, nil)
				x.r.start()
				settle(3 * time.Second)
				x.b.start()
				if !together {
					settle(3 * time.Second)
				}
				x.a.start()
				defer x.stop()
				settle(wait)
				x.a.say(x.b, "first")
				d := x.b.arrives(x.a, "first", 3*time.Second)
				if most := max(relay-wait, 0) + peer + peer/2 + 40*time.Millisecond; d > most {
					t.Errorf("%s, together %v: the first packet took %v, want %v", name, together, d, most)
				}
			})
		}
	}
}

// Two nodes that speak at once after their start, before they know how others see them, open a
// direct way as soon as they do.
func TestDirectAtOnceAfterStart(t *testing.T) {
	for _, wait := range []time.Duration{0, 30 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond} {
		for _, kinds := range [][2]vnet.Kind{{vnet.Home, vnet.Home}, {vnet.Carrier, vnet.Home}, {vnet.Restricted, vnet.SymmetricRandom}} {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := siteNodes(t, w, kinds[0], kinds[1], nil)
				x.r.start()
				settle(3 * time.Second)
				x.b.start()
				x.a.start()
				defer x.stop()
				settle(wait)
				began := time.Now()
				for k := 0; x.a.peer(x.b).Path.Kind != PathDirect && k < 300; k++ {
					if k%10 == 0 {
						x.a.say(x.b, "something")
					}
					settle(10 * time.Millisecond)
				}
				if d := time.Since(began); d > 300*time.Millisecond {
					t.Errorf("%v, %v after the start: direct after %v", kinds, wait, d)
				}
			})
		}
	}
}
