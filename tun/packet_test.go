package tun

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
)

var (
	alice = anode.ULA{0: 0xfd, 1: 0xaa, 15: 1}
	bob   = anode.ULA{0: 0xfd, 1: 0xbb, 15: 2}
	carol = anode.ULA{0: 0xfd, 1: 0xcc, 15: 3}
)

// packet makes an IPv6 packet.
func packet(src, dst anode.ULA, word uint32, next, hops byte, payload ...[]byte) []byte {
	b := make([]byte, ip6Size)
	p := slices.Concat(payload...)
	putIP6(b, word, len(p), next, hops, &src, &dst)
	return append(b, p...)
}

// frame puts a virtio-net header in front of a packet.
func frame(h vnetHeader, p []byte) []byte {
	b := make([]byte, vnetSize)
	h.put(b, 0)
	return append(b, p...)
}

type tcpFields struct {
	src, dst uint16
	seq, ack uint32
	flags    byte
	window   uint16
	options  []byte
	payload  []byte
}

func (f tcpFields) bytes() []byte {
	b := make([]byte, tcpSize, tcpSize+len(f.options)+len(f.payload))
	be.PutUint16(b, f.src)
	be.PutUint16(b[2:], f.dst)
	be.PutUint32(b[tcpSeq:], f.seq)
	be.PutUint32(b[tcpAck:], f.ack)
	b[tcpOffset] = byte(tcpSize+len(f.options)) / 4 << 4
	b[tcpFlags] = f.flags
	be.PutUint16(b[tcpWindow:], f.window)
	return append(append(b, f.options...), f.payload...)
}

func udpBytes(src, dst uint16, payload []byte) []byte {
	b := make([]byte, udpSize, udpSize+len(payload))
	be.PutUint16(b, src)
	be.PutUint16(b[2:], dst)
	be.PutUint16(b[udpLength:], uint16(udpSize+len(payload)))
	return append(b, payload...)
}

// slowPseudo is the pseudo-header's sum of a packet with n bytes of proto.
func slowPseudo(p []byte, proto byte, n int) uint16 {
	if p[0]>>4 == 4 {
		return slowSum(append(slices.Clone(p[12:ip4Size]), 0, proto, byte(n>>8), byte(n)), 0)
	}
	b := append(slices.Clone(p[8:ip6Size]), 0, 0, byte(n>>8), byte(n), 0, 0, 0, proto)
	return slowSum(b, 0)
}

// withChecksum completes the checksum at offset at of the transport header at start.
func withChecksum(p []byte, proto byte, start, at int) []byte {
	p = slices.Clone(p)
	be.PutUint16(p[start+at:], 0)
	c := ^slowSum(p[start:], slowPseudo(p, proto, len(p)-start))
	if c == 0 {
		c = 0xffff
	}
	be.PutUint16(p[start+at:], c)
	return p
}

// left is a packet as the system gives it when it leaves the checksum to us.
func left(p []byte, proto byte, start int) []byte {
	p = slices.Clone(p)
	at := start + checksumAt(proto)
	be.PutUint16(p[at:], slowPseudo(p, proto, len(p)-start))
	return p
}

// segment is what a system makes of a frame: packets with complete checksums. It is
// written without regard to how the package does it.
func segment(f []byte) ([][]byte, error) {
	h, p := parseVnet(f), f[vnetSize:]
	network := ip6Size
	if len(p) > 0 && p[0]>>4 == 4 {
		network = ip4Size
		if err := sound4(p); err != nil {
			return nil, err
		}
	} else if len(p) < ip6Size || int(be.Uint16(p[4:]))+ip6Size != len(p) {
		return nil, fmt.Errorf("length %d of %d", be.Uint16(p[4:]), len(p))
	}
	if h.kind == vnetNone {
		if h.flags&vnetNeedsChecksum == 0 {
			return [][]byte{slices.Clone(p)}, nil
		}
		p = slices.Clone(p)
		c := ^slowSum(p[h.start:], 0)
		if c == 0 {
			c = 0xffff
		}
		be.PutUint16(p[h.start+h.at:], c)
		return [][]byte{p}, nil
	}
	proto, headers := byte(protoTCP), 0
	switch h.kind &^ vnetECN {
	case map[int]byte{ip6Size: vnetTCP6, ip4Size: vnetTCP4}[network]:
		headers = int(p[h.start+tcpOffset]>>4) * 4
	case vnetUDP:
		proto, headers = protoUDP, udpSize
	default:
		return nil, fmt.Errorf("type %d", h.kind)
	}
	if h.flags != vnetNeedsChecksum || h.at != checksumAt(proto) || h.size == 0 {
		return nil, fmt.Errorf("header %+v", h)
	}
	if got, want := be.Uint16(p[h.start+h.at:]), slowPseudo(p, proto, len(p)-h.start); h.start == network && got%0xffff != want%0xffff {
		return nil, fmt.Errorf("pseudo-header sum %04x, want %04x", got, want)
	}
	if proto == protoUDP && int(be.Uint16(p[h.start+udpLength:])) != len(p)-h.start {
		return nil, fmt.Errorf("UDP length %d", be.Uint16(p[h.start+udpLength:]))
	}
	head, data := p[:h.start+headers], p[h.start+headers:]
	if h.kind&vnetECN == 0 && proto == protoTCP && head[h.start+tcpFlags]&flagCWR != 0 { // the kernel would cut it otherwise
		return nil, fmt.Errorf("CWR without ECN type")
	}
	var all [][]byte
	for at := 0; at < len(data); at += h.size {
		n := min(h.size, len(data)-at)
		s := slices.Concat(head, data[at:at+n])
		if network == ip4Size {
			set4(s, be.Uint16(s[4:])+uint16(len(all)))
		} else {
			be.PutUint16(s[4:], uint16(len(s)-ip6Size))
		}
		t := s[h.start:]
		if proto == protoTCP {
			be.PutUint32(t[tcpSeq:], be.Uint32(t[tcpSeq:])+uint32(at))
			if at > 0 {
				t[tcpFlags] &^= flagCWR
			}
			if at+n < len(data) {
				t[tcpFlags] &^= flagPSH | flagFIN
			}
		} else {
			be.PutUint16(t[udpLength:], uint16(len(t)))
		}
		all = append(all, withChecksum(s, proto, h.start, h.at))
	}
	return all, nil
}

// unpack is what the other side makes of a message: the packet, complete.
func unpack(src, dst anode.ULA, m []byte) []byte {
	typ, m := wire.Type(m[0]), m[1:]
	switch typ {
	case wire.IP6, wire.IP6P:
		p := packet(src, dst, be.Uint32(m), m[4], m[5], m[6:])
		if typ == wire.IP6P {
			if c := p[ip6Size+checksumAt(m[4]):]; c[0] != 0 || c[1] != 0 {
				panic("IP6P with a checksum")
			}
			p = withChecksum(p, m[4], ip6Size, checksumAt(m[4]))
		}
		return p
	case wire.Dgram:
		return withChecksum(packet(src, dst, 6<<28, protoUDP, 64, udpBytes(be.Uint16(m), be.Uint16(m[2:]), m[4:])), protoUDP, ip6Size, udpChecksum)
	case wire.IP4:
		return unpack4(alias4(src), alias4(dst), m)
	case wire.Group:
		if g := netip.AddrFrom16([16]byte(m)); g.Is4In6() {
			return unpack4(alias4(src), g.Unmap().As4(), m[16:])
		}
		return packet(src, anode.ULA(m), be.Uint32(m[16:]), m[20], m[21], m[22:])
	case wire.Ping, wire.Pong:
		icmp := append([]byte{icmpEcho + byte(typ-wire.Ping), 0, 0, 0}, m...)
		return withChecksum(packet(src, dst, 6<<28, protoICMP, 64, icmp), protoICMP, ip6Size, 2)
	}
	panic(typ)
}

// normal takes out of a packet what a DGRAM and a PING do not carry, and the second
// form of a checksum of 0.
func normal(p []byte) []byte {
	p = slices.Clone(p)
	if p[0]>>4 == 4 {
		return normal4(p)
	}
	if plain(p) && (p[6] == protoUDP || p[6] == protoICMP) {
		be.PutUint32(p, 6<<28)
	}
	if p[6] == protoICMP && len(p) >= ip6Size+4 && be.Uint16(p[ip6Size+2:]) == 0 {
		be.PutUint16(p[ip6Size+2:], 0xffff)
	}
	return p
}

func equalPackets(got, want [][]byte) error {
	for i := range min(len(got), len(want)) {
		if g, w := normal(got[i]), normal(want[i]); string(g) != string(w) {
			n := 0
			for n < len(g) && n < len(w) && g[n] == w[n] {
				n++
			}
			return fmt.Errorf("packet %d of %d differs at byte %d of %d (%d):\ngot  %x\nwant %x", i, len(want), n, len(w), len(g), g[:min(len(g), n+20)], w[:min(len(w), n+20)])
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d packets, want %d", len(got), len(want))
	}
	return nil
}

// traffic makes up what a system sends: a few flows of TCP and UDP that go on, and all
// sorts of other packets, with offloads and without.
type traffic struct {
	*rand.Rand
	src, dst anode.ULA
	lan      bool // also IPv4, and to groups
	seqs     [3]uint32
}

func newTraffic(seed uint64, src, dst anode.ULA) *traffic {
	return &traffic{rand.New(rand.NewPCG(seed, uint64(src[15]))), src, dst, false, [3]uint32{0, 1 << 31, 0xffffff00}}
}

func (g *traffic) bytes(n int) []byte {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = be.AppendUint64(b, g.Uint64())
	}
	return b[:n:n]
}

// word is version, class and flow label, mostly of class 0.
func (g *traffic) word() uint32 {
	w := 6<<28 | g.Uint32N(1<<20)
	if g.IntN(4) == 0 {
		w |= g.Uint32N(256) << 20
	}
	return w
}

// extension is a chain of extension headers, mostly none.
func (g *traffic) extension(next byte) (first byte, b []byte) {
	for g.IntN(8) == 0 {
		h := make([]byte, 8*(1+g.IntN(3))) // full of Pad1
		h[0], h[1] = next, byte(len(h)/8-1)
		b, next = append(h, b...), protoDestination
	}
	return next, b
}

func (g *traffic) hops() byte {
	if g.IntN(4) == 0 {
		return byte(g.Uint32())
	}
	return plainHops
}

// frame makes the next one.
func (g *traffic) frame() []byte {
	if g.lan && g.IntN(2) == 0 {
		return g.frame4()
	}
	switch g.IntN(8) {
	case 0, 1, 2, 3:
		return g.tcp()
	case 4, 5:
		return g.udp()
	case 6:
		icmp := append([]byte{byte(128 + g.IntN(2)), 0, 0, 0}, g.bytes(g.IntN(1300))...)
		p := withChecksum(packet(g.src, g.dst, g.word(), protoICMP, g.hops(), icmp), protoICMP, ip6Size, 2)
		return frame(vnetHeader{}, p)
	}
	return frame(vnetHeader{}, packet(g.src, g.dst, g.word(), byte(59+200*g.IntN(2)), g.hops(), g.bytes(g.IntN(1401))))
}

func (g *traffic) tcp() []byte {
	i := g.IntN(len(g.seqs))
	f := tcpFields{src: 1000, dst: uint16(2000 + i), seq: g.seqs[i], ack: 7, window: 500, flags: flagACK}
	f.options = make([]byte, 4*(i*3))
	if g.IntN(6) == 0 {
		f.window, f.ack = uint16(g.Uint32()), g.Uint32()
	}
	for _, rare := range []struct {
		flag byte
		odds int
	}{{flagPSH, 3}, {flagFIN, 20}, {flagCWR, 8}, {flagECE, 8}, {flagSYN, 30}, {flagURG, 30}} {
		if g.IntN(rare.odds) == 0 {
			f.flags |= rare.flag
		}
	}
	size := []int{1, 7, 30, 536, 1368, 1380, 1 + g.IntN(1400)}[g.IntN(7)]
	most := size * []int{0, 1, 3, 10, 44, 64}[g.IntN(6)]
	f.payload = g.bytes(min(most+g.IntN(size), 60000))
	g.seqs[i] += uint32(len(f.payload))
	word := uint32(6<<28 | i)
	hops := byte(plainHops)
	if g.IntN(6) == 0 {
		word, hops = g.word(), g.hops()
	}
	first, ext := g.extension(protoTCP)
	start := ip6Size + len(ext)
	p := packet(g.src, g.dst, word, first, hops, ext, f.bytes())
	switch {
	case len(f.payload) > size || len(f.payload) > 0 && g.IntN(8) == 0:
		h := vnetHeader{vnetNeedsChecksum, vnetTCP6, size, start, tcpChecksum}
		if f.flags&flagCWR != 0 {
			h.kind |= vnetECN
		}
		return frame(h, left(p, protoTCP, start))
	case g.IntN(8) == 0:
		return frame(vnetHeader{}, withChecksum(p, protoTCP, start, tcpChecksum))
	}
	return frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, start, tcpChecksum}, left(p, protoTCP, start))
}

func (g *traffic) udp() []byte {
	size := []int{1, 7, 30, 1200, 1392, 1 + g.IntN(1392)}[g.IntN(6)]
	most := size * []int{0, 1, 3, 10, 40}[g.IntN(5)]
	data := g.bytes(min(most+g.IntN(size), 60000))
	first, ext := g.extension(protoUDP)
	start := ip6Size + len(ext)
	word, hops := g.word(), g.hops()
	p := packet(g.src, g.dst, word, first, hops, ext, udpBytes(3000, uint16(4000+g.IntN(2)), data))
	switch {
	case len(data) > size:
		return frame(vnetHeader{vnetNeedsChecksum, vnetUDP, size, start, udpChecksum}, left(p, protoUDP, start))
	case g.IntN(4) == 0:
		return frame(vnetHeader{}, withChecksum(p, protoUDP, start, udpChecksum))
	case g.IntN(16) == 0:
		return frame(vnetHeader{}, p) // no checksum, or a wrong one
	}
	return frame(vnetHeader{vnetNeedsChecksum, vnetNone, 0, start, udpChecksum}, left(p, protoUDP, start))
}
