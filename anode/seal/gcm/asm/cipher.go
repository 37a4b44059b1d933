package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// startCounters makes the first counter block of the nonce, whose encryption is kept
// for the tag, and the two after it.
func startCounters(mask Mem) {
	Load(Param("nonce").Base(), RAX)
	s := x(states[0])
	VMOVQ(Mem{Base: RAX}, s)
	VPINSRD(U8(2), Mem{Base: RAX, Disp: 8}, s, s)
	MOVL(U32(1<<24), ECX)
	VPINSRD(U8(3), ECX, s, s)
	VPSHUFB(x(reversal), s, x(counters))
	VINSERTI128(U8(1), x(counters), counters, counters)
	VPADDD(ones, counters, counters)
	VPXOR(Mem{Base: keys}, s, s)
	for r := 1; r < rounds; r++ {
		aesenc(Mem{Base: keys, Disp: 16 * r}, s)
	}
	aesenclast(Mem{Base: keys, Disp: 16 * rounds}, s)
	VMOVDQU(s, mask)
}

// loadKey loads the key of a round.
func loadKey(round int) { VBROADCASTI128(Mem{Base: keys, Disp: 16 * round}, roundKey) }

// encrypt encrypts the next n vectors of counter blocks except the last round, whose
// key it leaves in roundKey. It emits a part of aside after each of the others.
//
// The first of the counters is 2 modulo 16, as the first of all is: those up to 15
// differ from it in one byte, which is so for all vectors but the last of a chunk.
func encrypt(n int, aside []func()) {
	states, last := states[:n], len(states)-1
	VPSHUFB(reversal, counters, states[0])
	loadKey(0)
	VPXOR(roundKey, states[0], states[0])
	for i := 1; i < min(n, last); i++ {
		VPXOR(apart.Offset(32*i), states[0], states[i])
	}
	if n > last {
		VPADDD(step, counters, states[last])
		VPSHUFB(reversal, states[last], states[last])
		VPXOR(roundKey, states[last], states[last])
	}
	for r := 1; r < rounds; r++ {
		loadKey(r)
		for _, s := range states {
			aesenc(roundKey, s)
		}
		if r <= len(aside) {
			aside[r-1]()
		}
	}
	loadKey(rounds)
}

// encryptTail encrypts what key stream the tail needs, in the first of the numbers of
// vectors that is enough, and goes there; behind the last of them it does not go.
func encryptTail(label string, aside []func(), vectors ...int) {
	for i, n := range vectors {
		more := fmt.Sprintf("%sOver%d", label, 32*n)
		if i < len(vectors)-1 {
			CMPQ(left, U32(32*n))
			JA(LabelRef(more))
		}
		encrypt(n, aside)
		for _, s := range states[:n] {
			aesenclast(roundKey, s)
		}
		if i < len(vectors)-1 {
			JMP(LabelRef("tail"))
			Label(more)
		}
	}
}

// xorChunk ends the encryption with a chunk of text added, stores it and moves on.
func xorChunk() {
	for i, s := range states {
		t := []VecPhysical{block, scratch}[i%2]
		VPXOR(Mem{Base: src, Disp: 32 * i}, roundKey, t)
		aesenclast(t, s)
	}
	for i, s := range states {
		VMOVDQU(s, Mem{Base: dst, Disp: 32 * i})
	}
	VPADDD(step.Offset(32), counters, counters)
	move(chunk)
}
