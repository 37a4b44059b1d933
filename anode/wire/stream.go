package wire

import (
	"encoding/binary"
	"fmt"
)

// FlagSourcePort says in an S_OPEN that the link ID is a port of the sender's.
const FlagSourcePort = 0x01

// Link is the pair that begins every stream message (draft 5.2): sender link ID[2]
// destination port[2]. Link IDs and ports share one number space; the S_OPEN that
// answers has the opener's link ID for its port.
type Link struct{ ID, Port uint16 }

func parseLink(b []byte) Link {
	return Link{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
}

func (l Link) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, l.ID)
	return binary.BigEndian.AppendUint16(dst, l.Port)
}

// OpenMsg is S_OPEN: link[4] window[2] initial sequence number[4] flags[1].
type OpenMsg struct {
	Link   Link
	Window uint16 // in units of 1024 bytes
	ISN    uint32
	Flags  uint8
}

// ParseOpen reads an S_OPEN.
func ParseOpen(b []byte) (m OpenMsg, err error) {
	if err := exactly(b, 11); err != nil {
		return m, err
	}
	return OpenMsg{parseLink(b), binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint32(b[6:]), b[10]}, nil
}

// Append writes the message behind dst.
func (m OpenMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(m.Link.append(dst), m.Window)
	return append(binary.BigEndian.AppendUint32(dst, m.ISN), m.Flags)
}

// CloseReason says why a stream ended (draft 5.2.2).
type CloseReason uint8

// The draft's reasons.
const (
	CloseNormal   CloseReason = iota // both directions, after everything sent before it
	CloseRefused                     // answers an S_OPEN
	CloseProtocol                    // at once
	CloseTimeout                     // at once
)

// String names the reason.
func (r CloseReason) String() string {
	switch r {
	case CloseNormal:
		return "closed"
	case CloseRefused:
		return "connection refused"
	case CloseProtocol:
		return "protocol error"
	case CloseTimeout:
		return "timed out"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// FlagHalfClose says in an S_CLOSE that only the sender's direction ends. It is sent to
// those who say that they read it so.
const FlagHalfClose = 0x01

// CloseMsg is S_CLOSE: link[4] flags[1] reason[1] initial sequence number[4] sequence
// number[4]. One that refuses has the refused S_OPEN's number in both.
type CloseMsg struct {
	Link   Link
	Flags  uint8
	Reason CloseReason
	ISN    uint32
	Seq    uint32
}

// ParseClose reads an S_CLOSE. Of the flags, which the draft has be zero, FlagHalfClose
// alone is not refused.
func ParseClose(b []byte) (m CloseMsg, err error) {
	if err := exactly(b, 14); err != nil {
		return m, err
	}
	if b[4]&^FlagHalfClose != 0 {
		return m, ErrField
	}
	return CloseMsg{parseLink(b), b[4], CloseReason(b[5]), binary.BigEndian.Uint32(b[6:]), binary.BigEndian.Uint32(b[10:])}, nil
}

// Append writes the message behind dst.
func (m CloseMsg) Append(dst []byte) []byte {
	dst = append(m.Link.append(dst), m.Flags, byte(m.Reason))
	dst = binary.BigEndian.AppendUint32(dst, m.ISN)
	return binary.BigEndian.AppendUint32(dst, m.Seq)
}

// DataMsg is S_DATA: link[4] sequence number[4] payload.
type DataMsg struct {
	Link    Link
	Seq     uint32
	Payload []byte
}

// ParseData reads an S_DATA.
func ParseData(b []byte) (m DataMsg, err error) {
	if len(b) < 8 {
		return m, ErrShort
	}
	return DataMsg{parseLink(b), binary.BigEndian.Uint32(b[4:]), b[8:]}, nil
}

// Append writes the message behind dst.
func (m DataMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(m.Link.append(dst), m.Seq)
	return append(dst, m.Payload...)
}

const ackSize = 5

// DataHeader and DAckHeader are the lengths of what stands before the payload of S_DATA,
// and of S_DACK besides its acknowledgements of AckItem bytes each.
const (
	DataHeader = 8
	DAckHeader = 11
	AckItem    = ackSize
)

// Acks is a view of acknowledgements: first sequence number[4] count[1], the count
// including the first (draft 5.2.4: "1, 4" stands for 1, 2, 3 and 4).
type Acks []byte

// Len is the number of acknowledgements.
func (a Acks) Len() int { return len(a) / ackSize }

// At is the i-th acknowledgement, 0 <= i < Len.
func (a Acks) At(i int) (first uint32, count uint8) {
	b := a[i*ackSize:]
	return binary.BigEndian.Uint32(b), b[4]
}

// AppendAck adds one acknowledgement to a.
func (a Acks) AppendAck(first uint32, count uint8) Acks {
	return append(binary.BigEndian.AppendUint32(a, first), count)
}

// AckMsg is S_ACK: link[4] window[2] acknowledgements, one or more.
type AckMsg struct {
	Link   Link
	Window uint16 // in units of 1024 bytes
	Acks   Acks
}

// ParseAck reads an S_ACK.
func ParseAck(b []byte) (m AckMsg, err error) {
	if len(b) < 6+ackSize {
		return m, ErrShort
	}
	acks := b[6:]
	if len(acks)%ackSize != 0 {
		return m, ErrLong
	}
	return AckMsg{parseLink(b), binary.BigEndian.Uint16(b[4:]), acks}, nil
}

// Append writes the message behind dst.
func (m AckMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(m.Link.append(dst), m.Window)
	return append(dst, m.Acks...)
}

// DAckMsg is S_DACK: link[4] window[2] count[1] acknowledgements, sequence number[4]
// payload. The draft has no place for the sequence number; the one before the
// payload is our reading, so it is sent only to those who say that they share it.
type DAckMsg struct {
	Link    Link
	Window  uint16 // in units of 1024 bytes
	Acks    Acks   // 1 to 255
	Seq     uint32
	Payload []byte
}

// ParseDAck reads an S_DACK.
func ParseDAck(b []byte) (m DAckMsg, err error) {
	if len(b) < 7 {
		return m, ErrShort
	}
	n := int(b[6]) * ackSize
	if n == 0 {
		return m, ErrField
	}
	rest := b[7:]
	if len(rest) < n+4 {
		return m, ErrShort
	}
	return DAckMsg{parseLink(b), binary.BigEndian.Uint16(b[4:]), Acks(rest[:n]),
		binary.BigEndian.Uint32(rest[n:]), rest[n+4:]}, nil
}

// Append writes the message behind dst; more than 255 acknowledgements are cut off.
func (m DAckMsg) Append(dst []byte) []byte {
	acks := m.Acks[:min(m.Acks.Len(), 255)*ackSize]
	dst = binary.BigEndian.AppendUint16(m.Link.append(dst), m.Window)
	dst = append(append(dst, byte(acks.Len())), acks...)
	dst = binary.BigEndian.AppendUint32(dst, m.Seq)
	return append(dst, m.Payload...)
}

// ParseDAckAcks reads the acknowledgements of an S_DACK, and nothing behind them: the part
// that has one meaning only. It serves those whose S_DACK may be in the draft's letter.
func ParseDAckAcks(b []byte) (m AckMsg, err error) {
	if len(b) < 7 {
		return m, ErrShort
	}
	n := int(b[6]) * ackSize
	if n == 0 {
		return m, ErrField
	}
	if len(b) < 7+n {
		return m, ErrShort
	}
	return AckMsg{parseLink(b), binary.BigEndian.Uint16(b[4:]), Acks(b[7 : 7+n])}, nil
}
