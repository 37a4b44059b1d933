package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// multiply adds the products of block, a vector of two blocks, or of one when single
// is set, and of powers to the sums; when first is set they become the sums. It
// spoils block and scratch.
func multiply(power, fold Mem, single, first bool) {
	like := func(r VecPhysical) VecPhysical {
		if single {
			return x(r) // writing it clears the upper lane
		}
		return r
	}
	b, s := like(block), like(scratch)
	if first {
		clmul(0x00, power, b, like(low))
		clmul(0x11, power, b, like(high))
	} else {
		clmul(0x00, power, b, s)
		VPXOR(scratch, low, low)
		clmul(0x11, power, b, s)
		VPXOR(scratch, high, high)
	}
	VPSHUFD(U8(0x4e), b, s)
	VPXOR(s, b, b)
	if first {
		clmul(0x00, fold, b, like(middle))
	} else {
		clmul(0x00, fold, b, b)
		VPXOR(block, middle, middle)
	}
}

// reduction turns the sums into one block, in the low lane of to, the upper lane
// being zero. It is cut into parts that can be spread over rounds of the cipher.
//
// With the polynomial reflected, a multiple of it clears the low 64 bits: what it
// adds above them is those bits times poly, and the bits themselves 128 higher.
// Twice that, and the upper 128 bits of the sum remain.
func reduction(to VecPhysical) []func() {
	return []func(){
		func() {
			VPXOR(low, middle, middle) // Karatsuba
			VPXOR(high, middle, middle)
			clmul(0x00, poly, low, scratch)
		},
		func() {
			VPSHUFD(U8(0x4e), low, low)
			VPXOR(low, middle, middle)
			VPXOR(scratch, middle, middle)
		},
		func() {
			clmul(0x00, poly, middle, scratch)
			VPSHUFD(U8(0x4e), middle, middle)
			VPXOR(middle, high, high)
		},
		func() {
			VPXOR(scratch, high, high)
			VEXTRACTI128(U8(1), high, x(scratch))
			VPXOR(x(scratch), x(high), x(to))
		},
	}
}

// all emits all parts.
func all(parts []func()) {
	for _, f := range parts {
		f()
	}
}

// hashChunk hashes the 256 bytes at text, and the hash that low has, into low. It is
// cut into as many parts as there are rounds to put them after.
func hashChunk(text Mem) (parts []func()) {
	for i := range states {
		parts = append(parts, func() {
			VMOVDQU(text.Offset(32*i), block)
			VPSHUFB(reversal, block, block)
			if i == 0 {
				VPXOR(low, block, block)
			}
			multiply(powerAt(16-2*i), foldAt(16-2*i), false, i == 0)
		})
	}
	return append(parts, reduction(low)...)
}

// hashNext multiplies block by the power that is next, and with it what there is of
// the hash so far; or block alone by the power i vectors after it.
func hashNext(i int, single bool) {
	p := Mem{Base: power, Disp: 32 * i}
	if i == 0 {
		VPXOR(tailHash, block, block)
		VPXOR(tailHash, tailHash, tailHash)
	}
	multiply(p, p.Offset(folded-powers), single, false)
}

// hashAD hashes the associated data into hash.
func hashAD() {
	Load(Param("ad").Base(), ad)
	Load(Param("ad").Len(), adLen)
	VPXOR(hash, hash, hash)
	add := func(b, r, h VecPhysical) {
		VPSHUFB(r, b, b)
		VPXOR(h, b, b)
	}

	Label("ad")
	CMPQ(adLen, U8(32))
	JB(LabelRef("adTail"))
	VMOVDQU(Mem{Base: ad}, block)
	add(block, reversal, hash)
	multiply(powerAt(2), foldAt(2), false, true)
	all(reduction(hash))
	ADDQ(U8(32), ad)
	SUBQ(U8(32), adLen)
	JMP(LabelRef("ad"))

	Label("adTail")
	TESTQ(adLen, adLen)
	JZ(LabelRef("adDone"))
	CMPQ(adLen, U8(16))
	JBE(LabelRef("adOne"))
	VMOVDQU(Mem{Base: ad}, x(block))
	add(x(block), x(reversal), x(hash))
	multiply(powerAt(2), foldAt(2), true, true)
	SUBQ(U8(16), adLen)
	loadPartial("adTwo", ad, 16, adLen, block)
	VPSHUFB(x(reversal), x(block), x(block))
	multiply(powerAt(1), foldAt(1), true, false)
	JMP(LabelRef("adReduce"))

	Label("adOne")
	loadPartial("adOne", ad, 0, adLen, block)
	add(x(block), x(reversal), x(hash))
	multiply(powerAt(1), foldAt(1), true, true)

	Label("adReduce")
	all(reduction(hash))
	Label("adDone")
}
