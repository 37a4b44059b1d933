package stream

import "anodenet/anode/wire"

// Sequence numbers are 32 bits on the wire and wrap. Inside they are 64 bits and do not:
// the first is 1<<32 plus the one on the wire, so 0 is none.

// firstNumber returns the number of an S_OPEN.
func firstNumber(wire uint32) uint64 { return 1<<32 + uint64(wire) }

// near returns the number with these low bits that is nearest to ref.
func near(ref uint64, low uint32) uint64 { return ref + uint64(int64(int32(low-uint32(ref)))) }

// span is the numbers from <= n < to.
type span struct{ from, to uint64 }

const (
	maxItems   = 32  // acknowledgements in one S_ACK
	itemLength = 255 // numbers in one acknowledgement
	againItems = 8   // of the numbers that came again
	frontItems = 4   // of the newest span: how many lost S_ACKs make up for each other
)

// heard is what was received, as far as it is still repeated: disjoint spans that do not
// touch, the one with the newest packet first.
type heard []span

// add notes the packet n.
func (h *heard) add(n uint64) {
	s := span{n, n + 1}
	kept := (*h)[:0]
	for _, x := range *h {
		if x.from <= s.to && s.from <= x.to {
			s = span{min(x.from, s.from), max(x.to, s.to)}
		} else {
			kept = append(kept, x)
		}
	}
	if len(kept) < maxItems-1 {
		kept = append(kept, span{})
	}
	copy(kept[1:], kept)
	kept[0] = s
	*h = kept
}

// appendAgain writes the numbers from n on, which came again: their acknowledgements were lost,
// and they may lie far below what appendAcks writes of their span.
func (h heard) appendAgain(acks wire.Acks, n uint64, room int) wire.Acks {
	for _, s := range h {
		for ; s.from <= n && n < s.to && acks.Len() < min(againItems, room-1); n = min(n+itemLength, s.to) {
			acks = acks.AppendAck(uint32(n), uint8(min(s.to-n, itemLength)))
		}
	}
	return acks
}

// appendAcks writes the newest spans as at most room items, at least one. next is
// the first number that is missing: the last item ends there.
func (h heard) appendAcks(acks wire.Acks, next uint64, room int) wire.Acks {
	covered := false
	for i, s := range h {
		pieces := 1
		if i == 0 {
			pieces = frontItems
		}
		for ; pieces > 0 && s.from < s.to && acks.Len() < room-1; pieces-- {
			from := max(s.from, s.to-min(s.to, itemLength))
			acks = acks.AppendAck(uint32(from), uint8(s.to-from))
			covered = covered || s.to == next
			s.to = from
		}
	}
	if !covered {
		acks = acks.AppendAck(uint32(next-1), 1)
	}
	return acks
}
