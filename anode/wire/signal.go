package wire

import (
	"encoding/binary"
	"fmt"
)

// ErrorCode says what went wrong (draft 4.2.1).
type ErrorCode uint16

// The draft's error codes.
const (
	ErrorInvalid        ErrorCode = 1 // message not valid
	ErrorAuthentication ErrorCode = 2 // authentication or decryption failed
	ErrorRelaying       ErrorCode = 3 // relaying not authorized
	ErrorUnreachable    ErrorCode = 4 // relay recipient not reachable
)

// String names the code for people.
func (c ErrorCode) String() string {
	switch c {
	case ErrorInvalid:
		return "message not valid"
	case ErrorAuthentication:
		return "authentication failed"
	case ErrorRelaying:
		return "relaying not authorized"
	case ErrorUnreachable:
		return "relay recipient not reachable"
	}
	return fmt.Sprintf("error 0x%04x", uint16(c))
}

// ErrorMsg is ERROR: code[2] arguments.
type ErrorMsg struct {
	Code ErrorCode
	Args []byte // empty for the draft's codes
}

// ParseError reads an ERROR.
func ParseError(b []byte) (m ErrorMsg, err error) {
	if len(b) < 2 {
		return m, ErrShort
	}
	return ErrorMsg{ErrorCode(binary.BigEndian.Uint16(b)), b[2:]}, nil
}

// Append writes the message behind dst.
func (m ErrorMsg) Append(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(m.Code)), m.Args...)
}

// EchoMsg is what a PING or PONG carries for the system's own echo (ICMPv6): ident[2]
// seq[2] data. Any other payload is as good a PING; it is echoed as it is.
type EchoMsg struct {
	Ident, Seq uint16
	Data       []byte
}

// ParseEcho reads the payload of a PING or PONG as the system's echo.
func ParseEcho(b []byte) (m EchoMsg, err error) {
	if len(b) < 4 {
		return m, ErrShort
	}
	return EchoMsg{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), b[4:]}, nil
}

// Append writes the payload behind dst.
func (m EchoMsg) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, m.Ident)
	dst = binary.BigEndian.AppendUint16(dst, m.Seq)
	return append(dst, m.Data...)
}

// ParseEPC reads an EPC_REQ or EPC: the request's ID and no more.
func ParseEPC(b []byte) (request uint32, err error) {
	if err := exactly(b, 4); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// AppendEPC writes an EPC_REQ or EPC.
func AppendEPC(dst []byte, request uint32) []byte {
	return binary.BigEndian.AppendUint32(dst, request)
}

// EPIMsg is EPI: flags[1]=0 endpoint NAT-T mode[1] options (draft 4.2.6). An
// unspecified endpoint stands for the message's source.
type EPIMsg struct {
	Endpoint Endpoint
	NATTMsg
}

// ParseEPI reads an EPI. Flags "must be zero", so others are refused.
func ParseEPI(b []byte) (m EPIMsg, err error) {
	if len(b) < 1 {
		return m, ErrShort
	}
	if b[0] != 0 {
		return m, ErrField
	}
	e, b, err := ParseEndpoint(b[1:])
	if err != nil {
		return m, err
	}
	t, err := ParseNATT(b)
	return EPIMsg{e, t}, err
}

// Append writes the message behind dst.
func (m EPIMsg) Append(dst []byte) []byte {
	return m.NATTMsg.Append(m.Endpoint.Append(append(dst, 0)))
}

// NetIDMsg is NETID_REQ and NETID: request[4] endpoint (draft 4.2.8, 4.2.9).
type NetIDMsg struct {
	Request  uint32
	Endpoint Endpoint
}

// ParseNetIDReq reads a NETID_REQ. An unspecified endpoint asks for the request's source.
func ParseNetIDReq(b []byte) (m NetIDMsg, err error) {
	if len(b) < 5 {
		return m, ErrShort
	}
	m.Request = binary.BigEndian.Uint32(b)
	m.Endpoint, b, err = ParseEndpoint(b[4:])
	if err != nil {
		return NetIDMsg{}, err
	}
	if len(b) != 0 {
		return NetIDMsg{}, ErrLong
	}
	return m, nil
}

// ParseNetID reads a NETID, which always says where it was sent: an unspecified
// endpoint is refused.
func ParseNetID(b []byte) (NetIDMsg, error) {
	m, err := ParseNetIDReq(b)
	if err == nil && m.Endpoint.Kind == Unspecified {
		return NetIDMsg{}, ErrEndpoint
	}
	return m, err
}

// Append writes the message behind dst.
func (m NetIDMsg) Append(dst []byte) []byte {
	return m.Endpoint.Append(binary.BigEndian.AppendUint32(dst, m.Request))
}

// exactly checks a fixed length.
func exactly(b []byte, n int) error {
	switch {
	case len(b) < n:
		return ErrShort
	case len(b) > n:
		return ErrLong
	}
	return nil
}
