package invite

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"anodenet/anode"
)

const scheme = "anode:"

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Parse reads a link, as people copy it. Its errors are ErrNotLink and ErrCut, which say what is
// wrong. A link that has expired is read like any other.
func Parse(text string) (Link, error) {
	if len(text) > maxText {
		return Link{}, fmt.Errorf("%w: it has %d characters", ErrNotLink, len(text))
	}
	text = bare(text)
	at := strings.LastIndex(text, scheme)
	if at < 0 {
		return Link{}, fmt.Errorf("%w: it has no %q", ErrNotLink, scheme)
	}
	text, _, _ = strings.Cut(text[at+len(scheme):], "?")
	text = strings.TrimRight(text, ".,;:!)]}")
	address, payload, more := strings.Cut(text, "/")
	l, err := parseAddress(address, more)
	if err != nil || !more {
		return l, err
	}
	b, err := l.decode(payload)
	if err != nil {
		return Link{}, err
	}
	if len(b) > MaxPayload {
		return Link{}, fmt.Errorf("%w: its payload has %d bytes, more than %d", ErrNotLink, len(b), MaxPayload)
	}
	switch err := l.parse(b); {
	case err == nil:
		return l, nil
	case errors.Is(err, errShort) && !l.complete(b):
		return Link{}, cutOff()
	default:
		return Link{}, typo()
	}
}

// parseAddress reads the part before the slash. more is whether there is one.
func parseAddress(text string, more bool) (Link, error) {
	a, err := anode.ParseAddress(text)
	switch {
	case err == nil:
		return Link{Address: a}, nil
	case !more && len(text) < len(anode.Address{}.String()):
		return Link{}, cutOff()
	default:
		return Link{}, typo()
	}
}

// decode reads base32, and nothing but what the encoder writes: the decoder itself leaves out
// the bits that are too many, so that two texts would be one link.
func (l Link) decode(text string) ([]byte, error) {
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= '2' && r <= '7') {
			return nil, typo()
		}
	}
	b, err := encoding.DecodeString(text)
	switch {
	case err == nil && encoding.EncodeToString(b) == text:
		return b, nil
	case l.complete(b): // of a text with a character too many, b is what comes before
		return nil, typo()
	default:
		return nil, cutOff()
	}
}

// complete reports whether a payload that cannot be read has its end: the check's type and
// length, or its value.
func (l Link) complete(b []byte) bool {
	at := len(b) - headSize - checkSize
	if at < 0 {
		return false
	}
	sum := check(l.Address, b[:at])
	return b[at] == fieldCheck && b[at+1] == checkSize || string(b[at+headSize:]) == string(sum[:])
}

func cutOff() error { return fmt.Errorf("%w: its end is missing", ErrCut) }
func typo() error   { return fmt.Errorf("%w: %w", ErrCut, anode.ErrTypo) }

// ornaments are characters that no link has, and that people, mail and chat programs put
// around it, into it, and before its lines.
const ornaments = "<>\"'`|*_\\“”‘’«»"

// bare returns a text in small letters without white space, ornaments, and characters that
// cannot be seen.
func bare(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), unicode.Is(unicode.Cf, r), strings.ContainsRune(ornaments, r):
			return -1
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		}
		return r
	}, text)
}
