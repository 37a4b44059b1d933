package portmap

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Messages of NAT-PMP (RFC 6886 3.2, 3.3), all numbers big-endian:
//
//	request of the external address  0[1] 0[1]
//	answer                           0[1] 128[1] code[2] epoch[4] address[4]
//	request of a mapping for UDP     0[1] 1[1]   0[2]    internal[2] external[2] lifetime[4]
//	answer                           0[1] 129[1] code[2] epoch[4] internal[2] external[2] lifetime[4]
//
// Lifetimes are in seconds.
const (
	pmpAddress     = 0
	pmpMapUDP      = 1
	pmpAnswer      = 0x80
	pmpAddressSize = 12
	pmpMapSize     = 16
)

// appendPMPMap appends a request for a mapping; seconds 0 removes it.
func appendPMPMap(b []byte, internal, external uint16, seconds uint32) []byte {
	b = append(b, 0, pmpMapUDP, 0, 0)
	b = binary.BigEndian.AppendUint16(b, internal)
	b = binary.BigEndian.AppendUint16(b, external)
	return binary.BigEndian.AppendUint32(b, seconds)
}

// pmpReply is an answer. The fields after epoch belong to one of the two requests, and are
// zero unless code is 0.
type pmpReply struct {
	code     uint16
	epoch    uint32
	address  netip.Addr
	internal uint16
	external uint16
	seconds  uint32
}

// parsePMP reads an answer to a request with the opcode. The error is errOther for any
// other packet.
func parsePMP(b []byte, opcode byte) (r pmpReply, err error) {
	if len(b) < 8 || b[0] == pcpVersion && b[1] == opcode|pmpAnswer {
		if len(b) >= 4 && b[0] == pcpVersion && b[1] == opcode|pmpAnswer {
			return r, &failure{code: Unfit, detail: "PCP instead of NAT-PMP"}
		}
		return r, errOther
	}
	if b[0] != 0 || b[1] != opcode|pmpAnswer {
		return r, errOther
	}
	r.code = binary.BigEndian.Uint16(b[2:])
	r.epoch = binary.BigEndian.Uint32(b[4:])
	if r.code != 0 {
		return r, nil // which may end here
	}
	switch {
	case opcode == pmpAddress && len(b) == pmpAddressSize:
		r.address = netip.AddrFrom4([4]byte(b[8:]))
	case opcode == pmpMapUDP && len(b) == pmpMapSize:
		r.internal = binary.BigEndian.Uint16(b[8:])
		r.external = binary.BigEndian.Uint16(b[10:])
		r.seconds = binary.BigEndian.Uint32(b[12:])
	default:
		return r, errOther
	}
	return r, nil
}

// pmpCodes are the result codes (RFC 6886 3.5).
var pmpCodes = [...]struct {
	name string
	code Code
}{
	{"success", notOffered},
	{"unsupported version", Unfit},
	{"not authorized", Refused},
	{"network failure", NotReady},
	{"out of resources", NoPort},
	{"unsupported opcode", Unfit},
}

func (r pmpReply) err() error {
	if r.code == 0 {
		return nil
	}
	if int(r.code) < len(pmpCodes) {
		return &failure{code: pmpCodes[r.code].code, detail: pmpCodes[r.code].name}
	}
	return &failure{code: Unfit, detail: fmt.Sprintf("result code %d", r.code)}
}

// natpmp asks by NAT-PMP.
type natpmp struct {
	peer  peer
	port  uint16
	epoch epoch
}

func newNATPMP(r Route, port, at uint16) *natpmp {
	return &natpmp{peer: peer{from: r.Source, to: netip.AddrPortFrom(r.router(), at)}, port: port}
}

func (p *natpmp) kind() Kind { return NATPMP }

// probe asks for the external address. A gateway that has none yet does speak the protocol:
// add asks again.
func (p *natpmp) probe(ctx context.Context) error {
	return p.peer.exchange(ctx, []byte{0, pmpAddress}, func(b []byte) error {
		_, err := parsePMP(b, pmpAddress)
		return err
	})
}

func (p *natpmp) add(ctx context.Context, external uint16) (grant, error) {
	a, err := p.do(ctx, pmpAddress, []byte{0, pmpAddress}) // first, so that a failure leaves no mapping behind
	if err != nil {
		return grant{}, err
	}
	if a.address.IsUnspecified() {
		return grant{}, &failure{code: NotReady, detail: "it has no external address"}
	}
	m, err := p.do(ctx, pmpMapUDP, appendPMPMap(nil, p.port, external, uint32(Lease/time.Second)))
	if err != nil {
		return grant{}, err
	}
	if m.external == 0 || m.seconds == 0 {
		return grant{}, &failure{code: Failed, detail: "a mapping without port or time"}
	}
	restarted := p.epoch.take(m.epoch, time.Now())
	return grant{netip.AddrPortFrom(a.address, m.external), time.Duration(m.seconds) * time.Second, restarted}, nil
}

func (p *natpmp) remove(ctx context.Context) error {
	_, err := p.do(ctx, pmpMapUDP, appendPMPMap(nil, p.port, 0, 0))
	return err
}

// do sends a request and waits for its answer.
func (p *natpmp) do(ctx context.Context, opcode byte, request []byte) (reply pmpReply, err error) {
	err = p.peer.exchange(ctx, request, func(b []byte) error {
		r, err := parsePMP(b, opcode)
		if err != nil {
			return err
		}
		if opcode == pmpMapUDP && r.code == 0 && r.internal != p.port {
			return errOther
		}
		reply = r
		return r.err()
	})
	return reply, err
}
