package wire

import (
	"encoding/binary"
	"time"
)

// MaxLinger is the longest delay that a LINGER may ask for.
const MaxLinger = 180 * time.Second

// ElsewhereSize is the length of a LINGER that asks for a second answer from another port. It is
// so long that both answers together are no longer than the request.
const ElsewhereSize = 144

// elsewhere stands for the delay of a LINGER that asks for it.
const elsewhere = 0xffffffff

// LingerMsg is LINGER: request[4] delay ms[4]. It is answered by NETID after the delay, so that
// the sender learns whether a mapping of its NAT lives so long without a packet.
//
// With the delay 0xffffffff and zeros up to ElsewhereSize, it is answered at once, from the port that
// it came to and from another one. The sender learns whether its NAT lets packets of that port in.
type LingerMsg struct {
	Request   uint32
	Delay     time.Duration // whole milliseconds, at most MaxLinger
	Elsewhere bool          // answer from another port too; Delay is 0
}

// ParseLinger reads a LINGER. A longer delay than MaxLinger is refused.
func ParseLinger(b []byte) (m LingerMsg, err error) {
	if len(b) == ElsewhereSize {
		return parseElsewhere(b)
	}
	if err := exactly(b, 8); err != nil {
		return m, err
	}
	m = LingerMsg{Request: binary.BigEndian.Uint32(b), Delay: time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Millisecond}
	if m.Delay > MaxLinger {
		return LingerMsg{}, ErrField
	}
	return m, nil
}

func parseElsewhere(b []byte) (m LingerMsg, err error) {
	if binary.BigEndian.Uint32(b[4:]) != elsewhere {
		return m, ErrField
	}
	for _, x := range b[8:] {
		if x != 0 {
			return m, ErrField
		}
	}
	return LingerMsg{Request: binary.BigEndian.Uint32(b), Elsewhere: true}, nil
}

// Append writes the message behind dst; a delay beyond the limits is cut.
func (m LingerMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Request)
	if m.Elsewhere {
		return append(binary.BigEndian.AppendUint32(dst, elsewhere), make([]byte, ElsewhereSize-8)...)
	}
	return binary.BigEndian.AppendUint32(dst, uint32(min(max(m.Delay, 0), MaxLinger).Milliseconds()))
}
