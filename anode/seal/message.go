package seal

import (
	"encoding/binary"
	"errors"
	"time"

	"anodenet/anode/wire"
)

const (
	version = 1

	dhSize   = 33 // a compressed point
	maxBody  = 1024
	minHello = 1 + 16 + 2 + dhSize + stampSize + wire.TagSize
	minReply = 1 + 2 + 2 + dhSize + wire.TagSize
)

// Errors of the handshake. A message that causes one has changed nothing, except with
// ErrRandom.
var (
	ErrBody       = errors.New("seal: malformed handshake message")
	ErrVersion    = errors.New("seal: unknown version of the handshake")
	ErrUnexpected = errors.New("seal: no outstanding handshake that this answers")
	ErrDuplicate  = errors.New("seal: HELLO was seen before")
	ErrStale      = errors.New("seal: stamp is not newer")
	ErrMachine    = errors.New("seal: from another machine of the address")
	ErrRandom     = errors.New("seal: no random numbers")
)

// Message is an unsealed message to be sent: the engine puts the header before it,
// with full addresses, and the MAC into it.
type Message struct {
	Type   wire.Type
	PeerID uint8 // of the recipient; 0: any
	Body   []byte
}

// Hello is the body of HELLO:
//
//	version[1]=1 cookie[16] index[2] noise message 1
//
// The payload of message 1 is `stamp[12] TLVs`.
type Hello struct {
	Cookie [16]byte
	Index  uint16 // on which the initiator will receive
	Noise  []byte
}

// ParseHello reads a body; Noise is part of b. Errors are ErrBody and ErrVersion.
func ParseHello(b []byte) (h Hello, err error) {
	if err := checkBody(b, minHello); err != nil {
		return h, err
	}
	copy(h.Cookie[:], b[1:])
	h.Index = binary.BigEndian.Uint16(b[17:])
	h.Noise = b[19:]
	return h, nil
}

// Append appends the body.
func (h Hello) Append(b []byte) []byte {
	b = append(append(b, version), h.Cookie[:]...)
	b = binary.BigEndian.AppendUint16(b, h.Index)
	return append(b, h.Noise...)
}

// Challenge is the COOKIE that answers h.
func (h Hello) Challenge(cookie [16]byte) *Message {
	c := Challenge{Your: h.Index, First: [16]byte(h.Noise), Cookie: cookie}
	return &Message{Type: wire.Cookie, Body: c.Append(nil)}
}

// Welcome is the body of WELCOME:
//
//	version[1]=1 index[2] your index[2] noise message 2
//
// The payload of message 2 is TLVs.
type Welcome struct {
	Index uint16 // on which the responder will receive
	Your  uint16 // the HELLO's
	Noise []byte
}

// ParseWelcome reads a body; Noise is part of b. Errors are ErrBody and ErrVersion.
func ParseWelcome(b []byte) (w Welcome, err error) {
	if err := checkBody(b, minReply); err != nil {
		return w, err
	}
	return Welcome{binary.BigEndian.Uint16(b[1:]), binary.BigEndian.Uint16(b[3:]), b[5:]}, nil
}

// Append appends the body.
func (w Welcome) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, version), w.Index)
	b = binary.BigEndian.AppendUint16(b, w.Your)
	return append(b, w.Noise...)
}

// Challenge is the body of COOKIE:
//
//	your index[2] first 16 bytes of your noise message 1 cookie[16]
type Challenge struct {
	Your   uint16
	First  [16]byte
	Cookie [16]byte
}

// ParseChallenge reads a body; the error is ErrBody.
func ParseChallenge(b []byte) (c Challenge, err error) {
	if len(b) != 2+16+16 {
		return c, ErrBody
	}
	return Challenge{binary.BigEndian.Uint16(b), [16]byte(b[2:18]), [16]byte(b[18:])}, nil
}

// Append appends the body.
func (c Challenge) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, c.Your)
	return append(append(b, c.First[:]...), c.Cookie[:]...)
}

// Stale is the body of STALE:
//
//	your index[2] greatest[12]
type Stale struct {
	Your     uint16
	Greatest Stamp
}

// ParseStale reads a body; the error is ErrBody.
func ParseStale(b []byte) (s Stale, err error) {
	if len(b) != 2+stampSize || !Stamp(b[2:]).valid() {
		return s, ErrBody
	}
	return Stale{binary.BigEndian.Uint16(b), Stamp(b[2:])}, nil
}

// Append appends the body.
func (s Stale) Append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, s.Your), s.Greatest[:]...)
}

// Answers returns the index of the HELLO that a message answers, a WELCOME, COOKIE or
// STALE. ok is false for other types and malformed bodies.
func Answers(typ wire.Type, body []byte) (index uint16, ok bool) {
	switch typ {
	case wire.Welcome:
		w, err := ParseWelcome(body)
		return w.Your, err == nil
	case wire.Cookie:
		c, err := ParseChallenge(body)
		return c.Your, err == nil
	case wire.Stale:
		s, err := ParseStale(body)
		return s.Your, err == nil
	}
	return 0, false
}

func checkBody(b []byte, least int) error {
	switch {
	case len(b) < least || len(b) > maxBody:
		return ErrBody
	case b[0] != version:
		return ErrVersion
	}
	return nil
}

// Stamp orders the HELLOs of one initiator: a TAI64N label, seconds[8] with the
// highest bit zero, and nanoseconds[4], compared as one number.
type Stamp [stampSize]byte

const stampSize = 12

// tai64 is the label of 1970-01-01 00:00:00 UTC, which TAI was 10 s ahead of.
const tai64 = 1<<62 + 10

func stampOf(t time.Time) (s Stamp) {
	binary.BigEndian.PutUint64(s[:], uint64(tai64+t.Unix()))
	binary.BigEndian.PutUint32(s[8:], uint32(t.Nanosecond()))
	return s
}

// valid reports whether the label is not one of the reserved ones, so that there is
// always a next one.
func (s Stamp) valid() bool { return s[0] < 0x80 }

// next is the smallest greater stamp.
func (s Stamp) next() Stamp {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i]++; s[i] != 0 {
			break
		}
	}
	return s
}
