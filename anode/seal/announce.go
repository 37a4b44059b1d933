package seal

import (
	"encoding/binary"

	"anodenet/anode/wire"
)

// Types of the TLVs that the handshake carries, `type[1] length[1] value`. Unknown ones
// are skipped, and of two with one type the first counts. 2 is the ID of an invitation,
// which nothing here sends or reads.
const (
	tlvLanes        = 0x01 // count[1] of consecutive receiver indices
	tlvStanding     = 0x03 // standing[1]
	tlvInstance     = 0x04 // instance[8]
	tlvCapabilities = 0x05 // bits from the left, of as many bytes as it takes
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
type Capabilities uint64

// The capabilities that are in use.
const (
	// TakesIP6 is a machine with an adapter, which takes IP6 and IP6P.
	TakesIP6 Capabilities = 1 << (63 - 2)
	// ExactStanding is a machine whose standing says whether it lets the other side in, for
	// whatever reason, and that says it again by STANDING when it refused something. Others
	// may let in machines that they have not added.
	ExactStanding Capabilities = 1 << (63 - 5)
)

// Announcement is what a machine says of itself in the handshake.
type Announcement struct {
	Lanes        int              // consecutive indices that it receives on, 1 to MaxLanes
	Standing     wire.StandingMsg // whether it has added the other side, or lets it in
	Instance     wire.Instance    // zero: not said
	Capabilities Capabilities
}

// parseAnnouncement reads a list of TLVs. ok is false if it is malformed, or if one that
// is known has a length that it must not have.
func parseAnnouncement(b []byte) (a Announcement, ok bool) {
	a.Lanes = 1
	var seen [tlvCapabilities + 1]bool
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
	}
	if first {
		*a = next
	}
	return true
}

// append writes the TLVs. What goes without saying is left out.
func (a Announcement) append(b []byte) []byte {
	if a.Lanes > 1 {
		b = append(b, tlvLanes, 1, byte(a.Lanes))
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
	return b
}
