package config

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"anodenet/anode"
	"anodenet/anode/private"
	"anodenet/anode/zone"
)

// Values that are strings in the file are structs here, since the TOML library sets types
// of kind string and integer directly, without calling UnmarshalText.

// Zone is a zone as text.
type Zone struct{ anode.Zone }

// zoneForms is how zones are written.
const zoneForms = "an IPv4 address that other machines can reach, up to 8 hex digits, or a name such as a--c0000201.net"

// UnmarshalText reads the forms of zone.ParseName.
func (z *Zone) UnmarshalText(b []byte) (err error) {
	z.Zone, err = zone.ParseName(string(b))
	return err
}

// MarshalText returns 8 hex digits.
func (z Zone) MarshalText() ([]byte, error) { return []byte(z.String()), nil }

// Secret names the file of the network's secret, which the configuration itself never
// holds.
type Secret struct{ Path string } // empty: none

// SecretSize is the length of a network's secret in bytes.
const SecretSize = 32

const secretPrefix = "file:"

// UnmarshalText reads "file:PATH", or nothing.
func (s *Secret) UnmarshalText(b []byte) (err error) {
	s.Path, err = privatePath(b)
	return err
}

// privatePath reads "file:PATH", or nothing.
func privatePath(b []byte) (string, error) {
	path, ok := strings.CutPrefix(string(b), secretPrefix)
	if len(b) > 0 && (!ok || path == "") {
		return "", fmt.Errorf("a secret must be in its own file: want \"%sPATH\"", secretPrefix)
	}
	return path, nil
}

// MarshalText returns what UnmarshalText reads.
func (s Secret) MarshalText() ([]byte, error) {
	if s.Path == "" {
		return nil, nil
	}
	return []byte(secretPrefix + s.Path), nil
}

// maxSecretFile is the most bytes of a secret's file.
const maxSecretFile = 1024

// Load reads the secret from its file, which holds 64 hex digits and belongs to this user or
// root alone. It returns zeros if no file is named.
func (s Secret) Load() (secret [SecretSize]byte, err error) {
	if s.Path == "" {
		return secret, nil
	}
	text, err := private.ReadFile(s.Path, maxSecretFile)
	var unsafe *private.Error
	if errors.As(err, &unsafe) {
		return secret, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err != nil {
		return secret, err
	}
	b, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(b) != SecretSize {
		return secret, fmt.Errorf("%w: %s does not hold %d hex digits; try: anode config secret FILE", ErrInvalid, s.Path, 2*SecretSize)
	}
	secret = [SecretSize]byte(b)
	if secret == [SecretSize]byte{} {
		// The protocol takes zeros for a network without a secret.
		return secret, fmt.Errorf("%w: %s holds only zeros, which is no secret; try: anode config secret FILE", ErrInvalid, s.Path)
	}
	return secret, nil
}

// Rung is a rung of package link, or auto.
type Rung struct{ word string }

// The rungs.
var (
	rungs     = []string{"auto", "gso", "batch", "plain"}
	RungAuto  = Rung{"auto"}
	RungGSO   = Rung{"gso"}
	RungBatch = Rung{"batch"}
	RungPlain = Rung{"plain"}
)

// String returns the word.
func (r Rung) String() string { return r.word }

// UnmarshalText reads the word.
func (r *Rung) UnmarshalText(b []byte) (err error) {
	r.word, err = oneOf(string(b), rungs)
	return err
}

// MarshalText returns the word.
func (r Rung) MarshalText() ([]byte, error) { return []byte(r.word), nil }

// Offload sets whether the adapter uses segmentation offload.
type Offload struct{ word string }

// The values of Offload.
var (
	offloads    = []string{"auto", "on", "off"}
	OffloadAuto = Offload{"auto"}
	OffloadOn   = Offload{"on"}
	OffloadOff  = Offload{"off"}
)

// String returns the word.
func (o Offload) String() string { return o.word }

// UnmarshalText reads the word.
func (o *Offload) UnmarshalText(b []byte) (err error) {
	o.word, err = oneOf(string(b), offloads)
	return err
}

// MarshalText returns the word.
func (o Offload) MarshalText() ([]byte, error) { return []byte(o.word), nil }

// Format is the form of log lines.
type Format struct{ word string }

// The formats.
var (
	formats    = []string{"text", "json"}
	FormatText = Format{"text"}
	FormatJSON = Format{"json"}
)

// UnmarshalText reads the word.
func (f *Format) UnmarshalText(b []byte) (err error) {
	f.word, err = oneOf(string(b), formats)
	return err
}

// MarshalText returns the word.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.word), nil }

func oneOf(word string, words []string) (string, error) {
	if !slices.Contains(words, word) {
		return "", fmt.Errorf("%q is not one of %s", word, strings.Join(words, ", "))
	}
	return word, nil
}
