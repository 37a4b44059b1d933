package portmap

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Messages of PCP (RFC 6887 7.1, 7.2, 11.1), all numbers big-endian:
//
//	request   version[1]=2 opcode[1]       0[2]         lifetime[4] client[16]
//	answer    version[1]=2 opcode[1]|0x80  0[1] code[1] lifetime[4] epoch[4] 0[12]
//	MAP, both                              nonce[12] protocol[1] 0[3] internal[2] external[2] address[16]
//
// Lifetimes are in seconds. IPv4 addresses are mapped to IPv6.
const (
	pcpVersion  = 2
	pcpAnnounce = 0
	pcpMap      = 1
	pcpAnswer   = 0x80
	pcpHeader   = 24
	pcpMapSize  = 60
	pcpMost     = 1100 // RFC 6887 7
	udpProtocol = 17
)

// errOther: a packet that is no answer to the request. It is ignored.
var errOther = errors.New("another packet")

// pcpNonce names a mapping, and is what proves to the gateway that it is ours.
type pcpNonce [12]byte

// newNonce derives the nonce of a route and port.
func newNonce(key []byte, r Route, port uint16) (n pcpNonce) {
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "anode pcp %s %s %d", r.Gateway, r.Source, port)
	copy(n[:], h.Sum(nil))
	return n
}

// pcpRequest is a request for a mapping; seconds 0 removes it.
type pcpRequest struct {
	client   netip.Addr
	nonce    pcpNonce
	internal uint16
	external netip.AddrPort // suggested; port 0: none
	seconds  uint32
}

func appendPCPHeader(b []byte, opcode byte, seconds uint32, client netip.Addr) []byte {
	b = append(b, pcpVersion, opcode, 0, 0)
	b = binary.BigEndian.AppendUint32(b, seconds)
	a := client.As16()
	return append(b, a[:]...)
}

// appendTo appends the message.
func (r pcpRequest) appendTo(b []byte) []byte {
	b = appendPCPHeader(b, pcpMap, r.seconds, r.client)
	b = append(b, r.nonce[:]...)
	b = append(b, udpProtocol, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, r.internal)
	b = binary.BigEndian.AppendUint16(b, r.external.Port())
	a := r.external.Addr().As16()
	return append(b, a[:]...)
}

// pcpReply is an answer. The fields after epoch are those of MAP, and zero unless code is 0.
type pcpReply struct {
	code     uint8
	seconds  uint32 // of the mapping, or of an error: how long it will last
	epoch    uint32
	nonce    pcpNonce
	internal uint16
	external netip.AddrPort
}

// parsePCP reads an answer to a request with the opcode. The error is errOther for any
// other packet, or a failure if the gateway speaks no PCP, or not this version of it.
func parsePCP(b []byte, opcode byte) (r pcpReply, err error) {
	if len(b) >= 8 && len(b) <= pcpMost && b[0] != pcpVersion && b[1] == opcode|pcpAnswer {
		return r, &failure{code: Unfit, detail: fmt.Sprintf("version %d instead of PCP", b[0])} // RFC 6887 9, RFC 6886 3.5
	}
	if len(b) < pcpHeader || len(b) > pcpMost || len(b)%4 != 0 || b[0] != pcpVersion || b[1] != opcode|pcpAnswer {
		return r, errOther
	}
	r.code = b[3]
	r.seconds = binary.BigEndian.Uint32(b[4:])
	r.epoch = binary.BigEndian.Uint32(b[8:])
	if opcode != pcpMap {
		return r, nil
	}
	if len(b) < pcpMapSize {
		if r.code == 0 {
			return r, errOther
		}
		return r, nil
	}
	m := b[pcpHeader:]
	if m[12] != udpProtocol {
		return r, errOther
	}
	copy(r.nonce[:], m)
	r.internal = binary.BigEndian.Uint16(m[16:])
	r.external = netip.AddrPortFrom(netip.AddrFrom16([16]byte(m[20:36])).Unmap(), binary.BigEndian.Uint16(m[18:]))
	return r, nil
}

// pcpCodes are the result codes (RFC 6887 7.4).
var pcpCodes = [...]struct {
	name string
	code Code
}{
	{"SUCCESS", notOffered},
	{"UNSUPP_VERSION", Unfit},
	{"NOT_AUTHORIZED", Refused},
	{"MALFORMED_REQUEST", Unfit},
	{"UNSUPP_OPCODE", Unfit},
	{"UNSUPP_OPTION", Unfit},
	{"MALFORMED_OPTION", Unfit},
	{"NETWORK_FAILURE", NotReady},
	{"NO_RESOURCES", NoPort},
	{"UNSUPP_PROTOCOL", Unfit},
	{"USER_EX_QUOTA", NoPort},
	{"CANNOT_PROVIDE_EXTERNAL", NoPort},
	{"ADDRESS_MISMATCH", Unfit},
	{"EXCESSIVE_REMOTE_PEERS", NoPort},
}

// err returns the failure that the answer says, nil if it is a success.
func (r pcpReply) err() error {
	if r.code == 0 {
		return nil
	}
	f := &failure{code: Unfit, detail: fmt.Sprintf("result code %d", r.code), wait: time.Duration(r.seconds) * time.Second}
	if int(r.code) < len(pcpCodes) {
		f.code, f.detail = pcpCodes[r.code].code, pcpCodes[r.code].name
	}
	return f
}

// pcp asks by PCP.
type pcp struct {
	peer    peer
	request pcpRequest
	epoch   epoch
}

func newPCP(r Route, port uint16, key []byte, at uint16) *pcp {
	none := netip.IPv4Unspecified()
	if r.Source.Is6() {
		none = netip.IPv6Unspecified()
	}
	return &pcp{
		peer:    peer{from: r.Source, to: netip.AddrPortFrom(r.router(), at)},
		request: pcpRequest{client: r.Source, nonce: newNonce(key, r, port), internal: port, external: netip.AddrPortFrom(none, 0)},
	}
}

func (p *pcp) kind() Kind { return PCP }

// probe takes any answer for a yes: a gateway need not know ANNOUNCE.
func (p *pcp) probe(ctx context.Context) error {
	return p.peer.exchange(ctx, appendPCPHeader(nil, pcpAnnounce, 0, p.request.client), func(b []byte) error {
		_, err := parsePCP(b, pcpAnnounce)
		return err
	})
}

func (p *pcp) add(ctx context.Context, external uint16) (grant, error) {
	q := p.request
	q.external, q.seconds = netip.AddrPortFrom(q.external.Addr(), external), uint32(Lease/time.Second)
	r, err := p.do(ctx, q)
	if err != nil {
		return grant{}, err
	}
	if r.external.Port() == 0 || r.external.Addr().Is4() != q.client.Is4() || r.external.Addr().IsUnspecified() || r.seconds == 0 {
		return grant{}, &failure{code: Failed, detail: "a mapping without address, port or time"}
	}
	p.request.external = r.external // to have the same again after a restart of the gateway
	return grant{r.external, time.Duration(r.seconds) * time.Second, p.epoch.take(r.epoch, time.Now())}, nil
}

func (p *pcp) remove(ctx context.Context) error {
	q := p.request
	q.external = netip.AddrPortFrom(q.external.Addr(), 0) // RFC 6887 15.1
	_, err := p.do(ctx, q)
	return err
}

// do sends a request for a mapping and waits for its answer.
func (p *pcp) do(ctx context.Context, q pcpRequest) (reply pcpReply, err error) {
	err = p.peer.exchange(ctx, q.appendTo(nil), func(b []byte) error {
		r, err := parsePCP(b, pcpMap)
		if err != nil {
			return err
		}
		if r.nonce != q.nonce || r.internal != q.internal {
			return errOther
		}
		reply = r
		return r.err()
	})
	return reply, err
}
