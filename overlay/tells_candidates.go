package overlay

import (
	"context"
	"net/netip"
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/path"
)

// Candidates lists where a guest can reach this node now, for a link: at most 4 endpoints, the most
// promising first, and at most 2 relays that forward to it for anybody.
//
// The endpoints are public addresses of our interfaces, those that the router mapped to us, how the
// outside sees us if it is the same for everybody, and then private addresses, which serve guests on
// the same network. All are of UDP.
func (n *Node) Candidates(ctx context.Context) (endpoints []wire.Endpoint, relays []RelayAt, err error) {
	err = n.call(ctx, func(l *loop) error {
		endpoints, relays = l.reach.candidates(), l.zones.candidates()
		return nil
	})
	return endpoints, relays, err
}

const (
	maxCandidates  = 4
	maxCandidates6 = 2 // of them public addresses of IPv6, of which an interface may have many
)

// candidates lists where a guest may reach us directly; see Node.Candidates.
func (r *reach) candidates() []wire.Endpoint {
	public, private := r.l.links.addresses(r.l.isOverlay)
	port := r.l.n.conns[0].LocalPort()
	var list []netip.AddrPort
	add := func(a netip.AddrPort) {
		if len(list) < maxCandidates && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	six := 0
	for _, a := range public {
		if a.Is6() {
			six++
		}
		if a.Is4() || six <= maxCandidates6 {
			add(netip.AddrPortFrom(a, port))
		}
	}
	for _, a := range r.outside.mapped {
		if r.outside.leadsHere(a) {
			add(a)
		}
	}
	if r.outside.mapping.Kind == path.Independent {
		for _, a := range r.outside.seenAs() {
			add(a)
		}
	}
	slices.SortStableFunc(private, func(a, b netip.Addr) int { return ipv4Later(b, a) }) // homes have IPv4
	for _, a := range private {
		add(netip.AddrPortFrom(a, port))
	}
	out := make([]wire.Endpoint, 0, len(list))
	for _, a := range list {
		out = append(out, wire.UDP(a))
	}
	return out
}
