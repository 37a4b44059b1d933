package link

import (
	"maps"
	"net/netip"
	"slices"
)

// State is what a node knows about its links at one moment. It is never changed after it
// was passed on, so any goroutine may keep it.
type State struct {
	Interfaces []Interface // those fit for beacons, in any order

	// Route4 and Route6 are how packets to the internet leave over IPv4 and IPv6.
	// They are zero where there is no default route.
	Route4, Route6 Route
}

// Interface is a network interface that beacons leave by and arrive by.
type Interface struct {
	Name      string
	Index     int
	MTU       int            // bytes
	Prefixes  []netip.Prefix // usable addresses, with the length of their on-link prefix, in any order
	Broadcast []netip.Addr   // IPv4 directed broadcast addresses, in any order
	Multicast bool           // IPv6 link-local multicast works on it
}

// Route is where the system sends packets for a distant address. It is comparable.
type Route struct {
	Via    netip.Addr // the router; invalid if there is none, or if the system does not say
	If     int        // index of the interface
	Source netip.Addr // address that the system puts in; invalid if it does not say
}

// Same reports whether a and b describe the same state. Orders do not matter.
func (a State) Same(b State) bool {
	return a.Route4 == b.Route4 && a.Route6 == b.Route6 && Same(a.Interfaces, b.Interfaces)
}

// Same reports whether a and b hold the same interfaces. Orders do not matter, neither
// of the interfaces nor of their addresses.
func Same(a, b []Interface) bool {
	return len(a) == len(b) && maps.EqualFunc(byIndex(a), byIndex(b), sameInterface)
}

func byIndex(list []Interface) map[int]*Interface {
	m := make(map[int]*Interface, len(list))
	for i := range list {
		m[list[i].Index] = &list[i]
	}
	return m
}

func sameInterface(a, b *Interface) bool {
	return a.Name == b.Name && a.MTU == b.MTU && a.Multicast == b.Multicast &&
		sameSet(a.Prefixes, b.Prefixes, netip.Prefix.Compare) &&
		sameSet(a.Broadcast, b.Broadcast, netip.Addr.Compare)
}

// sameSet compares without regard to order, and without copies if the order is the same.
func sameSet[T comparable](a, b []T, compare func(T, T) int) bool {
	if len(a) != len(b) || slices.Equal(a, b) {
		return len(a) == len(b)
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, compare)
	slices.SortFunc(b, compare)
	return slices.Equal(a, b)
}

// add notes an address of the interface. broadcasts says whether IPv4 broadcasts can
// leave by it, multicasts whether multicasts can.
func (i *Interface) add(p netip.Prefix, broadcasts, multicasts bool) {
	i.Prefixes = append(i.Prefixes, p)
	if b, ok := broadcastOf(p); ok && broadcasts {
		i.Broadcast = append(i.Broadcast, b)
	}
	if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && multicasts {
		i.Multicast = true
	}
}

// broadcastOf returns the last address of an IPv4 prefix, if it is one for broadcasts
// (RFC 919; a /31 has none, RFC 3021).
func broadcastOf(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() >= 31 || p.Bits() == 0 {
		return netip.Addr{}, false
	}
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a), true
}

// far returns an address of each family to which only a default route leads. It serves
// to ask for the route; nothing is sent to it.
func far() (four, six netip.Addr) {
	return netip.AddrFrom4([4]byte{2}), netip.AddrFrom16([16]byte{0x26})
}
