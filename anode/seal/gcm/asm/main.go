// Command asm writes gcm_amd64.s, the AES-256-GCM kernel of package gcm. It is a
// module of its own: only who changes the kernel needs avo.
//
//	go generate ./anode/seal/gcm
//
// Counter mode runs with VAES, two blocks in a register and eight registers at a
// time, interleaved with GHASH over the ciphertext: of the same 256 bytes (open) or
// of the 256 before (seal). GHASH multiplies successive blocks by falling powers of
// the hash key (Karatsuba) and reduces once for 256 bytes, and once for all that is
// left with the lengths. The methods are published ones:
//
//   - NIST SP 800-38D, sections 6 and 7, and FIPS 197, section 5.2;
//   - S. Gueron, M. Kounavis: Intel Carry-Less Multiplication Instruction and its
//     Usage for Computing the GCM Mode, revision 2.02, 2014: byte-reflected operands,
//     aggregated reduction;
//   - S. Gueron: AES-GCM for Efficient Authenticated Encryption, RWC 2013: the hash
//     key times x, so that products need no shift, and reduction by two
//     multiplications.
//
// Branches and addresses depend on lengths only, never on keys or data.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// What the vector registers hold, in crypt and all it calls.
var (
	states   = []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7} // counter blocks being encrypted
	roundKey = Y8                                            // in both lanes
	low      = Y9                                            // sums of products of blocks and powers
	middle   = Y10
	high     = Y11
	block    = Y12 // what GHASH works on
	scratch  = Y13
	counters = Y14 // the next two counter blocks, byte-reversed: the counter is a number at the low end
	reversal = Y15 // the order of bytes in a reversed block

	// The hash so far, to be added to the block that comes next: in the main loop
	// it lies where the reduction leaves it, in the tails above their four states.
	hash = Y7
)

// What the general registers hold there.
var (
	dst   = RDI
	src   = RSI
	left  = RDX // bytes of src that remain
	keys  = RBX // *schedule
	power = R8  // in keys, the power of the hash key for the next block
	ad    = R9
	adLen = R10
	size  = R11 // bytes of src in all
)

// The layout of schedule in gcm_amd64.go.
const (
	rounds = 14
	chunk  = 256               // bytes that one step of the main loop takes
	count  = chunk/16 + 1      // powers of the hash key: one for each block of the longest tail, and the lengths
	powers = (rounds + 1) * 16 // offset, the highest power first
	folded = powers + count*16 // offset: each power's halves added up, twice
)

// powerAt and foldAt are where the n-th power of the hash key lies.
func powerAt(n int) Mem { return Mem{Base: keys, Disp: powers + (count-n)*16} }
func foldAt(n int) Mem  { return Mem{Base: keys, Disp: folded + (count-n)*16} }

// Constants in memory.
var (
	reversed Mem // 15..0, twice
	poly     Mem // the field's polynomial, reflected, less its ends, in the low half of both lanes
	masks    Mem // 16 bytes of ones, 16 of zeros
	ones     Mem // 1 and 2, from the first counter to the next two
	steps    Mem // 0, 2, .. 16 for the counters of both lanes
	shiftIn  Mem // what multiplying by x brings in from above: the polynomial again, in full
)

func main() {
	ConstraintExpr("!purego")
	constants()
	expand()
	crypt("seal", true)
	crypt("open", false)
	identify()
	Generate()
}

func constants() {
	quads := func(name string, values ...uint64) Mem {
		m := GLOBL(name, RODATA|NOPTR)
		for i, v := range values {
			DATA(8*i, U64(v))
		}
		return m
	}
	reversed = quads("reversed", 0x08090a0b0c0d0e0f, 0x0001020304050607, 0x08090a0b0c0d0e0f, 0x0001020304050607)
	poly = quads("poly", 0xc200000000000000, 0, 0xc200000000000000, 0)
	shiftIn = quads("shiftIn", 1, 0xc200000000000000)
	masks = quads("masks", 1<<64-1, 1<<64-1, 0, 0)
	ones = quads("ones", 1, 0, 2, 0)
	var s []uint64
	for i := uint64(0); i <= 16; i += 2 {
		s = append(s, i, 0, i, 0)
	}
	steps = quads("steps", s...)
}

// step is the constant that moves the counters on by n vectors.
func step(n int) Mem { return steps.Offset(32 * n) }

// wide emits one of the two instructions whose 256-bit forms avo does not know.
// They are VAES and VPCLMULQDQ, with VEX encoding.
func wide(opcode, isa string, ops ...Op) {
	last := len(ops) - 1
	Instruction(&ir.Instruction{Opcode: opcode, Operands: ops, Inputs: ops[:last], Outputs: ops[last:], ISA: []string{isa}})
}

func aesenc(key, state Op)     { wide("VAESENC", "VAES", key, state, state) }
func aesenclast(key, state Op) { wide("VAESENCLAST", "VAES", key, state, state) }
func clmul(half uint64, power, data, to Op) {
	wide("VPCLMULQDQ", "VPCLMULQDQ", U8(half), power, data, to)
}

// x is the low half of a vector register.
func x(r VecPhysical) VecPhysical { return r.AsX().(VecPhysical) }

// loadKey loads the key of a round.
func loadKey(round int) { VBROADCASTI128(Mem{Base: keys, Disp: 16 * round}, roundKey) }

// encrypt encrypts the next counter blocks up to the last round, which leaves the
// last round's key in roundKey. It emits a part of aside after each round.
func encrypt(states []VecPhysical, aside []func()) {
	loadKey(0)
	for i, s := range states {
		if i == 0 {
			VPSHUFB(reversal, counters, s)
		} else {
			VPADDD(step(i), counters, s)
			VPSHUFB(reversal, s, s)
		}
	}
	VPADDD(step(len(states)), counters, counters)
	for _, s := range states {
		VPXOR(roundKey, s, s)
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

// xor ends the encryption with the text added, and stores it.
func xor(states []VecPhysical) {
	for i, s := range states {
		t := []VecPhysical{block, scratch}[i%2]
		VPXOR(Mem{Base: src, Disp: 32 * i}, roundKey, t)
		aesenclast(t, s)
	}
	for i, s := range states {
		VMOVDQU(s, Mem{Base: dst, Disp: 32 * i})
	}
}

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

// hashNext multiplies what block has, and the hash so far, by the power that is
// next, and moves on to the power after it.
func hashNext(single bool) {
	n := 32
	if single {
		n = 16
	}
	p := Mem{Base: power}
	VPXOR(hash, block, block)
	VPXOR(hash, hash, hash)
	multiply(p, p.Offset(folded-powers), single, false)
	ADDQ(U8(n), power)
}

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

// crypt emits seal or open.
func crypt(name string, sealing bool) {
	if sealing {
		TEXT(name, NOSPLIT, "func(s *byte, dst, src, nonce, ad []byte)")
		Doc("seal encrypts src to dst and appends the tag. dst has 16 bytes more than src.")
	} else {
		TEXT(name, NOSPLIT, "func(s *byte, dst, src, nonce, ad []byte) (wrong uint64)")
		Doc("open decrypts src but for its last 16 bytes, the tag, to dst, and returns 0 if",
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
	JB(LabelRef("tail"))
	VMOVDQA(hash, low)
	if sealing {
		encrypt(states, nil)
		nextChunk()
	}
	Label("chunks")
	CMPQ(left, U32(chunk))
	JB(LabelRef("lastChunk"))
	if sealing {
		encrypt(states, hashChunk(Mem{Base: dst, Disp: -chunk}))
	} else {
		encrypt(states, hashChunk(Mem{Base: src}))
	}
	nextChunk()
	JMP(LabelRef("chunks"))
	Label("lastChunk")
	if sealing {
		all(hashChunk(Mem{Base: dst, Disp: -chunk}))
	}
	VMOVDQA(low, hash)

	Label("tail")
	Comment("The power of the hash key for the first block: as many blocks are left, and the lengths.")
	LEAQ(Mem{Base: left, Disp: 15}, RAX)
	ANDQ(I8(-16), RAX)
	LEAQ(powerAt(1), power)
	SUBQ(RAX, power)
	for _, sum := range []VecPhysical{low, middle, high} {
		VPXOR(sum, sum, sum)
	}
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
	hashNext(true)
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

// nextChunk ends the encryption of a chunk and moves on.
func nextChunk() {
	xor(states)
	move(chunk)
}

// move moves on by n bytes.
func move(n int) {
	for _, r := range []GPPhysical{src, dst} {
		if n < 128 {
			ADDQ(U8(n), r)
		} else {
			ADDQ(U32(n), r)
		}
	}
	if n < 128 {
		SUBQ(U8(n), left)
	} else {
		SUBQ(U32(n), left)
	}
}

// tail takes n vectors if so many are left; fewer than twice as many are.
func tail(sealing bool, n int) {
	done := fmt.Sprintf("tailless%d", n)
	CMPQ(left, U32(32*n))
	JB(LabelRef(done))
	var ciphertext []func()
	if !sealing {
		for i := range n {
			ciphertext = append(ciphertext, func() {
				VMOVDQU(Mem{Base: src, Disp: 32 * i}, block)
				VPSHUFB(reversal, block, block)
				hashNext(false)
			})
		}
	}
	encrypt(states[:n], ciphertext)
	xor(states[:n])
	if sealing {
		for _, s := range states[:n] {
			VPSHUFB(reversal, s, block)
			hashNext(false)
		}
	}
	move(32 * n)
	Label(done)
}

// lastBlocks takes the last 1 to 31 bytes, if there are any.
func lastBlocks(sealing bool) {
	key, text, result := x(states[0]), x(states[1]), x(states[2])
	hashOne := func() {
		if sealing {
			VPSHUFB(x(reversal), result, x(block))
		} else {
			VPSHUFB(x(reversal), text, x(block))
		}
		hashNext(true)
	}
	TESTQ(left, left)
	JZ(LabelRef("lengths"))
	encrypt(states[:1], nil)
	aesenclast(roundKey, states[0])
	CMPQ(left, U8(16))
	JB(LabelRef("partial"))
	VMOVDQU(Mem{Base: src}, text)
	VPXOR(text, key, result)
	VMOVDQU(result, Mem{Base: dst})
	hashOne()
	move(16)
	JZ(LabelRef("lengths"))
	VEXTRACTI128(U8(1), states[0], key)

	Label("partial")
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
	// to its own, and the first what f makes of the last word.
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
