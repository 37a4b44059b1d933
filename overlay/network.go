package overlay

import (
	"context"
	"fmt"
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
// those of package portmap, and PortmapElsewhere.
type PortmapStatus struct {
	Code     string `json:"code"` // empty: the router is not asked
	Says     string `json:"says"`
	Gateway  string `json:"gateway"`  // the router; empty: none
	Protocol string `json:"protocol"` // by which it opened a port; empty: it has not
}

// PortmapElsewhere is the code of a router that opened a port at an address at which nobody outside
// sees the node.
const PortmapElsewhere = "mapped_elsewhere"

// portmapStatus is what became of asking the router, compared with what others see.
func (l *loop) portmapStatus() PortmapStatus {
	s, o := l.portmap, &l.reach.outside
	wrong := slices.IndexFunc(o.mapped, func(a netip.AddrPort) bool { return !o.leadsHere(a) })
	if s.Protocol != "" && wrong >= 0 {
		s.Code, s.Says = PortmapElsewhere, fmt.Sprintf("the gateway opened a port at %s, but the internet sees this machine at %s: there is another NAT before the gateway, or the gateway's address is out of date",
			o.mapped[wrong].Addr(), o.mapping.Last.Addr())
	}
	return s
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
		IPv6: familyStatus(all, s.Route6, netip.Addr.Is6), Portmap: l.portmapStatus(),
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
