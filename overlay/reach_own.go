package overlay

import (
	"net/netip"
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

const (
	maxOwn    = 8 // endpoints of our own that are told to a peer
	maxOwn6   = 3 // of them with public IPv6 addresses: an interface may have many
	maxMapped = 4 // endpoints that the router mapped to us
	maxOwnTCP = 2 // of them by TCP: one of each family
)

// own lists where we may be reached directly, best first: public addresses of interfaces, what the
// router mapped to us, what others see, and private addresses, which serve who is behind the same
// NAT. Those by TCP come last.
func (r *reach) own() []wire.Endpoint {
	public, private := r.l.links.addresses(r.l.isOverlay)
	tcp := r.ownTCP(public)
	var list []netip.AddrPort
	add := func(a netip.AddrPort) {
		if len(list) < maxOwn-len(tcp) && !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	port := r.l.n.conns[0].LocalPort()
	for _, a := range public {
		add(netip.AddrPortFrom(a, port))
	}
	for _, a := range r.outside.mapped {
		if r.outside.leadsHere(a) {
			add(a)
		}
	}
	for _, a := range r.outside.seenAs() {
		add(a)
	}
	for _, a := range private {
		add(netip.AddrPortFrom(a, port))
	}
	out := make([]wire.Endpoint, 0, len(list))
	for _, a := range list {
		out = append(out, wire.UDP(a))
	}
	return append(out, tcp...)
}

// ownTCP lists where connections are taken that come from outside. A router maps no TCP ports to us.
func (r *reach) ownTCP(public []netip.Addr) (list []wire.Endpoint) {
	ports := r.l.n.listening.tcp
	if len(ports) == 0 {
		return nil
	}
	for _, six := range []bool{true, false} {
		k := slices.IndexFunc(public, func(a netip.Addr) bool { return a.Is6() == six })
		if k >= 0 && len(list) < maxOwnTCP {
			list = append(list, wire.TCP(netip.AddrPortFrom(public[k], ports[0])))
		}
	}
	return list
}

// addresses lists the unicast addresses of our links that are none of the overlay.
func (k *links) addresses(overlay func(netip.Addr) bool) (public, private []netip.Addr) {
	six := 0
	for _, i := range k.state.Interfaces {
		for _, p := range i.Prefixes {
			a := p.Addr()
			switch {
			case !a.IsGlobalUnicast() || overlay(a):
			case !routable(a):
				private = append(private, a)
			case a.Is4():
				public = append(public, a)
			case six < maxOwn6:
				six++
				public = append(public, a)
			}
		}
	}
	slices.SortStableFunc(public, ipv4Later)
	return public, private
}

// ipv4Later puts IPv6 first: it has no NAT.
func ipv4Later(a, b netip.Addr) int {
	switch {
	case a.Is6() && b.Is4():
		return -1
	case a.Is4() && b.Is6():
		return 1
	}
	return 0
}

// seenAs lists the endpoints at which others see the main socket, the newest first: of a NAT that
// shows each another one, the newest alone.
func (o *outside) seenAs() (list []netip.AddrPort) {
	one := false
	for _, s := range slices.Backward(o.samples) {
		if !s.Main || slices.Contains(list, s.Seen) || one && s.Seen.Addr().Is4() {
			continue
		}
		list = append(list, s.Seen)
		one = one || s.Seen.Addr().Is4() && o.mapping.Kind == path.Dependent
	}
	if k := slices.Index(list, o.mapping.Last); k > 0 { // that on which others agree
		list = slices.Insert(slices.Delete(list, k, k+1), 0, o.mapping.Last)
	}
	return list
}

// leadsHere reports whether what the router mapped can be one of our outside endpoints. If others
// see us at another IPv4 address, there is one more NAT before the router, which maps nothing.
func (o *outside) leadsHere(mapped netip.AddrPort) bool {
	seen := false
	for _, s := range o.samples {
		if s.Main && s.Seen.Addr().Is4() {
			if s.Seen.Addr() == mapped.Addr() {
				return true
			}
			seen = true
		}
	}
	return !seen || !mapped.Addr().Is4()
}

// setMapped replaces what the router mapped to us.
func (r *reach) setMapped(list []link.Endpoint) {
	r.outside.mapped = nil
	for _, ep := range list {
		if a := ep.Addr; len(r.outside.mapped) < maxMapped && a.Port() != 0 && r.plausible(a.Addr()) {
			r.outside.mapped = append(r.outside.mapped, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
		}
	}
}
