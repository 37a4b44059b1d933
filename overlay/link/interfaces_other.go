//go:build !linux

package link

import (
	"fmt"
	"net"
	"net/netip"
)

// State implements Network. Tunnels are the interfaces that are point to point; members
// of bridges cannot be recognized here. For routes, only the source address and its
// interface are known.
func (s *System) State() (State, error) {
	list, err := s.interfaces()
	if err != nil {
		return State{}, err
	}
	st := State{Interfaces: list}
	four, six := far()
	st.Route4, st.Route6 = routeTo(four, list), routeTo(six, list)
	return st, nil
}

func (s *System) interfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	var list []Interface
	for _, i := range all {
		const not = net.FlagLoopback | net.FlagPointToPoint
		if i.Flags&net.FlagUp == 0 || i.Flags&not != 0 || s.isExcluded(i.Name) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone meanwhile
		}
		d := Interface{Name: i.Name, Index: i.Index, MTU: i.MTU}
		for _, a := range addrs {
			if p, ok := prefixOf(a); ok {
				d.add(p, i.Flags&net.FlagBroadcast != 0, i.Flags&net.FlagMulticast != 0)
			}
		}
		list = append(list, d)
	}
	return list, nil
}

func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	addr = addr.Unmap()
	ones, bits := n.Mask.Size()
	if addr.Is4() && bits == 128 {
		ones -= 96
	}
	p := netip.PrefixFrom(addr, ones)
	return p, p.IsValid()
}

// routeTo connects a UDP socket, which sends nothing, and looks at its source address.
func routeTo(to netip.Addr, list []Interface) Route {
	const discard = 9
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, discard)))
	if err != nil {
		return Route{} // there is no route
	}
	defer c.Close()
	r := Route{Source: c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")}
	for _, i := range list {
		for _, p := range i.Prefixes {
			if p.Addr() == r.Source {
				r.If = i.Index
			}
		}
	}
	return r
}
