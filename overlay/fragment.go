package overlay

import (
	"sync"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// sendFragments cuts a message that the path does not take whole. s is the caller's.
func (n *Node) sendFragments(s *sender, r *remote, f *flight, msg []byte, now int64) {
	room := f.datagram - wire.SealedOverhead - wire.FragHeader
	if room < 64 || len(msg) > 0xffff {
		n.counters.count(dTooBig)
		return
	}
	id := requestID()
	part := make([]byte, 0, f.datagram)
	for at := 0; at < len(msg); at += room {
		c, ok := f.session.Reserve(s.lane, 1, now)
		if !ok {
			n.counters.count(dKeyEnded)
			return
		}
		m := wire.FragMsg{ID: id, Offset: uint16(at), Total: uint16(len(msg)), Part: msg[at:min(at+room, len(msg))]}
		s.seal(f, c, m.Append(append(part[:0], byte(wire.Frag))))
	}
	r.txBytes.Add(uint64(len(msg)))
}

// fragmentMemory bounds what all sessions together hold of unfinished messages.
const fragmentMemory = 4 << 20

// fragments holds the unfinished messages of all sessions. FRAGs are rare, so that one
// lock for all in loops does.
type fragments struct {
	mu  sync.Mutex
	has map[*seal.Session]*wire.Reassembler
}

// add takes a FRAG of a session; see wire.Reassembler.Add.
func (f *fragments) add(now time.Duration, s *seal.Session, m wire.FragMsg) ([]byte, wire.FragResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := 0
	for k, r := range f.has {
		r.Expire(now)
		if held += r.Held(); r.Idle() && k != s {
			delete(f.has, k)
		}
	}
	if f.has == nil {
		f.has = map[*seal.Session]*wire.Reassembler{}
	}
	r := f.has[s]
	if r == nil {
		r = new(wire.Reassembler)
		f.has[s] = r
	}
	return r.Add(now, m, max(0, fragmentMemory-held))
}

// fragment takes a FRAG, and delivers the message that it completes.
func (rx *receiver) fragment(in *inbound, msg, p []byte, t *link.Train) {
	m, err := wire.ParseFrag(msg[1:])
	if err != nil {
		rx.n.counters.count(dFragment)
		return
	}
	whole, result := rx.n.fragments.add(time.Duration(rx.now), in.session, m)
	switch result {
	case wire.FragHeld, wire.FragRepeated:
	case wire.FragWhole:
		slot := rx.q.Slot(len(whole))
		rx.deliver(in, slot[:copy(slot, whole)], p, t)
	default:
		rx.n.counters.count(dFragment)
	}
}
