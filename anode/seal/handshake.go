package seal

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// prologue is followed by the addresses of initiator and responder.
const prologue = "anode sealed 1"

// newHandshake starts Noise_KKpsk2_P256_AESGCM_SHA256 with a peer:
//
//	-> e, es, ss
//	<- e, ee, se, psk
//
// Both static keys are known beforehand, being in the addresses. It ends with one key
// for each direction, the initiator's first. The preshared key counts in message 2 alone: the
// responder may replace it between the messages. mac, if not nil, is the MAC shared with the peer; its key
// is the result of ss, and saves computing it.
func newHandshake(l *Local, peer anode.Address, initiator bool, psk *[32]byte, mac *MAC) (*handshake, error) {
	public, err := peer.PublicKey()
	if err != nil {
		return nil, err
	}
	own := l.Identity.Address()
	first, second := own, peer
	if !initiator {
		first, second = peer, own
	}
	d := &p256{static: l.Identity.PrivateKey(), peer: point{[dhSize]byte(peer[7:]), public}, mac: mac}
	state, err := noise.NewHandshakeState(noise.Config{
		CipherSuite:           noise.NewCipherSuite(d, lateAESGCM{}, noise.HashSHA256),
		Random:                l.random(),
		Pattern:               noise.HandshakeKK,
		Initiator:             initiator,
		Prologue:              append(append([]byte(prologue), first[:]...), second[:]...),
		PresharedKey:          psk[:],
		PresharedKeyPlacement: 2,
		StaticKeypair:         noise.DHKey{Private: []byte(handleStatic), Public: own[7:]},
		PeerStatic:            peer[7:],
	})
	return &handshake{state, d}, err
}

// handshake is a handshake under way.
type handshake struct {
	*noise.HandshakeState
	dh *p256
}

// readMessage reads a handshake message. Of a bad one nothing remains, so that the
// true one can still be read.
func readMessage(h *handshake, msg []byte) (payload []byte, send, recv *noise.CipherState, err error) {
	// The library rolls back all failures except those of DH, and DH fails only for
	// what is not a point.
	if len(msg) < dhSize+wire.TagSize {
		return nil, nil, nil, ErrBody
	}
	if _, err := h.dh.public([dhSize]byte(msg)); err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	payload, send, recv, err = h.ReadMessage(nil, msg)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrAuth, err)
	}
	return payload, send, recv, nil
}

// p256 is Noise's DH for one handshake: public keys are compressed points of 33
// bytes, results the X coordinate, 32 bytes. Private keys stay in crypto/ecdh; what
// Noise holds instead are handles.
type p256 struct {
	static    *ecdh.PrivateKey
	ephemeral *ecdh.PrivateKey
	mac       *MAC  // shared with the peer; nil: not known
	peer      point // its static key
	other     point // the last other key: the peer's ephemeral one
}

// point is a public key, compressed and not.
type point struct {
	compressed [dhSize]byte
	key        *ecdh.PublicKey
}

const (
	handleStatic    = "static"
	handleEphemeral = "ephemeral"
)

// GenerateKeypair draws scalars until one is in range: the first, except once in 2^32.
func (d *p256) GenerateKeypair(random io.Reader) (noise.DHKey, error) {
	var b [32]byte
	defer clear(b[:])
	for range 16 {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return noise.DHKey{}, fmt.Errorf("%w: %w", ErrRandom, err)
		}
		if k, err := ecdh.P256().NewPrivateKey(b[:]); err == nil {
			d.ephemeral = k
			return noise.DHKey{Private: []byte(handleEphemeral), Public: anode.Compress(k.PublicKey())}, nil
		}
	}
	return noise.DHKey{}, ErrRandom
}

func (d *p256) DH(private, public []byte) ([]byte, error) {
	key := d.static
	if string(private) == handleEphemeral {
		key = d.ephemeral
	}
	if key == nil || len(public) != dhSize {
		return nil, errors.New("seal: no such key")
	}
	peer, err := d.public([dhSize]byte(public))
	if err != nil {
		return nil, err
	}
	if key == d.static && peer == d.peer.key && d.mac != nil {
		return bytes.Clone(d.mac.key[:]), nil
	}
	return key.ECDH(peer)
}

// public decompresses a public key. It remembers the peer's static key, and the last other one.
func (d *p256) public(b [dhSize]byte) (*ecdh.PublicKey, error) {
	for _, p := range []*point{&d.peer, &d.other} {
		if p.key != nil && p.compressed == b {
			return p.key, nil
		}
	}
	key, err := anode.Decompress(b[:])
	if err == nil {
		d.other = point{b, key}
	}
	return key, err
}

func (*p256) DHLen() int     { return dhSize }
func (*p256) DHName() string { return "P256" }

// lateAESGCM is Noise's AESGCM. A key is expanded when something is first sealed or opened with it: a handshake
// has seven, and uses two.
type lateAESGCM struct{}

func (lateAESGCM) CipherName() string               { return noise.CipherAESGCM.CipherName() }
func (lateAESGCM) Cipher(key [32]byte) noise.Cipher { return &lateCipher{key: key} }

type lateCipher struct {
	key    [32]byte
	cipher noise.Cipher // nil until it is needed
}

func (c *lateCipher) expand() noise.Cipher {
	if c.cipher == nil {
		c.cipher = noise.CipherAESGCM.Cipher(c.key)
	}
	return c.cipher
}

func (c *lateCipher) Encrypt(out []byte, n uint64, ad, plaintext []byte) []byte {
	return c.expand().Encrypt(out, n, ad, plaintext)
}

func (c *lateCipher) Decrypt(out []byte, n uint64, ad, ciphertext []byte) ([]byte, error) {
	return c.expand().Decrypt(out, n, ad, ciphertext)
}
