package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// deriveKey makes a key of n bytes of the raw result of key agreement (draft 2.4):
// the XOR of both, repeated to the longer of the two.
func deriveKey(raw []byte, n int) []byte {
	key := make([]byte, max(n, 0))
	if len(raw) == 0 || n <= 0 {
		return key
	}
	for i := range max(len(raw), n) {
		key[i%n] ^= raw[i%len(raw)]
	}
	return key
}

// SharedKey is the key of the MAC between us and a peer, the same on both sides: the result of the
// key agreement as it is, whose 32 bytes are as many as the key's.
func SharedKey(id *anode.Identity, peer anode.Address) (key [32]byte, err error) {
	public, err := peer.PublicKey()
	if err != nil {
		return key, err
	}
	raw, err := id.DH(public)
	if err != nil {
		return key, err
	}
	return [32]byte(deriveKey(raw, len(key))), nil
}

// MAC is CMAC-AES-256 (RFC 4493 with AES-256, draft 2.5). It is never changed, so any
// number of goroutines may use it, each with a Scratch of its own.
type MAC struct {
	key    [32]byte // as SharedKey returns it
	block  cipher.Block
	k1, k2 [16]byte // XORed into the last block: a full one, a padded one
}

// Scratch is what a MAC is computed in, for any MAC and one goroutine. On the stack it
// would escape, so it is kept with what else its goroutine owns. The zero value is ready.
type Scratch struct {
	x [16]byte // the chaining value
	_ [48]byte // a cache line of its own
}

// NewMAC expands a key.
func NewMAC(key [32]byte) *MAC {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // a 32-byte key is always right
	}
	m := &MAC{key: key, block: block}
	var x [16]byte
	block.Encrypt(x[:], x[:])
	m.k1 = double(x)
	m.k2 = double(m.k1)
	return m
}

// double multiplies by x in GF(2^128) (RFC 4493, 2.3).
func double(b [16]byte) (d [16]byte) {
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(d[:8], hi<<1|lo>>63)
	binary.BigEndian.PutUint64(d[8:], lo<<1^(hi>>63)*0x87)
	return d
}

// Sum is the MAC of a message of any length.
func (m *MAC) Sum(msg []byte, s *Scratch) [16]byte {
	s.x = [16]byte{}
	return m.sum(s, msg)
}

// Sign writes the MAC field of a packet (draft 3.3). A packet of fewer than 28
// bytes is none, and is left alone.
func (m *MAC) Sign(packet []byte, s *Scratch) {
	if len(packet) >= wire.MinPacket {
		mac := m.fold(packet, s)
		copy(packet[wire.MACOffset:], mac[:])
	}
}

// Verify reports whether a packet's MAC field is right, in constant time. It only
// reads the packet.
func (m *MAC) Verify(packet []byte, s *Scratch) bool {
	if len(packet) < wire.MinPacket {
		return false
	}
	mac := m.fold(packet, s)
	return subtle.ConstantTimeCompare(mac[:], packet[wire.MACOffset:][:wire.MACSize]) == 1
}

// fold is the packet's MAC: over everything except the hop byte, with the packet's size
// in place of the MAC field, one half XORed on the other.
func (m *MAC) fold(packet []byte, s *Scratch) (mac [wire.MACSize]byte) {
	// The MAC field lies in the first block. What would turn it into the size is put
	// into the chaining value instead of the packet.
	s.x = [16]byte{}
	size := uint64(len(packet))
	binary.BigEndian.PutUint64(s.x[wire.MACOffset-1:], size^binary.BigEndian.Uint64(packet[wire.MACOffset:]))
	sum := m.sum(s, packet[1:])
	for i := range mac {
		mac[i] = sum[i] ^ sum[i+8]
	}
	return mac
}

// sum is the MAC of msg with what is in s XORed into its first 16 bytes.
func (m *MAC) sum(s *Scratch, msg []byte) [16]byte {
	x := s.x[:]
	for len(msg) > len(x) {
		subtle.XORBytes(x, x, msg[:16])
		m.block.Encrypt(x, x)
		msg = msg[16:]
	}
	subtle.XORBytes(x, x, msg)
	if len(msg) == len(x) {
		subtle.XORBytes(x, x, m.k1[:])
	} else {
		x[len(msg)] ^= 0x80
		subtle.XORBytes(x, x, m.k2[:])
	}
	m.block.Encrypt(x, x)
	return s.x
}
