package peer

import (
	"container/heap"

	"anodenet/overlay/mono"
)

// Schedule holds the peers in the order in which they are due, and those that were
// touched. Its cost depends on what is due and not on how many peers there are.
type Schedule struct {
	heap    dueHeap
	touched []*Peer
}

// entry is a peer's place in a Schedule.
type entry struct {
	due     mono.Time // of Tick
	slot    int       // in the heap
	touched bool
}

// The slots of what is not in the heap.
const (
	outside = -1
	removed = -2 // and will not be
)

func newEntry() entry { return entry{due: mono.Never, slot: outside} }

// Touch has Next return a peer, whatever its due time is: something was said to it.
func (s *Schedule) Touch(p *Peer) {
	if e := &p.entry; !e.touched && e.slot != removed {
		e.touched = true
		s.touched = append(s.touched, p)
	}
}

// Next returns a peer to Tick now; nil if there is none.
func (s *Schedule) Next(now mono.Time) *Peer {
	for len(s.touched) > 0 {
		last := len(s.touched) - 1
		p := s.touched[last]
		s.touched[last] = nil
		s.touched = s.touched[:last]
		p.entry.touched = false
		if p.entry.slot != removed {
			return p
		}
	}
	if len(s.heap) > 0 && s.heap[0].entry.due <= now {
		return s.heap[0]
	}
	return nil
}

// Update puts a peer where its due time belongs, after Tick.
func (s *Schedule) Update(p *Peer) {
	switch {
	case p.entry.slot == removed:
	case p.entry.due == mono.Never && p.entry.slot >= 0:
		heap.Remove(&s.heap, p.entry.slot)
	case p.entry.due == mono.Never:
	case p.entry.slot < 0:
		heap.Push(&s.heap, p)
	default:
		heap.Fix(&s.heap, p.entry.slot)
	}
}

// Remove forgets a peer.
func (s *Schedule) Remove(p *Peer) {
	if p.entry.slot >= 0 {
		heap.Remove(&s.heap, p.entry.slot)
	}
	p.entry.slot = removed
}

// Due returns when the first peer is due.
func (s *Schedule) Due() mono.Time {
	if len(s.heap) == 0 {
		return mono.Never
	}
	return s.heap[0].entry.due
}

// dueHeap implements heap.Interface.
type dueHeap []*Peer

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].entry.due < h[j].entry.due }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].entry.slot, h[j].entry.slot = i, j
}

func (h *dueHeap) Push(x any) {
	p := x.(*Peer)
	p.entry.slot = len(*h)
	*h = append(*h, p)
}

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	p.entry.slot = outside
	return p
}
