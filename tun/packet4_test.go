package tun

import (
	"fmt"
	"net/netip"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
)

// testLAN is the LAN of a node that has added peers, with groups on.
func testLAN(self anode.ULA, peers ...anode.ULA) *lan {
	c := Config{Aliases: alias.New(alias.Range, self), Groups: true}
	c.Aliases.Set(peers)
	l := newLAN(&c)
	return &l
}

func alias4(u anode.ULA) [4]byte { return alias.Of(alias.Range, u).As4() }

// header4 is what is special about an IPv4 packet.
type header4 struct {
	class           byte
	ident, fragment uint16
	ttl, proto      byte
}

// packet4 makes an IPv4 packet.
func packet4(src, dst [4]byte, h header4, payload ...[]byte) []byte {
	b := []byte{0x45, h.class, 0, 0, byte(h.ident >> 8), byte(h.ident), byte(h.fragment >> 8), byte(h.fragment), h.ttl, h.proto, 0, 0}
	b = slices.Concat(b, src[:], dst[:], slices.Concat(payload...))
	set4(b, h.ident)
	return b
}

// set4 makes length and checksum of an IPv4 header right, with another identification.
func set4(p []byte, ident uint16) {
	be.PutUint16(p[2:], uint16(len(p)))
	be.PutUint16(p[4:], ident)
	clear(p[10:12])
	be.PutUint16(p[10:], ^slowSum(p[:ip4Size], 0))
}

func sound4(p []byte) error {
	if len(p) < ip4Size || p[0] != 0x45 || int(be.Uint16(p[2:])) != len(p) || slowSum(p[:ip4Size], 0) != 0xffff {
		return fmt.Errorf("IPv4 header %x of %d bytes", p[:min(len(p), ip4Size)], len(p))
	}
	return nil
}

// unpack4 is unpack for what follows the type or the group.
func unpack4(src, dst [4]byte, m []byte) []byte {
	field := be.Uint16(m[3:])
	fragment, left := field&0x7fff, field&0x8000 != 0
	p := packet4(src, dst, header4{m[0], be.Uint16(m[1:]), fragment, m[5], m[6]}, m[7:])
	proto, b := m[6], p[ip4Size:]
	addresses := slowSum(p[12:ip4Size], 0)
	put := func(field []byte) { // RFC 1624, 3
		be.PutUint16(field, ^slowSum([]byte{byte(addresses >> 8), byte(addresses)}, ^be.Uint16(field)))
	}
	switch {
	case left:
		if c := be.Uint16(b[checksumAt(proto):]); c != 0 {
			panic("IP4 with a checksum that is left")
		}
		return withChecksum(p, proto, ip4Size, checksumAt(proto))
	case fragment&0x1fff != 0:
	case proto == protoTCP:
		put(b[tcpChecksum:])
	case proto == protoUDP && be.Uint16(b[udpChecksum:]) != 0:
		put(b[udpChecksum:])
		if be.Uint16(b[udpChecksum:]) == 0 {
			be.PutUint16(b[udpChecksum:], 0xffff)
		}
	case proto == protoICMP4 && slices.Contains([]byte{3, 4, 5, 11, 12}, b[0]):
		q := b[8:]
		if be.Uint64(q[12:]) != 0 {
			panic("a quote with addresses")
		}
		copy(q[12:], dst[:])
		copy(q[16:], src[:])
		put(q[10:])
	}
	return p
}

// normal4 is normal for IPv4: the identification of packets that may not be cut means
// nothing, and a checksum of 0 has two forms.
func normal4(p []byte) []byte {
	if be.Uint16(p[6:]) == ip4DF {
		set4(p, 0)
	}
	second := func(at int) {
		if len(p) >= at+2 && be.Uint16(p[at:]) == 0 {
			be.PutUint16(p[at:], 0xffff)
		}
	}
	switch {
	case be.Uint16(p[6:])&ip4Offset != 0:
	case p[9] == protoTCP:
		second(ip4Size + tcpChecksum)
	case p[9] == protoICMP4:
		second(ip4Size + 8 + 10)
	}
	return p
}

// head4 is a header as systems make it, mostly.
func (g *traffic) head4(proto byte) header4 {
	h := header4{ident: uint16(g.Uint32()), ttl: 64, proto: proto}
	if g.IntN(3) > 0 {
		h.fragment = ip4DF
	}
	if g.IntN(4) == 0 {
		h.class, h.ttl = byte(g.Uint32()), byte(g.Uint32())
	}
	return h
}

// frame4 makes the next frame of the virtual LAN.
func (g *traffic) frame4() []byte {
	src, dst := alias4(g.src), alias4(g.dst)
	switch g.IntN(12) {
	case 0, 1, 2, 3:
		return g.tcp4(src, dst)
	case 4, 5:
		return g.udp4(src, dst)
	case 6:
		return g.udp4(src, [][4]byte{{224, 0, 0, 251}, {239, 255, 255, 250}, {255, 255, 255, 255}, {100, 127, 255, 255}}[g.IntN(4)])
	case 7:
		return g.group6()
	case 8:
		return frame(vnetHeader{}, g.fragment4(src, dst))
	case 9:
		quoted := packet4(dst, src, g.head4(protoUDP), udpBytes(5, 6, g.bytes(g.IntN(40))))
		b := slices.Concat([]byte{[]byte{3, 11, 12}[g.IntN(3)], byte(g.IntN(3)), 0, 0, 0, 0, 0, 0}, quoted)
		be.PutUint16(b[2:], ^slowSum(b, 0))
		return frame(vnetHeader{}, packet4(src, dst, g.head4(protoICMP4), b))
	case 10:
		b := append([]byte{byte(8 * g.IntN(2)), 0, 0, 0}, g.bytes(4+g.IntN(1300))...)
		be.PutUint16(b[2:], ^slowSum(b, 0))
		return frame(vnetHeader{}, packet4(src, dst, g.head4(protoICMP4), b))
	}
	return frame(vnetHeader{}, packet4(src, dst, g.head4(200), g.bytes(g.IntN(1401))))
}

// fragment4 is a piece of a packet, in most cases one that has no header.
func (g *traffic) fragment4(src, dst [4]byte) []byte {
	h := g.head4([]byte{protoTCP, protoUDP, protoICMP4, 200}[g.IntN(4)])
	h.fragment = ip4MF
	b := g.bytes(8 * (3 + g.IntN(100)))
	if g.IntN(2) == 0 {
		h.fragment = uint16(2 + g.IntN(8000) + ip4MF*g.IntN(2))
	} else if h.proto == protoICMP4 {
		b[0] = 8
	}
	return packet4(src, dst, h, b)
}

func (g *traffic) tcp4(src, dst [4]byte) []byte {
	i := g.IntN(len(g.seqs))
	f := tcpFields{src: 1004, dst: uint16(2000 + i), seq: g.seqs[i], ack: 7, window: 500, flags: flagACK, options: make([]byte, 4*(i*3))}
	for _, rare := range []struct {
		flag byte
		odds int
	}{{flagPSH, 3}, {flagFIN, 20}, {flagCWR, 8}, {flagECE, 8}, {flagSYN, 30}} {
		if g.IntN(rare.odds) == 0 {
			f.flags |= rare.flag
		}
	}
	size := []int{1, 7, 536, 1380, 1 + g.IntN(1400)}[g.IntN(5)]
	f.payload = g.bytes(min(size*[]int{0, 1, 3, 44, 64}[g.IntN(5)]+g.IntN(size), 60000))
	g.seqs[i] += uint32(len(f.payload))
	h := g.head4(protoTCP)
	if g.IntN(4) > 0 { // a flow goes on
		h = header4{ident: 3, fragment: ip4DF, ttl: 64, proto: protoTCP}
	}
	p := packet4(src, dst, h, f.bytes())
	switch {
	case len(f.payload) > size:
		v := vnetHeader{vnetNeedsChecksum, vnetTCP4, size, ip4Size, tcpChecksum}
		if f.flags&flagCWR != 0 {
			v.kind |= vnetECN
		}
		return frame(v, left(p, protoTCP, ip4Size))
	case g.IntN(8) == 0:
		return frame(vnetHeader{}, withChecksum(p, protoTCP, ip4Size, tcpChecksum))
	case g.IntN(16) == 0:
		return frame(vnetHeader{}, p) // a wrong checksum
	}
	return frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip4Size, tcpChecksum}, left(p, protoTCP, ip4Size))
}

func (g *traffic) udp4(src, dst [4]byte) []byte {
	size := []int{1, 30, 1200, 1 + g.IntN(1392)}[g.IntN(4)]
	data := g.bytes(min(size*[]int{0, 1, 3, 40}[g.IntN(4)]+g.IntN(size), 60000))
	p := packet4(src, dst, g.head4(protoUDP), udpBytes(3004, uint16(4000+g.IntN(2)), data))
	switch {
	case len(data) > size:
		return frame(vnetHeader{vnetNeedsChecksum, vnetUDP, size, ip4Size, udpChecksum}, left(p, protoUDP, ip4Size))
	case g.IntN(4) == 0:
		return frame(vnetHeader{}, withChecksum(p, protoUDP, ip4Size, udpChecksum))
	case g.IntN(16) == 0 && dst == alias4(g.dst):
		be.PutUint16(p[ip4Size+udpChecksum:], uint16(g.IntN(2)*0x1234))
		return frame(vnetHeader{}, p) // no checksum, or a wrong one
	}
	return frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip4Size, udpChecksum}, left(p, protoUDP, ip4Size))
}

// group6 is UDP or an echo request to an IPv6 group.
func (g *traffic) group6() []byte {
	dst := anode.ULA(netip.MustParseAddr([]string{"ff02::fb", "ff05::c", "ff02::1"}[g.IntN(3)]).As16())
	if g.IntN(4) == 0 {
		b := append([]byte{icmpEcho, 0, 0, 0}, g.bytes(4+g.IntN(100))...)
		return frame(vnetHeader{}, withChecksum(packet(g.src, dst, g.word(), protoICMP, 1, b), protoICMP, ip6Size, 2))
	}
	size := 1 + g.IntN(1200)
	data := g.bytes(min(size*g.IntN(4)+g.IntN(size), 60000))
	p := packet(g.src, dst, g.word(), protoUDP, 255, udpBytes(5353, 5353, data))
	if len(data) > size {
		return frame(vnetHeader{vnetNeedsChecksum, vnetUDP, size, ip6Size, udpChecksum}, left(p, protoUDP, ip6Size))
	}
	if g.IntN(2) == 0 {
		return frame(vnetHeader{}, withChecksum(p, protoUDP, ip6Size, udpChecksum))
	}
	return frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, ip6Size, udpChecksum}, left(p, protoUDP, ip6Size))
}

// isIP4 reports whether a message is IP4, or GROUP with IPv4 in it; left whether the receiver
// computes its checksum.
func isIP4(m []byte) (is, left bool) {
	switch {
	case m[0] == byte(wire.IP4):
		m = m[1:]
	case m[0] == byte(wire.Group) && netip.AddrFrom16([16]byte(m[1:])).Is4In6():
		m = m[17:]
	default:
		return false, false
	}
	return true, m[3]&0x80 != 0
}
