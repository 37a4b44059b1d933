package seal

import (
	"encoding/binary"
	"errors"

	"anodenet/anode/wire"
)

// Types of the TLVs that the handshake carries, `type[1] length[1] value`. Unknown ones
// are skipped, and of two with one type the first counts.
const (
	tlvLanes        = 0x01 // count[1] of consecutive receiver indices
	tlvInvitation   = 0x02 // id[8], in HELLO
	tlvStanding     = 0x03 // standing[1]
	tlvInstance     = 0x04 // instance[8]
	tlvCapabilities = 0x05 // bits from the left, of as many bytes as it takes
	tlvEndpoints    = 0x06 // endpoints[n], where the sender may be reached directly
	tlvMapping      = 0x07 // mapping[1], what a NAT in front of the sender does

	tlvLast = tlvMapping
)

// Capabilities are what a machine can do beyond what all can. Their numbers count bits
// from the left; those beyond 64, and unknown ones, say nothing.
//
//	0 reads S_DACK with a sequence number
//	1 half-close by S_CLOSE
//	2 takes IP6 and IP6P
//	3 NAT traversal mode SPRAY
//	4 virtual LAN
//	5 says exactly whether it lets the other side in
//	6 takes NAT_T PUNCH and PREDICT
type Capabilities uint64

// The capabilities that are in use.
const (
	// ReadsDAck is a machine that reads S_DACK with a sequence number before the payload.
	ReadsDAck Capabilities = 1 << 63
	// HalfCloses is a machine for which flag 1 of S_CLOSE ends one direction alone.
	HalfCloses Capabilities = 1 << (63 - 1)
	// TakesIP6 is a machine with an adapter, which takes IP6 and IP6P. One without speaks only streams
	// and DGRAM, which are TCP and UDP for the other side.
	TakesIP6 Capabilities = 1 << (63 - 2)
	// ExactStanding is a machine whose standing says whether it lets the other side in, for
	// whatever reason, and that says it again by STANDING when it refused something. Others
	// may let in machines that they have not added.
	ExactStanding Capabilities = 1 << (63 - 5)
	// TakesPunch is a machine that sends to where we are when it is told so by NAT_T.
	TakesPunch Capabilities = 1 << (63 - 6)
)

// MaxEndpoints is how many endpoints a machine says, and how many are read.
const MaxEndpoints = 8

// Reach is where a machine says that it may be reached directly. It is told to peers that
// were added only.
type Reach struct {
	Endpoints []wire.Endpoint // of UDP and TCP, the most promising first, at most MaxEndpoints
	Mapping   uint8           // kind of mapping in the high nibble, choice of ports in the low; see package path
}

// Announcement is what a machine says of itself in the handshake.
type Announcement struct {
	Lanes        int              // consecutive indices that it receives on, 1 to MaxLanes
	Standing     wire.StandingMsg // whether it has added the other side, or lets it in
	Instance     wire.Instance    // zero: not said
	Capabilities Capabilities
	Reach        Reach
	Invitation   InvitationID // by which the handshake is made; zero: none
}

// parseAnnouncement reads a list of TLVs. ok is false if it is malformed, or if one that
// is known has a length that it must not have.
func parseAnnouncement(b []byte) (a Announcement, ok bool) {
	a.Lanes = 1
	var seen [tlvLast + 1]bool
	for len(b) > 0 {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return Announcement{}, false
		}
		typ, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		if int(typ) >= len(seen) {
			continue
		}
		first := !seen[typ]
		seen[typ] = true
		if !a.take(typ, value, first) {
			return Announcement{}, false
		}
	}
	return a, true
}

// take takes one TLV, and checks one that is not the first of its type.
func (a *Announcement) take(typ byte, value []byte, first bool) bool {
	next := *a
	switch typ {
	case tlvLanes:
		if len(value) != 1 {
			return false
		}
		next.Lanes = min(max(int(value[0]), 1), MaxLanes)
	case tlvInvitation:
		if len(value) != len(a.Invitation) {
			return false
		}
		next.Invitation = InvitationID(value)
	case tlvStanding:
		if len(value) != 1 {
			return false
		}
		next.Standing, _ = wire.ParseStanding(value) // a later one is unknown to us
	case tlvInstance:
		if len(value) != len(a.Instance) {
			return false
		}
		next.Instance = wire.Instance(value)
	case tlvCapabilities:
		var bits [8]byte
		copy(bits[:], value)
		next.Capabilities = Capabilities(binary.BigEndian.Uint64(bits[:]))
	case tlvEndpoints:
		var ok bool
		if next.Reach.Endpoints, ok = parseEndpoints(value); !ok {
			return false
		}
	case tlvMapping:
		if len(value) != 1 {
			return false
		}
		next.Reach.Mapping = value[0]
	}
	if first {
		*a = next
	}
	return true
}

// parseEndpoints reads endpoints, of which it keeps those of UDP and TCP. One of a kind that is not
// known ends the list, since its length is not known either; ok is false if the list is cut
// off.
func parseEndpoints(b []byte) (list []wire.Endpoint, ok bool) {
	for len(b) > 0 {
		e, rest, err := wire.ParseEndpoint(b)
		if errors.Is(err, wire.ErrEndpoint) {
			break
		}
		if err != nil {
			return nil, false
		}
		b = rest
		switch e.Kind {
		case wire.UDP4, wire.UDP6, wire.TCP4, wire.TCP6:
			if len(list) < MaxEndpoints {
				list = append(list, e)
			}
		}
	}
	return list, true
}

// append writes the TLVs. What goes without saying is left out.
func (a Announcement) append(b []byte) []byte {
	if a.Lanes > 1 {
		b = append(b, tlvLanes, 1, byte(a.Lanes))
	}
	if a.Invitation != (InvitationID{}) {
		b = append(append(b, tlvInvitation, byte(len(a.Invitation))), a.Invitation[:]...)
	}
	if a.Standing != wire.StandingUnknown {
		b = a.Standing.Append(append(b, tlvStanding, 1))
	}
	if a.Instance != (wire.Instance{}) {
		b = a.Instance.Append(append(b, tlvInstance, byte(len(a.Instance))))
	}
	if a.Capabilities != 0 {
		var bits [8]byte
		binary.BigEndian.PutUint64(bits[:], uint64(a.Capabilities))
		n := len(bits)
		for bits[n-1] == 0 {
			n--
		}
		b = append(append(b, tlvCapabilities, byte(n)), bits[:n]...)
	}
	return a.Reach.append(b)
}

func (r Reach) append(b []byte) []byte {
	if list := r.Endpoints[:min(len(r.Endpoints), MaxEndpoints)]; len(list) > 0 {
		b = append(b, tlvEndpoints, 0)
		at := len(b)
		for _, e := range list {
			b = e.Append(b)
		}
		b[at-1] = byte(len(b) - at) // at most MaxEndpoints times 19
	}
	if r.Mapping != 0 {
		b = append(b, tlvMapping, 1, r.Mapping)
	}
	return b
}
