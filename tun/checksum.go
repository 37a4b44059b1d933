package tun

import (
	"encoding/binary"
	"math/bits"

	"anodenet/anode"
)

// sum adds the ones' complement sum of b's 16-bit words to initial (RFC 1071).
// Words are big-endian, an odd last byte is padded with zero. Sums of pieces of
// even length may be added up.
//
// The loads are little-endian, since those cost nothing where it matters: the sum
// of swapped words is the swapped sum (RFC 1071, 2 B).
func sum(b []byte, initial uint16) uint16 {
	var s, carry uint64
	for len(b) >= 32 {
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b[24:]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) > 0 {
		var rest [8]byte
		copy(rest[:], b)
		s, carry = bits.Add64(s, binary.LittleEndian.Uint64(rest[:]), carry)
	}
	s, carry = bits.Add64(s, 0, carry)
	s += carry
	s = s>>32 + s&0xffffffff
	s = s>>32 + s&0xffffffff
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return add(bits.ReverseBytes16(uint16(s)), initial)
}

// add is the ones' complement addition.
func add(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s&0xffff)
}

// pseudo is the sum of IPv6's pseudo-header (RFC 8200, 8.1) for n bytes of proto.
func pseudo(src, dst *anode.ULA, proto byte, n int) uint16 {
	s := add(uint16(proto), uint16(n))
	s = add(s, uint16(n>>16))
	return sum(dst[:], sum(src[:], s))
}

// complete writes the checksum of b, which starts with a transport header, into its field
// at offset at. initial is the pseudo-header's sum. The previous content of the field
// does not matter. UDP has no checksum 0 (RFC 8200, 8.1), and the others take its other
// form as well.
func complete(b []byte, at int, initial uint16) {
	field := b[at : at+2]
	clear(field)
	binary.BigEndian.PutUint16(field, finish(sum(b, initial)))
}

// finish turns a sum into a checksum.
func finish(s uint16) uint16 {
	if s == 0xffff {
		return 0xffff
	}
	return ^s
}
