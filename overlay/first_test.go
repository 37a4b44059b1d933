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
