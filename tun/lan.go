package tun

import (
	"net/netip"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
)

// headGroup is type[1] destination[16], which precede the header of IP6 or IP4 in GROUP.
const headGroup = 1 + wire.GroupHeader

// lan is what the adapter has to know for IPv4 and for groups. It never changes.
type lan struct {
	aliases         *alias.Table // nil: no IPv4
	self, broadcast [4]byte      // our alias, and the address for all who have one
	groups          bool
	reports         func()              // nil: nobody wants to know
	unknown         func(packet []byte) // answers a packet to an alias that nobody has; nil: not at all
}

func newLAN(c *Config) lan {
	l := lan{aliases: c.Aliases, groups: c.Groups, reports: c.Reports}
	if l.aliases != nil {
		l.self, l.broadcast = l.aliases.Self().As4(), l.aliases.Broadcast().As4()
	}
	return l
}

// alias returns the alias of a peer.
func (l *lan) alias(u anode.ULA) ([4]byte, bool) {
	if l.aliases == nil {
		return [4]byte{}, false
	}
	return l.aliases.Alias(u)
}

// reported tells whoever wants to know that the system has sent a membership report.
func (l *lan) reported() {
	if l.reports != nil {
		l.reports()
	}
}

// Groups of routers and of the protocols that give hosts their addresses. Nothing that is
// sent there is for the programs of people.
var routerGroups = func() (all []netip.Addr) {
	for _, s := range []string{
		"ff02::2", "ff02::4", "ff02::5", "ff02::6", "ff02::9", "ff02::a", "ff02::d", "ff02::12", "ff02::16", "ff02::1a", "ff02::1:2",
		"ff05::2", "ff05::1:3",
		"224.0.0.2", "224.0.0.4", "224.0.0.5", "224.0.0.6", "224.0.0.9", "224.0.0.10", "224.0.0.13", "224.0.0.18", "224.0.0.22", "224.0.0.102",
	} {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}()

// routerPorts are the UDP ports of the same protocols, and of our own beacons, from which a
// node learns who is on the real link.
var routerPorts = [...]uint16{
	67, 68, 546, 547, // DHCP
	520, 521, // RIP
	646,  // LDP
	1985, // HSRP
	6696, // Babel
	8737, // beacons
}

// limited is the broadcast address of whatever link it is sent on (RFC 919, 7).
var limited = [4]byte{255, 255, 255, 255}

// travelling is how the broadcast of a range travels, whatever the range is: each node chooses its own, and has
// another broadcast then.
var travelling = [4]byte{100, 127, 255, 255}

// leaving returns the form in which an IPv4 group or broadcast travels.
func (l *lan) leaving(to [4]byte) [4]byte {
	if to == l.broadcast {
		return travelling
	}
	return to
}

// arriving is the opposite of leaving.
func (l *lan) arriving(to [4]byte) [4]byte {
	if to == travelling {
		return l.broadcast
	}
	return to
}

// carries reports whether packets to an address may travel as GROUP, in both directions.
func (l *lan) carries(g netip.Addr) bool {
	switch {
	case !l.groups:
		return false
	case g.Is4():
		b := g.As4()
		if l.aliases == nil {
			return false
		}
		if b == limited || b == l.broadcast {
			return true
		}
		if b[0] != 239 && [3]byte(b[:]) != [3]byte{224, 0, 0} {
			return false
		}
	default:
		b := g.As16()
		if b[0] != 0xff || b[1] != 2 && b[1] != 5 {
			return false
		}
	}
	return !slices.Contains(routerGroups, g)
}

// shared reports whether a packet may travel as GROUP by its protocol: UDP between ports of
// programs, and echo requests. The rest is between routers, between neighbours on a link, or
// has no groups. b is what follows the fixed header; extension headers are not looked behind.
func shared(is4 bool, proto byte, b []byte) bool {
	switch {
	case proto == protoUDP && len(b) >= udpSize:
		return !slices.Contains(routerPorts[:], be.Uint16(b)) && !slices.Contains(routerPorts[:], be.Uint16(b[2:]))
	case is4 && proto == protoICMP4 && len(b) >= icmpSize:
		return b[0] == icmp4Echo && b[1] == 0
	case !is4 && proto == protoICMP && len(b) >= icmpSize:
		return b[0] == icmpEcho && b[1] == 0
	}
	return false
}

// MLD and IGMP messages by which the system says what programs joined or left.
const (
	mldReport   = 131 // RFC 2710
	mldDone     = 132
	mldReport2  = 143  // RFC 3810
	igmpReport1 = 0x12 // RFC 1112
	igmpReport  = 0x16 // RFC 2236
	igmpLeave   = 0x17
	igmpReport3 = 0x22 // RFC 3376
)

// isReport6 reports whether an IPv6 packet is such a message. They have a hop-by-hop header.
func isReport6(p []byte) bool {
	proto, b, _ := upper(p[6], p[ip6Size:])
	if proto != protoICMP || len(b) == 0 {
		return false
	}
	return b[0] == mldReport || b[0] == mldDone || b[0] == mldReport2
}

// isReport4 is the same for an IPv4 packet, whose header has n bytes, some of options.
func isReport4(p []byte, n int) bool {
	if p[9] != protoIGMP || len(p) <= n {
		return false
	}
	switch p[n] {
	case igmpReport1, igmpReport, igmpLeave, igmpReport3:
		return true
	}
	return false
}
