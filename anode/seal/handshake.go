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
// responder may replace it between the messages.
func newHandshake(l *Local, peer anode.Address, initiator bool, psk *[32]byte) (*noise.HandshakeState, error) {
	public, err := peer.PublicKey()
	if err != nil {
		return nil, err
	}
	own := l.Identity.Address()
	first, second := own, peer
	if !initiator {
		first, second = peer, own
	}
	d := &p256{static: l.Identity.PrivateKey(), peer: public, compressed: peer[7:]}
	return noise.NewHandshakeState(noise.Config{
		CipherSuite:           noise.NewCipherSuite(d, noise.CipherAESGCM, noise.HashSHA256),
		Random:                l.random(),
		Pattern:               noise.HandshakeKK,
		Initiator:             initiator,
		Prologue:              append(append([]byte(prologue), first[:]...), second[:]...),
		PresharedKey:          psk[:],
		PresharedKeyPlacement: 2,
		StaticKeypair:         noise.DHKey{Private: []byte(handleStatic), Public: own[7:]},
		PeerStatic:            peer[7:],
	})
}

// readMessage reads a handshake message. Of a bad one nothing remains, so that the
// true one can still be read.
func readMessage(h *noise.HandshakeState, msg []byte) (payload []byte, send, recv *noise.CipherState, err error) {
	// The library rolls back all failures except those of DH, and DH fails only for
	// what is not a point.
	if len(msg) < dhSize+wire.TagSize {
		return nil, nil, nil, ErrBody
	}
	if _, err := anode.Decompress(msg[:dhSize]); err != nil {
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
	static     *ecdh.PrivateKey
	ephemeral  *ecdh.PrivateKey
	peer       *ecdh.PublicKey
	compressed []byte // peer's
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
	if key == nil {
		return nil, errors.New("seal: no such key")
	}
	peer := d.peer
	if !bytes.Equal(public, d.compressed) {
		var err error
		if peer, err = anode.Decompress(public); err != nil {
			return nil, err
		}
	}
	return key.ECDH(peer)
}

func (*p256) DHLen() int     { return dhSize }
func (*p256) DHName() string { return "P256" }
