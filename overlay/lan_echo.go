package overlay

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// echoes recognize what programs repeat that join the adapter with another network, or send again what they
// hear there. Where two nodes are joined by such programs on both sides, everything would go around for
// ever. Players whose games say the same are no echo, though their clocks may tick together: they say it
// a few times a second, and what goes around comes back after milliseconds, or a round trip.
//
// So a packet turns when it leaves within turnIn of having come, or leaves from one port within echoFor of
// having left from another. What turns more than turnLimit times faster than once in turnEvery neither
// leaves nor comes in for echoFor. Of mDNS nothing leaves that came within echoFor: its own rule is not to
// say what has just been said (RFC 6762, 7.3 and 7.4).
//
// It is three tables of fixed size, by a keyed hash of destination and payload: what was overwritten is let
// through once more. A slot is
//
//	tag[24 bits] extra[16] time[24]       extra: out: the first source port; turns: how many units of time those
//	                                      of the past take, at turnEvery each, less the time that has gone by
//
// Any goroutine may use it.
type echoes struct {
	seed           maphash.Seed
	in, out, turns [echoSlots]atomic.Uint64
}

const (
	echoSlots = 1 << 13
	echoUnit  = 8 * time.Millisecond // of a slot's time
	echoTime  = 1<<24 - 1

	echoFor   = time.Second
	turnIn    = 48 * time.Millisecond
	turnEvery = 320 * time.Millisecond // more often than players say the same; a longer way around is not noticed
	turnLimit = 5
	turnUnits = uint64(turnEvery / echoUnit)

	portMDNS = 5353
)

func newEchoes() *echoes { return &echoes{seed: maphash.MakeSeed()} }

// slot returns the slot of a packet to a group, and its value now without the port; port is the packet's.
func (e *echoes) slot(now mono.Time, msg []byte) (at int, value uint64, port uint16) {
	head, port, payload := groupKey(msg)
	h := maphash.Bytes(e.seed, payload)
	h ^= maphash.Bytes(e.seed, head[:]) * 0x9e3779b97f4a7c15
	return int(h % echoSlots), h>>40<<40 | uint64(now.Duration()/echoUnit)&echoTime, port
}

// lately reports whether a slot has a packet, and got it so long ago at most.
func lately(slot, value uint64, within time.Duration) bool {
	return slot>>40 == value>>40 && (value-slot)&echoTime <= uint64(within/echoUnit)
}

// beside returns what a slot says beside tag and time.
func beside(slot uint64) uint16 { return uint16(slot >> 24) }

// came notes a packet that came in, and reports whether it goes around.
func (e *echoes) came(now mono.Time, msg []byte) bool {
	at, value, _ := e.slot(now, msg)
	if e.around(at, value) {
		return true
	}
	e.in[at].Store(value)
	return false
}

// leaves notes a packet that leaves, and reports whether it goes around.
func (e *echoes) leaves(now mono.Time, msg []byte) bool {
	at, value, port := e.slot(now, msg)
	if e.around(at, value) {
		return true
	}
	in, out := e.in[at].Load(), e.out[at].Load()
	first := port // from which it left
	if lately(out, value, echoFor) {
		first = beside(out)
	}
	switch {
	case port == portMDNS && lately(in, value, echoFor):
		return true
	case lately(in, value, turnIn), port != first:
		if e.turn(at, value) {
			return true
		}
	}
	e.out[at].Store(value | uint64(first)<<24)
	return false
}

// turn counts that a packet turns, and reports whether that is too often.
func (e *echoes) turn(at int, value uint64) bool {
	used := turnUnits
	if old := e.turns[at].Load(); lately(old, value, (turnLimit+1)*turnEvery) {
		used += max(uint64(beside(old)), (value-old)&echoTime) - (value-old)&echoTime
	}
	e.turns[at].Store(value | used<<24)
	return used > turnLimit*turnUnits
}

// around reports whether a packet has just turned too often.
func (e *echoes) around(at int, value uint64) bool {
	old := e.turns[at].Load()
	return uint64(beside(old)) > turnLimit*turnUnits && lately(old, value, echoFor)
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
