package tun

import "anodenet/anode/wire"

const (
	ip4Size = 20        // header without options
	maxIP4  = 1<<16 - 1 // a whole packet
	// headIP4 is what precedes the payload in IP4:
	// type[1] class[1] ident[2] fragment[2] ttl[1] protocol[1].
	headIP4 = 1 + wire.IP4Header

	version4 = 4<<4 | ip4Size/4 // the first byte of a header without options
)

// The fragment field of IPv4 (RFC 791, 3.1).
const (
	ip4Reserved = 0x8000 // always 0; wire.IP4Left in a message
	ip4DF       = 0x4000 // Don't Fragment
	ip4MF       = 0x2000 // More Fragments
	ip4Offset   = 0x1fff // in units of 8 bytes
)

// Protocols of IPv4 that are not in IPv6.
const (
	protoICMP4 = 1
	protoIGMP  = 2
	protoEIGRP = 88
	protoOSPF  = 89
	protoPIM   = 103
	protoVRRP  = 112
)

// ICMPv4 types (RFC 792).
const (
	icmp4Reply       = 0
	icmp4Unreachable = 3
	icmp4Quench      = 4
	icmp4Redirect    = 5
	icmp4Echo        = 8
	icmp4Timeout     = 11
	icmp4Parameter   = 12
)

// isError4 reports whether an ICMPv4 type is an error, about a packet that it quotes.
func isError4(typ byte) bool {
	switch typ {
	case icmp4Unreachable, icmp4Quench, icmp4Redirect, icmp4Timeout, icmp4Parameter:
		return true
	}
	return false
}

// putIP4 writes an IPv4 header into b's first 20 bytes. n is the bytes of the whole packet.
func putIP4(b []byte, class byte, n int, ident, fragment uint16, ttl, proto byte, src, dst [4]byte) {
	layIP4(b, class, n, ident, fragment, ttl, proto, src, dst)
	check4(b)
}

// check4 completes the checksum of an IPv4 header.
func check4(b []byte) {
	_ = b[:ip4Size]
	clear(b[10:12])
	s := uint64(be.Uint32(b)) + uint64(be.Uint32(b[4:])) + uint64(be.Uint32(b[8:])) + uint64(be.Uint32(b[12:])) + uint64(be.Uint32(b[16:]))
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	be.PutUint16(b[10:], ^uint16(s))
}

// layIP4 is putIP4 without the header's checksum.
func layIP4(b []byte, class byte, n int, ident, fragment uint16, ttl, proto byte, src, dst [4]byte) {
	_ = b[:ip4Size]
	b[0], b[1] = version4, class
	be.PutUint16(b[2:], uint16(n))
	be.PutUint16(b[4:], ident)
	be.PutUint16(b[6:], fragment)
	b[8], b[9] = ttl, proto
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
}

// fragment4 looks at what follows an IPv4 header, of the given protocol and fragment field.
// It returns where the checksum that covers the addresses stands in b, or -1 if b has none.
// ok is false if b is too short to show what it is, or would overwrite what showed it
// (RFC 1858, 3).
func fragment4(proto byte, fragment uint16, b []byte) (at int, ok bool) {
	if offset := fragment & ip4Offset; offset > 0 {
		return -1, proto != protoTCP || offset > 1
	}
	switch proto {
	case protoTCP:
		return tcpChecksum, len(b) >= tcpSize
	case protoUDP:
		return udpChecksum, len(b) >= udpSize
	case protoICMP4:
		return -1, len(b) >= icmpSize
	}
	return -1, true
}

// An alias is what one node calls another: where two of its peers would have the same one,
// it has moved one of them for itself alone, and the range may differ too. So nothing in a
// message refers to aliases. A checksum that the receiver does not compute leaves them out,
// and in the packet that an error quotes they are 0. The sender takes them out, and the
// receiver puts in its own.

// addToSum adds a number to what a checksum covers (RFC 1624, 3); its complement takes the
// number out. A UDP checksum of 0 means that there is none, and stays.
func addToSum(field []byte, proto byte, n uint16) {
	c := be.Uint16(field)
	if proto == protoUDP && c == 0 {
		return
	}
	c = ^add(^c, n)
	if proto == protoUDP && c == 0 {
		c = 0xffff
	}
	be.PutUint16(field, c)
}

// quote4 returns the header of the packet that an ICMPv4 error quotes, if there is all of
// it, without options.
func quote4(icmp []byte) (header []byte, ok bool) {
	if len(icmp) < icmpSize+ip4Size || icmp[icmpSize] != version4 {
		return nil, false
	}
	return icmp[icmpSize:][:ip4Size], true
}

// hideQuote takes the addresses out of the packet that an ICMPv4 error quotes, if it went
// from src to dst. The error's checksum stays right, since that of the quoted header grows by
// what the addresses were.
func hideQuote(icmp []byte, src, dst [4]byte) bool {
	q, ok := quote4(icmp)
	if !ok || [4]byte(q[12:]) != src || [4]byte(q[16:]) != dst {
		return false
	}
	addToSum(q[10:], 0, ^sum(q[12:], 0))
	clear(q[12:])
	return true
}

// showQuote undoes hideQuote, with our names for both ends.
func showQuote(icmp []byte, src, dst [4]byte) bool {
	q, ok := quote4(icmp)
	if !ok || be.Uint64(q[12:]) != 0 {
		return false
	}
	copy(q[12:], src[:])
	copy(q[16:], dst[:])
	addToSum(q[10:], 0, sum(q[12:], 0))
	return true
}
