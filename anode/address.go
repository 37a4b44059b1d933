// Package anode has the values that everything else speaks of: addresses in all
// their forms, and the identity that owns one. Nothing here does I/O
// except to load and save the identity file.
//
// An address is a P-256 public key with a zone (draft 2.2):
//
//	type[1]=1  zone[4]  unused[2]=0  compressed point[33]          40 bytes
//
// People write it as 64 characters of base32, which a check may follow, so that a mistyped
// character is noticed: ADDRESS-CCCC. Packets carry its short ID (8 bytes), and ordinary
// apps see its ULA, an IPv6 address:
//
//	fd | zone[32 bits] | byte sum[14 bits] | first digest bits[10] | short ID[64 bits]
//
// Address, ID and ULA are comparable arrays and can be map keys.
package anode

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const (
	// AddressSize is the length of an ANODE-256-40 address in bytes.
	AddressSize = 40
	// IDSize is the length of a short ID in bytes.
	IDSize = 8

	typeP256 = 1
	textSize = 64 // characters of base32

	checkSize  = 4 // characters of base32 behind the address and a hyphen
	checkLabel = "anode check 1"

	txtPrefix = "anode:"
)

// Errors of parsing; every returned error wraps one of these and says more.
var (
	ErrAddress  = errors.New("not an Anode address")
	ErrULA      = errors.New("not an Anode ULA")
	ErrID       = errors.New("not a short ID")
	ErrZone     = errors.New("not a zone")
	ErrIdentity = errors.New("not an Anode identity, or a damaged one")
)

// ErrTypo is wrapped, beside ErrAddress, by the errors of texts that have the length of an
// address, and a character that is wrong.
var ErrTypo = errors.New("a character is wrong")

// Zone is a zone ID (draft 2.1). Zone 0 is the local zone.
type Zone uint32

// String returns 8 lower-case hex digits.
func (z Zone) String() string { return fmt.Sprintf("%08x", uint32(z)) }

// ParseZone reads 1 to 8 hex digits.
func ParseZone(s string) (Zone, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) > 8 {
		return 0, fmt.Errorf("%w: %q: want up to 8 hex digits", ErrZone, s)
	}
	return Zone(n), nil
}

// MarshalText returns the hex form.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// UnmarshalText reads what ParseZone reads.
func (z *Zone) UnmarshalText(b []byte) (err error) {
	*z, err = ParseZone(string(b))
	return err
}

// Prefix is the /40 that holds the ULAs of all addresses in the zone.
func (z Zone) Prefix() netip.Prefix {
	b := [16]byte{0xfd, byte(z >> 24), byte(z >> 16), byte(z >> 8), byte(z)}
	return netip.PrefixFrom(netip.AddrFrom16(b), 40)
}

// Address is a full ANODE-256-40 address in its binary form (draft 2.2). The
// zero value is no address.
type Address [AddressSize]byte

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ParseAddress reads the 64 base32 characters of an address, in either case, alone or
// with its check behind them (CheckForm), which must be right. It refuses everything
// that AddressFromBytes refuses.
func ParseAddress(s string) (Address, error) {
	text, check, checked := s, "", false
	if len(s) == textSize+1+checkSize && s[textSize] == '-' {
		text, check, checked = s[:textSize], s[textSize+1:], true
	}
	if len(text) != textSize {
		return Address{}, fmt.Errorf("%w: %d characters, want %d", ErrAddress, len(s), textSize)
	}
	b, err := encoding.DecodeString(strings.ToLower(text))
	if err != nil || len(b) != AddressSize { // the decoder leaves out line ends
		return Address{}, fmt.Errorf("%w: %w: addresses have a-z and 2-7", ErrAddress, ErrTypo)
	}
	a := Address(b)
	if err := a.fault(); err != nil {
		return Address{}, fmt.Errorf("%w: %w: %w", ErrAddress, ErrTypo, err)
	}
	if checked && !strings.EqualFold(check, a.check()) {
		return Address{}, fmt.Errorf("%w: %w: its check is not %s", ErrAddress, ErrTypo, check)
	}
	return a, nil
}

// check returns the first 20 bits of SHA-256("anode check 1" | address) in base32.
func (a Address) check() string {
	sum := sha256.Sum256(append([]byte(checkLabel), a[:]...))
	return encoding.EncodeToString(sum[:])[:checkSize]
}

// CheckForm returns the address as people copy it, ADDRESS-CCCC: a mistyped character in
// it is noticed, except one in a million. Files, links and programs use String.
func (a Address) CheckForm() string { return a.String() + "-" + a.check() }

// AddressFromBytes reads 40 bytes and checks them: type 1, unused bytes zero, a
// point on the curve.
func AddressFromBytes(b []byte) (Address, error) {
	if len(b) != AddressSize {
		return Address{}, fmt.Errorf("%w: %d bytes, want %d", ErrAddress, len(b), AddressSize)
	}
	a := Address(b)
	if err := a.fault(); err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return a, nil
}

// fault returns why 40 bytes are no address.
func (a Address) fault() error {
	switch {
	case a[0] != typeP256:
		return fmt.Errorf("type %d is unknown", a[0])
	case a[5] != 0 || a[6] != 0:
		return errors.New("its unused bytes are not zero")
	}
	_, err := decompress(a[7:])
	return err
}

// NewAddress makes the address of a public key in a zone.
func NewAddress(zone Zone, key *ecdh.PublicKey) Address {
	a := Address{typeP256, byte(zone >> 24), byte(zone >> 16), byte(zone >> 8), byte(zone)}
	copy(a[7:], Compress(key))
	return a
}

// IsZero reports whether a is no address.
func (a Address) IsZero() bool { return a == Address{} }

// String returns the 64 characters of base32.
func (a Address) String() string { return encoding.EncodeToString(a[:]) }

// MarshalText and UnmarshalText use the base32 form.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what ParseAddress reads.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAddress(string(b))
	return err
}

// Zone is the address's zone.
func (a Address) Zone() Zone {
	return Zone(a[1])<<24 | Zone(a[2])<<16 | Zone(a[3])<<8 | Zone(a[4])
}

// Sum is the sum of the address's bytes, which chooses its zone relay (draft 2.3.1).
func (a Address) Sum() uint32 {
	var n uint32
	for _, b := range a {
		n += uint32(b)
	}
	return n
}

// X is the X coordinate of the key. One key owns many addresses, so lists of
// peers to allow, block or limit compare this.
func (a Address) X() [32]byte { return [32]byte(a[8:]) }

// PublicKey decompresses the key. The point was checked when the address was parsed.
func (a Address) PublicKey() (*ecdh.PublicKey, error) { return decompress(a[7:]) }

// ID is the short ID (draft 2.7).
func (a Address) ID() ID {
	d := Digest(a[:])
	return fold(d)
}

// ULA is the IPv6 address under which ordinary apps reach a.
func (a Address) ULA() ULA {
	d := Digest(a[:])
	id := fold(d)
	z := a.Zone()
	bits := (a.Sum()&0x3fff)<<10 | uint32(d[0])<<2 | uint32(d[1])>>6
	u := ULA{0xfd, byte(z >> 24), byte(z >> 16), byte(z >> 8), byte(z),
		byte(bits >> 16), byte(bits >> 8), byte(bits)}
	copy(u[8:], id[:])
	return u
}

func fold(d [16]byte) (id ID) {
	for i := range id {
		id[i] = d[i] ^ d[i+8]
	}
	return id
}

// TXT returns the form in which DNS TXT records and links carry an address (draft 2.8).
func (a Address) TXT() string { return txtPrefix + a.String() }

// ParseTXT reads one DNS TXT record, or the address in a link, of which it leaves out what
// follows a slash or a question mark. The case does not matter: QR codes have capitals.
// Records that do not begin with "anode:" are other people's: ok is false and there is no
// error.
func ParseTXT(s string) (a Address, ok bool, err error) {
	if len(s) < len(txtPrefix) || !strings.EqualFold(s[:len(txtPrefix)], txtPrefix) {
		return Address{}, false, nil
	}
	rest := s[len(txtPrefix):]
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	a, err = ParseAddress(strings.TrimSpace(rest))
	return a, true, err
}

// ID is a short ID: what packet headers carry when both sides know the address.
// It is a hint, not a proof: the MAC or the session says who spoke.
type ID [IDSize]byte

// String returns 16 lower-case hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is none (as in a beacon's recipient).
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns the hex form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the hex form.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// ParseID reads 16 hex digits.
func ParseID(s string) (id ID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != IDSize {
		return ID{}, fmt.Errorf("%w: %q: want %d hex digits", ErrID, s, 2*IDSize)
	}
	return ID(b), nil
}

// ULA is the IPv6 address of an Anode address on the adapter. It binds about 85
// bits of the address; whoever resolves a ULA checks that the address gives it back.
type ULA [16]byte

// ParseULA reads an IPv6 address in fd00::/8.
func ParseULA(s string) (ULA, error) {
	ip, err := netip.ParseAddr(s)
	if err != nil || !ip.Is6() || ip.Zone() != "" {
		return ULA{}, fmt.Errorf("%w: %q is no IPv6 address", ErrULA, s)
	}
	u := ULA(ip.As16())
	if u[0] != 0xfd {
		return ULA{}, fmt.Errorf("%w: %s is not in fd00::/8", ErrULA, s)
	}
	return u, nil
}

// Addr returns u as the standard library's type.
func (u ULA) Addr() netip.Addr { return netip.AddrFrom16(u) }

// String returns the usual IPv6 text.
func (u ULA) String() string { return u.Addr().String() }

// IsZero reports whether u is none.
func (u ULA) IsZero() bool { return u == ULA{} }

// Zone is the zone to ask for the address behind u.
func (u ULA) Zone() Zone {
	return Zone(u[1])<<24 | Zone(u[2])<<16 | Zone(u[3])<<8 | Zone(u[4])
}

// Sum is the address's byte sum, for the choice of its relay.
func (u ULA) Sum() uint32 { return uint32(u[5])<<6 | uint32(u[6])>>2 }

// ID is the short ID to ask for.
func (u ULA) ID() ID { return ID(u[8:]) }

// MarshalText returns the IPv6 text.
func (u ULA) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the IPv6 text.
func (u *ULA) UnmarshalText(b []byte) (err error) {
	*u, err = ParseULA(string(b))
	return err
}
