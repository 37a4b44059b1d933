package overlay

import (
	"slices"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// sendFragments cuts a message that the path does not take whole. s is the caller's.
func (n *Node) sendFragments(s *sender, r *remote, f *flight, msg []byte) {
	room := f.datagram - wire.SealedOverhead - wire.FragHeader
	if room < 64 || len(msg) > 0xffff {
		n.counters.count(dTooBig)
		return
	}
	id := requestID()
	part := make([]byte, 0, f.datagram)
	for at := 0; at < len(msg); at += room {
		c, ok := f.session.Reserve(1)
		if !ok {
			n.counters.count(dKeyEnded)
			return
		}
		m := wire.FragMsg{ID: id, Offset: uint16(at), Total: uint16(len(msg)), Part: msg[at:min(at+room, len(msg))]}
		s.seal(f, c, m.Append(append(part[:0], byte(wire.Frag))))
	}
	r.txBytes.Add(uint64(len(msg)))
	n.sentOn(r, f)
}

// newInbound has a session received on.
func newInbound(s *seal.Session, r *remote) *inbound {
	in := &inbound{session: s, remote: r, peerID: s.PeerID(), shared: &inboundState{}}
	in.shared.pending.Store(!s.Initiator())
	return in
}

// fragment takes a FRAG, and delivers the message that it completes.
func (rx *receiver) fragment(in *inbound, msg, p []byte, t *link.Train) {
	m, err := wire.ParseFrag(msg[1:])
	if err != nil {
		rx.n.counters.count(dFragment)
		return
	}
	whole, result := in.shared.frags.Add(rx.clock(), m, rx.fragmentRoom(in.shared))
	switch result {
	case wire.FragHeld:
	case wire.FragWhole:
		slot := rx.q.Slot(len(whole))
		rx.deliver(in, slot[:copy(slot, whole)], p, t)
	default:
		rx.n.counters.count(dFragment)
	}
}

// fragmentMemory bounds what all sessions together hold of unfinished messages.
const fragmentMemory = 4 << 20

// fragmentRoom is how much more one session may hold. It forgets what is too old.
func (rx *receiver) fragmentRoom(s *inboundState) int {
	held := 0
	rx.holding = slices.DeleteFunc(rx.holding, func(h *inboundState) bool {
		h.frags.Expire(rx.clock())
		held += h.frags.Held()
		return h.frags.Held() == 0
	})
	if !slices.Contains(rx.holding, s) {
		rx.holding = append(rx.holding, s)
	}
	return max(0, fragmentMemory-held)
}
