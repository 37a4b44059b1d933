package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// skipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h.
const skipStats = 1 << 3

// State implements Network: a dump of the links, one of the addresses, and two questions
// for a route, however many links there are.
func (s *System) State() (State, error) {
	n, err := dialNetlink()
	if err != nil {
		return State{}, fmt.Errorf("link: interfaces: %w", err)
	}
	defer n.close()
	return s.state(n)
}

func (s *System) state(n *netlink) (st State, err error) {
	four, six := far()
	if st.Interfaces, err = s.dump(n); err == nil {
		st.Route4, err = n.route(four)
	}
	if err == nil {
		st.Route6, err = n.route(six)
	}
	if err != nil {
		return State{}, fmt.Errorf("link: interfaces: %w", err)
	}
	return st, nil
}

// interfaces lists those of State.
func (s *System) interfaces() ([]Interface, error) {
	n, err := dialNetlink()
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	defer n.close()
	list, err := s.dump(n)
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	return list, nil
}

// dump lists the interfaces. Changes may interrupt it each time; then an entry may be
// missing until those who watch have it listed again.
func (s *System) dump(n *netlink) (list []Interface, err error) {
	for range netlinkTries {
		if list, err = s.dumpOnce(n); !errors.Is(err, errInterrupted) {
			return list, err
		}
	}
	return list, nil
}

func (s *System) dumpOnce(n *netlink) ([]Interface, error) {
	var list []Interface
	var flags []uint32
	at := make(map[int]int) // index in list by that of the interface

	// struct ifinfomsg, all zero, and no statistics, which are most of a message
	body := appendAttr(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK,
		binary.NativeEndian.AppendUint32(nil, skipStats))
	links := n.ask(unix.RTM_GETLINK, unix.NLM_F_DUMP, body, func(kind uint16, body []byte) {
		if d, ok := parseDevice(kind, body); ok && d.fit() && !s.isExcluded(d.name) {
			at[d.index] = len(list)
			list = append(list, Interface{Name: d.name, Index: d.index, MTU: d.mtu})
			flags = append(flags, d.flags)
		}
	})
	if links != nil && !errors.Is(links, errInterrupted) {
		return nil, links
	}
	// struct ifaddrmsg, all zero
	addrs := n.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), func(kind uint16, body []byte) {
		index, p, ok := parseAddress(kind, body)
		if i, known := at[index]; ok && known {
			list[i].add(p, flags[i]&unix.IFF_BROADCAST != 0, flags[i]&unix.IFF_MULTICAST != 0)
		}
	})
	if addrs == nil {
		addrs = links
	}
	return list, addrs
}

// device is what the kernel reports about a link.
type device struct {
	name     string
	index    int
	mtu      int
	flags    uint32 // IFF_*
	hardware uint16 // ARPHRD_*
	driver   string // of virtual ones: "veth", "bridge", "tun", "vxlan"
	member   string // the driver of what it is a member of: "bridge", "bond", "vrf"
}

// fit reports whether other nodes can be reached through it now. Without a carrier nobody
// can.
func (d *device) fit() bool {
	const want, not = unix.IFF_UP | unix.IFF_LOWER_UP, unix.IFF_LOOPBACK | unix.IFF_POINTOPOINT
	if d.flags&want != want || d.flags&not != 0 || d.hardware != unix.ARPHRD_ETHER {
		return false
	}
	switch d.driver {
	case "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "wireguard", "dummy", "ifb", "nlmon":
		return false
	}
	return d.member == "" || d.member == "vrf" // else the bridge itself is the interface
}

// parseDevice reads a message about a link:
//
//	family[1] pad[1] hardware[2] index[4] flags[4] change[4] | attributes
func parseDevice(kind uint16, body []byte) (d device, ok bool) {
	if kind != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg || body[0] != unix.AF_UNSPEC {
		return device{}, false
	}
	d.hardware = binary.NativeEndian.Uint16(body[2:])
	d.index = number(body[4:])
	d.flags = binary.NativeEndian.Uint32(body[8:])
	eachAttr(body[unix.SizeofIfInfomsg:], func(attr uint16, value []byte) {
		switch attr {
		case unix.IFLA_IFNAME:
			d.name = word(value)
		case unix.IFLA_MTU:
			d.mtu = number(value)
		case unix.IFLA_LINKINFO:
			eachAttr(value, func(attr uint16, value []byte) {
				switch attr {
				case unix.IFLA_INFO_KIND:
					d.driver = word(value)
				case unix.IFLA_INFO_SLAVE_KIND:
					d.member = word(value)
				}
			})
		}
	})
	return d, true
}

func word(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }

// parseAddress reads a message about an address, and returns it with the index of its
// interface. ok is false for an address that cannot be used: the kernel still checks
// whether another machine has it, or found that one has.
//
//	family[1] bits[1] flags[1] scope[1] index[4] | attributes
func parseAddress(kind uint16, body []byte) (index int, p netip.Prefix, ok bool) {
	if kind != unix.RTM_NEWADDR || len(body) < unix.SizeofIfAddrmsg {
		return 0, netip.Prefix{}, false
	}
	flags, bits := uint32(body[2]), int(body[1])
	var local, addr netip.Addr
	eachAttr(body[unix.SizeofIfAddrmsg:], func(attr uint16, value []byte) {
		switch attr {
		case unix.IFA_LOCAL: // ours
			local, _ = netip.AddrFromSlice(value)
		case unix.IFA_ADDRESS: // the same, or the other end's
			addr, _ = netip.AddrFromSlice(value)
		case unix.IFA_FLAGS:
			flags = uint32(number(value))
		}
	})
	if !local.IsValid() {
		local = addr
	}
	waits := flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	p = netip.PrefixFrom(local, bits)
	return number(body[4:]), p, p.IsValid() && !waits && flags&unix.IFA_F_DADFAILED == 0
}

// route asks how packets to an address would leave, by all rules and tables of the
// system. If they would not leave at all, it returns the zero Route.
//
//	family[1] destination bits[1] source bits[1] tos[1] table[1] protocol[1] scope[1] type[1] flags[4] | attributes
func (n *netlink) route(to netip.Addr) (r Route, err error) {
	body := make([]byte, unix.SizeofRtMsg)
	body[0], body[1] = unix.AF_INET, byte(to.BitLen())
	if to.Is6() {
		body[0] = unix.AF_INET6
	}
	body = appendAttr(body, unix.RTA_DST, to.AsSlice())
	err = n.ask(unix.RTM_GETROUTE, 0, body, func(kind uint16, body []byte) { r = parseRoute(kind, body) })
	var no refused
	if errors.As(err, &no) {
		return Route{}, nil
	}
	return r, err
}

// parseRoute reads the answer of route.
func parseRoute(kind uint16, body []byte) (r Route) {
	const typeAt = 7
	if kind != unix.RTM_NEWROUTE || len(body) < unix.SizeofRtMsg || body[typeAt] != unix.RTN_UNICAST {
		return Route{}
	}
	eachAttr(body[unix.SizeofRtMsg:], func(attr uint16, value []byte) {
		switch attr {
		case unix.RTA_OIF:
			r.If = number(value)
		case unix.RTA_GATEWAY:
			r.Via, _ = netip.AddrFromSlice(value)
		case unix.RTA_VIA: // of the other family: family[2] address
			if len(value) > 2 {
				r.Via, _ = netip.AddrFromSlice(value[2:])
			}
		case unix.RTA_PREFSRC:
			r.Source, _ = netip.AddrFromSlice(value)
		}
	})
	return r
}
