package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// expand emits the making of a schedule.
func expand() {
	TEXT("expand", NOSPLIT, "func(s *byte, key *byte)")
	Doc("expand makes the round keys (FIPS 197, 5.2) and the powers of the hash key.")
	Load(Param("s"), keys)
	Load(Param("key"), RAX)
	even, odd, t, u := X0, X1, X2, X3
	VMOVDQU(Mem{Base: RAX}, even)
	VMOVDQU(Mem{Base: RAX, Disp: 16}, odd)
	VMOVDQU(even, Mem{Base: keys})
	VMOVDQU(odd, Mem{Base: keys, Disp: 16})
	// grow makes k the four words that follow last: each is the one before it added
	// to its own, before the first stands the changed last word of last.
	grow := func(k, last VecPhysical, rcon, word int, round int) {
		VAESKEYGENASSIST(U8(rcon), last, t)
		VPSHUFD(U8(word), t, t)
		for range 3 {
			VPSLLDQ(U8(4), k, u)
			VPXOR(u, k, k)
		}
		VPXOR(t, k, k)
		VMOVDQU(k, Mem{Base: keys, Disp: 16 * round})
	}
	for i := range 7 {
		grow(even, odd, 1<<i, 0xff, 2+2*i)
		if 3+2*i <= rounds {
			grow(odd, even, 0, 0xaa, 3+2*i)
		}
	}

	Comment("The hash key is the encrypted zero block.")
	h := x(states[0])
	VMOVDQU(Mem{Base: keys}, h)
	for r := 1; r < rounds; r++ {
		aesenc(Mem{Base: keys, Disp: 16 * r}, h)
	}
	aesenclast(Mem{Base: keys, Disp: 16 * rounds}, h)
	VPSHUFB(reversed, h, h)

	Comment("Times x: one bit up, and the polynomial if a bit falls out.")
	VPSRLQ(U8(63), h, t)
	VPSLLQ(U8(1), h, h)
	VPSLLDQ(U8(8), t, u)
	VPXOR(u, h, h)
	VPSHUFD(U8(0xaa), t, t)
	VPXOR(u, u, u)
	VPSUBD(t, u, t)
	VPAND(shiftIn, t, t)
	VPXOR(t, h, h)

	keep := func(power, fold Mem) {
		VMOVDQU(h, power)
		VPSHUFD(U8(0x4e), h, t)
		VPXOR(h, t, t)
		VMOVDQU(t, fold)
	}
	keep(powerAt(1), foldAt(1))
	LEAQ(powerAt(2), power)
	LEAQ(powerAt(count), RCX)
	Label("powers")
	VMOVDQA(h, x(block))
	multiply(powerAt(1), foldAt(1), true, true)
	all(reduction(states[0]))
	p := Mem{Base: power}
	keep(p, p.Offset(folded-powers))
	SUBQ(U8(16), power)
	CMPQ(power, RCX)
	JAE(LabelRef("powers"))
	VZEROUPPER()
	RET()
}

// identify emits cpuid.
func identify() {
	TEXT("cpuid", NOSPLIT, "func(leaf, sub uint32) (a, b, c, d uint32)")
	Doc("cpuid is the instruction.")
	Load(Param("leaf"), EAX)
	Load(Param("sub"), ECX)
	CPUID()
	for i, r := range []GPPhysical{EAX, EBX, ECX, EDX} {
		Store(r, ReturnIndex(i))
	}
	RET()
}
