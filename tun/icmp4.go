package tun

import (
	"anodenet/anode"
	"anodenet/anode/wire"
)

// Codes of icmp4Unreachable (RFC 792, RFC 1812).
const (
	icmp4Host       = 1
	icmp4TooBig     = 4
	icmp4Prohibited = 13
)

// maxError4 is the length that an error with what it quotes must not exceed (RFC 1812,
// 4.3.2.3).
const maxError4 = 576

// code4 is the code of the ICMPv4 error, of type unreachable, that says what an ICMPv6 error
// does.
func code4(typ, code byte) byte {
	switch {
	case typ == icmpTooBig:
		return icmp4TooBig
	case code == icmpProhibited:
		return icmp4Prohibited
	}
	return icmp4Host
}

// quote4 is where the quoted packet goes.
func (e *errorMaker) quote4() []byte { return e.buf[vnetSize+ip4Size+icmpSize : vnetSize+maxError4] }

// answer4 is answer for an IP4, with mu held.
func (e *errorMaker) answer4(to anode.ULA, msg []byte, code byte, word uint32) {
	from, n := e.rebuild4(to, msg)
	e.send4(from, n, code, word)
}

// noAlias answers an IPv4 packet of ours to an alias that nobody has. Any goroutine may call
// it.
func (e *errorMaker) noAlias(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	if answerable4(p[9], be.Uint16(p[6:]), p[ip4Size:]) {
		n = copy(e.quote4(), p)
	}
	e.send4([4]byte(p[16:]), n, icmp4Host, 0)
}

// send4 sends the error about the packet of which quote4 has n bytes, none if it must not be
// answered.
func (e *errorMaker) send4(from [4]byte, n int, code byte, word uint32) {
	if n == 0 {
		e.count.add(errNone, 1)
		return
	}
	if !e.allow() {
		e.count.add(errLimited, 1)
		return
	}
	frame := e.buf[:vnetSize+ip4Size+icmpSize+n]
	clear(frame[:vnetSize])
	p := frame[vnetSize:]
	putIP4(p, 0, len(p), 0, ip4DF, plainHops, protoICMP4, from, e.lan.self)
	b := p[ip4Size:]
	b[0], b[1] = icmp4Unreachable, code
	be.PutUint32(b[4:], word)
	complete(b, 2, 0)
	e.send(frame)
}

// rebuild4 writes as much of the packet that an IP4 was made of as fits where quotes are. It
// returns the alias that it went to, and the length; 0 if the packet must not be answered
// with an error. Checksums are those of the message.
func (e *errorMaker) rebuild4(to anode.ULA, msg []byte) (dst [4]byte, n int) {
	if e.lan == nil || len(msg) < headIP4 || len(msg)-headIP4 > maxIP4-ip4Size {
		return dst, 0
	}
	dst, ok := e.lan.alias(to)
	fragment, b := be.Uint16(msg[4:])&^wire.IP4Left, msg[headIP4:]
	if !ok || !answerable4(msg[7], fragment, b) {
		return dst, 0
	}
	q := e.quote4()
	putIP4(q, msg[1], ip4Size+len(b), be.Uint16(msg[2:]), fragment, msg[6], msg[7], e.lan.self, dst)
	return dst, ip4Size + copy(q[ip4Size:], b)
}

// answerable4 reports whether a packet may be answered with an error: neither an error nor a
// fragment except the first (RFC 1122, 3.2.2). b is what follows its header.
func answerable4(proto byte, fragment uint16, b []byte) bool {
	if fragment&ip4Offset != 0 {
		return false
	}
	return proto != protoICMP4 || len(b) > 0 && !isError4(b[0])
}
