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

// Touch has Next return the peer, whatever its due time is, if something was said to
// it.
func (s *Schedule) Touch(p *Peer) {
	if p.touched && p.slot != removed {
		s.touched = append(s.touched, p)
	}
}

// removed is the slot of a peer that is not to be scheduled any more.
const removed = -2

// Next returns a peer to Tick now; nil if there is none.
func (s *Schedule) Next(now mono.Time) *Peer {
	for len(s.touched) > 0 {
		p := s.touched[len(s.touched)-1]
		s.touched[len(s.touched)-1] = nil
		s.touched = s.touched[:len(s.touched)-1]
		if p.touched && p.slot != removed {
			return p
		}
	}
	if len(s.heap) > 0 && s.heap[0].due <= now {
		return s.heap[0]
	}
	return nil
}

// Update puts a peer where its due time belongs, after Tick.
func (s *Schedule) Update(p *Peer) {
	switch {
	case p.slot == removed:
	case p.due == mono.Never && p.slot >= 0:
		heap.Remove(&s.heap, p.slot)
	case p.due == mono.Never:
	case p.slot < 0:
		heap.Push(&s.heap, p)
	default:
		heap.Fix(&s.heap, p.slot)
	}
}

// Remove forgets a peer.
func (s *Schedule) Remove(p *Peer) {
	if p.slot >= 0 {
		heap.Remove(&s.heap, p.slot)
	}
	p.slot = removed
}

// Due returns when the first peer is due.
func (s *Schedule) Due() mono.Time {
	if len(s.heap) == 0 {
		return mono.Never
	}
	return s.heap[0].due
}

// dueHeap implements heap.Interface.
type dueHeap []*Peer

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due < h[j].due }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = i, j
}

func (h *dueHeap) Push(x any) {
	p := x.(*Peer)
	p.slot = len(*h)
	*h = append(*h, p)
}

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	p := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	p.slot = -1
	return p
}
