package overlay

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"anodenet/overlay/vnet"
)

// What each side says about the other, on pairs of kinds of sites.
func TestExplainTopologies(t *testing.T) {
	for _, c := range []struct {
		a, b   vnet.Kind
		relays int
		want   Reason // why the path is not direct, or, of pairs that do not meet, why not
		back   Reason // what b says
	}{
		{vnet.Home, vnet.Home, 1, NoReason, NoReason},
		{vnet.SymmetricRandom, vnet.Home, 1, ReasonHereSymmetric, ReasonPeerSymmetric},
		{vnet.SymmetricRandom, vnet.Home, 2, ReasonHereSymmetric, ReasonPeerSymmetric},
		{vnet.SymmetricRandom, vnet.SymmetricRandom, 1, ReasonBothSymmetric, ReasonBothSymmetric},
		{vnet.SymmetricRandom, vnet.SymmetricRandom, 2, ReasonBothSymmetric, ReasonBothSymmetric},
		{vnet.SymmetricRandom, vnet.SymmetricSequential, 2, ReasonBothSymmetric, ReasonBothSymmetric},
		{vnet.SymmetricRandom, vnet.Carrier, 2, ReasonHereSymmetric, ReasonPeerSymmetric},
		{vnet.IPv6Firewall, vnet.Home, 1, ReasonFamilyMismatch, ReasonFamilyMismatch},
		{vnet.Twins, vnet.Twins, 1, ReasonHairpin, ReasonHairpin},
		{vnet.Twins, vnet.Twins, 2, ReasonHairpin, ReasonHairpin},
		{vnet.UDPBlocked, vnet.Home, 1, ReasonRelaySilent, ReasonNotAtRelay},
		{vnet.UDPBlocked, vnet.Home, 2, ReasonUDPBlocked, ReasonNotAtRelay},
	} {
		t.Run(fmt.Sprint(c.a, ", ", c.b, ", relays ", c.relays), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newOuter(t, w, c.relays)
				a, b := x.pairOf(c.a, c.b)
				x.start()
				defer x.stop()
				settle(3 * time.Second)
				for k := range 30 {
					a.say(b, fmt.Sprint("a", k))
					b.say(a, fmt.Sprint("b", k))
					settle(200 * time.Millisecond)
				}
				settle(8 * time.Second)
				a.explains(b, c.want)
				b.explains(a, c.back)
			})
		})
	}
}

// pairOf adds nodes at a pair of sites.
func (x *outer) pairOf(ka, kb vnet.Kind) (a, b *testNode) {
	if ka != kb || ka != vnet.Twins && ka != vnet.TwinsHairpin {
		return x.site("a", ka), x.site("b", kb)
	}
	a = x.site("a", ka)
	b = x.add(x.sites[0], x.sites[0].Hosts[1])
	return a, b
}

// explains checks what a node says about a peer: why it is silent, or else why the path is no
// better one.
func (n *testNode) explains(of *testNode, want Reason) {
	n.t.Helper()
	p := n.peer(of)
	got, at := p.Reason, p.ReasonAt
	if got == NoReason {
		got, at = p.PathReason, p.PathReasonAt
	}
	if got != want {
		n.t.Errorf("%s about %s: %q (%s), want %q; state %s, path %s, attempts %+v", n.host.Name(), of.host.Name(), got, at, want, p.State, p.Path.Kind, p.Attempts)
		for _, w := range p.Ways {
			n.t.Logf("%+v", w)
		}
		s := n.status()
		for _, p := range s.Peers {
			n.t.Logf("%s: %s %q %q %+v", p.Name, p.State, p.Reason, p.ReasonAt, p.Ways)
		}
		n.t.Logf("%+v\n%+v", s.Reach, s.Network)
	}
}

// Where the two have a link of their own beside the relay, and it is a bad one, that is said.
func TestExplainBadLinks(t *testing.T) {
	for _, c := range []struct {
		link vnet.Link
		want Reason
	}{
		{vnet.Link{Delay: time.Millisecond, MTU: 900}, ReasonPMTUBlackhole},
		{vnet.Link{Delay: 400 * time.Millisecond}, ReasonRelayBetter},
		{vnet.Link{Delay: time.Millisecond, Loss: 0.4}, ReasonLossy},
		{vnet.Link{Delay: time.Millisecond, Loss: 1}, ReasonFirewalled}, // nothing gets through
	} {
		t.Run(string(c.want), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newRelayed(t, w, false)
				own := lan(w, "own", 3, x.a.host, x.b.host)
				own.SetLink(c.link)
				x.start()
				defer x.stop()
				settle(2 * time.Second)
				seen := map[Reason]bool{}
				for k := range 300 {
					x.a.say(x.b, fmt.Sprint("a", k))
					x.b.say(x.a, fmt.Sprint("b", k))
					settle(200 * time.Millisecond)
					seen[x.a.peer(x.b).PathReason] = true
				}
				if !seen[c.want] {
					t.Errorf("seen %v", seen)
					x.a.explains(x.b, c.want)
				}
			})
		})
	}
}

// The peer's program, a firewall that lets nothing but the relay's packets in, and a relay that
// has not added us.
func TestExplainOthers(t *testing.T) {
	meet := func(a, b *testNode) {
		for k := range 30 {
			a.say(b, fmt.Sprint("a", k))
			b.say(a, fmt.Sprint("b", k))
			settle(200 * time.Millisecond)
		}
		settle(8 * time.Second)
	}
	run := func(name string, f func(t *testing.T, x *outer, a, b *testNode)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newOuter(t, w, 1)
				a, b := x.site("a", vnet.UDPBlocked), x.site("b", vnet.Home)
				x.sites[0].Firewall.SetConfig(func(c *vnet.FirewallConfig) { *c = vnet.FirewallConfig{} })
				f(t, x, a, b)
			})
		})
	}
	run("firewalled", func(t *testing.T, x *outer, a, b *testNode) {
		b.cfg.Port = 9999
		x.sites[0].Firewall.SetConfig(func(c *vnet.FirewallConfig) { c.Deny = []uint16{9999} })
		x.start()
		defer x.stop()
		settle(3 * time.Second)
		meet(a, b)
		a.explains(b, ReasonFirewalled)
		b.explains(a, ReasonFirewalled)
	})
	run("relay policy", func(t *testing.T, x *outer, a, b *testNode) {
		r := x.relays[0]
		r.cfg.Peers = slices.DeleteFunc(r.cfg.Peers, func(p Peer) bool { return p.Address == a.address0() })
		x.start()
		defer x.stop()
		settle(3 * time.Second)
		if _, err := a.ping(r, 5*time.Second); err != nil {
			t.Error(err)
		}
		meet(a, b)
		a.explains(b, ReasonRelayPolicy)
		b.explains(a, ReasonNotAtRelay)
	})
	run("asleep", func(t *testing.T, x *outer, a, b *testNode) {
		x.start()
		settle(3 * time.Second)
		meet(a, b)
		b.stop()
		for k := range 60 {
			a.say(b, fmt.Sprint("asleep ", k))
			settle(500 * time.Millisecond)
		}
		a.explains(b, ReasonPeerAsleep)
		x.nodes = []*testNode{a}
		x.stop()
	})
	run("not added there", func(t *testing.T, x *outer, a, b *testNode) {
		a.cfg.Peers = append(a.cfg.Peers, Peer{Address: b.address0(), Name: "b"})
		for _, n := range append(x.relays, a, b) {
			n.start()
		}
		defer x.stop()
		settle(3 * time.Second)
		meet(a, b)
		if p := a.peer(b); p.Reason != ReasonNotAddedThere || p.PathReason != ReasonNotAddedThere || p.Path.Kind != PathRelay {
			t.Errorf("%q, and of the path %q; %s", p.Reason, p.PathReason, p.Path.Kind)
		}
	})
	run("punching", func(t *testing.T, x *outer, a, b *testNode) {
		x.start()
		defer x.stop()
		settle(3 * time.Second)
		var seen []Reason
		for k := range 200 {
			if k%5 == 0 {
				a.say(b, fmt.Sprint(k))
			}
			settle(10 * time.Millisecond)
			if r := a.peer(b).PathReason; !slices.Contains(seen, r) {
				seen = append(seen, r)
			}
		}
		if !slices.Equal(seen, []Reason{NoReason, ReasonPunching}) || a.peer(b).Path.Kind != PathDirect {
			t.Errorf("seen %q, path %s", seen, a.peer(b).Path.Kind)
		}
	})
}

// Two on links of their own, which only the relay is on too, have nothing to try.
func TestExplainNoCandidates(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, true)
		defer x.stop()
		x.meet(t)
		settle(10 * time.Second)
		x.a.explains(x.b, ReasonNoCandidates)
		x.b.explains(x.a, ReasonNoCandidates)
	})
}

// What waits for a peer that is silent ends with a reason: there is no room for more, or the
// peer is removed.
func TestReasonOfMessages(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newTestNode(t, w.Host("b"), nil)
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		if _, err := a.AddPeer(t.Context(), Peer{Address: b.address0()}); err != nil {
			t.Fatal(err)
		}
		const pings = 200
		ended := make(chan Reason, pings)
		for range pings {
			go func() {
				_, err := a.ping(b, time.Minute)
				var why *UnreachableError
				errors.As(err, &why)
				ended <- why.Reason
			}()
		}
		settle(100 * time.Millisecond)
		if _, err := a.RemovePeer(t.Context(), b.address0()); err != nil {
			t.Fatal(err)
		}
		count := map[Reason]int{}
		for range pings {
			count[<-ended]++
		}
		if count[ReasonTooMuch] == 0 || count[ReasonRemoved] == 0 || count[ReasonTooMuch]+count[ReasonRemoved] != pings {
			t.Errorf("%v", count)
		}
	})
}

// A peer that takes no part in attempts: then a NAT that others get through cannot be opened.
func TestExplainNoTraversal(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 1)
		a, b := x.site("a", vnet.SymmetricRandom), x.site("b", vnet.SymmetricRandom)
		x.start()
		defer x.stop()
		for _, n := range []*testNode{a, b} {
			n.call(t.Context(), func(l *loop) error {
				l.env.Local.Reach = nil // and so its handshakes say that it takes none
				return nil
			})
		}
		settle(3 * time.Second)
		for k := range 30 {
			a.say(b, fmt.Sprint("a", k))
			settle(500 * time.Millisecond)
		}
		a.explains(b, ReasonNoTraversal)
		b.explains(a, ReasonNoTraversal)
	})
}
