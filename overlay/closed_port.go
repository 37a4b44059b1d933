package overlay

import (
	"encoding/binary"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// A node without an adapter answers UDP for a port without a socket as an operating system
// does: by an ICMPv6 error (RFC 4443, 3.1), in an IP6 message:
//
//	type[1] = 1  code[1] = 4  checksum[2]  0[4]  the packet, as far as it fits
//
// The peer's program sees "connection refused" at once, instead of waiting in vain. Such an
// error that a peer sends becomes the error of a socket that was dialled.
const (
	protoICMP       = 58
	icmpHeader      = 8
	icmpUnreachable = 1
	icmpPort        = 4 // code of icmpUnreachable: nothing listens there
	ip6Header       = 40
	plainFlow       = 6 << 28 // the first word of IPv6, without class and flow
	plainHops       = 64
)

// closedRate is how often one peer is told that nothing listens at a port.
var closedRate = mono.Rate{PerSecond: 20, Burst: 50}

// closedPort answers a message if it is UDP. Only UDP is answered, so never an error. The
// peer is one that the policy lets in.
func (rx *receiver) closedPort(in *peer.Inbound, msg []byte) {
	m, unproved, ok := readUDP(msg)
	if !ok || unproved != nil && !soundUDP(unproved, &in.Contact.ULA, &rx.n.ula) {
		return
	}
	if !in.Contact.Marks.Closed.Allow(rx.now, closedRate) {
		rx.n.counters.count(dPortLimited)
		return
	}
	rx.n.counters.count(cPortClosed)
	answer := appendClosed(nil, &in.Contact.ULA, &rx.n.ula, msg, m)
	if r := in.Line.Route.Load(); r != nil {
		rx.answer(in, r, answer)
	} else {
		rx.n.programs.wait(in.Contact, answer) // until the session is confirmed
	}
}

// appendClosed appends the error about a UDP message m, which msg is read of.
func appendClosed(dst []byte, from, self *anode.ULA, msg []byte, m wire.DgramMsg) []byte {
	quoted := quoteUDP(from, self, msg, m)
	body := make([]byte, icmpHeader, icmpHeader+len(quoted))
	body[0], body[1] = icmpUnreachable, icmpPort
	body = append(body, quoted...)
	binary.BigEndian.PutUint16(body[2:], checksum(body, pseudoSum(self, from, protoICMP, len(body))))
	return wire.IP6Msg{Flow: plainFlow, NextHeader: protoICMP, HopLimit: plainHops, Payload: body}.Append(append(dst, byte(wire.IP6)))
}

// quoteUDP makes the IPv6 packet that a message stands for, cut so that the error about it has
// at most minMTU bytes.
func quoteUDP(from, self *anode.ULA, msg []byte, m wire.DgramMsg) []byte {
	flow, hops := uint32(plainFlow), byte(plainHops)
	if x, err := wire.ParseIP6(msg[1:]); err == nil && wire.Type(msg[0]) != wire.Dgram {
		flow, hops = x.Flow, x.HopLimit
	}
	n := udpHeader + len(m.Payload)
	b := binary.BigEndian.AppendUint32(make([]byte, 0, ip6Header+n), flow)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(b, protoUDP, hops)
	b = append(append(b, from[:]...), self[:]...)
	b = binary.BigEndian.AppendUint16(b, m.Source)
	b = binary.BigEndian.AppendUint16(b, m.Destination)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = append(append(b, 0, 0), m.Payload...)
	udp := b[ip6Header:]
	sum := checksum(udp, pseudoSum(from, self, protoUDP, n))
	if sum == 0 {
		sum = 0xffff // 0 would say that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	return b[:min(len(b), minMTU-ip6Header-icmpHeader)]
}

// refused takes a message if it is the error of a port that a socket here was dialled to, and
// has sent to.
func (rx *receiver) refused(in *peer.Inbound, msg []byte) bool {
	from, to, ok := readClosed(msg, &in.Contact.ULA, &rx.n.ula)
	if !ok || in.Contact.Standing() == book.Blocked {
		return false
	}
	s := rx.n.programs.sockets.get(from)
	if s == nil || s.far == nil || *s.far != (Addr{Peer: in.Contact.Address, Port: to}) || !s.sent.Load() {
		return false
	}
	select {
	case s.refused <- struct{}{}:
	default: // one is waiting to be read
	}
	return true
}

// readClosed reads the error that nothing listens at a UDP port of a peer, and returns the
// ports of the packet that it quotes, which went from self to the peer.
func readClosed(msg []byte, peer, self *anode.ULA) (from, to uint16, ok bool) {
	if wire.Type(msg[0]) != wire.IP6 {
		return 0, 0, false
	}
	x, err := wire.ParseIP6(msg[1:])
	b := x.Payload
	if err != nil || x.NextHeader != protoICMP || len(b) < icmpHeader+ip6Header+udpHeader ||
		b[0] != icmpUnreachable || b[1] != icmpPort || checksum(b, pseudoSum(peer, self, protoICMP, len(b))) != 0 {
		return 0, 0, false
	}
	q := b[icmpHeader:]
	if q[0]>>4 != 6 || q[6] != protoUDP || anode.ULA(q[8:24]) != *self || anode.ULA(q[24:40]) != *peer {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(q[ip6Header:]), binary.BigEndian.Uint16(q[ip6Header+2:]), true
}
