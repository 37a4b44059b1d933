package overlay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// blockage remembers in which networks UDP gets no answer: there, connections are opened at once,
// after a restart too. Of each network, it is known of what is on our links and of what is beyond:
//
//	              UDP of somebody works there
//	silent <---------------------------------------> not silent
//	        a connection works, UDP beside it does
//	        not, and UDP of nobody else works there
//
// So it does not matter in which order peers answer, and a single one that takes no UDP says nothing
// while another does.
type blockage struct {
	l     *loop
	known []uplink // the latest last
	keep  *meta
	works [scopes]witnesses
	where whereabouts
}

// whereabouts are the present network's uplinks, computed when its routes are others than before.
type whereabouts struct {
	route4, route6 link.Route
	of             [scopes]uplink
	known          bool
}

// scope is a part of the network.
type scope uint8

const (
	beyond scope = iota
	onLink
	scopes
)

// witnesses are those who answer by UDP, and when they were last seen to.
type witnesses struct {
	at   uplink // the network; in another one, what they showed means nothing
	seen map[anode.Address]mono.Time
}

const (
	maxWitnesses = 64        // one is enough
	witnessFor   = time.Hour // of one that is not looked at again
)

// evidence is what the ways of one peer show of a part of the network.
type evidence struct{ works, asked, connected bool }

// uplink tells networks apart: by how packets leave for others. It is a hash, so that the state
// directory does not say where the machine was.
type uplink [8]byte

// maxNetworks is how many are remembered.
const maxNetworks = 64

// metaBlockage is where the book keeps the networks in which UDP gets no answer, one after the other.
const metaBlockage = "udp-silent"

// newBlockage takes what is remembered of the last run.
func newBlockage(l *loop, keep *meta) blockage {
	s := blockage{l: l, keep: keep}
	b, err := l.n.book.Meta(metaBlockage)
	if err != nil {
		l.n.log.Warn("the networks that block UDP are not known any more", "err", err)
	}
	for k := range slices.Chunk(b, len(uplink{})) {
		if len(k) == len(uplink{}) && len(s.known) < maxNetworks {
			s.known = append(s.known, uplink(k))
		}
	}
	return s
}

func (s *blockage) here(of scope) uplink {
	x, w := &s.l.links.state, &s.where
	if !w.known || w.route4 != x.Route4 || w.route6 != x.Route6 {
		*w = whereabouts{route4: x.Route4, route6: x.Route6, known: true}
		for k := range w.of {
			w.of[k] = uplinkOf(x, scope(k))
		}
	}
	return w.of[of]
}

func uplinkOf(x *link.State, of scope) (n uplink) {
	b := fmt.Appendf(nil, "%v %v", x.Route4, x.Route6)
	if of == onLink {
		b = append(b, " links"...)
	}
	h := sha256.Sum256(b)
	copy(n[:], h[:])
	return n
}

// now reports whether UDP got no answer on the present network the last time.
func (s *blockage) now() bool {
	return len(s.known) > 0 && (s.silent(beyond) || s.silent(onLink))
}

// shown is now for people: where UDP of somebody beyond works, they are not told that it is silent,
// although it may be on a link.
func (s *blockage) shown() bool {
	w := &s.works[beyond]
	return s.silent(beyond) || s.silent(onLink) && !(w.at == s.here(beyond) && w.any(s.l.now))
}

// silent is now of a part of the network.
func (s *blockage) silent(of scope) bool { return slices.Contains(s.known, s.here(of)) }

// note takes what a peer's ways show.
func (s *blockage) note(p *peer.Peer) {
	var seen [scopes]evidence
	for w := range p.Ways {
		of := beyond
		if w.OnLink {
			of = onLink
		}
		x := &seen[of]
		switch {
		case w.State == path.Confirmed && w.Endpoint.Kind.Connected():
			x.connected = true
			seen[onLink].connected = true
		case w.State == path.Confirmed && w.Endpoint.Kind == link.UDP && !w.Trial() && !w.Doubted():
			x.works = true
		case w.Direct() && w.Endpoint.Kind == link.UDP && (w.Unanswered() || w.State == path.Confirmed):
			x.asked = true
		}
	}
	for of, x := range seen {
		if p.Standing() < book.Relay {
			x.asked = false // a stranger can name endpoints where nobody is
		}
		s.take(scope(of), p.Address, x)
	}
}

// take notes what the ways of a peer show of a part of the network.
func (s *blockage) take(of scope, a anode.Address, x evidence) {
	w, now := &s.works[of], s.l.now
	if here := s.here(of); w.at != here || w.seen == nil {
		*w = witnesses{here, map[anode.Address]mono.Time{}}
	}
	if !x.works {
		delete(w.seen, a)
	} else if _, ok := w.seen[a]; ok || len(w.seen) < maxWitnesses {
		w.seen[a] = now
	}
	switch {
	case x.works:
		s.set(of, false)
	case x.connected && x.asked && !w.any(now):
		s.set(of, true)
	}
}

// any reports whether there is a witness, and forgets old ones.
func (w *witnesses) any(now mono.Time) bool {
	maps.DeleteFunc(w.seen, func(_ anode.Address, at mono.Time) bool { return now.Sub(at) > witnessFor })
	return len(w.seen) > 0
}

// ExpectSilence says that a proxy leads out of the present network and the direct way does not, as
// far as anybody can tell: connections need not wait for UDP. If UDP gets an answer, it is used.
func (n *Node) ExpectSilence(ctx context.Context) error {
	return n.call(ctx, func(l *loop) error {
		l.blockage.set(beyond, true)
		return nil
	})
}

// set notes whether the present network is one of those.
func (s *blockage) set(of scope, blocked bool) {
	if s.silent(of) == blocked {
		return
	}
	here := s.here(of)
	if blocked {
		s.known = append(s.known, here)
		s.known = s.known[max(len(s.known)-maxNetworks, 0):]
	} else {
		s.known = slices.DeleteFunc(s.known, func(n uplink) bool { return n == here })
	}
	var b []byte
	for _, n := range s.known {
		b = append(b, n[:]...)
	}
	s.keep.set(b)
}

// meta is a value that the book keeps of the node's own. The loop sets it, and does not wait for the
// disk.
type meta struct {
	name string
	next chan []byte // takes one: the newest
}

func newMeta(name string) *meta { return &meta{name, make(chan []byte, 1)} }

// set has a value kept. It is for the loop.
func (m *meta) set(value []byte) {
	select {
	case <-m.next: // an older one
	default:
	}
	m.next <- value
}

// metaEvery is the time between two writes.
const metaEvery = time.Second

// run writes what is set, until the context ends.
func (m *meta) run(ctx context.Context, n *Node) {
	keep := func(value []byte) {
		if err := n.book.PutMeta(m.name, value); err != nil {
			n.log.Warn("a value is not kept for the next start", "name", m.name, "err", err)
		}
	}
	for {
		select {
		case value := <-m.next:
			keep(value)
			select {
			case <-time.After(metaEvery):
			case <-ctx.Done():
			}
		case <-ctx.Done():
			select {
			case value := <-m.next:
				keep(value)
			default:
			}
			return
		}
	}
}
