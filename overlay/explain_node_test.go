package overlay

import (
	"fmt"
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
