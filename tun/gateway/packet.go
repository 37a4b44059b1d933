package gateway

import (
	"bytes"
	"encoding/binary"

	"anodenet/anode"
	"anodenet/anode/wire"
)

var be = binary.BigEndian

const (
	ip6Size   = 40
	tcpSize   = 20
	icmpSize  = 8
	protoTCP  = 6
	protoICMP = 58

	icmpUnreachable = 1 // RFC 4443, 3.1

	flagFIN = 0x01
	flagSYN = 0x02
	flagRST = 0x04
	flagACK = 0x10
)

// header is what the gateway itself needs of a packet from our system to a peer.
type header struct {
	self, peer anode.ULA
	near, port uint16
	seq, ack   uint32
	flags      byte
	payload    int
}

// parse reads an IPv6 packet with TCP right after the fixed header.
func parse(p []byte) (h header, ok bool) {
	if len(p) < ip6Size+tcpSize || p[0]>>4 != 6 || p[6] != protoTCP || ip6Size+int(be.Uint16(p[4:])) != len(p) {
		return h, false
	}
	b := p[ip6Size:]
	n := int(b[12]>>4) * 4
	if n < tcpSize || n > len(b) {
		return h, false
	}
	return header{
		self: anode.ULA(p[8:24]), peer: anode.ULA(p[24:40]),
		near: be.Uint16(b), port: be.Uint16(b[2:]),
		seq: be.Uint32(b[4:]), ack: be.Uint32(b[8:]),
		flags: b[13], payload: len(b) - n,
	}, true
}

// isICMP reports whether a packet is ICMPv6.
func isICMP(p []byte) bool { return len(p) > ip6Size && p[0]>>4 == 6 && p[6] == protoICMP }

// parseUnreachable reads an ICMPv6 error by which our system rejects a packet of a peer: it
// returns the flow of the TCP packet that it quotes.
func parseUnreachable(p []byte, self anode.ULA) (f flow, ok bool) {
	const least = ip6Size + icmpSize + ip6Size + 4 // up to the ports
	if len(p) < least || p[ip6Size] != icmpUnreachable || anode.ULA(p[8:24]) != self {
		return f, false
	}
	q := p[ip6Size+icmpSize:]
	if q[0]>>4 != 6 || q[6] != protoTCP || anode.ULA(q[24:40]) != self || !bytes.Equal(q[8:24], p[24:40]) {
		return f, false
	}
	return flow{peer: anode.ULA(q[8:24]), port: be.Uint16(q[ip6Size:]), near: be.Uint16(q[ip6Size+2:])}, true
}

// opens reports whether the packet opens a connection.
func (h *header) opens() bool { return h.flags&(flagSYN|flagACK|flagRST) == flagSYN }

func (h *header) flow() flow { return flow{h.peer, h.port, h.near} }

// reset answers a packet as if nobody listened on the peer's port (RFC 9293, 3.5.2).
func (g *Gateway) reset(h header) {
	if h.flags&flagRST != 0 {
		return
	}
	p := make([]byte, ip6Size+tcpSize)
	be.PutUint32(p, 6<<28)
	be.PutUint16(p[4:], tcpSize)
	p[6], p[7] = protoTCP, 64
	copy(p[8:], h.peer[:])
	copy(p[24:], h.self[:])
	b := p[ip6Size:]
	be.PutUint16(b, h.port)
	be.PutUint16(b[2:], h.near)
	b[12], b[13] = tcpSize/4<<4, flagRST
	if h.flags&flagACK != 0 {
		be.PutUint32(b[4:], h.ack)
	} else {
		n := h.payload
		for f := h.flags & (flagSYN | flagFIN); f != 0; f &= f - 1 {
			n++
		}
		b[13] |= flagACK
		be.PutUint32(b[8:], h.seq+uint32(n))
	}
	g.put(h.peer, p)
}

// message is a packet as a message, in the form that ICMPv6 errors are made of.
func message(p []byte) []byte {
	msg := append([]byte{byte(wire.IP6)}, p[:4]...)
	msg = append(msg, p[6], p[7])
	return append(msg, p[ip6Size:]...)
}
