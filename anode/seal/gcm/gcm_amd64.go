//go:build !purego

package gcm

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// available reports whether the kernel runs on this machine (GODEBUG=cpu.avx2=off turns
// it off). It is asked for each key, and CPUID is slow in virtual machines.
var available = sync.OnceValue(func() bool {
	const vaes, vpclmulqdq = 1 << 9, 1 << 10 // of leaf 7, in ECX
	// HasAVX2 says too that there is a leaf 7 and that the OS keeps YMM registers.
	if !cpu.X86.HasAVX2 || !cpu.X86.HasAES || !cpu.X86.HasPCLMULQDQ {
		return false
	}
	_, _, c, _ := cpuid(7, 0)
	return c&vaes != 0 && c&vpclmulqdq != 0
})

// kernel is what the assembly makes of a key and works from. asm has the same layout.
//
//lint:ignore U1000 the assembly uses all of it
type kernel struct {
	rounds [15][16]byte // round keys
	powers [17][16]byte // of the hash key times x, byte-reversed, from the 17th to the first
	folds  [17][16]byte // the sum of each one's halves, twice
}

func (k *kernel) expand(key *[KeySize]byte) { expand(k, key) }

func (k *kernel) seal(dst, src, nonce, ad []byte) { seal(k, dst, src, nonce, ad) }

func (k *kernel) open(dst, src, nonce, ad []byte) (wrong uint64) {
	return open(k, dst, src, nonce, ad)
}

// expand makes all of s.
//
//go:noescape
func expand(s *kernel, key *[KeySize]byte)

// seal encrypts src to dst and appends the tag: dst has 16 bytes more than src, and
// starts where src does or does not overlap it.
//
//go:noescape
func seal(s *kernel, dst, src, nonce, ad []byte)

// open decrypts src, except the tag in its last 16 bytes, to dst, which has 16 bytes
// fewer than src. It returns 0 if the tag is right.
//
//go:noescape
func open(s *kernel, dst, src, nonce, ad []byte) (wrong uint64)

// cpuid is the instruction.
func cpuid(leaf, sub uint32) (a, b, c, d uint32)
