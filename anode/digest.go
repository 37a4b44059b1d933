package anode

import (
	"crypto/aes"
	"encoding/binary"
)

// Digest is AES-DIGEST (draft 2.6): Davies-Meyer over AES-256 with
// Merkle-Damgård length padding. Each 32 bytes of the message are a key:
//
//	state = AES(key, state) XOR state
//
// Our reading of the end, with the draft's author's library: 0x80 and zeros up
// to byte 31, one step; then bytes 0-7 zero, bytes 8-15 the length in bytes, and
// 16-31 as the step before left them, one more step.
func Digest(msg []byte) [16]byte {
	var state [16]byte
	var key [32]byte
	n := uint64(len(msg))
	for len(msg) >= 32 {
		copy(key[:], msg)
		step(&state, &key)
		msg = msg[32:]
	}
	k := copy(key[:], msg)
	key[k] = 0x80
	clear(key[k+1:])
	step(&state, &key)

	binary.BigEndian.PutUint64(key[0:], 0)
	binary.BigEndian.PutUint64(key[8:], n)
	step(&state, &key)
	return state
}

func step(state *[16]byte, key *[32]byte) {
	block, _ := aes.NewCipher(key[:]) // fails for other lengths only
	var out [16]byte
	block.Encrypt(out[:], state[:])
	for i := range state {
		state[i] ^= out[i]
	}
}
