package overlay

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// peers holds every peer that the node knows: those that people decided about, and a
// bounded number of strangers.
type peers struct {
	index     *index
	byAddress map[anode.Address]*peer.Peer
	schedule  peer.Schedule
	strangers strangers
	sources   map[*peer.Peer][]link.Endpoint // that the index has of each
}

func newPeers(x *index) peers {
	return peers{index: x, byAddress: map[anode.Address]*peer.Peer{}, sources: map[*peer.Peer][]link.Endpoint{},
		strangers: strangers{of: map[*peer.Peer]int{}, site: map[netip.Addr]int{}}}
}

func (t *peers) get(a anode.Address) *peer.Peer { return t.byAddress[a] }

func (t *peers) add(p *peer.Peer) *peer.Peer {
	t.byAddress[p.Address] = p
	t.index.add(p.Contact)
	return p
}

func (t *peers) remove(p *peer.Peer) {
	delete(t.byAddress, p.Address)
	t.index.remove(p.Contact)
	for _, ep := range t.sources[p] {
		t.index.sources.delete(ep)
	}
	delete(t.sources, p)
	t.schedule.Remove(p)
	t.strangers.forget(p)
}

// strangers are the peers that nobody here decided about. Those who came to us share
// places by site, so that one host cannot take them all; places are kept for those
// that a local program wants to speak with.
type strangers struct {
	of   map[*peer.Peer]int // where each is in list
	list []stranger         // in no order; each arrival at a full table looks at all of them
	site map[netip.Addr]int // how many of each came
	came int
}

type stranger struct {
	peer     *peer.Peer
	site     netip.Addr // invalid: somebody here began
	answered bool       // it has said what it had to say
}

const (
	strangersMax   = 256
	strangersCame  = 192             // of those at most came to us
	strangersSite  = 32              // and of those from one site
	strangersHeard = 80              // who came, where strangers get nothing but an ear: see passing
	strangerGrace  = 3 * time.Minute // a stranger with a session, be it pending, is remembered so long after it spoke
)

func (s *strangers) note(p *peer.Peer, site netip.Addr) {
	s.forget(p)
	s.of[p] = len(s.list)
	s.list = append(s.list, stranger{peer: p, site: site})
	if site.IsValid() {
		s.site[site]++
		s.came++
	}
}

// uninvited reports whether a peer is a stranger who came to us, and nobody here has
// anything to say to it.
func (s *strangers) uninvited(p *peer.Peer) bool {
	k, ok := s.of[p]
	return ok && s.list[k].site.IsValid() && !p.Waits()
}

func (s *strangers) forget(p *peer.Peer) {
	k, ok := s.of[p]
	if !ok {
		return
	}
	x, last := s.list[k], len(s.list)-1
	s.list[k] = s.list[last]
	s.of[s.list[k].peer] = k
	s.list[last] = stranger{}
	s.list = s.list[:last]
	delete(s.of, p)
	if x.site.IsValid() {
		s.came--
		if s.site[x.site]--; s.site[x.site] == 0 {
			delete(s.site, x.site)
		}
	}
}

// oldest returns the stranger that was silent longest of those that may go: with
// site valid, one of that site; with came, one that came to us.
func (s *strangers) oldest(now mono.Time, came bool, site netip.Addr) (old *peer.Peer) {
	for k := range s.list {
		x := &s.list[k]
		p := x.peer
		if came && !x.site.IsValid() || site.IsValid() && x.site != site || old != nil && p.Seen() >= old.Seen() ||
			p.Waits() || now.Sub(p.Seen()) < strangerGrace && p.Inbound.Load() != nil {
			continue
		}
		old = p
	}
	return old
}

// passing reports whether strangers who come can only ask to be let in, and ping. Then none of them keeps a
// place for long: while more come than there are places, each arrival drops a random one, so that nobody
// can hold all places. An ASK takes one round trip; a stranger that was dropped begins anew.
func (l *loop) passing() bool {
	return l.n.cfg.People != nil && !l.n.isOpen() && l.n.programs.open.none()
}

// answered notes that a stranger was answered what it said.
func (s *strangers) answered(p *peer.Peer) {
	if k, ok := s.of[p]; ok {
		s.list[k].answered = true
	}
}

// any returns a random one of the strangers who came, from a site if that is valid: one that was answered, if there
// is one. It returns nil if all of them are busy here.
func (s *strangers) any(now mono.Time, site netip.Addr) *peer.Peer {
	var list [strangersMax]*peer.Peer
	n, answered := 0, false
	for k := range s.list {
		x := &s.list[k]
		p := x.peer
		if !x.site.IsValid() || site.IsValid() && x.site != site || answered && !x.answered || p.Waits() || p.Guest(now) {
			continue
		}
		if x.answered && !answered {
			n, answered = 0, true
		}
		list[n] = p
		n++
	}
	if n == 0 {
		return nil
	}
	return list[rand.IntN(n)]
}

// meet returns the peer of an address, or makes a stranger of it, in place of one that
// has been silent if there are too many. from is where it came from; invalid if
// somebody here wants to speak to it.
func (l *loop) meet(a anode.Address, from netip.Addr) (*peer.Peer, error) {
	if p := l.peers.get(a); p != nil {
		if _, ok := l.peers.strangers.of[p]; ok && !from.IsValid() {
			l.peers.strangers.forget(p) // it has a place of its own from now on
			l.peers.strangers.note(p, from)
		}
		return p, nil
	}
	if a == l.n.address {
		return nil, ErrSelf
	}
	if l.n.book.Standing(a) == book.Blocked {
		l.n.counters.count(dBlocked)
		return nil, ErrBlocked
	}
	s := &l.peers.strangers
	var site netip.Addr
	if from.IsValid() {
		site = mono.Site(from)
	}
	most, passing := strangersCame, l.passing()
	if passing {
		most = strangersHeard
	}
	full, came, of := false, false, netip.Addr{}
	switch {
	case site.IsValid() && s.site[site] >= strangersSite:
		full, came, of = true, true, site
	case site.IsValid() && s.came >= most:
		full, came = true, true
	case len(s.of) >= strangersMax:
		full = true
	}
	if full {
		old := s.oldest(l.now, came, of)
		if old == nil && passing && came {
			old = s.any(l.now, of)
		}
		if old == nil {
			l.n.counters.count(dStrangers)
			return nil, fmt.Errorf("%w: too many strangers are connected", ErrUnreachable)
		}
		l.drop(old)
	}
	p := l.peers.add(peer.New(l.env, a))
	s.note(p, site)
	p.Met(l.now)
	l.n.events.peer(EventFound, p)
	l.finder.known(p)
	return p, nil
}

// sources enters the endpoints at which an added peer or a zone's relay is confirmed into
// the index: packets of others from there came by a relay, and those of an added peer are
// relayed.
func (l *loop) sources(p *peer.Peer) {
	var now []link.Endpoint
	if p.Standing() >= book.Relay {
		for w := range p.Direct {
			now = append(now, w.Endpoint.Place())
		}
	}
	t := &l.peers
	for _, ep := range t.sources[p] {
		if t.index.source(ep) == p.Contact && !slices.Contains(now, ep) {
			t.index.sources.delete(ep)
		}
	}
	for _, ep := range now {
		if t.index.source(ep) != p.Contact {
			t.index.sources.set(ep, p.Contact)
		}
	}
	if len(now) == 0 {
		delete(t.sources, p)
	} else {
		t.sources[p] = now
	}
}

// from lists the peers that a packet may be from: by its full address, or all with its
// short ID (draft 3.5).
func (t *peers) from(s *wire.Party) (list []*peer.Peer) {
	if s.Full() {
		if p := t.get(s.Address); p != nil {
			list = append(list, p)
		}
		return list
	}
	for c := t.index.byID(s.ID); c != nil; c = c.Next.Load() {
		if p := t.get(c.Address); p != nil && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}
