package config

import (
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"anodenet/anode"
	"anodenet/anode/private"
	"anodenet/overlay/book"
)

// Values that are strings in the file are structs here, since the TOML library sets types
// of kind string and integer directly, without calling UnmarshalText.

// Zone is a zone as text.
type Zone struct{ anode.Zone }

// UnmarshalText reads up to 8 hex digits.
func (z *Zone) UnmarshalText(b []byte) (err error) {
	z.Zone, err = anode.ParseZone(string(b))
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
func (s *Secret) UnmarshalText(b []byte) error {
	path, ok := strings.CutPrefix(string(b), secretPrefix)
	if len(b) > 0 && (!ok || path == "") {
		return fmt.Errorf("a secret must be in its own file: want \"%sPATH\"", secretPrefix)
	}
	s.Path = path
	return nil
}

// MarshalText returns what UnmarshalText reads.
func (s Secret) MarshalText() ([]byte, error) {
	if s.Path == "" {
		return nil, nil
	}
	return []byte(secretPrefix + s.Path), nil
}

// maxSecretFile is the most bytes of a secret's file: the digits, and white space around them.
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
	RungAuto  = Rung{"auto"}
	RungGSO   = Rung{"gso"}
	RungBatch = Rung{"batch"}
	RungPlain = Rung{"plain"}
)

// String returns the word.
func (r Rung) String() string { return r.word }

// UnmarshalText reads the word.
func (r *Rung) UnmarshalText(b []byte) (err error) {
	r.word, err = oneOf(string(b), "auto", "gso", "batch", "plain")
	return err
}

// MarshalText returns the word.
func (r Rung) MarshalText() ([]byte, error) { return []byte(r.word), nil }

// Offload sets whether the adapter uses segmentation offload.
type Offload struct{ word string }

// The values of Offload.
var (
	OffloadAuto = Offload{"auto"}
	OffloadOn   = Offload{"on"}
	OffloadOff  = Offload{"off"}
)

// String returns the word.
func (o Offload) String() string { return o.word }

// UnmarshalText reads the word.
func (o *Offload) UnmarshalText(b []byte) (err error) {
	o.word, err = oneOf(string(b), "auto", "on", "off")
	return err
}

// MarshalText returns the word.
func (o Offload) MarshalText() ([]byte, error) { return []byte(o.word), nil }

// Format is the form of log lines.
type Format struct{ word string }

// The formats.
var (
	FormatText = Format{"text"}
	FormatJSON = Format{"json"}
)

// UnmarshalText reads the word.
func (f *Format) UnmarshalText(b []byte) (err error) {
	f.word, err = oneOf(string(b), "text", "json")
	return err
}

// MarshalText returns the word.
func (f Format) MarshalText() ([]byte, error) { return []byte(f.word), nil }

func oneOf(word string, words ...string) (string, error) {
	if !slices.Contains(words, word) {
		return "", fmt.Errorf("%q is not one of %s", word, strings.Join(words, ", "))
	}
	return word, nil
}

// ParsePeer reads ADDRESS or ADDRESS@ENDPOINT, as in --peer and ANODE_PEERS; more
// endpoints may follow, each after an @.
func ParsePeer(s string) (p Peer, err error) {
	address, rest, more := strings.Cut(s, "@")
	if p.Address, err = anode.ParseAddress(address); err != nil {
		return Peer{}, err
	}
	for more {
		var text string
		text, rest, more = strings.Cut(rest, "@")
		e, err := book.ParseEndpoint(text)
		if err != nil {
			return Peer{}, err
		}
		p.Endpoints = append(p.Endpoints, e)
	}
	return p, nil
}

// set reads text into the value of a key.
func set(value any, text string) error {
	switch v := value.(type) {
	case *uint16:
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number from 0 to 65535", text)
		}
		*v = uint16(n)
	case *int:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*v = int(n)
	case *bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*v = b
	case *string:
		*v = text
	case encoding.TextUnmarshaler:
		return v.UnmarshalText([]byte(text))
	default:
		return fmt.Errorf("values of type %T cannot be set", value)
	}
	return nil
}

// format returns the value of a key as TOML.
func format(value any) string {
	switch v := value.(type) {
	case *uint16:
		return strconv.Itoa(int(*v))
	case *int:
		return strconv.Itoa(*v)
	case *bool:
		return strconv.FormatBool(*v)
	case *string:
		return quote(*v)
	case encoding.TextMarshaler:
		b, err := v.MarshalText()
		if err != nil {
			return quote("")
		}
		return quote(string(b))
	default:
		return fmt.Sprint(v)
	}
}

// quote makes a basic string (TOML 1.0).
func quote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = fmt.Appendf(b, "\\u%04x", r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(append(b, '"'))
}
