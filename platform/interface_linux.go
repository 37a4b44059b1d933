package platform

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// addrGenNone keeps the kernel from making a link-local address (IN6_ADDR_GEN_MODE_NONE),
// and so from soliciting routers.
const addrGenNone = 1

// ownProtocol marks our routes and rules ("proto 97"), for the kernel keeps a number of who
// made each.
const ownProtocol = 97

// errGone means that there is no interface with the index in this network namespace.
var errGone = errors.New("the interface is not in this network namespace any more")

// iface reads and writes what the kernel has of an interface, by its index.
type iface struct {
	conn  *conn
	index int
	mtu4  int // bytes of the largest IPv4 packet to an alias; 0: the interface's MTU
}

// linkState is what the kernel has of an interface.
type linkState struct {
	name     string
	up       bool
	noARP    bool
	mtu      int
	queue    int
	gso      int
	group    uint32
	master   int
	ipv6     ipv6State
	addrMode int
}

// ipv6State says whether an interface takes part in IPv6.
type ipv6State int

const (
	ipv6None ipv6State = iota // none at all, as below an MTU of 1280
	ipv6Off                   // switched off
	ipv6On
)

// link reads the interface's settings.
func (i *iface) link() (s linkState, err error) {
	var parse error
	err = i.conn.dump(func(e *encoder) {
		e.message(unix.RTM_GETLINK, unix.NLM_F_ACK, linkHeader(i.index, 0, 0), nil)
	}, func(body []byte) { s, parse = parseLink(body) })
	if errors.Is(err, unix.ENODEV) {
		return s, errGone
	}
	return s, errors.Join(err, parse)
}

// linkHeader is the fixed part of a message about a link (rtnetlink(7)):
//
//	family[1] pad[1] hardware[2] index[4] flags[4] change[4]
func linkHeader(index int, flags, change uint32) []byte {
	b := binary.NativeEndian.AppendUint32(make([]byte, 4), uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

func parseLink(b []byte) (s linkState, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return s, errShort
	}
	flags := binary.NativeEndian.Uint32(b[8:])
	s.up, s.noARP = flags&unix.IFF_UP != 0, flags&unix.IFF_NOARP != 0
	err = eachAttr(b[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			s.name = unix.ByteSliceToString(value)
		case unix.IFLA_MTU:
			s.mtu = number(value)
		case unix.IFLA_TXQLEN:
			s.queue = number(value)
		case unix.IFLA_GSO_MAX_SIZE:
			s.gso = number(value)
		case unix.IFLA_GROUP:
			s.group = uint32(number(value))
		case unix.IFLA_MASTER:
			s.master = number(value)
		case unix.IFLA_AF_SPEC:
			_ = eachAttr(value, func(kind uint16, value []byte) {
				if kind == unix.AF_INET6 {
					s.parseIPv6(value)
				}
			})
		}
	})
	return s, err
}

// parseIPv6 reads the part of a link that is about IPv6: an array of settings
// (DEVCONF_*), and the mode of link-local addresses.
func (s *linkState) parseIPv6(b []byte) {
	const disableIPv6 = 26 // DEVCONF_DISABLE_IPV6
	_ = eachAttr(b, func(kind uint16, value []byte) {
		switch {
		case kind == unix.IFLA_INET6_ADDR_GEN_MODE && len(value) == 1:
			s.addrMode = int(value[0])
		case kind == unix.IFLA_INET6_CONF && len(value) >= 4*(disableIPv6+1):
			s.ipv6 = ipv6On
			if number(value[4*disableIPv6:]) != 0 {
				s.ipv6 = ipv6Off
			}
		}
	})
}

func number(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(b))
}

// setLink changes settings of the link.
func (i *iface) setLink(body func(*encoder)) error {
	return i.conn.request(func(e *encoder) {
		e.message(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkHeader(i.index, 0, 0), func() { body(e) })
	}, nil)
}

func (i *iface) setUp() error { return i.setFlag(unix.IFF_UP) }

// setNoARP keeps the kernel from asking for addresses of hardware, which nobody would answer. An
// interface of TUN is made like that.
func (i *iface) setNoARP() error { return i.setFlag(unix.IFF_NOARP) }

func (i *iface) setFlag(flag uint32) error {
	return i.conn.request(func(e *encoder) {
		e.message(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkHeader(i.index, flag, flag), nil)
	}, nil)
}

func (i *iface) setNumber(kind uint16, v int) error {
	return i.setLink(func(e *encoder) { e.native(kind, uint32(v)) })
}

func (i *iface) setAddrMode() error {
	return i.setLink(func(e *encoder) {
		e.nest(unix.IFLA_AF_SPEC, func() {
			e.nest(unix.AF_INET6, func() { e.attr(unix.IFLA_INET6_ADDR_GEN_MODE, addrGenNone) })
		})
	})
}

// enableIPv6 clears the interface's own disable_ipv6, which it inherits from the
// default; with it, the kernel would refuse the address without saying why.
func enableIPv6(ifname string) error {
	file := filepath.Join("/proc/sys/net/ipv6/conf", ifname, "disable_ipv6")
	err := os.WriteFile(file, []byte("0"), 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("this kernel runs without IPv6; try: boot it without ipv6.disable=1")
	case err != nil:
		return fmt.Errorf("IPv6 is disabled on it and cannot be enabled: %w; try: sysctl -w net.ipv6.conf.default.disable_ipv6=0", err)
	}
	return nil
}

// addrHeader is the fixed part of a message about an address (rtnetlink(7)):
//
//	family[1] bits[1] flags[1] scope[1] index[4]
func addrHeader(family byte, index, bits int) []byte {
	return binary.NativeEndian.AppendUint32([]byte{family, byte(bits), 0, 0}, uint32(index))
}

// familyOf returns the family of an address, as the kernel numbers them.
func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addresses lists the addresses of the interface in a family.
func (i *iface) addresses(family byte) (list []netip.Prefix, err error) {
	all, err := i.conn.addresses(family, i.index)
	for _, a := range all {
		if a.index == i.index {
			list = append(list, a.prefix)
		}
	}
	return list, err
}

// foundAddr is an address, its length, and its interface.
type foundAddr struct {
	prefix netip.Prefix
	index  int
}

// addresses lists the addresses of one interface, or of all if index is 0.
func (c *conn) addresses(family byte, index int) (list []foundAddr, err error) {
	err = c.dump(func(e *encoder) {
		e.message(unix.RTM_GETADDR, unix.NLM_F_DUMP, addrHeader(family, index, 0), nil)
	}, func(body []byte) {
		if p, index, ok := parseAddr(body); ok && body[0] == family {
			list = append(list, foundAddr{p, index})
		}
	})
	return list, err
}

func parseAddr(b []byte) (p netip.Prefix, index int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return p, 0, false
	}
	// Of IPv4, IFA_ADDRESS may be that of the other end.
	own := uint16(unix.IFA_ADDRESS)
	if b[0] == unix.AF_INET {
		own = unix.IFA_LOCAL
	}
	err := eachAttr(b[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		if a, is := netip.AddrFromSlice(value); kind == own && is {
			p = netip.PrefixFrom(a, int(b[1]))
		}
	})
	return p, number(b[4:]), err == nil && p.IsValid()
}

func (i *iface) addAddress(a netip.Addr) error {
	return i.conn.request(func(e *encoder) {
		e.message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, addrHeader(unix.AF_INET6, i.index, 128), func() {
			e.attr(unix.IFA_LOCAL, a.AsSlice()...)
			e.attr(unix.IFA_ADDRESS, a.AsSlice()...)
			e.native(unix.IFA_FLAGS, unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)
		})
	}, nil)
}

// addAlias adds an IPv4 address with its broadcast. Programs find the range by the length and the
// broadcast, and the kernel takes the broadcast for one, but it makes no route to the range.
func (i *iface) addAlias(a IP4) error {
	return i.conn.request(func(e *encoder) {
		e.message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE|unix.NLM_F_ACK, addrHeader(unix.AF_INET, i.index, a.Range.Bits()), func() {
			e.attr(unix.IFA_LOCAL, a.Alias.AsSlice()...)
			e.attr(unix.IFA_ADDRESS, a.Alias.AsSlice()...)
			e.attr(unix.IFA_BROADCAST, a.broadcast().AsSlice()...)
			e.native(unix.IFA_FLAGS, unix.IFA_F_NOPREFIXROUTE)
		})
	}, nil)
}

func (i *iface) removeAddress(p netip.Prefix) error {
	return i.conn.request(func(e *encoder) {
		e.message(unix.RTM_DELADDR, unix.NLM_F_ACK, addrHeader(familyOf(p.Addr()), i.index, p.Bits()), func() {
			e.attr(unix.IFA_LOCAL, p.Addr().AsSlice()...)
		})
	}, isOneOf(unix.EADDRNOTAVAIL))
}

// way is a route to the interface.
type way struct {
	to    netip.Prefix
	table uint32
}

// The metrics of our routes. A peer's is the lowest there is, and its preference high
// (RFC 4191), so that a router advertisement (metric 256 or 1024) or another program's
// route to the same address loses. A zone's is different for each interface: two nodes of
// this machine in the same zone must not take over each other's route.
const (
	peerMetric = 1
	zoneMetric = 1024 // the kernel's default; the interface's index is added
)

// metric returns the metric of a route of ours.
func (i *iface) metric(p netip.Prefix) uint32 {
	switch {
	case isGames(p):
		return 0
	case p.IsSingleIP():
		return peerMetric
	}
	return zoneMetric + uint32(i.index)
}

// routeHeader is the fixed part of a message about a route (rtnetlink(7)):
//
//	family[1] destination bits[1] source bits[1] tos[1] table[1] protocol[1] scope[1] type[1] flags[4]
func routeHeader(to netip.Prefix, table uint32) []byte {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if to.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK // there is no gateway
	}
	short := byte(unix.RT_TABLE_UNSPEC) // the attribute says it
	if table <= 0xff {
		short = byte(table)
	}
	return []byte{familyOf(to.Addr()), byte(to.Bits()), 0, 0, short, ownProtocol, scope, unix.RTN_UNICAST, 0, 0, 0, 0}
}

// The prefixes of all addresses of a family.
var (
	allIP4 = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	allIP6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
)

// routes reads the interface's routes within all addresses of a family, in the tables that ours
// may be in. The value says whether a route is ours, by protocol and metric.
func (i *iface) routes(all netip.Prefix, tables ...uint32) (map[way]bool, error) {
	found := map[way]bool{}
	for _, table := range tables {
		err := i.conn.dump(func(e *encoder) {
			fixed := routeHeader(all, table)
			fixed[5], fixed[6], fixed[7] = 0, 0, 0
			e.message(unix.RTM_GETROUTE, unix.NLM_F_DUMP, fixed, func() {
				e.native(unix.RTA_TABLE, table)
				e.native(unix.RTA_OIF, uint32(i.index))
			})
		}, func(body []byte) {
			r, ok := parseRoute(body)
			if ok && r.index == i.index && r.table == table {
				w := way{r.to, r.table}
				found[w] = found[w] || r.protocol == ownProtocol && r.metric == i.metric(r.to)
			}
		})
		if err != nil && !errors.Is(err, unix.ENOENT) { // no such table
			return nil, err
		}
	}
	return found, nil
}

// foundRoute is a route that the kernel told of.
type foundRoute struct {
	to       netip.Prefix
	index    int
	table    uint32
	metric   uint32
	protocol byte
}

func parseRoute(b []byte) (r foundRoute, ok bool) {
	if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET6 && b[0] != unix.AF_INET {
		return r, false
	}
	to := netip.IPv6Unspecified()
	if b[0] == unix.AF_INET {
		to = netip.IPv4Unspecified()
	}
	r.table, r.protocol = uint32(b[4]), b[5]
	err := eachAttr(b[unix.SizeofRtMsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.RTA_DST:
			if a, is := netip.AddrFromSlice(value); is {
				to = a
			}
		case unix.RTA_OIF:
			r.index = number(value)
		case unix.RTA_TABLE:
			r.table = uint32(number(value))
		case unix.RTA_PRIORITY:
			r.metric = uint32(number(value))
		}
	})
	r.to = netip.PrefixFrom(to, int(b[1]))
	return r, err == nil && r.to.IsValid()
}

// routeChunk is how many routes are changed by one request. The kernel may have an error
// to say about each.
const routeChunk = 256

// addRoutes adds routes beside those of others to the same place.
func (i *iface) addRoutes(list []way) error {
	return i.changeRoutes(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, list, isOneOf(unix.EEXIST))
}

func (i *iface) removeRoutes(list []way) error {
	return i.changeRoutes(unix.RTM_DELROUTE, 0, list, isOneOf(unix.ESRCH))
}

// removeForeign removes a route to the interface whose protocol, metric and scope are another program's; of
// several, the first.
func (i *iface) removeForeign(w way) error {
	return i.conn.request(func(e *encoder) {
		fixed := routeHeader(w.to, w.table)
		fixed[5], fixed[6], fixed[7] = unix.RTPROT_UNSPEC, unix.RT_SCOPE_NOWHERE, unix.RTN_UNSPEC
		e.message(unix.RTM_DELROUTE, unix.NLM_F_ACK, fixed, func() {
			e.attr(unix.RTA_DST, w.to.Addr().AsSlice()...)
			e.native(unix.RTA_OIF, uint32(i.index))
			e.native(unix.RTA_TABLE, w.table)
		})
	}, isOneOf(unix.ESRCH))
}

func (i *iface) changeRoutes(kind, flags uint16, list []way, passes func(error) bool) error {
	var errs []error
	for chunk := range slices.Chunk(list, routeChunk) {
		errs = append(errs, i.conn.request(func(e *encoder) {
			for n, w := range chunk {
				f := flags
				if kind == unix.RTM_NEWROUTE && w.to.Addr().Is4() && !isGames(w.to) {
					f |= unix.NLM_F_APPEND // another node of this machine keeps its own
				}
				if n == len(chunk)-1 {
					f |= unix.NLM_F_ACK
				}
				e.message(kind, f, routeHeader(w.to, w.table), func() {
					i.routeAttrs(e, w)
					if kind == unix.RTM_NEWROUTE {
						i.routeMTU(e, w)
					}
				})
			}
		}, passes))
	}
	return errors.Join(errs...)
}

// ip4Shorter is by how many bytes the largest IPv4 packet is shorter than the largest IPv6 packet that
// takes as much room in a message: IPv6's header has 40 bytes, of which 6 travel, and that of IPv4 has 20, of
// which 7 travel.
const ip4Shorter = 21

func (i *iface) routeAttrs(e *encoder, w way) {
	const high = 1 // ICMPV6_ROUTER_PREF_HIGH
	e.attr(unix.RTA_DST, w.to.Addr().AsSlice()...)
	e.native(unix.RTA_OIF, uint32(i.index))
	e.native(unix.RTA_PRIORITY, i.metric(w.to))
	e.native(unix.RTA_TABLE, w.table)
	if w.to.Bits() == 128 { // of IPv4 there is none
		e.attr(unix.RTA_PREF, high)
	}
}

// routeMTU has TCP begin with segments that fit. Else it would learn that from errors, on which the system
// loses what it has just sent.
func (i *iface) routeMTU(e *encoder, w way) {
	if i.mtu4 > 0 && w.to.Addr().Is4() && !isGames(w.to) {
		e.nest(unix.RTA_METRICS, func() { e.native(unix.RTAX_MTU, uint32(i.mtu4)) })
	}
}

// leadsTo returns the interface that the kernel sends packets for an address by.
func (c *conn) leadsTo(a netip.Addr) (index int, err error) {
	err = c.dump(func(e *encoder) {
		fixed := routeHeader(netip.PrefixFrom(a, a.BitLen()), 0)
		fixed[5], fixed[6], fixed[7] = 0, 0, 0
		e.message(unix.RTM_GETROUTE, unix.NLM_F_ACK, fixed, func() { e.attr(unix.RTA_DST, a.AsSlice()...) })
	}, func(body []byte) {
		if r, ok := parseRoute(body); ok {
			index = r.index
		}
	})
	return index, err
}

// isOneOf returns a test for errors that are none.
func isOneOf(codes ...unix.Errno) func(error) bool {
	return func(err error) bool {
		return slices.ContainsFunc(codes, func(c unix.Errno) bool { return errors.Is(err, c) })
	}
}
