package tun

import (
	"encoding/binary"

	"anodenet/anode"
)

const (
	ip6Size  = 40 // fixed IPv6 header
	udpSize  = 8
	tcpSize  = 20 // without options
	icmpSize = 8  // up to the end of ident and sequence number, or of an error's second word
	maxIP6   = 1<<16 - 1
)

// Next header values.
const (
	protoHopByHop    = 0
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoAH          = 51
	protoICMP        = 58
	protoDestination = 60
)

// Offsets in TCP and UDP headers.
const (
	tcpSeq      = 4
	tcpAck      = 8
	tcpOffset   = 12
	tcpFlags    = 13
	tcpWindow   = 14
	tcpChecksum = 16
	tcpUrgent   = 18
	udpLength   = 4
	udpChecksum = 6
)

// TCP flags.
const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagPSH = 0x08
	flagACK = 0x10
	flagURG = 0x20
	flagECE = 0x40
	flagCWR = 0x80
)

// ICMPv6 types (RFC 4443 and others).
const (
	icmpUnreachable = 1
	icmpTooBig      = 2
	icmpTimeout     = 3
	icmpParameter   = 4
	icmpInformative = 128 // the first type that is no error
	icmpEcho        = 128
	icmpReply       = 129
)

// optionHome is the Home Address option (RFC 6275, 6.3) of destination options.
const optionHome = 0xc9

var be = binary.BigEndian

// putIP6 writes an IPv6 header into b's first 40 bytes. word is version, class and
// flow label, n the bytes behind the header.
func putIP6(b []byte, word uint32, n int, next, hops byte, src, dst *anode.ULA) {
	_ = b[:ip6Size]
	be.PutUint32(b, word)
	be.PutUint16(b[4:], uint16(n))
	b[6], b[7] = next, hops
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
}

// tcpLen is the length of the TCP header at the start of b, or 0 if b does not hold
// all of it.
func tcpLen(b []byte) int {
	if len(b) < tcpSize {
		return 0
	}
	n := int(b[tcpOffset]>>4) * 4
	if n < tcpSize || n > len(b) {
		return 0
	}
	return n
}

// upper walks b's extension headers, the first of type next, and returns the protocol
// above them and its bytes. For all except the first fragment of a packet that is
// protoFragment; a first fragment that does not hold all headers is an error (RFC 7112
// forbids it). drop is the reason why such a packet must not come in from anybody; proto
// and rest are right even then, except for inMalformed.
func upper(next byte, b []byte) (proto byte, rest []byte, drop counter) {
	for {
		n := 8
		switch next {
		case protoFragment:
			if len(b) < n {
				return 0, nil, inMalformed
			}
			if be.Uint16(b[2:])&^7 != 0 {
				return next, b, drop
			}
		case protoAH:
			if len(b) < 2 {
				return 0, nil, inMalformed
			}
			n = int(b[1])*4 + 8
		case protoHopByHop, protoRouting, protoDestination:
			if len(b) < n {
				return 0, nil, inMalformed
			}
			n = int(b[1])*8 + 8
		default:
			return next, b, drop
		}
		if len(b) < n {
			return 0, nil, inMalformed
		}
		if next == protoRouting && b[3] != 0 {
			drop = inRouting
		}
		if next == protoDestination && hasOption(b[2:n], optionHome) {
			drop = inHome
		}
		next, b = b[0], b[n:]
	}
}

// hasOption looks through the options of a hop-by-hop or destination header (RFC 8200,
// 4.2). The kernel may interpret malformed options differently, so they count as found.
func hasOption(b []byte, option byte) bool {
	for len(b) > 0 {
		if b[0] == option {
			return true
		}
		if b[0] == 0 { // Pad1 has no length
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return true
		}
		b = b[2+int(b[1]):]
	}
	return false
}
