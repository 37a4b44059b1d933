package tun

import (
	"anodenet/anode"
	"anodenet/anode/wire"
)

const (
	// headIP6 is what precedes the payload in IP6 and IP6P:
	// type[1] version/class/flow[4] next header[1] hop limit[1].
	headIP6 = 1 + wire.IP6Header
	// headDgram is type[1] and both ports.
	headDgram = 1 + wire.DgramHeader
	// maxHead is the longest header of a message that is repeated for each segment.
	// Only extension headers make it longer than 67 bytes.
	maxHead = 512

	plainHops = 64 // hop limit of packets that travel as DGRAM and PING
)

// repair lists the changes that a segment's copy of the header needs.
type repair uint8

const (
	repairNothing repair = iota
	repairTCP            // sequence number and flags
	repairUDP            // length
)

// splitter turns the system's packets into messages, in place. All messages of a
// super-packet have the same header except for a few fields, which is kept aside; each is
// written right in front of its segment's payload, over the end of the previous segment,
// which is on its way by then:
//
//	packet     | IPv6 | TCP | payload 1 | payload 2 | payload 3 |
//	message 1    |7|   TCP  | payload 1 |
//	message 2              |7|   TCP    | payload 2 |
//	message 3                          |7|   TCP    | payload 3 |
//
// A packet is a super-packet of one segment. Nothing allocates, and there is no I/O.
type splitter struct {
	self  anode.ULA
	lan   *lan // nil: neither IPv4 nor groups
	count *counters

	// One packet's; set by load.
	frame     []byte
	pkt       []byte        // in frame
	to        anode.ULA     // or a group
	echo      bool          // it became a PING
	untracked bool          // IPv4 or to a group: the policy has no flows of these
	head      [maxHead]byte // each message's header
	headN     int
	fix       repair
	upper     int  // where the transport header starts in head, if there is something to repair
	sums      bool // segments need checksums, since they do not travel as IP6P
	idents    bool // segments need identifications of their own
	size      int  // payload of each message but the last
	segments  int  // how many messages there are

	// Moved by next.
	done int
	pos  int // where the next payload starts in frame
}

// load takes a frame and reports whether it may leave; it counts those that may not.
func (s *splitter) load(frame []byte) bool {
	s.segments, s.done = 0, 0
	if drop := s.parse(frame); drop != none {
		s.count.add(drop, 1)
		return false
	}
	s.count.add(outReads, 1)
	s.count.add(outMessages, s.segments)
	return true
}

// shape returns what next will make.
func (s *splitter) shape() (count, size, last int) {
	rest := len(s.frame) - s.pos - (s.segments-1-s.done)*s.size
	return s.segments - s.done, s.headN + s.size, s.headN + rest
}

// next makes the next message; nil after the last.
func (s *splitter) next() []byte {
	if s.done == s.segments {
		return nil
	}
	start, end := s.pos-s.headN, s.pos+s.size
	if s.done == s.segments-1 {
		end = len(s.frame)
	}
	m := s.frame[start:end:end]
	copy(m, s.head[:s.headN])
	if s.fix != repairNothing {
		s.repair(m[s.upper:])
	}
	s.pos = end
	s.done++
	return m
}

// tcp returns the packet, if it is sound TCP.
func (s *splitter) tcp() []byte {
	if s.head[0] != byte(wire.IP6P) || s.pkt[6] != protoTCP {
		return nil
	}
	return s.pkt
}

// repair corrects the transport header at the start of b, a segment.
func (s *splitter) repair(b []byte) {
	if s.idents {
		s.nextIdent()
	}
	if s.fix == repairUDP {
		be.PutUint16(b[udpLength:], uint16(len(b)))
		if s.sums {
			complete(b, udpChecksum, pseudo(&s.self, &s.to, protoUDP, len(b)))
		}
		return
	}
	if s.done > 0 {
		b[tcpFlags] &^= flagCWR
	}
	if s.done < s.segments-1 {
		b[tcpFlags] &^= flagFIN | flagPSH
	}
	seq := s.head[s.upper+tcpSeq:]
	be.PutUint32(seq, be.Uint32(seq)+uint32(s.size))
	if s.sums {
		complete(b, tcpChecksum, pseudo(&s.self, &s.to, protoTCP, len(b)))
	}
}

// flow is the packet's, for the policy: its next header and what follows. It is
// valid until next.
func (s *splitter) flow() (next byte, b []byte) { return s.pkt[6], s.pkt[ip6Size:] }

// parse checks a frame and sets all fields of one packet; it returns why the packet may
// not leave, or none.
func (s *splitter) parse(frame []byte) counter {
	if len(frame) < vnetSize+1 {
		return outNotIPv6
	}
	if frame[vnetSize]>>4 != 6 {
		return s.parse4(frame)
	}
	h, p := parseVnet(frame), frame[vnetSize:]
	if len(p) < ip6Size || ip6Size+int(be.Uint16(p[4:])) != len(p) {
		return outMalformed
	}
	s.to = anode.ULA(p[24:40])
	if s.to[0] == 0xff && s.lan != nil && isReport6(p) {
		s.lan.reported()
	}
	if anode.ULA(p[8:24]) != s.self {
		return outSource
	}
	if s.to[0] == 0xff {
		return s.group6(frame)
	}
	if s.to[0] != 0xfd || s.to == s.self {
		return outForeign
	}
	s.frame, s.pkt, s.echo, s.untracked = frame, p, false, false
	s.fix, s.sums, s.idents = repairNothing, false, false
	if h.kind != vnetNone {
		return s.parseSuper(h)
	}

	next, b := p[6], p[ip6Size:]
	whole := next == protoTCP && tcpLen(b) > 0 || next == protoUDP && goodUDP(b)
	sound := false // the receiver may compute the checksum: it was left to the device, or is right
	switch {
	case h.flags&vnetNeedsChecksum == 0:
		// For UDP 0 means no checksum; for TCP it is a checksum, but the receiver would
		// compute its other form.
		sound = whole && be.Uint16(b[checksumAt(next):]) != 0 && s.verify(next, b)
	case whole && h.start == ip6Size && h.at == checksumAt(next):
		sound = true
	case !completeAt(p, h):
		return outMalformed
	}
	switch {
	case sound && next == protoUDP && plain(p):
		s.dgram()
	case sound:
		clear(b[checksumAt(next):][:2])
		s.head[0] = byte(wire.IP6P)
		s.ip6(1, ip6Size)
	case next == protoICMP && len(b) >= icmpSize && b[0] == icmpEcho && b[1] == 0 && plain(p) && s.verify(next, b):
		s.echo = true
		s.head[0] = byte(wire.Ping)
		s.headN, s.pos = 1, vnetSize+ip6Size+4
	default:
		s.head[0] = byte(wire.IP6)
		s.ip6(1, ip6Size)
	}
	s.segments, s.size = 1, len(frame)-s.pos
	return none
}

// parseSuper is the end of parse for a super-packet.
func (s *splitter) parseSuper(h vnetHeader) counter {
	p := s.pkt
	if h.flags&vnetNeedsChecksum == 0 || h.size == 0 || h.start < ip6Size || h.start > len(p) {
		return outMalformed
	}
	proto, headers := byte(protoTCP), tcpLen(p[h.start:])
	switch h.kind &^ vnetECN {
	case vnetTCP6:
		s.fix = repairTCP
	case vnetUDP:
		proto, headers = protoUDP, udpSize
		s.fix = repairUDP
	default:
		return outMalformed
	}
	first := h.start + headers // where the payload starts
	if h.at != checksumAt(proto) || headers == 0 || first >= len(p) || headIP6+first-ip6Size > maxHead {
		return outMalformed
	}
	if got, rest, _ := upper(p[6], p[ip6Size:]); got != proto || len(p)-len(rest) != h.start {
		return outMalformed
	}
	s.segments, s.size = (len(p)-first+h.size-1)/h.size, h.size
	s.upper = headIP6 + h.start - ip6Size
	switch {
	case h.start != ip6Size: // extension headers
		s.sums = true
		s.head[0] = byte(wire.IP6)
		s.ip6(1, first)
	case proto == protoUDP && plain(p):
		s.fix = repairNothing
		s.dgram()
	default:
		clear(p[h.start+h.at:][:2])
		s.head[0] = byte(wire.IP6P)
		s.ip6(1, first)
	}
	return none
}

// ip6 sets the head of IP6 or IP6P from offset at on, behind the type; the payload starts at
// offset first of the packet.
func (s *splitter) ip6(at, first int) {
	p, head := s.pkt, s.head[at:]
	copy(head[:4], p)
	head[4], head[5] = p[6], p[7]
	s.headN = at + wire.IP6Header + copy(head[wire.IP6Header:], p[ip6Size:first])
	s.pos = vnetSize + first
}

// dgram sets the head of DGRAM.
func (s *splitter) dgram() {
	s.head[0] = byte(wire.Dgram)
	s.headN = 1 + copy(s.head[1:headDgram], s.pkt[ip6Size:])
	s.pos = vnetSize + ip6Size + udpSize
}

// verify checks the checksum of a transport header and what it covers.
func (s *splitter) verify(proto byte, b []byte) bool {
	return sum(b, pseudo(&s.self, &s.to, proto, len(b))) == 0xffff
}

// plain reports whether class and hop limit are those that DGRAM and PING imply.
func plain(p []byte) bool { return be.Uint16(p)&0x0ff0 == 0 && p[7] == plainHops }

// goodUDP reports whether b is a UDP header with just the payload that it says.
func goodUDP(b []byte) bool { return len(b) >= udpSize && int(be.Uint16(b[udpLength:])) == len(b) }

// checksumAt is the offset of the checksum in a TCP or UDP header.
func checksumAt(proto byte) int {
	if proto == protoTCP {
		return tcpChecksum
	}
	return udpChecksum
}

// completeAt computes a checksum that was left to us; its field holds the
// pseudo-header's sum. It returns false if there is no such field.
func completeAt(p []byte, h vnetHeader) bool {
	at := h.start + h.at
	if h.start < ip6Size || at+2 > len(p) {
		return false
	}
	be.PutUint16(p[at:], finish(sum(p[h.start:], 0)))
	return true
}
