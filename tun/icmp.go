package tun

import (
	"sync"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

const (
	minMTU = 1280 // RFC 8200, section 5

	icmpNoRoute    = 0 // codes of icmpUnreachable
	icmpProhibited = 1

	// The limit of errors: so many at once, and so many per second on average.
	errBurst = 50
	errRate  = 100
)

// errorMaker writes ICMPv6 and ICMPv4 errors to the system about packets that could not be sent.
// Their source is the address that could not be reached. It shows people which one that
// was, and unlike our own address it passes the system's check that the route to the
// source leads to the interface that the packet came in by.
type errorMaker struct {
	self  anode.ULA
	lan   *lan // nil: no IPv4
	now   func() time.Time
	write func(frame []byte) error
	count *counters

	mu     sync.Mutex // guards what follows, and write
	tokens float64
	last   time.Time
	buf    [vnetSize + minMTU]byte
}

// answer sends the error about the packet that msg was made of.
func (e *errorMaker) answer(to anode.ULA, msg []byte, typ, code byte, word uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(msg) > 0 && msg[0] == byte(wire.IP4) {
		e.answer4(to, msg, code4(typ, code), word)
		return
	}
	quote := e.buf[vnetSize+ip6Size+icmpSize:]
	n := rebuild(quote, &e.self, &to, msg)
	if n == 0 {
		e.count.add(errNone, 1)
		return
	}
	if !e.allow() {
		e.count.add(errLimited, 1)
		return
	}
	frame := e.buf[:vnetSize+ip6Size+icmpSize+n]
	putIP6(frame[vnetSize:], 6<<28, icmpSize+n, protoICMP, plainHops, &to, &e.self)
	b := frame[vnetSize+ip6Size:]
	b[0], b[1] = typ, code
	be.PutUint32(b[4:], word)
	complete(b, 2, pseudo(&to, &e.self, protoICMP, len(b)))
	e.send(frame)
}

func (e *errorMaker) send(frame []byte) {
	if err := e.write(frame); err != nil {
		e.count.add(errWrite, 1)
		return
	}
	e.count.add(errSent, 1)
}

// allow takes a token (RFC 4443, 2.4 f).
func (e *errorMaker) allow() bool {
	now := e.now()
	if e.last.IsZero() {
		e.tokens = errBurst
	} else if d := now.Sub(e.last); d > 0 {
		e.tokens = min(errBurst, e.tokens+d.Seconds()*errRate)
	}
	e.last = now
	if e.tokens < 1 {
		return false
	}
	e.tokens--
	return true
}

// rebuild writes as much of the IPv6 packet that msg was made of as fits into b. It
// returns the length, or 0 if the packet must not be answered with an error (RFC 4443,
// 2.4 e) or msg is not one of our messages. Checksums that were left to the receiver are
// 0.
func rebuild(b []byte, self, to *anode.ULA, msg []byte) int {
	if len(msg) == 0 {
		return 0
	}
	m := msg[1:]
	word, next, hops := uint32(6<<28), byte(protoUDP), byte(plainHops)
	var head [udpSize]byte
	headN := 0
	switch wire.Type(msg[0]) {
	case wire.IP6, wire.IP6P:
		if len(m) < wire.IP6Header {
			return 0
		}
		word, next, hops = be.Uint32(m), m[4], m[5]
		m = m[wire.IP6Header:]
		proto, rest, _ := upper(next, m)
		if rest == nil || proto == protoICMP && (len(rest) == 0 || rest[0] < icmpInformative || rest[0] == 137) {
			return 0
		}
	case wire.Dgram:
		if len(m) < wire.DgramHeader {
			return 0
		}
		headN = udpSize
		copy(head[:], m[:wire.DgramHeader])
		m = m[wire.DgramHeader:]
		be.PutUint16(head[udpLength:], uint16(udpSize+len(m)))
	case wire.Ping:
		next, headN = protoICMP, 4
		head[0] = icmpEcho
	default:
		return 0
	}
	putIP6(b, word, headN+len(m), next, hops, self, to)
	n := ip6Size
	n += copy(b[n:], head[:headN])
	n += copy(b[n:], m)
	return n
}
