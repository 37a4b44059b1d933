package overlay

import (
	"math/rand/v2"
	"sync"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// sendFragments cuts a message that the path does not take whole. s is the caller's.
func (n *lanes) sendFragments(s *sender, c *peer.Contact, r *peer.Route, msg []byte) {
	room := r.Datagram - wire.SealedOverhead - wire.FragHeader
	if room < 64 || len(msg) > 0xffff {
		n.counters.count(dTooBig)
		return
	}
	id := rand.Uint32()
	part := make([]byte, 0, r.Datagram)
	for at := 0; at < len(msg); at += room {
		counter, ok := r.Session.Reserve(s.lane, 1, int64(s.now))
		if !ok {
			n.counters.count(dKeyEnded)
			return
		}
		m := wire.FragMsg{ID: id, Offset: uint16(at), Total: uint16(len(msg)), Part: msg[at:min(at+room, len(msg))]}
		s.seal(r, counter, m.Append(append(part[:0], byte(wire.Frag))))
	}
	c.TxBytes.Add(uint64(len(msg)))
}

// The memory of unfinished messages is that of the parts that arrived. It has a bound for
// one address, one for all strangers, and one for all.
const (
	fragmentsOne       = 512 << 10
	fragmentsStrangers = 256 << 10
	fragmentsAll       = 4 << 20
	fragmentsSweep     = time.Second // between looks at everybody
)

// fragments holds the unfinished messages of all sessions. FRAGs are rare, so that one
// lock for all lanes does.
type fragments struct {
	mu        sync.Mutex
	of        map[*peer.Contact]*pile
	all       int // bytes
	strangers int // of these
	swept     mono.Time
}

// pile is the unfinished messages of one address.
type pile struct {
	stranger bool
	held     int
	sessions map[*seal.Session]*wire.Reassembler
}

// add takes a FRAG of a session; see wire.Reassembler.Add.
func (f *fragments) add(now mono.Time, in *peer.Inbound, m wire.FragMsg) ([]byte, wire.FragResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweep(now)
	p := f.of[in.Contact]
	if p == nil {
		if f.of == nil {
			f.of = map[*peer.Contact]*pile{}
		}
		p = &pile{stranger: in.Contact.Standing() < book.Added && !in.Session.Invited(), sessions: map[*seal.Session]*wire.Reassembler{}}
		f.of[in.Contact] = p
	}
	room := f.room(p)
	r := p.sessions[in.Session]
	if r == nil {
		r = new(wire.Reassembler)
		p.sessions[in.Session] = r
	}
	msg, result := r.Add(now.Duration(), m, room)
	f.count(in.Contact, p)
	return msg, result
}

// room returns by how much a pile may grow.
func (f *fragments) room(p *pile) int {
	n := min(fragmentsOne-p.held, fragmentsAll-f.all)
	if p.stranger {
		n = min(n, fragmentsStrangers-f.strangers)
	}
	return max(0, n)
}

// sweep drops what is too old, also of those who send no more.
func (f *fragments) sweep(now mono.Time) {
	if now.Sub(f.swept) < fragmentsSweep {
		return
	}
	f.swept = now
	for c, p := range f.of {
		p.expire(now)
		f.count(c, p)
	}
}

// expire drops messages that are too old, and sessions without any.
func (p *pile) expire(now mono.Time) {
	for s, r := range p.sessions {
		if r.Expire(now.Duration()); r.Idle() {
			delete(p.sessions, s)
		}
	}
}

// count brings the sums up to date with a pile, and forgets it if it is empty.
func (f *fragments) count(c *peer.Contact, p *pile) {
	held := 0
	for _, r := range p.sessions {
		held += r.Held()
	}
	f.all += held - p.held
	if p.stranger {
		f.strangers += held - p.held
	}
	if p.held = held; len(p.sessions) == 0 {
		delete(f.of, c)
	}
}

// fragment takes a FRAG, and delivers the message that it completes.
func (rx *receiver) fragment(in *peer.Inbound, msg, p []byte, t *link.Train) {
	m, err := wire.ParseFrag(msg[1:])
	if err != nil {
		rx.n.counters.count(dFragment)
		return
	}
	whole, result := rx.n.fragments.add(rx.now, in, m)
	switch result {
	case wire.FragHeld, wire.FragRepeated:
	case wire.FragWhole:
		slot := rx.slot(len(whole))
		rx.deliver(in, slot[:copy(slot, whole)], p, t)
	default:
		rx.n.counters.count(dFragment)
	}
}
