package tun

import (
	"net/netip"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// parse4 is parse for what is not IPv6.
func (s *splitter) parse4(frame []byte) counter {
	l := s.lan
	if l == nil || l.aliases == nil || frame[vnetSize]>>4 != 4 {
		return outNotIPv6
	}
	p := frame[vnetSize:]
	if len(p) < ip4Size || int(be.Uint16(p[2:])) != len(p) {
		return outMalformed
	}
	n := int(p[0]&15) * 4
	if n < ip4Size || n > len(p) || be.Uint16(p[6:])&ip4Reserved != 0 {
		return outMalformed
	}
	if isReport4(p, n) {
		l.reported()
	}
	switch dst := [4]byte(p[16:]); {
	case [4]byte(p[12:]) != l.self:
		return outSource
	case dst[0]>>4 == 14 || dst == limited || dst == l.broadcast:
		return s.group4(frame, n)
	case n != ip4Size:
		return outOptions
	default:
		return s.unicast4(frame, dst)
	}
}

// unicast4 is the end of parse4 for a packet to an alias.
func (s *splitter) unicast4(frame []byte, dst [4]byte) counter {
	h, p := parseVnet(frame), frame[vnetSize:]
	to, ok := s.lan.aliases.Peer(dst)
	if !ok {
		if dst == s.lan.self || !s.lan.aliases.Range().Contains(netip.AddrFrom4(dst)) {
			return outForeign
		}
		if s.lan.unknown != nil {
			s.lan.unknown(p)
		}
		return outAlias
	}
	s.start(frame, to)
	if h.kind != vnetNone {
		return s.super4(h)
	}
	proto, fragment, b := p[9], be.Uint16(p[6:]), p[ip4Size:]
	left, drop := s.sound4(h, proto, fragment, b)
	switch {
	case drop != none:
		return drop
	case left:
		clear(b[checksumAt(proto):][:2])
		fragment |= wire.IP4Left
	default:
		if drop := s.hide4(proto, fragment, b); drop != none {
			return drop
		}
	}
	s.head[0] = byte(wire.IP4)
	s.ip4(1, fragment, ip4Size)
	s.segments, s.size = 1, len(frame)-s.pos
	return none
}

// start begins with a packet of the virtual LAN.
func (s *splitter) start(frame []byte, to anode.ULA) {
	s.frame, s.pkt, s.to = frame, frame[vnetSize:], to
	s.echo, s.fix, s.sums, s.untracked, s.idents = false, repairNothing, false, true, false
}

// sound4 reports whether the receiver may compute the checksum of a packet that is no
// super-packet: it was left to the device, or is right. What else was left to the device is
// completed.
func (s *splitter) sound4(h vnetHeader, proto byte, fragment uint16, b []byte) (left bool, drop counter) {
	whole := fragment&(ip4MF|ip4Offset) == 0 && (proto == protoTCP && tcpLen(b) > 0 || proto == protoUDP && goodUDP(b))
	switch {
	case h.flags&vnetNeedsChecksum == 0:
		return whole && s.right4(proto, b), none
	case whole && h.start == ip4Size && h.at == checksumAt(proto):
		return true, none
	case fragment&(ip4MF|ip4Offset) != 0 || h.start < ip4Size || !completeAt(s.pkt, h):
		return false, outMalformed
	}
	return false, none
}

// right4 checks the checksum of TCP or UDP, which UDP may not have.
func (s *splitter) right4(proto byte, b []byte) bool {
	if proto == protoUDP && be.Uint16(b[udpChecksum:]) == 0 {
		return false
	}
	return sum(b, s.pseudo4(proto, len(b))) == 0xffff
}

// pseudo4 is the sum of IPv4's pseudo-header for n bytes of proto.
func (s *splitter) pseudo4(proto byte, n int) uint16 {
	return sum(s.pkt[12:ip4Size], add(uint16(proto), uint16(n)))
}

// hide4 takes the aliases out of what follows the header of a packet with a checksum that
// travels. An error about a packet of somebody else may not leave.
func (s *splitter) hide4(proto byte, fragment uint16, b []byte) counter {
	at, ok := fragment4(proto, fragment, b)
	switch {
	case !ok:
		return outMalformed
	case at >= 0:
		addToSum(b[at:], proto, ^sum(s.pkt[12:ip4Size], 0))
	case proto == protoICMP4 && fragment&ip4Offset == 0 && isError4(b[0]):
		if fragment&ip4MF != 0 || !hideQuote(b, [4]byte(s.pkt[16:]), [4]byte(s.pkt[12:])) {
			return outError
		}
	}
	return none
}

// super4 is the end of unicast4 for a super-packet.
func (s *splitter) super4(h vnetHeader) counter {
	p := s.pkt
	proto, headers := byte(protoTCP), tcpLen(p[ip4Size:])
	switch h.kind &^ vnetECN {
	case vnetTCP4:
		s.fix = repairTCP
	case vnetUDP:
		proto, headers = protoUDP, udpSize
		s.fix = repairUDP
	default:
		return outMalformed
	}
	first, fragment := ip4Size+headers, be.Uint16(p[6:])
	if p[9] != proto || fragment&(ip4MF|ip4Offset) != 0 || headers == 0 || first >= len(p) || !h.leaves(ip4Size, proto) {
		return outMalformed
	}
	clear(p[ip4Size+h.at:][:2])
	s.idents = fragment&ip4DF == 0
	s.head[0] = byte(wire.IP4)
	s.ip4(1, fragment|wire.IP4Left, first)
	s.cut(h.size, headIP4)
	return none
}

// leaves reports whether a super-packet's checksum is left to us, as it always is.
func (h *vnetHeader) leaves(start int, proto byte) bool {
	return h.flags&vnetNeedsChecksum != 0 && h.size > 0 && h.start == start && h.at == checksumAt(proto)
}

// cut sets how a super-packet is cut, whose transport header starts at an offset of the
// message.
func (s *splitter) cut(size, upper int) {
	s.upper, s.size = upper, size
	s.segments = (len(s.frame) - s.pos + size - 1) / size
}

// ip4 sets the head of IP4 from offset at on; the payload starts at offset first of the
// packet.
func (s *splitter) ip4(at int, fragment uint16, first int) {
	p, head := s.pkt, s.head[at:]
	head[0] = p[1]
	copy(head[1:3], p[4:6])
	be.PutUint16(head[3:], fragment)
	head[5], head[6] = p[8], p[9]
	s.headN = at + wire.IP4Header + copy(head[wire.IP4Header:], p[ip4Size:first])
	s.pos = vnetSize + first
}

// nextIdent counts up the identification in the head of IP4, for the next segment. Packets
// that may be cut on their way must each have one of their own (RFC 6864, 4.3); for others it
// means nothing.
func (s *splitter) nextIdent() {
	ident := s.head[s.upper-6:]
	be.PutUint16(ident, be.Uint16(ident)+1)
}

// group4 is the end of parse4 for a packet to a group or to all, whose header has n bytes.
func (s *splitter) group4(frame []byte, n int) counter {
	h, p := parseVnet(frame), frame[vnetSize:]
	g := netip.AddrFrom4([4]byte(p[16:]))
	proto, fragment, b := p[9], be.Uint16(p[6:]), p[n:]
	switch {
	case !s.lan.groups:
		return outMulticast
	case !s.lan.carries(g) || fragment&(ip4MF|ip4Offset) != 0 || !shared(true, proto, b):
		return outGroup
	case n != ip4Size:
		return outOptions
	}
	s.start(frame, netip.AddrFrom4(s.lan.leaving(g.As4())).As16())
	if proto == protoUDP {
		if drop := s.groupUDP4(h, b); drop != none {
			return drop
		}
		fragment |= wire.IP4Left
	} else if h.kind != vnetNone || h.flags&vnetNeedsChecksum != 0 && !completeAt(p, h) {
		return outMalformed
	}
	s.groupHead()
	if h.kind != vnetNone {
		s.idents = fragment&ip4DF == 0
		s.ip4(headGroup, fragment, ip4Size+udpSize)
		s.cut(h.size, headGroup+wire.IP4Header)
		return none
	}
	s.ip4(headGroup, fragment, ip4Size)
	s.segments, s.size = 1, len(frame)-s.pos
	return none
}

// groupUDP4 clears the checksum of UDP to an IPv4 group, which each receiver computes. There
// may be none, but no wrong one.
func (s *splitter) groupUDP4(h vnetHeader, b []byte) counter {
	switch {
	case h.kind == vnetUDP:
		if !h.leaves(ip4Size, protoUDP) || len(b) == udpSize {
			return outMalformed
		}
		s.fix = repairUDP
	case h.kind != vnetNone || !goodUDP(b):
		return outMalformed
	case h.flags&vnetNeedsChecksum != 0:
		if h.start != ip4Size || h.at != udpChecksum {
			return outMalformed
		}
	case be.Uint16(b[udpChecksum:]) != 0 && !s.right4(protoUDP, b):
		return outMalformed
	}
	clear(b[udpChecksum:][:2])
	return none
}

// group6 is the end of parse for an IPv6 packet to a group.
func (s *splitter) group6(frame []byte) counter {
	h, p := parseVnet(frame), frame[vnetSize:]
	next, b := p[6], p[ip6Size:]
	switch {
	case s.lan == nil || !s.lan.groups:
		return outMulticast
	case !s.lan.carries(netip.AddrFrom16(s.to)) || !shared(false, next, b):
		return outGroup
	}
	s.start(frame, s.to)
	s.groupHead()
	if h.kind != vnetNone {
		if h.kind != vnetUDP || next != protoUDP || !h.leaves(ip6Size, protoUDP) || len(b) == udpSize {
			return outMalformed
		}
		s.fix, s.sums = repairUDP, true
		s.ip6(headGroup, ip6Size+udpSize)
		s.cut(h.size, headGroup+wire.IP6Header)
		return none
	}
	if next == protoUDP && !goodUDP(b) || h.flags&vnetNeedsChecksum != 0 && !completeAt(p, h) {
		return outMalformed
	}
	s.ip6(headGroup, ip6Size)
	s.segments, s.size = 1, len(frame)-s.pos
	return none
}

// groupHead sets what GROUP begins with.
func (s *splitter) groupHead() {
	s.head[0] = byte(wire.Group)
	copy(s.head[1:], s.to[:])
}
