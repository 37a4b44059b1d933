package wire

import (
	"encoding/binary"
	"time"
)

// MaxLinger is the longest delay that a LINGER may ask for.
const MaxLinger = 180 * time.Second

// LingerMsg is LINGER: request[4] delay ms[4]. It is answered by NETID after the delay, so that
// the sender learns whether a mapping of its NAT lives so long without a packet.
type LingerMsg struct {
	Request uint32
	Delay   time.Duration // whole milliseconds, at most MaxLinger
}

// ParseLinger reads a LINGER. A longer delay than MaxLinger is refused.
func ParseLinger(b []byte) (m LingerMsg, err error) {
	if err := exactly(b, 8); err != nil {
		return m, err
	}
	m = LingerMsg{binary.BigEndian.Uint32(b), time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Millisecond}
	if m.Delay > MaxLinger {
		return LingerMsg{}, ErrField
	}
	return m, nil
}

// Append writes the message behind dst; a delay beyond the limits is cut.
func (m LingerMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, m.Request)
	return binary.BigEndian.AppendUint32(dst, uint32(min(max(m.Delay, 0), MaxLinger).Milliseconds()))
}
