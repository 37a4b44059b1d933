package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
)

// SOCKS5 (RFC 1928), without authentication:
//
//	greeting  5 n method[n]                            ->  5 method
//	request   5 command 0 type address port[2]         ->  5 reply 0 type address port[2]
//	datagram  0 0 fragment type address port[2] data
//
// An address is 4 or 16 bytes of an IP address, or a length and a name.
const (
	socksVersion = 5

	methodNone   = 0
	methodNoneOf = 0xff

	commandConnect   = 1
	commandAssociate = 3

	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// socksReply is the answer to a request.
type socksReply byte

// The answers.
const (
	replyDone        socksReply = 0
	replyFailed      socksReply = 1
	replyNotAllowed  socksReply = 2
	replyUnreachable socksReply = 4 // the host
	replyRefused     socksReply = 5
	replyCommand     socksReply = 7
	replyType        socksReply = 8
)

var (
	errNotSOCKS = errors.New("not SOCKS5")
	errMethod   = errors.New("no method that is known here")
	errType     = errors.New("an unknown type of address")
)

// socksTarget is where a request or a datagram is to go.
type socksTarget struct {
	host string // a name or an IP address
	port uint16
}

// readGreeting reads a greeting. Its error is errMethod if the client wants to authenticate.
func readGreeting(r io.Reader) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return err
	}
	if head[0] != socksVersion { // at once: of something else nothing more may follow
		return errNotSOCKS
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return err
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(r, methods); err != nil {
		return err
	}
	for _, m := range methods {
		if m == methodNone {
			return nil
		}
	}
	return errMethod
}

// readRequest reads a request.
func readRequest(r io.Reader) (command byte, to socksTarget, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, to, err
	}
	if head[0] != socksVersion || head[2] != 0 {
		return 0, to, errNotSOCKS
	}
	var address []byte
	switch head[3] {
	case typeIPv4:
		address = make([]byte, 4)
	case typeIPv6:
		address = make([]byte, 16)
	case typeName:
		var n [1]byte
		if _, err := io.ReadFull(r, n[:]); err != nil {
			return 0, to, err
		}
		address = make([]byte, n[0])
	default:
		return head[1], to, errType
	}
	if _, err := io.ReadFull(r, address); err != nil {
		return 0, to, err
	}
	var port [2]byte
	if _, err := io.ReadFull(r, port[:]); err != nil {
		return 0, to, err
	}
	return head[1], socksTarget{hostOf(head[3], address), binary.BigEndian.Uint16(port[:])}, nil
}

func hostOf(kind byte, address []byte) string {
	if kind == typeName {
		return string(address)
	}
	ip, _ := netip.AddrFromSlice(address)
	return ip.String()
}

// appendSocksReply appends an answer. at is where the connection comes from, or where
// datagrams are taken.
func appendSocksReply(b []byte, code socksReply, at netip.AddrPort) []byte {
	return appendSocksAddr(append(b, socksVersion, byte(code), 0), at)
}

func appendSocksAddr(b []byte, at netip.AddrPort) []byte {
	ip := at.Addr().Unmap()
	switch {
	case !ip.IsValid():
		b = append(b, typeIPv4, 0, 0, 0, 0)
	case ip.Is4():
		b = append(append(b, typeIPv4), ip.AsSlice()...)
	default:
		b = append(append(b, typeIPv6), ip.AsSlice()...)
	}
	return binary.BigEndian.AppendUint16(b, at.Port())
}

// parseSocksDatagram returns where a datagram is to go, and its data, which is a part of b. ok
// is false if it is malformed or a fragment.
func parseSocksDatagram(b []byte) (to socksTarget, data []byte, ok bool) {
	if len(b) < 4 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		return to, nil, false
	}
	kind, rest := b[3], b[4:]
	n := 0
	switch {
	case kind == typeIPv4:
		n = 4
	case kind == typeIPv6:
		n = 16
	case kind == typeName && len(rest) > 0:
		n = int(rest[0])
		rest = rest[1:]
	default:
		return to, nil, false
	}
	if len(rest) < n+2 {
		return to, nil, false
	}
	return socksTarget{hostOf(kind, rest[:n]), binary.BigEndian.Uint16(rest[n:])}, rest[n+2:], true
}

// appendSocksDatagram appends the header of a datagram that came from an address.
func appendSocksDatagram(b []byte, from netip.AddrPort) []byte {
	return appendSocksAddr(append(b, 0, 0, 0), from)
}
