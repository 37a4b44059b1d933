package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Network is what a Mapper has to know about the host's network at one moment.
type Network struct {
	Route4, Route6 Route // default routes; zero: there is none
	// Addresses are those of the interface of Route6. The global ones of IPv6 get pinholes.
	Addresses []netip.Addr
}

// Same reports whether a and b have the same routes and addresses, in any order.
func (a Network) Same(b Network) bool {
	sorted := func(list []netip.Addr) []netip.Addr {
		return slices.SortedFunc(slices.Values(list), netip.Addr.Compare)
	}
	return a.Route4 == b.Route4 && a.Route6 == b.Route6 && slices.Equal(sorted(a.Addresses), sorted(b.Addresses))
}

// Route is how packets to the internet leave. It is comparable.
type Route struct {
	Gateway   netip.Addr // the router; invalid if it is not known; no zone
	Source    netip.Addr // our address towards it
	Interface string     // the name
	Index     int        // of the interface
}

// family returns 0 for IPv4 and 1 for IPv6.
func (r Route) family() int {
	if r.Source.Is4() {
		return 0
	}
	return 1
}

// router returns the gateway with the zone that sockets need for a link-local address.
func (r Route) router() netip.Addr {
	if r.Gateway.Is6() && r.Gateway.IsLinkLocalUnicast() {
		return r.Gateway.WithZone(r.Interface)
	}
	return r.Gateway
}

// Places are networks that a user named.
type Places struct {
	Interfaces []string
	Prefixes   []netip.Prefix
}

// ParsePlaces reads names of interfaces, prefixes and single addresses.
func ParsePlaces(words []string) (p Places, err error) {
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil {
			p.Prefixes = append(p.Prefixes, netip.PrefixFrom(a, a.BitLen()))
		} else if strings.Contains(w, "/") {
			prefix, err := netip.ParsePrefix(w)
			if err != nil {
				return Places{}, fmt.Errorf("%q: not a network; try: 192.168.7.0/24, or the name of an interface", w)
			}
			p.Prefixes = append(p.Prefixes, prefix.Masked())
		} else if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' }) {
			return Places{}, fmt.Errorf("%q: not the name of an interface; try: 192.168.7.0/24, or the name of an interface", w)
		} else {
			p.Interfaces = append(p.Interfaces, w)
		}
	}
	return p, nil
}

// Has reports whether the route is one of these places: by its interface, its router or our
// own address.
func (p Places) Has(r Route) bool {
	return slices.Contains(p.Interfaces, r.Interface) || slices.ContainsFunc(p.Prefixes, func(x netip.Prefix) bool {
		return x.Contains(r.Gateway) || x.Contains(r.Source)
	})
}

// plan is what follows from a Network: for which routes to ask, and if there is none for
// IPv4, why.
type plan struct {
	routes []Route // each with the address of ours that packets shall get in for
	none   Result
}

func newPlan(n Network, off Places) (p plan) {
	r := n.Route4
	p.none = Result{Local: r.Source, Gateway: r.Gateway}
	switch {
	case !r.Source.Is4() || r.Source.IsUnspecified():
		p.none.Code = NoGateway
	case reachable(r.Source):
		p.none.Code = NotNeeded
	case !r.Gateway.Is4() || r.Gateway.IsUnspecified():
		p.none.Code = NoGateway
	case off.Has(r):
		p.none.Code = Off
	default:
		p.routes = append(p.routes, r)
	}
	r = n.Route6
	if !r.Gateway.Is6() || r.Gateway.IsUnspecified() {
		return p
	}
	for _, r.Source = range globals(n) {
		if !off.Has(r) {
			p.routes = append(p.routes, r)
		}
	}
	return p
}

// globals lists the addresses that pinholes are wanted for. The one that the system puts
// into packets comes first.
func globals(n Network) (list []netip.Addr) {
	for _, a := range append([]netip.Addr{n.Route6.Source}, n.Addresses...) {
		if a.Is6() && reachable(a) && !slices.Contains(list, a) && len(list) < maxAddresses {
			list = append(list, a)
		}
	}
	return list
}

// reachable reports whether an address may be one that the internet can reach. Those
// reserved for examples and measurements pass: test networks use them as public ones.
func reachable(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is4In6() {
		return false
	}
	if a.Is6() {
		return netip.MustParsePrefix("2000::/3").Contains(a)
	}
	for _, p := range [...]string{
		"0.0.0.0/8",
		"100.64.0.0/10", // shared behind carriers' NATs (RFC 6598)
		"192.0.0.0/24",  // protocol assignments, such as DS-Lite
		"240.0.0.0/4",
	} {
		if netip.MustParsePrefix(p).Contains(a) {
			return false
		}
	}
	return true
}
