package overlay

import (
	"net/netip"

	"anodenet/overlay/link"
)

// links is what is known of our own links.
type links struct{ state link.State }

func (k *links) set(s link.State) { k.state = s }

// on returns the MTU of the link that an address is on; ok is false if it is on none.
func (k *links) on(ep link.Endpoint) (mtu int, ok bool) {
	a := ep.Addr.Addr()
	for _, i := range k.state.Interfaces {
		if a.IsLinkLocalUnicast() && a.Is6() {
			if i.Index == ep.If {
				return i.MTU, true
			}
			continue
		}
		for _, p := range i.Prefixes {
			if p.Contains(a) && p.Addr() != a {
				return i.MTU, true
			}
		}
	}
	return 0, false
}

// own reports whether an address is one of ours.
func (k *links) own(a netip.Addr) bool {
	for _, i := range k.state.Interfaces {
		for _, p := range i.Prefixes {
			if p.Addr() == a.WithZone("") {
				return true
			}
		}
	}
	return false
}

// mtu returns the MTU of the link by which an endpoint is reached, as far as is known;
// 0 if nothing is.
func (k *links) mtu(ep link.Endpoint) (mtu int) {
	if mtu, ok := k.on(ep); ok {
		return mtu
	}
	for _, i := range k.state.Interfaces {
		mtu = max(mtu, i.MTU)
	}
	return mtu
}

// mayHint reports whether a packet may be sent to an endpoint because somebody named
// it: to public addresses, to others only if they are on one of our links, and with inside to
// all private ones, never to ourselves, many, or an address of the overlay.
func (k *links) mayHint(ep link.Endpoint, overlay func(netip.Addr) bool, inside bool) bool {
	a := ep.Addr.Addr()
	if !a.IsValid() || ep.Addr.Port() == 0 || !a.IsGlobalUnicast() && !a.IsLinkLocalUnicast() || overlay(a) || k.own(a) {
		return false
	}
	for _, i := range k.state.Interfaces {
		for _, b := range i.Broadcast {
			if a == b {
				return false
			}
		}
	}
	_, on := k.on(ep)
	return on || inside && a.IsPrivate() || routable(a)
}

// routable reports whether an address means the same everywhere: those of carriers'
// networks, and those which name another address for a gateway, do not.
func routable(a netip.Addr) bool {
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),  // carriers (RFC 6598)
	netip.MustParsePrefix("192.88.99.0/24"), // 6to4 relays
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), // NAT64
	netip.MustParsePrefix("2001::/32"),    // Teredo
	netip.MustParsePrefix("2002::/16"),    // 6to4
}
