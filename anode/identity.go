package anode

import (
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"strings"
	"time"

	"anodenet/anode/private"
	"anodenet/anode/whole"
)

const (
	identityPrefix  = "ANODE-256-40"
	maxIdentityFile = 1024 // the line has 142 bytes
)

// Identity is an address with its private key.
type Identity struct {
	address Address
	private *ecdh.PrivateKey
}

// NewIdentity makes a fresh key in a zone.
func NewIdentity(zone Zone) (*Identity, error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Identity{NewAddress(zone, key.PublicKey()), key}, nil
}

// InZone returns the same key with its address in another zone.
func (id *Identity) InZone(zone Zone) *Identity {
	return &Identity{NewAddress(zone, id.private.PublicKey()), id.private}
}

// Address is the public half.
func (id *Identity) Address() Address { return id.address }

// DH is the raw key agreed with a public key: the X coordinate, 32 bytes with
// leading zeros kept (draft 2.4).
func (id *Identity) DH(public *ecdh.PublicKey) ([]byte, error) { return id.private.ECDH(public) }

// PrivateKey is the private half, as the handshake needs it.
func (id *Identity) PrivateKey() *ecdh.PrivateKey { return id.private }

// String is the address: Export alone shows the private key. It is a method of the
// value, so that printing a copy does not either.
func (id Identity) String() string { return id.address.String() }

// Export returns the one line of an identity file, without a line end:
// ANODE-256-40:<address>:<64 hex digits of the scalar>.
func (id *Identity) Export() string {
	return identityPrefix + ":" + id.address.String() + ":" + hex.EncodeToString(id.private.Bytes())
}

// ParseIdentity reads what Export wrote, and checks that the key is the address's.
func ParseIdentity(line string) (*Identity, error) {
	f := strings.Split(strings.TrimSpace(line), ":")
	if len(f) != 3 || f[0] != identityPrefix {
		return nil, fmt.Errorf("%w: want %s:<address>:<key>", ErrIdentity, identityPrefix)
	}
	address, err := ParseAddress(f[1])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	scalar, err := hex.DecodeString(f[2])
	if err != nil || len(scalar) != 32 {
		return nil, fmt.Errorf("%w: the key is not 64 hex digits", ErrIdentity)
	}
	key, err := ecdh.P256().NewPrivateKey(scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: the key is out of range", ErrIdentity)
	}
	if NewAddress(address.Zone(), key.PublicKey()) != address {
		return nil, fmt.Errorf("%w: the key is not that of the address", ErrIdentity)
	}
	return &Identity{address, key}, nil
}

// LoadIdentity reads an identity file. It refuses one that others can read or change.
func LoadIdentity(path string) (*Identity, error) {
	b, err := private.ReadFile(path, maxIdentityFile)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, fmt.Errorf("%s: %w: the file is empty", path, ErrIdentity)
	}
	id, err := ParseIdentity(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// LoadOrCreateIdentity loads the file, or makes a new identity in the zone where
// there is none. Two that do it at once end up with the same one. The directory must
// exist.
func LoadOrCreateIdentity(path string, zone Zone) (id *Identity, created bool, err error) {
	id, err = LoadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	if id, err = NewIdentity(zone); err != nil {
		return nil, false, err
	}
	switch err = id.save(path); {
	case errors.Is(err, fs.ErrExist):
		id, err = loadMade(path)
		return id, false, err
	case err != nil:
		return nil, false, err
	}
	return id, true, nil
}

// How often, and after which pauses, the file that another process is making is read.
const (
	madeTries = 50
	madePause = 20 * time.Millisecond
)

// loadMade reads a file that another process has just made: where the file system has
// neither hard links nor a rename that spares existing files, it is empty at first.
func loadMade(path string) (id *Identity, err error) {
	for range madeTries {
		if id, err = LoadIdentity(path); !errors.Is(err, ErrIdentity) {
			break
		}
		time.Sleep(madePause)
	}
	return id, err
}

// save writes a new file, mode 0600. It never replaces one, and leaves none that is half
// written. When it returns, the file outlives a power cut.
func (id *Identity) save(path string) error {
	whole.Sweep(path, time.Now())
	return whole.Write(path, []byte(id.Export()+"\n"))
}

// Compress returns the 33 bytes of RFC 5480's compressed form of a key on P-256.
func Compress(key *ecdh.PublicKey) []byte {
	b := key.Bytes() // 4 | X | Y
	return append([]byte{2 | b[64]&1}, b[1:33]...)
}

// Decompress reads the 33 bytes of a compressed point on P-256.
func Decompress(b []byte) (*ecdh.PublicKey, error) { return decompress(b) }

var errPoint = errors.New("its key is not a point on P-256")

func decompress(b []byte) (*ecdh.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), b)
	if x == nil {
		return nil, errPoint
	}
	return ecdh.P256().NewPublicKey(uncompressed(x, y))
}

func uncompressed(x, y *big.Int) []byte {
	b := make([]byte, 65)
	b[0] = 4
	x.FillBytes(b[1:33])
	y.FillBytes(b[33:])
	return b
}
