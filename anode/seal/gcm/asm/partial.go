package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// bitsPast sets CX to the bits by which n bytes are more than m.
func bitsPast(m int, n GPPhysical) {
	LEAQ(Mem{Base: n, Disp: -m}, RCX)
	SHLL(U8(3), ECX)
}

// loadPartial loads n bytes, 1 to 16, at from[at:], and zeros above them. It reads no
// others. It spoils AX, CX, R12 and R13.
func loadPartial(label string, from GPPhysical, at int, n GPPhysical, to VecPhysical) {
	start := Mem{Base: from, Disp: at}
	end := start.Idx(n, 1)
	XORL(R13L, R13L)
	CMPQ(n, U8(8))
	JA(LabelRef(label + "LoadNine"))
	CMPQ(n, U8(4))
	JAE(LabelRef(label + "LoadFour"))

	Comment("1 to 3: the first, the middle and the last")
	MOVQ(n, RCX)
	SHRQ(U8(1), RCX)
	MOVBLZX(start, EAX)
	MOVBLZX(start.Idx(RCX, 1), R12L)
	SHLL(U8(3), ECX)
	SHLL(CL, R12L)
	ORL(R12L, EAX)
	MOVBLZX(end.Offset(-1), R12L)
	bitsPast(1, n)
	SHLL(CL, R12L)
	ORL(R12L, EAX)
	JMP(LabelRef(label + "Loaded"))

	Label(label + "LoadFour")
	Comment("4 to 8: two fours")
	MOVL(start, EAX)
	MOVL(end.Offset(-4), R12L)
	bitsPast(4, n)
	SHLQ(CL, R12)
	ORQ(R12, RAX)
	JMP(LabelRef(label + "Loaded"))

	Label(label + "LoadNine")
	Comment("9 to 16: two eights")
	MOVQ(start, RAX)
	MOVQ(end.Offset(-8), R13)
	bitsPast(16, n)
	NEGL(ECX)
	SHRQ(CL, R13)

	Label(label + "Loaded")
	VMOVQ(RAX, x(to))
	VPINSRQ(U8(1), R13, x(to), x(to))
}

// storePartial stores the first n bytes, 1 to 15, and no others. It spoils what
// loadPartial spoils.
func storePartial(label string, from VecPhysical, to, n GPPhysical) {
	start := Mem{Base: to}
	end := start.Idx(n, 1)
	VMOVQ(x(from), RAX)
	CMPQ(n, U8(8))
	JA(LabelRef(label + "StoreNine"))
	CMPQ(n, U8(4))
	JAE(LabelRef(label + "StoreFour"))

	MOVB(AL, start)
	MOVQ(n, RCX)
	SHRQ(U8(1), RCX)
	MOVQ(RCX, R13)
	SHLL(U8(3), ECX)
	MOVL(EAX, R12L)
	SHRL(CL, R12L)
	MOVB(R12B, start.Idx(R13, 1))
	bitsPast(1, n)
	SHRL(CL, EAX)
	MOVB(AL, end.Offset(-1))
	JMP(LabelRef(label + "Stored"))

	Label(label + "StoreFour")
	MOVL(EAX, start)
	bitsPast(4, n)
	SHRQ(CL, RAX)
	MOVL(EAX, end.Offset(-4))
	JMP(LabelRef(label + "Stored"))

	Label(label + "StoreNine")
	VPEXTRQ(U8(1), x(from), R13)
	MOVQ(RAX, start)
	bitsPast(8, n)
	SHRQ(CL, R13, RAX)
	MOVQ(RAX, end.Offset(-8))

	Label(label + "Stored")
}
