package overlay

import (
	"slices"
	"testing"
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// heardOf reports whether a node has heard of another one.
func (n *testNode) heardOf(of *testNode) bool {
	n.t.Helper()
	return slices.ContainsFunc(n.status().Peers, func(p PeerStatus) bool { return p.Address == of.address0() && p.LastSeen != nil })
}

// A node that is silent on one of its two links is not found there, neither by its beacons nor by who asks
// for it, and it does not answer a stranger's beacons; on the other link it is. Peers that were
// added on both sides meet all the same.
func TestSilent(t *testing.T) {
	for _, off := range []bool{true, false} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			a := newTestNode(t, w.Host("a"), func(c *Config) {
				c.Discovery = Discovery{Off: off}
				if !off {
					c.Discovery.Silent = func(i link.Interface) bool {
						return len(i.Prefixes) > 0 && i.Prefixes[0].Addr().As4()[1] == 1
					}
				}
			})
			near, far := newTestNode(t, w.Host("near"), nil), newTestNode(t, w.Host("far"), nil)
			friend := newTestNode(t, w.Host("friend"), nil)
			adds(a, friend)
			lan(w, "quiet", 1, a.host, near.host, friend.host)
			lan(w, "home", 2, a.host, far.host)
			for _, n := range []*testNode{a, near, far, friend} {
				n.start()
				defer n.stop()
			}
			settle(5 * time.Second)
			if _, err := near.ResolveULA(t.Context(), a.address0().ULA()); err == nil {
				t.Error("whoever asks for its ULA is answered")
			}
			if near.heardOf(a) || a.heardOf(near) {
				t.Error("a stranger on the quiet link has heard of it")
			}
			if far.heardOf(a) == off {
				t.Errorf("off %v: on the other link: %v", off, far.heardOf(a))
			}
			if s := a.peer(friend).State; s != StateUp && s != StateIdle {
				t.Errorf("the friend is %v", s)
			}
			a.say(friend, "here I am")
			settle(time.Second)
			friend.heard(a, "here I am", 1)
			if a.status().Counters["drop_hidden"] == 0 {
				t.Error("nothing was counted")
			}
			if off {
				if err := a.SetDiscovery(t.Context(), Discovery{}); err != nil {
					t.Fatal(err)
				}
				settle(2 * time.Second)
				if !near.heardOf(a) || !far.heardOf(a) {
					t.Error("not silent any more, and not heard")
				}
			}
		})
	}
}
