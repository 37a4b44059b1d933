package link

import (
	"fmt"
	"net"
	"net/netip"
)

// interfaces lists those that are up and can broadcast, with their addresses, and
// that fit agrees to.
func (s *System) interfaces(fit func(net.Interface) bool) ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	var list []Interface
	for _, i := range all {
		const not = net.FlagLoopback | net.FlagPointToPoint
		if i.Flags&net.FlagUp == 0 || i.Flags&not != 0 || s.isExcluded(i.Name) || !fit(i) {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it has gone in the meantime
		}
		list = append(list, describe(i, addrs))
	}
	return list, nil
}

func describe(i net.Interface, addrs []net.Addr) Interface {
	d := Interface{Name: i.Name, Index: i.Index, MTU: i.MTU}
	for _, a := range addrs {
		p, ok := prefixOf(a)
		if !ok {
			continue
		}
		d.Prefixes = append(d.Prefixes, p)
		if b, ok := broadcastOf(p); ok && i.Flags&net.FlagBroadcast != 0 {
			d.Broadcast = append(d.Broadcast, b)
		}
		if p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() && i.Flags&net.FlagMulticast != 0 {
			d.Multicast = true
		}
	}
	return d
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

// broadcastOf gives the last address of an IPv4 prefix that has one for
// broadcasts (RFC 919; a /31 has none, RFC 3021).
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
