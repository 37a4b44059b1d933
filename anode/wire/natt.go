package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// NATTMode is a NAT traversal mode (draft 4.2.7 leaves them open; these are ours).
type NATTMode uint8

// The NAT traversal modes. Of an unknown one only the plain endpoint is of use.
const (
	NATTNone    NATTMode = iota
	NATTPunch            // both sides send EPC_REQ to all candidates at once
	NATTPredict          // the next mappings are guessed from the step between the last
	NATTSpray            // many sockets against many ports; off unless both sides allow it
)

// String names the mode.
func (m NATTMode) String() string {
	switch m {
	case NATTNone:
		return "none"
	case NATTPunch:
		return "punch"
	case NATTPredict:
		return "predict"
	case NATTSpray:
		return "spray"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// NATTMsg is NAT_T, and the tail of an EPI: mode[1] options.
type NATTMsg struct {
	Mode    NATTMode
	Options []byte // see ParsePunch, ParsePredict, ParseSpray
}

// ParseNATT reads a NAT_T.
func ParseNATT(b []byte) (m NATTMsg, err error) {
	if len(b) < 1 {
		return m, ErrShort
	}
	return NATTMsg{NATTMode(b[0]), b[1:]}, nil
}

// Append writes the message behind dst.
func (m NATTMsg) Append(dst []byte) []byte {
	return append(append(dst, byte(m.Mode)), m.Options...)
}

// Punch is the options of NATTPunch: attempt[4] delay ms[2] n[1] endpoints.
type Punch struct {
	Attempt   uint32
	Delay     time.Duration // whole milliseconds, at most 65.535 s
	Endpoints []Endpoint    // at most 255
}

// ParsePunch reads the options of NATTPunch.
func ParsePunch(b []byte) (o Punch, err error) {
	if len(b) < 7 {
		return o, ErrShort
	}
	o.Attempt = binary.BigEndian.Uint32(b)
	o.Delay = time.Duration(binary.BigEndian.Uint16(b[4:])) * time.Millisecond
	n, b := int(b[6]), b[7:]
	for range n {
		var e Endpoint
		if e, b, err = ParseEndpoint(b); err != nil {
			return Punch{}, err
		}
		o.Endpoints = append(o.Endpoints, e)
	}
	if len(b) != 0 {
		return Punch{}, ErrLong
	}
	return o, nil
}

// Append writes the options behind dst; what is beyond the limits is cut off.
func (o Punch) Append(dst []byte) []byte {
	es := o.Endpoints[:min(len(o.Endpoints), 255)]
	dst = binary.BigEndian.AppendUint32(dst, o.Attempt)
	dst = binary.BigEndian.AppendUint16(dst, uint16(min(max(o.Delay.Milliseconds(), 0), 0xffff)))
	dst = append(dst, byte(len(es)))
	for _, e := range es {
		dst = e.Append(dst)
	}
	return dst
}

// Predict is the options of NATTPredict: attempt[4] endpoint step[2, signed] n[1].
type Predict struct {
	Attempt  uint32
	Endpoint Endpoint // the last mapping seen
	Step     int16    // between the ports of one mapping and the next
	Count    uint8    // how many steps to try
}

// ParsePredict reads the options of NATTPredict.
func ParsePredict(b []byte) (o Predict, err error) {
	if len(b) < 4 {
		return o, ErrShort
	}
	e, rest, err := ParseEndpoint(b[4:])
	if err == nil {
		err = exactly(rest, 3)
	}
	if err != nil {
		return o, err
	}
	return Predict{binary.BigEndian.Uint32(b), e, int16(binary.BigEndian.Uint16(rest)), rest[2]}, nil
}

// Append writes the options behind dst.
func (o Predict) Append(dst []byte) []byte {
	dst = o.Endpoint.Append(binary.BigEndian.AppendUint32(dst, o.Attempt))
	return append(binary.BigEndian.AppendUint16(dst, uint16(o.Step)), o.Count)
}

// Spray is the options of NATTSpray: attempt[4] endpoint sockets[2].
type Spray struct {
	Attempt  uint32
	Endpoint Endpoint
	Sockets  uint16 // how many the sender opens
}

// ParseSpray reads the options of NATTSpray.
func ParseSpray(b []byte) (o Spray, err error) {
	if len(b) < 4 {
		return o, ErrShort
	}
	e, rest, err := ParseEndpoint(b[4:])
	if err == nil {
		err = exactly(rest, 2)
	}
	if err != nil {
		return o, err
	}
	return Spray{binary.BigEndian.Uint32(b), e, binary.BigEndian.Uint16(rest)}, nil
}

// Append writes the options behind dst.
func (o Spray) Append(dst []byte) []byte {
	dst = o.Endpoint.Append(binary.BigEndian.AppendUint32(dst, o.Attempt))
	return binary.BigEndian.AppendUint16(dst, o.Sockets)
}
