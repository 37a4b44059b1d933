package tun

import (
	"errors"
	"syscall"

	"anodenet/anode"
	"anodenet/anode/wire"
)

const (
	// slotAt is where a message that starts a packet is opened into. Its headers are
	// then written in front of its payload: IPv6's and the frame's need at most 53
	// bytes more than the message's own head.
	slotAt = 64
	// maxMessage is the longest message that can become a packet.
	maxMessage = headIP6 + maxIP6
	// maxMerge is the most segments of a packet that is merged.
	maxMerge = 64
	// maxMergeHead is the longest head of a message that is merged: IP4 with TCP's options.
	maxMergeHead = headIP4 + 60
)

// offloads is what the device accepts and passes on.
type offloads struct {
	checksum bool // checksums left to the receiver
	tcp, udp bool // super-packets
}

// merger turns peers' messages into packets, and consecutive messages of a flow into one
// super-packet, in place. While such a packet is held, the next message is opened so that
// its payload lands right behind the last one, if its head is as long:
//
//	held       frame | IPv6 | TCP | payload 1 | payload 2 |
//	slot                                    |7|   TCP     | payload 3 |
//
// The bytes that its head overwrites are saved, and put back after the heads were
// compared. If the message belongs to another flow, it moves to the spare buffer, and the
// held packet is written. Order is kept among all messages. Nothing allocates.
type merger struct {
	self   anode.ULA
	lan    *lan // nil: neither IPv4 nor groups
	has    offloads
	policy *policy
	count  *counters
	write  func(frame []byte) error

	buf, spare []byte
	held       held
	slot       slot
	last       named
	err        error // the first of write since the last flush
}

// held is the packet at the start of buf that waits to be written.
type held struct {
	start    int  // of the frame in buf
	upper    int  // of the transport header in buf
	end      int  // behind the last payload
	limit    int  // of end
	segments int  // none: nothing is held
	v4       bool // the packet is IPv4
	open     bool // the next message may be merged
	left     bool // the checksum is missing, of next's protocol
	next     byte // the next header

	// If open: what the next message must be like.
	from  anode.ULA
	head  [maxMergeHead]byte // of the first message; what counts up is the next one's
	headN int
	size  int // of each segment's payload
}

// slot is where the next message is opened into.
type slot struct {
	at    int // in buf
	n     int // 0: there is none
	saved [maxMergeHead]byte
	large []byte // instead of buf, for what cannot be a message
}

func newMerger(self anode.ULA, l *lan, has offloads, p *policy, c *counters, write func([]byte) error) *merger {
	size := slotAt + maxMessage + 64 // a few more, for what a caller's slot needs at the end
	return &merger{self: self, lan: l, has: has, policy: p, count: c, write: write, buf: make([]byte, size), spare: make([]byte, size)}
}

// Slot is Queue.Slot.
func (m *merger) Slot(n int) []byte {
	m.giveUp()
	h, s := &m.held, &m.slot
	if n <= 0 || slotAt+n > len(m.buf) {
		s.large = make([]byte, max(n, 0))
		return s.large
	}
	at := slotAt
	if h.segments > 0 {
		at = h.end - h.headN
		if !h.open || h.segments == maxMerge || at+n > len(m.buf) || at+n > h.limit {
			m.writeHeld()
			at = slotAt
		}
	}
	s.at, s.n = at, n
	if h.segments > 0 {
		copy(s.saved[:h.headN], m.buf[at:])
	}
	return m.buf[at : at+n : at+n]
}

// giveUp undoes a slot that was not used.
func (m *merger) giveUp() {
	if m.slot.n > 0 && m.held.segments > 0 {
		m.restore()
	}
	m.slot.n, m.slot.large = 0, nil
}

// restore puts back the end of the held packet, which the slot had overwritten.
func (m *merger) restore() {
	copy(m.buf[m.slot.at:m.held.end], m.slot.saved[:])
}

// Put is Queue.Put.
func (m *merger) Put(from anode.ULA, trusted bool, msg []byte) (refused bool) {
	n := len(msg)
	if n == 0 || n > m.slot.n {
		m.count.add(inMalformed, 1)
		m.giveUp()
		return false
	}
	at := m.slot.at
	if m.held.segments > 0 {
		if m.join(from, m.buf[at:at+n]) {
			m.slot.n = 0
			return false
		}
		copy(m.spare[slotAt:], m.buf[at:at+n])
		m.restore()
		m.writeHeld()
		m.buf, m.spare = m.spare, m.buf
	}
	m.slot.n = 0
	drop := m.hold(from, trusted, m.buf[slotAt:slotAt+n])
	if drop != none {
		m.held.segments = 0
		m.count.add(drop, 1)
	}
	return drop == inUnasked
}

// join adds a message to the held packet, if it continues the packet. The message is in
// the slot, and its payload already in the right place.
func (m *merger) join(from anode.ULA, msg []byte) bool {
	h := &m.held
	n := len(msg) - h.headN
	if n < 1 || n > h.size || from != h.from {
		return false
	}
	a, b := h.head[:h.headN], msg[:h.headN]
	var ends byte // flags that only the last segment has
	switch wire.Type(a[0]) {
	case wire.IP6P:
		var ok bool
		if ends, ok = follows(a, b); !ok {
			return false
		}
		advance(a[headIP6:], n)
	case wire.Dgram:
		if string(a) != string(b) {
			return false
		}
	default:
		var ok bool
		if ends, ok = follows4(a, b, n); !ok {
			return false
		}
		advance4(a, n)
	}
	m.restore()
	m.buf[h.upper+tcpFlags] |= ends
	h.open = n == h.size && ends == 0
	h.end += n
	h.segments++
	return true
}

// follows reports whether b, the head of an IP6P with TCP, equals a, whose sequence
// number is the expected one, except for flags that end a super-packet, which it returns.
// Only a first segment may have CWR.
func follows(a, b []byte) (ends byte, ok bool) {
	const flags, window, checksum, urgent = headIP6 + tcpFlags, headIP6 + tcpWindow, headIP6 + tcpChecksum, headIP6 + tcpUrgent
	ends = a[flags]&^flagCWR ^ b[flags]
	return ends, ends&^(flagPSH|flagFIN) == 0 &&
		string(a[:flags]) == string(b[:flags]) &&
		string(a[window:checksum]) == string(b[window:checksum]) &&
		string(a[urgent:]) == string(b[urgent:])
}

// advance adds n to the sequence number of a TCP header.
func advance(tcp []byte, n int) {
	seq := tcp[tcpSeq:]
	be.PutUint32(seq, be.Uint32(seq)+uint32(n))
}

// hold makes a packet of the message at slotAt, or returns why it cannot.
func (m *merger) hold(from anode.ULA, trusted bool, msg []byte) counter {
	h := &m.held
	h.open, h.left = false, false
	h.segments, h.end = 1, slotAt+len(msg)
	switch wire.Type(msg[0]) {
	case wire.IP6, wire.IP6P:
		return m.holdIP6(from, trusted, msg)
	case wire.Dgram:
		return m.holdDgram(from, trusted, msg)
	case wire.IP4:
		return m.holdIP4(from, trusted, msg)
	case wire.Group:
		return m.holdGroup(from, trusted, msg)
	case wire.Pong:
		return m.holdPong(from, msg)
	}
	return inType
}

func (m *merger) holdIP6(from anode.ULA, trusted bool, msg []byte) counter {
	if len(msg) < headIP6 || msg[1]>>4 != 6 || len(msg)-headIP6 > maxIP6 {
		return inMalformed
	}
	word, next, hops, b := be.Uint32(msg[1:]), msg[5], msg[6], msg[headIP6:]
	headers := 0
	if msg[0] == byte(wire.IP6P) {
		switch {
		case next == protoTCP && tcpLen(b) > 0:
			headers = tcpLen(b)
		case next == protoUDP && goodUDP(b):
		default:
			return inMalformed
		}
		m.held.left = true
	}
	if drop := m.policy.admit(from, trusted, next, b); drop != none {
		return drop
	}
	if n := len(b) - headers; headers > 0 && n > 0 && m.has.tcp && mergeable(b[tcpFlags]) {
		m.keep(from, msg[:headIP6+headers], n)
		advance(m.held.head[headIP6:], n)
	}
	m.fixed(slotAt+headIP6, word, next, hops, from)
	return none
}

// mergeable reports whether a segment with these flags may be a super-packet's first.
func mergeable(flags byte) bool { return flags&^(flagECE|flagCWR) == flagACK }

func (m *merger) holdDgram(from anode.ULA, trusted bool, msg []byte) counter {
	n := len(msg) - headDgram
	if n < 0 || udpSize+n > maxIP6 {
		return inMalformed
	}
	if drop := m.policy.admit(from, trusted, protoUDP, msg[1:]); drop != none {
		return drop
	}
	if n > 0 && m.has.udp {
		m.keep(from, msg[:headDgram], n)
	}
	udp := slotAt + headDgram - udpSize
	copy(m.buf[udp:], msg[1:headDgram])
	m.held.left = true
	m.fixed(udp, 6<<28, protoUDP, plainHops, from)
	return none
}

// holdPong makes an echo reply of PONG: type[1] ident[2] sequence[2] data.
func (m *merger) holdPong(from anode.ULA, msg []byte) counter {
	if len(msg) < 5 || len(msg)+3 > maxIP6 {
		return inMalformed
	}
	if !m.policy.answered(from, be.Uint16(msg[1:]), be.Uint16(msg[3:])) {
		return inPong
	}
	icmp := slotAt + 1 - 4
	b := m.buf[icmp:m.held.end]
	b[0], b[1] = icmpReply, 0
	complete(b, 2, pseudo(&from, &m.self, protoICMP, len(b)))
	m.fixed(icmp, 6<<28, protoICMP, plainHops, from)
	return none
}

// keep remembers what the next message must be like.
func (m *merger) keep(from anode.ULA, head []byte, size int) {
	h := &m.held
	h.open, h.from, h.size = true, from, size
	h.headN = copy(h.head[:], head)
}

// fixed writes the held packet's IPv6 header in front of what is at offset at, except for
// its length, which is only known when the packet is written.
func (m *merger) fixed(at int, word uint32, next, hops byte, from anode.ULA) {
	h := &m.held
	h.start, h.upper, h.limit, h.next, h.v4 = at-ip6Size-vnetSize, at, at+maxIP6, next, false
	putIP6(m.buf[at-ip6Size:], word, 0, next, hops, &from, &m.self)
}

// writeHeld writes the held packet, if there is one.
func (m *merger) writeHeld() {
	h := &m.held
	if h.segments == 0 {
		return
	}
	frame := m.buf[h.start:h.end]
	m.finish(frame)
	m.count.add(inMessages, h.segments)
	m.count.add(inWrites, 1)
	if err := m.write(frame); err != nil {
		m.count.add(inWrite, 1)
		if m.err == nil {
			m.err = err
		}
		if h.segments > 1 && errors.Is(err, syscall.EINVAL) {
			m.stopJoining()
		}
	}
	h.segments = 0
}

// stopJoining ends super-packets of the held packet's protocol for good: this system
// accepts none, although it offered to, and would refuse the next one too.
func (m *merger) stopJoining() {
	m.count.add(inRefused, 1)
	if m.held.next == protoTCP {
		m.has.tcp = false
	} else {
		m.has.udp = false
	}
}

// finish writes the length of the held packet, and its checksum unless that is left to
// the system.
func (m *merger) finish(frame []byte) {
	h := &m.held
	if h.v4 {
		m.finish4(frame)
		return
	}
	ip := frame[vnetSize:]
	b := ip[ip6Size:]
	be.PutUint16(ip[4:], uint16(len(b)))
	clear(frame[:vnetSize])
	if !h.left {
		return
	}
	if h.next == protoUDP {
		be.PutUint16(b[udpLength:], uint16(len(b)))
	}
	at := checksumAt(h.next)
	initial := sum(ip[8:ip6Size], add(uint16(h.next), uint16(len(b))))
	if !m.has.checksum {
		complete(b, at, initial)
		return
	}
	be.PutUint16(b[at:], initial)
	h.leave(frame, ip6Size, vnetTCP6)
}

// leave writes the frame's header for a checksum that is left to the system, and for a
// super-packet, of type tcp if it is TCP. The IP header has n bytes.
func (h *held) leave(frame []byte, n int, tcp byte) {
	b := frame[vnetSize+n:]
	v := vnetHeader{flags: vnetNeedsChecksum, start: n, at: checksumAt(h.next)}
	headers := udpSize
	if h.next == protoTCP {
		headers = tcpLen(b)
	}
	if h.segments > 1 {
		v.size = h.size
		v.kind = vnetUDP
		if h.next == protoTCP {
			v.kind = tcp
			if b[tcpFlags]&flagCWR != 0 {
				v.kind |= vnetECN
			}
		}
	}
	v.put(frame, n+headers)
}

// Flush is Queue.Flush.
func (m *merger) Flush() error {
	m.giveUp()
	m.writeHeld()
	err := m.err
	m.err, m.last.ok = nil, false
	return err
}
