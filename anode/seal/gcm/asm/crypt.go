package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// crypt emits seal or open.
func crypt(name string, sealing bool) {
	if sealing {
		TEXT(name, NOSPLIT, "func(s *byte, dst, src, nonce, ad []byte)")
		Doc("seal encrypts src to dst and appends the tag. dst has 16 bytes more than src.")
	} else {
		TEXT(name, NOSPLIT, "func(s *byte, dst, src, nonce, ad []byte) (wrong uint64)")
		Doc("open decrypts src except its last 16 bytes, the tag, to dst, and returns 0 if",
			"the tag is right.")
	}
	mask := AllocLocal(16) // what encrypts the tag
	Load(Param("s"), keys)
	Load(Param("dst").Base(), dst)
	Load(Param("src").Base(), src)
	Load(Param("src").Len(), left)
	VMOVDQU(reversed, reversal)
	if !sealing {
		SUBQ(U8(16), left)
	}
	MOVQ(left, size)

	startCounters(mask)
	hashAD()

	CMPQ(left, U32(chunk))
	JB(LabelRef("short"))
	if sealing {
		encrypt(len(states), nil)
		xorChunk()
	}
	Label("chunks")
	CMPQ(left, U32(chunk))
	JB(LabelRef("lastChunk"))
	if sealing {
		encrypt(len(states), hashChunk(Mem{Base: dst, Disp: -chunk}))
	} else {
		encrypt(len(states), hashChunk(Mem{Base: src}))
	}
	xorChunk()
	JMP(LabelRef("chunks"))

	Label("lastChunk")
	if sealing {
		encryptTail("last", hashChunk(Mem{Base: dst, Disp: -chunk}), 4, 8)
		JMP(LabelRef("tail"))
	}
	Label("short")
	encryptTail("short", nil, 2, 4, 8)

	Label("tail")
	VMOVDQA(hash, tailHash)
	for _, sum := range []VecPhysical{low, middle, high} {
		VPXOR(sum, sum, sum)
	}
	Comment("The power of the hash key for the first block: as many blocks are left, and the lengths.")
	LEAQ(Mem{Base: left, Disp: 15}, RAX)
	ANDQ(I8(-16), RAX)
	LEAQ(powerAt(1), power)
	SUBQ(RAX, power)
	tail(sealing, 4)
	tail(sealing, 2)
	tail(sealing, 1)
	lastBlocks(sealing)

	Comment("The lengths in bits.")
	SHLQ(U8(3), size)
	VMOVQ(size, x(block))
	Load(Param("ad").Len(), adLen)
	SHLQ(U8(3), adLen)
	VPINSRQ(U8(1), adLen, x(block), x(block))
	hashNext(0, true)
	all(reduction(hash))
	VPSHUFB(x(reversal), x(hash), x(hash))
	VPXOR(mask, x(hash), x(hash))
	if sealing {
		VMOVDQU(x(hash), Mem{Base: dst})
	} else {
		VPXOR(Mem{Base: src}, x(hash), x(hash))
		VMOVQ(x(hash), RAX)
		VPEXTRQ(U8(1), x(hash), RCX)
		ORQ(RCX, RAX)
		Store(RAX, ReturnIndex(0))
	}
	VZEROUPPER()
	RET()
}

// move moves on by n bytes.
func move(n int) {
	for _, r := range []GPPhysical{src, dst} {
		ADDQ(U32(n), r)
	}
	SUBQ(U32(n), left)
}

// tail takes the n first vectors of the key stream if so much text is left; less than
// twice as much is.
func tail(sealing bool, n int) {
	done := fmt.Sprintf("under%d", 32*n)
	CMPQ(left, U32(32*n))
	JB(LabelRef(done))
	for i, s := range states[:n] {
		VMOVDQU(Mem{Base: src, Disp: 32 * i}, block)
		VPXOR(block, s, s)
		VMOVDQU(s, Mem{Base: dst, Disp: 32 * i})
		if sealing {
			VPSHUFB(reversal, s, block)
		} else {
			VPSHUFB(reversal, block, block)
		}
		hashNext(i, false)
	}
	for i := range n {
		VMOVDQA(states[n+i], states[i])
	}
	ADDQ(U32(32*n), power)
	move(32 * n)
	Label(done)
}

// lastBlocks takes the last 1 to 31 bytes, if there are any, and leaves dst and src
// behind them.
func lastBlocks(sealing bool) {
	key, text, result := x(states[0]), x(states[1]), x(states[2])
	hashOne := func() {
		if sealing {
			VPSHUFB(x(reversal), result, x(block))
		} else {
			VPSHUFB(x(reversal), text, x(block))
		}
		hashNext(0, true)
		ADDQ(U8(16), power)
	}
	CMPQ(left, U8(16))
	JB(LabelRef("under16"))
	VMOVDQU(Mem{Base: src}, text)
	VPXOR(text, key, result)
	VMOVDQU(result, Mem{Base: dst})
	hashOne()
	VEXTRACTI128(U8(1), states[0], key)
	move(16)
	Label("under16")
	TESTQ(left, left)
	JZ(LabelRef("lengths"))
	loadPartial("last", src, 0, left, text)
	VPXOR(text, key, result)
	storePartial("last", result, dst, left)
	if sealing {
		Comment("What follows the ciphertext in its block is hashed as zeros.")
		LEAQ(masks.Offset(16), RAX)
		SUBQ(left, RAX)
		VPAND(Mem{Base: RAX}, result, result)
	}
	hashOne()
	ADDQ(left, src)
	ADDQ(left, dst)
	Label("lengths")
}
