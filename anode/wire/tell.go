package wire

import (
	"encoding/binary"
	"fmt"
)

// MaxTell is the greatest body of a TELL, in bytes.
const MaxTell = 8 << 10

// tellHead is what stands before the body of a TELL: ID and kind.
const tellHead = 8 + 1

// TellID names one TELL of its sender. It is random; a TELL that is sent again keeps it.
type TellID [8]byte

// TellKind says what a TELL is about.
type TellKind uint8

// The kinds that are in use. The others of 1 to 13 are kept for presence, messages and files.
const (
	TellAsk     TellKind = 1 // let me in: name, text (a note), address (who introduced us)
	TellAccept  TellKind = 2 // you are let in: name
	TellBye     TellKind = 3 // I removed you: text, or with an address: I removed that one, of our own devices
	TellProfile TellKind = 4 // what friends may know: name, services, the network's secret
	TellIntro   TellKind = 6 // somebody I know: address, name, endpoints, relays, text (a note)
)

// String returns the word for a kind.
func (k TellKind) String() string {
	switch k {
	case TellAsk:
		return "ASK"
	case TellAccept:
		return "ACCEPT"
	case TellBye:
		return "BYE"
	case TellProfile:
		return "PROFILE"
	case TellIntro:
		return "INTRO"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// TellMsg is TELL: id[8] kind[1] body, at most MaxTell bytes of it; only ever sealed. The body is
// Fields. TOLD answers it, after what it says was written to the disk; until then it is sent again.
type TellMsg struct {
	ID   TellID
	Kind TellKind
	Body []byte
}

// ParseTell reads a TELL. Body is a part of b; it is not looked into.
func ParseTell(b []byte) (m TellMsg, err error) {
	switch {
	case len(b) < tellHead:
		return m, ErrShort
	case len(b) > tellHead+MaxTell:
		return m, ErrField
	}
	return TellMsg{TellID(b), TellKind(b[8]), b[tellHead:]}, nil
}

// Append writes the message behind dst.
func (m TellMsg) Append(dst []byte) []byte {
	dst = append(dst, m.ID[:]...)
	return append(append(dst, byte(m.Kind)), m.Body...)
}

// TellStatus says what became of a TELL.
type TellStatus uint8

// The statuses.
const (
	TellDone      TellStatus = 0 // it was written to the disk, now or when it came before
	TellNotNow    TellStatus = 1 // its sender may not say that
	TellUnknown   TellStatus = 2 // an unknown kind
	TellTooMuch   TellStatus = 3 // a bound is reached
	TellMalformed TellStatus = 4
)

// String returns the words for a status.
func (s TellStatus) String() string {
	switch s {
	case TellDone:
		return "done"
	case TellNotNow:
		return "not allowed"
	case TellUnknown:
		return "unknown kind"
	case TellTooMuch:
		return "too much"
	case TellMalformed:
		return "malformed"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// ToldMsg is TOLD: id[8] of the TELL, status[1]; only ever sealed.
type ToldMsg struct {
	ID     TellID
	Status TellStatus
}

// ParseTold reads a TOLD.
func ParseTold(b []byte) (m ToldMsg, err error) {
	if err := exactly(b, tellHead); err != nil {
		return m, err
	}
	return ToldMsg{TellID(b), TellStatus(b[8])}, nil
}

// Append writes the message behind dst.
func (m ToldMsg) Append(dst []byte) []byte {
	return append(append(dst, m.ID[:]...), byte(m.Status))
}

// FieldType is the type of a Field.
type FieldType uint8

// The types of fields that are in use.
const (
	FieldName     FieldType = 1  // UTF-8
	FieldText     FieldType = 2  // UTF-8
	FieldAddress  FieldType = 3  // address[40]
	FieldEndpoint FieldType = 4  // an endpoint; repeatable
	FieldRelay    FieldType = 5  // address[40] endpoint; repeatable
	FieldService  FieldType = 12 // port[2] proto[1] type NUL name, and NUL text for each of its texts; repeatable
	FieldSecret   FieldType = 13 // the network's secret[32]
	FieldState    FieldType = 8  // state[1]
)

// Field is `type[1] length[2] value`.
type Field struct {
	Type  FieldType
	Value []byte
}

// Fields is the body of a TELL. Types that are not known are skipped by who reads them.
type Fields []Field

// ParseFields reads a body. Values are parts of b.
func ParseFields(b []byte) (f Fields, err error) {
	for len(b) > 0 {
		if len(b) < 3 {
			return nil, ErrShort
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if len(b) < 3+n {
			return nil, ErrShort
		}
		f = append(f, Field{FieldType(b[0]), b[3 : 3+n]})
		b = b[3+n:]
	}
	return f, nil
}

// Append writes the fields behind dst.
func (f Fields) Append(dst []byte) []byte {
	for _, x := range f {
		dst = append(dst, byte(x.Type))
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(x.Value)))
		dst = append(dst, x.Value...)
	}
	return dst
}

// Get returns the first value of a type.
func (f Fields) Get(t FieldType) (value []byte, ok bool) {
	for _, x := range f {
		if x.Type == t {
			return x.Value, true
		}
	}
	return nil, false
}

// All returns the values of a type that may be repeated.
func (f Fields) All(t FieldType) (values [][]byte) {
	for _, x := range f {
		if x.Type == t {
			values = append(values, x.Value)
		}
	}
	return values
}
