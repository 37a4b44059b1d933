package tun

import (
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// How long replies come in after the last packet that we sent in a flow (RFC 5382
// REQ-5, RFC 4787 REQ-5, RFC 5508 REQ-2).
const (
	lifeTCP  = 2*time.Hour + 4*time.Minute
	lifeUDP  = 5 * time.Minute
	lifeICMP = 60 * time.Second
	lifePing = 30 * time.Second // of a PING, for its PONG
)

const (
	maxFlows  = 8192
	maxEchoes = 2048
	maxTheirs = 2048
)

// policy decides what may come in. Trusted peers may send anything except what only
// serves attacks on the addressing (routing headers with segments left, Home Address
// options, the messages of neighbours on a link). From others only replies come in, to
// flows that we started:
//
//	TCP   a connection is a flow from our SYN on; a SYN is never a reply
//	UDP   both ports
//	ICMP  echo replies by identifier, and errors that quote a flow, except Packet Too Big
//
// with neither extension headers nor fragments.
//
// Some peers let only our replies in. What else we would send to one is answered at once,
// instead of being lost there. UDP flows that such a peer began are in a table of their
// own: to have answered one must not let anything in.
type policy struct {
	self  anode.ULA
	now   func() time.Time
	start time.Time

	// mu is taken for echoes, and for packets from and to peers that are not
	// trusted; nothing else needs the tables.
	mu     sync.Mutex
	flows  *table
	echoes *table
	theirs *table // UDP flows that peers began which let only replies in
}

func newPolicy(self anode.ULA, now func() time.Time) *policy {
	return &policy{self: self, now: now, start: now(), flows: newTable(maxFlows), echoes: newTable(maxEchoes), theirs: newTable(maxTheirs)}
}

// clock is the time that the tables' ends refer to.
func (p *policy) clock() time.Duration { return p.now().Sub(p.start) }

// track notes the flow of an outgoing packet, given as a fixed header and the bytes after
// it. A TCP flow starts with a SYN; its other packets only keep it alive.
func (p *policy) track(to anode.ULA, next byte, b []byte) {
	f, first, ok := outgoing(to, next, b)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	switch next {
	case protoTCP:
		if first || p.flows.find(f, now) != nil {
			p.flows.put(f, now, now+lifeTCP)
		}
	case protoUDP:
		p.flows.put(f, now, now+lifeUDP)
	default:
		p.flows.put(f, now, now+lifeICMP)
	}
}

// outgoing finds the flow of a packet that we send, and reports whether it may be the
// flow's first.
func outgoing(to anode.ULA, next byte, b []byte) (f flow, first, ok bool) {
	switch {
	case next == protoTCP && len(b) >= tcpSize:
		first = b[tcpFlags]&(flagSYN|flagACK) == flagSYN
	case next == protoUDP && len(b) >= udpSize:
	case next == protoICMP && len(b) >= icmpSize && b[0] == icmpEcho:
		return flow{to, next, be.Uint16(b[4:]), 0}, true, true
	default:
		return flow{}, false, false
	}
	return flow{to, next, be.Uint16(b), be.Uint16(b[2:])}, first, true
}

// came notes the UDP flow of a message from a peer that lets only replies in.
func (p *policy) came(from anode.ULA, msg []byte) {
	ports, ok := udpPorts(msg)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.theirs.put(flow{from, protoUDP, be.Uint16(ports[2:]), be.Uint16(ports)}, now, now+lifeUDP)
}

// udpPorts returns what begins with both ports of a message that is UDP.
func udpPorts(msg []byte) (ports []byte, ok bool) {
	if len(msg) == 0 {
		return nil, false
	}
	switch wire.Type(msg[0]) {
	case wire.Dgram:
		return msg[1:], len(msg) >= headDgram
	case wire.IP6, wire.IP6P:
		if len(msg) >= headIP6+4 && msg[5] == protoUDP {
			return msg[headIP6:], true
		}
	}
	return nil, false
}

// unasked reports whether an outgoing packet would be lost at a peer that lets only
// replies in: the SYN of a connection, UDP in a flow that the peer did not begin, and
// what can be no reply. Of TCP the rest is let out: in the peer's connections it is a
// reply, and in others the SYN was answered.
func (p *policy) unasked(to anode.ULA, next byte, b []byte) bool {
	switch {
	case next == protoICMP:
		return false // echoes and errors get in; the rest is not for peers
	case next == protoTCP && len(b) >= tcpSize:
		return b[tcpFlags]&(flagSYN|flagACK) == flagSYN
	case next == protoUDP && len(b) >= udpSize:
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.theirs.find(flow{to, next, be.Uint16(b), be.Uint16(b[2:])}, p.clock()) == nil
	}
	return true
}

// admit returns why a peer's packet may not come in, or none. b is what follows the fixed
// header, of type next; for UDP it may end after the ports.
func (p *policy) admit(from anode.ULA, trusted bool, next byte, b []byte) counter {
	if !trusted {
		return p.admitReply(from, next, b)
	}
	if next == protoTCP || next == protoUDP {
		return none
	}
	proto, rest, drop := upper(next, b)
	if drop != none || proto != protoICMP {
		return drop
	}
	if len(rest) < 4 {
		return inMalformed
	}
	switch typ := rest[0]; {
	case typ >= 133 && typ <= 138, typ == 141, typ == 142, typ == 148, typ == 149:
		return inNeighbour // RFC 4861, 2894, 3122, 3971
	case typ < icmpInformative:
		if _, _, ok := p.quoted(from, rest); !ok {
			return inError
		}
	}
	return none
}

// admitReply is admit for a peer that is not trusted.
func (p *policy) admitReply(from anode.ULA, next byte, b []byte) counter {
	var f flow
	switch {
	case next == protoTCP && len(b) >= tcpSize:
		if b[tcpFlags]&(flagSYN|flagACK) == flagSYN {
			return inUnasked
		}
		f = flow{from, next, be.Uint16(b[2:]), be.Uint16(b)}
	case next == protoUDP && len(b) >= 4:
		f = flow{from, next, be.Uint16(b[2:]), be.Uint16(b)}
	case next == protoICMP && len(b) >= icmpSize:
		switch b[0] {
		case icmpReply:
			f = flow{from, next, be.Uint16(b[4:]), 0}
		case icmpUnreachable, icmpTimeout, icmpParameter:
			proto, rest, ok := p.quoted(from, b)
			if !ok {
				return inError
			}
			if f, _, ok = outgoing(from, proto, rest); !ok {
				return inUnasked
			}
		default:
			return inUnasked
		}
	default:
		return inUnasked
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.flows.find(f, p.clock()) == nil {
		return inUnasked
	}
	return none
}

// quoted returns the type and the bytes of what follows the fixed header of the
// packet that an ICMPv6 error quotes, if that went from us to the peer.
func (p *policy) quoted(from anode.ULA, b []byte) (next byte, rest []byte, ok bool) {
	if len(b) < icmpSize+ip6Size {
		return 0, nil, false
	}
	q := b[icmpSize:]
	if anode.ULA(q[8:24]) != p.self || anode.ULA(q[24:40]) != from {
		return 0, nil, false
	}
	return q[6], q[ip6Size:], true
}

// asked remembers an echo request that went out as a PING.
func (p *policy) asked(to anode.ULA, ident, seq uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock()
	p.echoes.put(flow{to, protoICMP, ident, seq}, now, now+lifePing)
}

// answered reports whether a PONG answers a PING, and forgets that PING.
func (p *policy) answered(from anode.ULA, ident, seq uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.echoes.take(flow{from, protoICMP, ident, seq}, p.clock())
}
