package overlay

import (
	"context"
	"net/netip"
	"slices"

	"anodenet/overlay/link"
)

// NetworkStatus is what the node's own network is, for each version of IP.
type NetworkStatus struct {
	IPv4    FamilyStatus  `json:"ipv4"`
	IPv6    FamilyStatus  `json:"ipv6"`
	Portmap PortmapStatus `json:"port_mapping"`
}

// PortmapStatus is what became of asking the network's router to let packets in. Its codes are
// those of package portmap.
type PortmapStatus struct {
	Code     string `json:"code"` // empty: the router is not asked
	Says     string `json:"says"`
	Gateway  string `json:"gateway"`  // the router; empty: none
	Protocol string `json:"protocol"` // by which it opened a port; empty: it has not
}

// SetPortmap notes what became of asking the router, for the status.
func (n *Node) SetPortmap(ctx context.Context, s PortmapStatus) error {
	return n.call(ctx, func(l *loop) error {
		l.portmap = s
		return nil
	})
}

// FamilyStatus is one version of IP on our interfaces.
type FamilyStatus struct {
	Address string `json:"address"` // of an interface, a public one first; empty: none
	Public  bool   `json:"public"`  // the address means the same everywhere
	Gateway string `json:"gateway"` // to the internet; empty: none, or none is needed
	Route   bool   `json:"route"`   // there is one to the internet
	Works   bool   `json:"works"`   // a machine outside answered
}

// networkStatus describes our interfaces.
func (l *loop) networkStatus() NetworkStatus {
	public, private := l.links.addresses(l.isOverlay)
	s, all := l.links.state, slices.Concat(public, private)
	return NetworkStatus{
		IPv4: familyStatus(all, s.Route4, netip.Addr.Is4),
		IPv6: familyStatus(all, s.Route6, netip.Addr.Is6), Portmap: l.portmap,
	}
}

func familyStatus(addrs []netip.Addr, r link.Route, is func(netip.Addr) bool) (f FamilyStatus) {
	if k := slices.IndexFunc(addrs, is); k >= 0 {
		f.Address, f.Public = addrs[k].String(), routable(addrs[k])
	}
	if r.Via.IsValid() {
		f.Gateway = r.Via.String()
	}
	f.Route = r.If != 0
	return f
}

// usable reports whether packets to the internet may leave by this version.
func (f *FamilyStatus) usable() bool { return f.Works || f.Route && f.Address != "" }

// note marks a version by which somebody outside answered.
func (n *NetworkStatus) note(a netip.Addr) {
	if a.Is4() {
		n.IPv4.Works = true
	} else {
		n.IPv6.Works = true
	}
}
