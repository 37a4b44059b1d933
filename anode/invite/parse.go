package invite

import (
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"anodenet/anode"
)

const scheme = "anode:"

var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Parse reads a link, as people copy it. Its errors are ErrNotLink, ErrCut and ErrSeveral, which say what is
// wrong. A link that has expired is read like any other.
//
// All that follows the last scheme is one link, if that has a right check. Else the check says where
// a link ends that has a text behind it, and where one begins that has lost its scheme: both are
// accepted with a check alone. A text must not have links to two addresses, as which one is meant
// would depend on what else is in it.
func Parse(text string) (Link, error) {
	if len(text) > maxText {
		return Link{}, fmt.Errorf("%w: it is %w: %d characters", ErrNotLink, ErrLong, len(text))
	}
	words := wordsOf(text)
	whole := strings.Join(words, "")
	found := search(words)
	at := strings.LastIndex(whole, scheme)
	if at < 0 && len(found) == 0 {
		return Link{}, fmt.Errorf("%w: it has no %q", ErrNotLink, scheme)
	}
	if at < 0 {
		return only(found)
	}
	rest := whole[at+len(scheme):]
	l, err := parseWhole(rest)
	if err == nil {
		return only(append(found, l))
	}
	// The link may end before the text does.
	address, _, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "/")
	meant, unread := parseAddress(address, true)
	switch {
	case len(found) == 0, unread != nil && likeAddress(address):
		return Link{}, err
	case unread == nil:
		if _, err := only(append(found, meant)); err != nil {
			return Link{}, err
		}
	}
	return only(found)
}

// likeAddress reports whether what follows a scheme is an address, if a damaged one, and not the next words of a text.
func likeAddress(text string) bool {
	return len(text) >= addressSpan/2 && strings.Trim(strings.ToLower(text[:addressSpan/2]), "abcdefghijklmnopqrstuvwxyz234567") == ""
}

// only returns the last of links that must have one address.
func only(list []Link) (Link, error) {
	last := list[len(list)-1]
	for _, l := range list {
		if l.Address != last.Address {
			return Link{}, ErrSeveral
		}
	}
	return last, nil
}

// parseWhole reads what follows the scheme.
func parseWhole(text string) (Link, error) {
	text, _, _ = strings.Cut(text, "?")
	text = strings.TrimRight(strings.TrimPrefix(text, "//"), ".,;:!)]}")
	address, payload, more := strings.Cut(text, "/")
	l, err := parseAddress(address, more)
	if err != nil || !more {
		return l, err
	}
	b, err := l.decode(payload)
	if err != nil {
		return Link{}, err
	}
	switch err := l.parse(b); {
	case err == nil && len(b) > MaxPayload:
		return Link{}, fmt.Errorf("%w: its payload is %w: %d bytes, more than %d", ErrNotLink, ErrLong, len(b), MaxPayload)
	case err == nil:
		return l, nil
	case errors.Is(err, errShort) && !l.complete(b):
		return Link{}, cutOff()
	default:
		return Link{}, typo()
	}
}

// Characters of a link after the scheme.
const (
	addressSpan = 64
	longAddress = addressSpan + len("-CCCC") // with its check
	maxSpan     = longAddress + len("/") + MaxPayload*8/5
)

// search returns the links with a check that are some whole words of a text, the first of
// which may have the scheme, or what else ends with a colon, before it.
func search(words []string) (list []Link) {
	for i, first := range words {
		first = strings.TrimLeft(first[strings.LastIndex(first, ":")+1:], "/([{")
		if l, ok := searchFrom(first, words[i+1:]); ok {
			list = append(list, l)
		}
	}
	return list
}

// searchFrom adds words to a text until it is a link with a check, or can be none.
func searchFrom(text string, words []string) (Link, bool) {
	for {
		address, _, more := strings.Cut(text, "/")
		if len(address) > longAddress || len(text) > maxSpan || text == "" {
			return Link{}, false
		}
		if more {
			if _, err := parseAddress(address, true); err != nil {
				return Link{}, false
			}
			break
		}
		if len(words) == 0 {
			return Link{}, false
		}
		text, words = text+words[0], words[1:]
	}
	for {
		l, err := parseWhole(text)
		if err == nil {
			return l, true
		}
		if len(words) == 0 || len(text) > maxSpan {
			return Link{}, false
		}
		text, words = text+words[0], words[1:]
	}
}

// parseAddress reads the part before the slash. more is whether there is one.
func parseAddress(text string, more bool) (Link, error) {
	a, err := anode.ParseAddress(text)
	switch {
	case err == nil:
		return Link{Address: a}, nil
	case !more && len(text) < addressSpan:
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

// spelt are what mail and browsers write for characters of a link.
var spelt = strings.NewReplacer("=3a", ":", "%3a", ":", "=2f", "/", "%2f", "/")

// escapes are the sequences (ECMA-48 CSI) that a terminal sends around what is pasted, if a program left it so, and for
// arrow keys, and those for colours.
var escapes = regexp.MustCompile(`\x1b\[[0-?]*[ -/]*[@-~]`)

// wordsOf returns the words of a text in small letters without ornaments, escape sequences, characters that
// cannot be seen, and the mark with which mail breaks a line.
func wordsOf(text string) (words []string) {
	small := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), strings.ContainsRune(ornaments, r):
			return -1
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		}
		return r
	}, escapes.ReplaceAllString(text, ""))
	for w := range strings.FieldsSeq(small) {
		words = append(words, spelt.Replace(strings.TrimRight(w, "=")))
	}
	return words
}
