// Package gcm is AES-256-GCM (NIST SP 800-38D) for packets: nonces of 12 bytes, tags
// of 16.
//
// On amd64 CPUs with VAES, VPCLMULQDQ and AVX2 (AMD since Zen 3, Intel since Ice
// Lake) a kernel of our own works on 256-bit vectors, where crypto/cipher's uses
// 128-bit ones; elsewhere an AEAD is crypto/cipher's GCM. The results are the same.
// One call of the kernel takes a whole packet:
//
//	seal:  nonce, ad, plaintext       -> ciphertext | tag
//	open:  nonce, ad, ciphertext | tag -> plaintext, right or wrong
//
//	ad         GHASH, reduced every 32 bytes
//	256 bytes  counter mode in 8 vectors, interleaved with the GHASH of 256 bytes of
//	...        ciphertext: these (open) or those before (seal); reduced once
//	0 to 255   key stream, interleaved with the GHASH that sealing still owes; then,
//	           with the lengths, GHASH reduced once
//
// Nothing in it branches or addresses memory by keys or data; only lengths matter.
// It is written by the program in asm, which says where the methods come from. A call
// is not preempted: it is for packets, not for gigabytes.
//
// The counter of SP 800-38D has 32 bits and starts at 1 for nonces of 12 bytes: it
// cannot wrap below the limit of 2^36 - 32 bytes, which Seal and Open enforce.
package gcm

//go:generate go -C asm run . -out ../gcm_amd64.s

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"errors"
	"sync"
	"unsafe"
)

const (
	KeySize   = 32 // bytes
	NonceSize = 12 // bytes
	Overhead  = 16 // bytes of the tag

	limit = 1<<36 - 32 // of a message, bytes (SP 800-38D, 5.2.1.1)
)

// ErrOpen says that what was to be opened is not authentic.
var ErrOpen = errors.New("gcm: message authentication failed")

// AEAD is AES-256-GCM under one key. It implements cipher.AEAD and keeps that
// interface's contract: dst's spare room and the text must overlap entirely or not at
// all, or Seal and Open panic, as they do with a nonce of the wrong length. Any
// number of goroutines may use it. Neither method allocates if dst has the room.
//
// The nonce never escapes to the heap; the other slices may.
type AEAD struct {
	kernel kernel
	std    cipher.AEAD // nil where the kernel runs
	nonces sync.Pool   // *[NonceSize]byte: what is given to std escapes
}

var _ cipher.AEAD = (*AEAD)(nil)

// New returns the AEAD of a key that is the faster here. In FIPS 140 mode it is
// always the standard library's, whose module is the validated one.
func New(key *[KeySize]byte) (*AEAD, error) {
	if !available() || fips140.Enabled() {
		return NewStandard(key)
	}
	a := new(AEAD)
	a.kernel.expand(key)
	return a, nil
}

// NewStandard returns the standard library's AEAD of a key.
func NewStandard(key *[KeySize]byte) (*AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	std, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &AEAD{std: std, nonces: sync.Pool{New: func() any { return new([NonceSize]byte) }}}, nil
}

// NonceSize is how long a nonce is, in bytes.
func (a *AEAD) NonceSize() int { return NonceSize }

// Overhead is how much longer than its plaintext a sealed message is, in bytes.
func (a *AEAD) Overhead() int { return Overhead }

// Seal appends the ciphertext of plaintext and the tag to dst. To encrypt in place,
// dst is plaintext[:0]; ad must not overlap what is written. A nonce is for one
// message only.
func (a *AEAD) Seal(dst, nonce, plaintext, ad []byte) []byte {
	checkNonce(nonce)
	if int64(len(plaintext)) > limit {
		panic("gcm: message too long")
	}
	if a.std != nil {
		n := a.nonces.Get().(*[NonceSize]byte)
		copy(n[:], nonce)
		dst = a.std.Seal(dst, n[:], plaintext, ad)
		a.nonces.Put(n)
		return dst
	}
	dst, out := grow(dst, len(plaintext)+Overhead)
	checkOverlap(out, plaintext, ad)
	a.kernel.seal(out, plaintext, nonce, ad)
	return dst
}

// Open appends the plaintext of ciphertext, which ends in the tag, to dst, or fails
// with ErrOpen. To decrypt in place, dst is ciphertext[:0]; ad must not overlap what
// is written. After an error the room that the plaintext was to have is zero.
func (a *AEAD) Open(dst, nonce, ciphertext, ad []byte) ([]byte, error) {
	checkNonce(nonce)
	if len(ciphertext) < Overhead || int64(len(ciphertext)) > limit+Overhead {
		return nil, ErrOpen
	}
	if a.std != nil {
		n := a.nonces.Get().(*[NonceSize]byte)
		copy(n[:], nonce)
		dst, err := a.std.Open(dst, n[:], ciphertext, ad)
		a.nonces.Put(n)
		if err != nil {
			return nil, ErrOpen
		}
		return dst, nil
	}
	dst, out := grow(dst, len(ciphertext)-Overhead)
	checkOverlap(out, ciphertext, ad)
	if a.kernel.open(out, ciphertext, nonce, ad) != 0 {
		clear(out)
		return nil, ErrOpen
	}
	return dst, nil
}

// checkNonce panics unless the nonce has the length that it must have.
func checkNonce(nonce []byte) {
	if len(nonce) != NonceSize {
		panic("gcm: nonce is not of 12 bytes")
	}
}

// grow makes dst n bytes longer; they are tail.
func grow(dst []byte, n int) (all, tail []byte) {
	at := len(dst)
	if at+n <= cap(dst) {
		all = dst[:at+n]
	} else {
		all = append(dst, make([]byte, n)...)
	}
	return all, all[at:]
}

// checkOverlap panics if out overlaps text elsewhere than from its start, or ad.
func checkOverlap(out, text, ad []byte) {
	if overlap(out, text) && &out[0] != &text[0] || overlap(out, ad) {
		panic("gcm: invalid buffer overlap")
	}
}

// overlap reports whether two slices share a byte.
func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	i, j := uintptr(unsafe.Pointer(&a[0])), uintptr(unsafe.Pointer(&b[0]))
	return i < j+uintptr(len(b)) && j < i+uintptr(len(a))
}
