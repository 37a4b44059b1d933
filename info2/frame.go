package info2

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// MID identifies a message (memo 1.3): six bytes. Decimals of 1 to 6 digits are
// taken by value and written with leading zeros, because some programs read
// them as a number and find the text at offset 12; anything else stays as it is.
type MID [6]byte

// String returns the six bytes, or twelve hex digits if they do not all print.
func (m MID) String() string {
	for _, c := range m {
		if c <= ' ' || c > '~' {
			return hex.EncodeToString(m[:])
		}
	}
	return string(m[:])
}

// MarshalText is String.
func (m MID) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText returns.
func (m *MID) UnmarshalText(b []byte) error {
	switch len(b) {
	case 6:
		copy(m[:], b)
		return nil
	case 12:
		if _, err := hex.Decode(m[:], b); err == nil {
			return nil
		}
	}
	return fmt.Errorf("info2: not a message identifier: %q", b)
}

// midOf returns the identifier for a number below a million.
func midOf(n uint32) MID {
	var m MID
	for i := len(m) - 1; i >= 0; i-- {
		m[i] = byte('0' + n%10)
		n /= 10
	}
	return m
}

// kind is what a frame is.
type kind uint8

const (
	kindUnknown   kind = iota // no keyword that we know
	kindMalformed             // a keyword, and then not what belongs there
	kindHello
	kindOK
	kindSend
	kindBackconnect
	kindFriendRequest
	kindFriend // the reply to it: an address, unspecified for none
	kindLogoff
)

func (k kind) String() string {
	names := [...]string{"unknown", "malformed", "hello", "ok", "send", "backconnect", "friend request", "friend", "logoff"}
	if int(k) < len(names) {
		return names[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

const (
	helloLine         = "INFO2 CONNECT/0.6\n\n"
	okLine            = "INFO2 OK\n\n"
	friendRequestLine = "FRIEND REQUEST\n\n"
	terminator        = "\n\n"

	wordSend        = "SEND "
	wordLogoff      = "LOGOFF "
	wordBackconnect = "BACKCONNECT"
	wordHello       = "INFO2 CONNECT/"
	padding         = "\x00\r\n\t "
)

// keywords begin a message. A newline ends the message before it only if one of
// them follows.
var keywords = [...]string{
	wordSend, wordLogoff, wordBackconnect, "FRIEND REQUEST", "FRIENDREQUEST", "INFO2 OK", "INFO2/OK", wordHello,
}

// maxText is how many bytes of text fit in a SEND.
const maxText = maxSend - len(wordSend) - len(MID{}) - len(" ") - len(terminator)

// frame is one message of the protocol. Which fields count depends on kind:
// send has mid and text, logoff mid and addr, backconnect and friend addr.
type frame struct {
	kind kind
	mid  MID
	addr netip.Addr // zero in a BACKCONNECT that names no address
	text string     // as received: not cleaned, any length up to maxFrame
}

// append writes the frame as other programs expect it. A text must be clean
// and fit (Clean, cutText).
func (f frame) append(b []byte) []byte {
	switch f.kind {
	case kindHello:
		return append(b, helloLine...)
	case kindOK:
		return append(b, okLine...)
	case kindFriendRequest:
		return append(b, friendRequestLine...)
	case kindSend:
		b = append(append(b, wordSend...), f.mid[:]...)
		b = append(append(b, ' '), f.text...)
		return append(b, terminator...)
	case kindLogoff:
		b = append(append(b, wordLogoff...), f.mid[:]...)
		b = f.addr.AppendTo(append(b, ' '))
		return append(b, terminator...)
	case kindBackconnect:
		return f.addr.AppendTo(append(b, wordBackconnect+" "...))
	case kindFriend:
		if !f.addr.IsValid() || f.addr.IsUnspecified() {
			return append(b, "0.0.0.0"...)
		}
		return f.addr.AppendTo(b)
	}
	return b
}

// bare reports whether the frame goes out without a terminator, so that only silence
// ends it.
func (f frame) bare() bool { return f.kind == kindBackconnect || f.kind == kindFriend }

// parseFrame reads one message, without what ended it. It never fails: what it
// does not understand is kindUnknown or kindMalformed.
func parseFrame(b []byte) frame {
	s := strings.Trim(string(b), padding)
	switch {
	case strings.HasPrefix(s, wordSend):
		mid, text, err := cutMID(s[len(wordSend):])
		if err != nil {
			return frame{kind: kindMalformed}
		}
		return frame{kind: kindSend, mid: mid, text: text}
	case strings.HasPrefix(s, wordLogoff):
		mid, rest, err := cutMID(s[len(wordLogoff):])
		addr, bad := parseAddr(rest)
		if err != nil || bad != nil {
			return frame{kind: kindMalformed}
		}
		return frame{kind: kindLogoff, mid: mid, addr: addr}
	case strings.HasPrefix(s, wordBackconnect):
		rest := s[len(wordBackconnect):]
		if rest != "" && rest[0] != ' ' && rest[0] != '/' {
			return frame{kind: kindUnknown}
		}
		addr, _ := parseAddr(strings.TrimPrefix(rest, "/"))
		return frame{kind: kindBackconnect, addr: addr}
	case s == "FRIEND REQUEST", s == "FRIENDREQUEST":
		return frame{kind: kindFriendRequest}
	case strings.HasPrefix(s, wordHello):
		if !speaks(firstWord(s[len(wordHello):])) {
			return frame{kind: kindMalformed}
		}
		return frame{kind: kindHello}
	}
	if rest, ok := cutOK(s); ok && firstWord(rest) == "" {
		return frame{kind: kindOK}
	}
	if addr, err := parseAddr(s); err == nil {
		return frame{kind: kindFriend, addr: addr}
	}
	return frame{kind: kindUnknown}
}

func cutOK(s string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(s, "INFO2 OK"); ok {
		return rest, true
	}
	return strings.CutPrefix(s, "INFO2/OK")
}

// firstWord is everything up to the first white space.
func firstWord(s string) string {
	if i := strings.IndexAny(s, padding); i >= 0 {
		return s[:i]
	}
	return s
}

var errMID = errors.New("not a message identifier")

// cutMID splits what follows a keyword into the identifier and the rest. Up to
// six digits and a space are a number, else the first six bytes are taken.
func cutMID(s string) (mid MID, rest string, err error) {
	digits := 0
	for digits < len(s) && digits < len(mid) && '0' <= s[digits] && s[digits] <= '9' {
		digits++
	}
	if digits > 0 && (digits == len(mid) || digits == len(s) || strings.IndexByte(padding, s[digits]) >= 0) {
		n, err := strconv.ParseUint(s[:digits], 10, 32)
		if err != nil {
			return mid, "", errMID
		}
		return midOf(uint32(n)), strings.TrimLeft(s[digits:], padding), nil
	}
	if len(s) < len(mid) {
		return mid, "", errMID
	}
	for i := range mid {
		// A control byte here would break lines at the next hop.
		if s[i] < ' ' || s[i] == 0x7f {
			return MID{}, "", errMID
		}
		mid[i] = s[i]
	}
	return mid, strings.TrimLeft(s[len(mid):], padding), nil
}

// parseAddr reads an IP address, in its shortest form and without a scope.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.Trim(s, padding))
	if err != nil {
		return netip.Addr{}, err
	}
	if a.Zone() != "" {
		return netip.Addr{}, errScope
	}
	return a.Unmap(), nil
}

var errScope = errors.New("an address with a scope")

// speaks reports whether we talk with a client of this version: any decimal from
// 0.1 up.
func speaks(version string) bool {
	whole, part, dotted := strings.Cut(version, ".")
	if !allDigits(whole) || dotted && !allDigits(part) {
		return false
	}
	return strings.Trim(whole, "0") != "" || part != "" && part[0] != '0'
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
