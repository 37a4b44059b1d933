package tun

import (
	"net/netip"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// named is a peer whose alias was looked up. Peers come in trains, and their aliases hold
// until the next flush.
type named struct {
	ok    bool
	peer  anode.ULA
	alias [4]byte
}

// alias returns the alias of a peer.
func (m *merger) alias(from anode.ULA) ([4]byte, bool) {
	if n := &m.last; !n.ok || n.peer != from {
		n.peer = from
		n.alias, n.ok = m.lan.alias(from)
	}
	return m.last.alias, m.last.ok
}

// holdIP4 is hold for IP4.
func (m *merger) holdIP4(from anode.ULA, trusted bool, msg []byte) counter {
	if len(msg) < headIP4 || len(msg)-headIP4 > maxIP4-ip4Size {
		return inMalformed
	}
	if !trusted || m.lan == nil {
		return inUnasked
	}
	src, ok := m.alias(from)
	if !ok {
		return inAlias
	}
	fragment, proto, b := be.Uint16(msg[4:]), msg[7], msg[headIP4:]
	if fragment&wire.IP4Left == 0 {
		if drop := admit4(src, m.lan.self, proto, fragment, b); drop != none {
			return drop
		}
	} else {
		headers, ok := left4(proto, fragment, b)
		if !ok {
			return inMalformed
		}
		m.held.left = true
		if n := len(b) - headers; n > 0 && m.joins4(proto, b) {
			m.keep(from, msg[:headIP4+headers], n)
			advance4(m.held.head[:], n)
		}
	}
	m.fixed4(slotAt+headIP4, [wire.IP4Header]byte(msg[1:]), src, m.lan.self)
	return none
}

// left4 reports whether the receiver can compute the checksum of a packet; headers is the
// length of its transport header.
func left4(proto byte, fragment uint16, b []byte) (headers int, ok bool) {
	switch {
	case fragment&(ip4MF|ip4Offset) != 0:
		return 0, false
	case proto == protoTCP:
		headers = tcpLen(b)
		return headers, headers > 0
	}
	return udpSize, proto == protoUDP && goodUDP(b)
}

// joins4 reports whether a segment may be a super-packet's first.
func (m *merger) joins4(proto byte, b []byte) bool {
	if proto == protoUDP {
		return m.has.udp
	}
	return m.has.tcp && mergeable(b[tcpFlags])
}

// follows4 is follows for IP4 with TCP or UDP and n bytes of payload. The identification means
// nothing where packets may not be cut on their way (RFC 6864, 4.1).
func follows4(a, b []byte, n int) (ends byte, ok bool) {
	const flags, window, checksum, urgent = headIP4 + tcpFlags, headIP4 + tcpWindow, headIP4 + tcpChecksum, headIP4 + tcpUrgent
	head := be.Uint64(a) // all of IP4
	other := head ^ be.Uint64(b)
	if head&(ip4DF<<16) != 0 {
		other &^= 0xffff << 32
	}
	if other != 0 {
		return 0, false
	}
	if byte(head) != protoTCP {
		u := b[headIP4:]
		return 0, string(a[headIP4:headIP4+4]) == string(u[:4]) && int(be.Uint16(u[udpLength:])) == udpSize+n
	}
	ends = a[flags]&^flagCWR ^ b[flags]
	return ends, ends&^(flagPSH|flagFIN) == 0 &&
		string(a[headIP4:flags]) == string(b[headIP4:flags]) &&
		string(a[window:checksum]) == string(b[window:checksum]) &&
		string(a[urgent:]) == string(b[urgent:])
}

// advance4 counts up what the head of an IP4 with TCP or UDP counts, by n bytes of payload.
func advance4(head []byte, n int) {
	ident := head[2:]
	be.PutUint16(ident, be.Uint16(ident)+1)
	if head[headIP4-1] == protoTCP {
		advance(head[headIP4:], n)
	}
}

// holdGroup is hold for GROUP. It is never joined: groups are for small messages.
func (m *merger) holdGroup(from anode.ULA, trusted bool, msg []byte) counter {
	if len(msg) < headGroup {
		return inMalformed
	}
	if !trusted || m.lan == nil {
		return inUnasked
	}
	to := anode.ULA(msg[1:])
	g := netip.AddrFrom16(to).Unmap()
	if g.Is4() {
		g = netip.AddrFrom4(m.lan.arriving(g.As4()))
	}
	if !m.lan.carries(g) {
		return inGroup
	}
	if g.Is4() {
		return m.holdGroup4(from, g.As4(), msg)
	}
	at := headGroup + wire.IP6Header
	if len(msg) < at || msg[headGroup]>>4 != 6 || len(msg)-at > maxIP6 {
		return inMalformed
	}
	word, next, hops, b := be.Uint32(msg[headGroup:]), msg[headGroup+4], msg[headGroup+5], msg[at:]
	if !shared(false, next, b) {
		return inGroup
	}
	if next == protoUDP && !goodUDP(b) {
		return inMalformed
	}
	m.fixed(slotAt+at, word, next, hops, from)
	copy(m.buf[slotAt+at-len(to):], to[:])
	return none
}

// holdGroup4 is holdGroup for IPv4.
func (m *merger) holdGroup4(from anode.ULA, to [4]byte, msg []byte) counter {
	at := headGroup + wire.IP4Header
	if len(msg) < at || len(msg)-at > maxIP4-ip4Size {
		return inMalformed
	}
	src, ok := m.alias(from)
	if !ok {
		return inAlias
	}
	head, b := [wire.IP4Header]byte(msg[headGroup:]), msg[at:]
	fragment, proto := be.Uint16(head[3:]), head[6]
	switch {
	case !shared(true, proto, b):
		return inGroup
	case fragment&(ip4MF|ip4Offset) != 0 || (fragment&wire.IP4Left != 0) != (proto == protoUDP) || proto == protoUDP && !goodUDP(b):
		return inMalformed
	}
	m.held.left = proto == protoUDP
	m.fixed4(slotAt+at, head, src, to)
	return none
}

// fixed4 writes the held packet's IPv4 header, of which head is what IP4 begins with, in
// front of what is at offset at, except for its length and its checksum.
func (m *merger) fixed4(at int, head [wire.IP4Header]byte, src, dst [4]byte) {
	h := &m.held
	h.start, h.upper, h.limit, h.next, h.v4 = at-ip4Size-vnetSize, at, at-ip4Size+maxIP4, head[6], true
	fragment := be.Uint16(head[3:]) &^ wire.IP4Left
	layIP4(m.buf[at-ip4Size:], head[0], 0, be.Uint16(head[1:]), fragment, head[5], head[6], src, dst)
}

// finish4 is finish for IPv4.
func (m *merger) finish4(frame []byte) {
	h := &m.held
	ip := frame[vnetSize:]
	b := ip[ip4Size:]
	be.PutUint16(ip[2:], uint16(len(ip)))
	check4(ip)
	clear(frame[:vnetSize])
	if !h.left {
		return
	}
	if h.next == protoUDP {
		be.PutUint16(b[udpLength:], uint16(len(b)))
	}
	at := checksumAt(h.next)
	initial := sum(ip[12:ip4Size], add(uint16(h.next), uint16(len(b))))
	if !m.has.checksum {
		complete(b, at, initial)
		return
	}
	be.PutUint16(b[at:], initial)
	h.leave(frame, ip4Size, vnetTCP4)
}

// admit4 returns why a peer's packet, whose checksum travels, may not come in between two
// aliases, or none. It puts the aliases into what follows the header.
func admit4(src, dst [4]byte, proto byte, fragment uint16, b []byte) counter {
	switch proto {
	case protoIGMP, protoEIGRP, protoOSPF, protoPIM, protoVRRP:
		return inRouters
	}
	at, ok := fragment4(proto, fragment, b)
	switch {
	case !ok:
		return inMalformed
	case at >= 0:
		addToSum(b[at:], proto, add(sum(src[:], 0), sum(dst[:], 0)))
	case proto == protoICMP4 && fragment&ip4Offset == 0:
		return admitICMP4(src, dst, fragment, b)
	}
	return none
}

// admitICMP4 is admit4 for the start of an ICMPv4 message: an echo, or an error about a
// packet that went from us to the peer.
func admitICMP4(src, dst [4]byte, fragment uint16, b []byte) counter {
	switch b[0] {
	case icmp4Echo, icmp4Reply:
		return none
	case icmp4Unreachable, icmp4Timeout, icmp4Parameter:
		if fragment&ip4MF != 0 || !showQuote(b, dst, src) {
			return inError
		}
		return none
	}
	return inNeighbour // redirects, routers, clocks, masks
}
