package platform

import (
	"errors"
	"fmt"
	"net/netip"
	"sort"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteOf returns the interface by which the kernel would send a packet to addr, by the
// routes and rules of now. Nothing is sent. An address of this machine, such as our own
// or that of another node here, leads to the loopback interface.
//
// The error says that there is no route, or that a route refuses the packet.
func RouteOf(addr netip.Addr) (ifindex int, name string, err error) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return 0, "", fmt.Errorf("route to %s: %w", addr, err)
	}
	if len(routes) == 0 || routes[0].LinkIndex == 0 {
		return 0, "", fmt.Errorf("route to %s: %w", addr, unix.ENETUNREACH)
	}
	ifindex = routes[0].LinkIndex
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return ifindex, "", fmt.Errorf("route to %s: interface %d: %w", addr, ifindex, err)
	}
	return ifindex, link.Attrs().Name, nil
}

// CoveringPrefixes returns the routes of interfaces other than the adapter, whose
// destination contains one of the addresses: those of a LAN that uses the same prefix,
// or that somebody announced. The default route is none of them. The result is in the
// order of the addresses, the longest prefix first. All tables of routes are read once,
// however many addresses there are.
//
// Such a route need not be in use: RouteOf returns what the kernel decides.
func CoveringPrefixes(adapter string, addrs ...netip.Addr) ([]Covering, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("reading the routes: %w", err)
	}
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("reading the interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var others []Covering
	for i := range routes {
		p, ok := foreign(&routes[i])
		name := names[routes[i].LinkIndex]
		if ok && name != "" && name != adapter {
			others = append(others, Covering{Prefix: p, Index: routes[i].LinkIndex, Name: name})
		}
	}
	sort.SliceStable(others, func(i, j int) bool { return others[i].Prefix.Bits() > others[j].Prefix.Bits() })
	var list []Covering
	for _, a := range addrs {
		for _, c := range others {
			if c.Prefix.Contains(a) {
				c.Addr = a
				list = append(list, c)
			}
		}
	}
	return list, nil
}

// foreign returns the destination of a route that may lead packets to a link.
func foreign(r *netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil || r.Table == unix.RT_TABLE_LOCAL || r.Type != unix.RTN_UNICAST {
		return netip.Prefix{}, false
	}
	addr, _ := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	p := netip.PrefixFrom(addr, bits)
	return p, p.IsValid() && bits > 0
}
