// Command asm writes gcm_amd64.s, the AES-256-GCM kernel of package gcm. It is a
// module of its own: only who changes the kernel needs avo.
//
//	go generate ./anode/seal/gcm
//
// Counter mode runs with VAES, two blocks in a register and eight registers at a
// time, interleaved with GHASH over the ciphertext: of the same 256 bytes (open) or
// of the 256 before (seal). GHASH multiplies successive blocks by falling powers of
// the hash key (Karatsuba) and reduces once for 256 bytes, and once for all that is
// left with the lengths. (On Zen 3 a 256-bit VPCLMULQDQ is 8 operations for the vector
// units, and these are what the main loop is bound by: three products a vector rather
// than four are worth their additions.) The methods are published ones:
//
//   - NIST SP 800-38D, sections 6 and 7, and FIPS 197, section 5.2;
//   - S. Gueron, M. Kounavis: Intel Carry-Less Multiplication Instruction and its
//     Usage for Computing the GCM Mode, revision 2.02, 2014: byte-reflected operands,
//     aggregated reduction;
//   - S. Gueron: AES-GCM for Efficient Authenticated Encryption - Ending the Reign of
//     HMAC-SHA-1?, Real World Cryptography 2013: the hash key times x, so that products
//     need no shift, and reduction by two multiplications.
//
// Branches and addresses depend on lengths only, never on keys or data.
package main

import (
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

	// The hash so far, to be added to the block that comes next, is where the
	// reduction leaves it, in the tail where round keys were.
	hash     = low
	tailHash = roundKey
)

// What the general registers hold there.
var (
	dst   = RDI
	src   = RSI
	left  = RDX // bytes of src that remain
	keys  = RBX // *kernel
	power = R8  // in keys, the power of the hash key for the next block
	ad    = R9
	adLen = R10
	size  = R11 // bytes of src in all
)

// The layout of kernel in gcm_amd64.go.
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
	step     Mem // 14 and 16, to the counters of the last vector and of the next chunk
	apart    Mem // for each vector, in what its counters differ from the first one's
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
	step = quads("step", 14, 0, 14, 0, 16, 0, 16, 0)
	var a []uint64
	for i := range uint64(len(states)) {
		bits := (2 ^ (2 + 2*i)) << 56 // the counter's last byte is the block's
		a = append(a, 0, bits, 0, bits)
	}
	apart = quads("apart", a...)
}

// wide emits an instruction whose 256-bit form avo does not know: those of VAES and
// VPCLMULQDQ, which the assembler encodes with VEX.
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
