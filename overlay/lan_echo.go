package overlay

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// echoes recognize what a program repeats that joins the adapter with another network, or sends again what
// it hears there. Nothing that came in leaves again within echoFor, and nothing that left from one port
// leaves again from another. Where two nodes are joined by such programs on both sides, either of them
// would otherwise send the other one everything again and again.
//
// The node that would send a packet back is not always the one that it would circle through: the other
// side's program may have sent it from the port that it has always. So what was found to turn around here
// is not let in again for as long.
//
// It is two tables of fixed size, by a keyed hash of destination and payload: what was overwritten is let
// through once more. A slot is
//
//	tag[24 bits] port[16] time[24]        the port is the source's, or says that it turned around
//
// Any goroutine may use it.
type echoes struct {
	seed    maphash.Seed
	in, out [echoSlots]atomic.Uint64
}

const (
	echoSlots = 1 << 14
	echoFor   = time.Second
	echoUnit  = 64 * time.Millisecond // of a slot's time

	echoTime   = 1<<24 - 1
	turnedHere = 1 // in the place of a port
)

func newEchoes() *echoes { return &echoes{seed: maphash.MakeSeed()} }

// slot returns the slot of a packet to a group, and its value now but for the port; port is the packet's.
func (e *echoes) slot(now mono.Time, msg []byte) (at int, value uint64, port uint16) {
	head, port, payload := groupKey(msg)
	h := maphash.Bytes(e.seed, payload)
	h ^= maphash.Bytes(e.seed, head[:]) * 0x9e3779b97f4a7c15
	return int(h % echoSlots), h>>40<<40 | uint64(now.Duration()/echoUnit)&echoTime, port
}

// lately reports whether a slot has a packet, and got it within echoFor.
func lately(slot, value uint64) bool {
	return slot>>40 == value>>40 && (value-slot)&echoTime <= uint64(echoFor/echoUnit)
}

// came notes a packet that came in, and reports whether it turned around here before.
func (e *echoes) came(now mono.Time, msg []byte) bool {
	at, value, _ := e.slot(now, msg)
	slot := &e.in[at]
	if old := slot.Load(); lately(old, value) && uint16(old>>24) == turnedHere {
		return true
	}
	slot.Store(value)
	return false
}

// leaves notes a packet that leaves, and reports whether a program repeats it that somebody else has sent.
func (e *echoes) leaves(now mono.Time, msg []byte) bool {
	at, value, port := e.slot(now, msg)
	in := &e.in[at]
	if old := in.Load(); lately(old, value) {
		if uint16(old>>24) != turnedHere {
			in.Store(value | turnedHere<<24)
		}
		return true
	}
	out := &e.out[at]
	if old := out.Load(); lately(old, value) && uint16(old>>24) != port {
		return true
	}
	out.Store(value | uint64(port)<<24)
	return false
}

// groupKey returns what tells packets to groups apart: destination, protocol and port, and the payload; and
// the source port, which is 0 of what is not UDP. A GROUP that is cut off has no payload.
func groupKey(msg []byte) (head [19]byte, port uint16, payload []byte) {
	const at = 1 + wire.GroupHeader
	if len(msg) < at+wire.IP4Header {
		return head, 0, nil
	}
	copy(head[:], msg[1:at])
	proto, udp := msg[at+4], true
	payload = msg[at+wire.IP6Header:]
	if isMapped(msg[1:at]) {
		proto, payload = msg[at+6], msg[at+wire.IP4Header:]
		udp = binary.BigEndian.Uint16(msg[at+3:])&0x3fff == 0 // not a fragment
	}
	head[16] = proto
	if udp = udp && proto == 17 && len(payload) >= 8; udp {
		copy(head[17:], payload[2:4])
		return head, binary.BigEndian.Uint16(payload), payload[8:]
	}
	return head, 0, payload
}

// isMapped reports whether 16 bytes are an IPv4-mapped address.
func isMapped(a []byte) bool {
	return binary.BigEndian.Uint64(a) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}
