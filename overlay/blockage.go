package overlay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// blockage remembers in which networks UDP gets no answer: there, connections are opened at once,
// after a restart too.
type blockage struct {
	l     *loop
	known []uplink // the latest last
	keep  *meta
}

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

func (s *blockage) here() (n uplink) {
	x := &s.l.links.state
	h := sha256.Sum256(fmt.Appendf(nil, "%v %v", x.Route4, x.Route6))
	copy(n[:], h[:])
	return n
}

// now reports whether UDP got no answer on the present network the last time.
func (s *blockage) now() bool { return len(s.known) > 0 && slices.Contains(s.known, s.here()) }

// note takes what a peer's ways show: if one by UDP outside our links works, UDP does; if none does,
// and a connection to the same peer does, it does not.
func (s *blockage) note(p *peer.Peer) {
	connected, asked := false, false
	for w := range p.Ways {
		switch {
		case w.OnLink:
		case w.State == path.Confirmed && w.Endpoint.Kind.Connected():
			connected = true
		case w.State == path.Confirmed && w.Endpoint.Kind == link.UDP && !w.Trial() && !w.Doubted():
			s.set(false)
			return
		case w.Direct() && w.Endpoint.Kind == link.UDP && (w.Unanswered() || w.State == path.Confirmed):
			asked = true
		}
	}
	if connected && asked {
		s.set(true)
	}
}

// ExpectSilence says that a proxy leads out of the present network and the direct way does not, as
// far as anybody can tell: connections need not wait for UDP. If UDP gets an answer, it is used.
func (n *Node) ExpectSilence(ctx context.Context) error {
	return n.call(ctx, func(l *loop) error {
		l.blockage.set(true)
		return nil
	})
}

// set notes whether the present network is one of those.
func (s *blockage) set(blocked bool) {
	if s.now() == blocked {
		return
	}
	here := s.here()
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
