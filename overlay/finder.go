package overlay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/lookup"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// finder finds peers. Of a peer whose address is known, ways are wanted: those that the
// user gave or that worked before, its answer to a WHOIS on the LAN, and peers that can
// be reached directly as relays. Of a ULA or short ID alone, the address is wanted first:
// a look-up.
type finder struct {
	table  *lookup.Table[waiter]
	asked  map[*peer.Peer]*lookup.Interval // when the LAN was last asked for a known peer
	relays []*peer.Peer                    // added peers that were reached directly, the latest last
	warm   []anode.Address                 // whose endpoints are still to be tried since the start
	next   mono.Time                       // when to try those of the next few
}

// waiter is what waits for a look-up: a message, or a caller.
type waiter struct {
	msg   []byte
	found chan<- anode.Address // closed without a value if nobody is found
}

const (
	maxRelays   = 4   // tried for one peer at a time
	knownRelays = 64  // that are remembered
	maxAsked    = 512 // known peers of which the last question is remembered
	warmPeers   = 64  // whose endpoints are tried at once when a node starts
	warmEvery   = time.Second

	relayDoubted = time.Second // HELLOs by relays go unanswered
)

// note remembers a peer that can be a relay for others: one that was reached directly, or
// may be. Those that are reached now come last.
func (f *finder) note(p *peer.Peer) {
	k := slices.Index(f.relays, p)
	best, ok := p.Best()
	direct := ok && best.Direct()
	switch {
	case p.Standing() < book.Added:
		f.forget(p)
		return
	case k >= 0 && !direct:
		return
	case k >= 0:
		f.relays = slices.Delete(f.relays, k, k+1)
	}
	if direct {
		f.relays = append(f.relays, p)
	} else if len(f.relays) < knownRelays {
		f.relays = slices.Insert(f.relays, 0, p)
	}
	if len(f.relays) > knownRelays {
		f.relays = slices.Delete(f.relays, 0, 1)
	}
}

// forget drops a peer.
func (f *finder) forget(p *peer.Peer) {
	delete(f.asked, p)
	f.relays = slices.DeleteFunc(f.relays, func(r *peer.Peer) bool { return r == p })
}

// seek looks for ways to a peer: on the LAN, less often the longer it is not found, and
// by relays. Those that were reached once are checked again, for the next time.
func (l *loop) seek(p *peer.Peer) {
	f := &l.finder
	offered, checked := 0, 0
	for _, r := range slices.Backward(f.relays) {
		if r == p || r.Standing() < book.Added {
			continue
		}
		if best, ok := r.Best(); ok && best.Direct() && offered < maxRelays {
			p.Offer(l.now, path.Way{Endpoint: best.Endpoint, Via: r.Address}, path.Relay)
			offered++
			if p.Unanswered(l.now) > relayDoubted {
				r.Want(l.now) // a session shows whether a copy of us has our peer ID, and our answers with it
				l.touch(r)
			}
		} else if !ok && checked < maxRelays {
			r.Recheck(l.now)
			l.touch(r)
			checked++
		}
	}
	if f.asked == nil || len(f.asked) > maxAsked {
		f.asked = map[*peer.Peer]*lookup.Interval{}
	}
	last := f.asked[p]
	if last == nil {
		last = &lookup.Interval{}
		f.asked[p] = last
	}
	if last.Due(l.now) && f.table.AllowWhois(l.now) {
		last.Asked(l.now)
		l.askLAN(wire.WhoisMsg{Request: l.env.Request(), Kind: wire.WhoisID, ID: p.ID})
	}
}

// settleWarm tries the endpoints of the last run, of a few peers at a time.
func (l *loop) settleWarm() mono.Time {
	f := &l.finder
	if len(f.warm) == 0 {
		return mono.Never
	}
	if l.now < f.next {
		return f.next
	}
	k := min(len(f.warm), warmPeers)
	for _, a := range f.warm[:k] {
		if p := l.peers.get(a); p != nil && p.Standing() >= book.Added {
			p.Learned(l.now, l.n.book.Learned(a))
			f.note(p)
			l.touch(p)
		}
	}
	if f.warm = f.warm[k:]; len(f.warm) == 0 {
		f.warm = nil
		return mono.Never
	}
	f.next = l.now.Add(warmEvery)
	return f.next
}

// waiting takes a message of the adapter's for a ULA that it could not be sent to.
func (l *loop) waiting(u anode.ULA, msg []byte) {
	if u == l.n.ula {
		return
	}
	if c := l.n.index.byULA(u); c != nil {
		p := l.peers.get(c.Address)
		p.Send(l.now, peer.Waiting{Msg: msg})
		l.touch(p)
		return
	}
	w := waiter{msg: msg}
	switch l.finder.table.Ask(l.now, lookup.ByULA(u), w, len(msg), lookup.Program) {
	case lookup.Nobody:
		l.unknown(u, w)
	case lookup.Full:
		l.n.counters.count(dWaitingFull)
	}
}

// unknown answers what waited for an address that nobody has.
func (l *loop) unknown(u anode.ULA, w waiter) {
	if w.found != nil {
		close(w.found)
		return
	}
	l.n.counters.count(dNoRoute)
	if l.n.cfg.Device != nil {
		l.n.cfg.Device.NoRoute(u, w.msg)
	}
}

// settleLookups asks what is due, and gives up what nobody knows.
func (l *loop) settleLookups() mono.Time {
	ask, over, next := l.finder.table.Tick(l.now)
	for _, m := range ask {
		l.askLAN(m)
		l.askPeers(m)
	}
	for _, e := range over {
		for _, w := range e.Waiters {
			l.unknown(e.Key.ULA, w)
		}
	}
	return next
}

// askLAN broadcasts a WHOIS on every link. There is no key to sign it with.
func (l *loop) askLAN(m wire.WhoisMsg) {
	l.shell.broadcast(wire.Header{Recipient: wire.Party{ID: m.ID}, Type: wire.Whois}, m.Append(nil))
}

// askPeers asks added peers that can be reached directly.
func (l *loop) askPeers(m wire.WhoisMsg) {
	f := &l.finder
	asked := 0
	for _, r := range slices.Backward(f.relays) {
		if best, ok := r.Best(); ok && best.Direct() && asked < maxRelays {
			r.Reply(l.now, best.Endpoint, 0, wire.Whois, m.Append(nil))
			asked++
		}
	}
}

// found takes an answer to a WHOIS of ours, if it is one: who answers is a stranger, and
// never added by that.
func (l *loop) found(x wire.IAmMsg) {
	waiters, ok := l.finder.table.Answer(x.Request, x.Address)
	if !ok {
		return
	}
	a, err := anode.AddressFromBytes(x.Address[:])
	if err == nil {
		var p *peer.Peer
		if p, err = l.meet(a, noSite); err == nil {
			l.deliver(p, waiters)
			return
		}
	}
	for _, w := range waiters {
		l.unknown(a.ULA(), w)
	}
}

// deliver hands over what waited for a look-up.
func (l *loop) deliver(p *peer.Peer, waiters []waiter) {
	for _, w := range waiters {
		if w.found != nil {
			w.found <- p.Address
			close(w.found)
			continue
		}
		p.Send(l.now, peer.Waiting{Msg: w.msg})
	}
	l.touch(p)
}

// askedOnLAN answers a WHOIS that came by broadcast, if it is for us: only the owner of
// an address answers. An added peer is looked at in turn, so that both sides know a way
// at once.
func (l *loop) askedOnLAN(h *wire.Header, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseWhois(msg)
	if err != nil {
		l.n.counters.count(dMessage)
		return
	}
	if !m.Matches(l.n.address) {
		return
	}
	p := l.neighbour(h, ep, &l.gate.whois, whoisRate, func(m *peer.Marks) *peer.Budget { return &m.Whois })
	if p == nil {
		return
	}
	p.Reply(l.now, ep, h.SenderPeer, wire.IAm, wire.IAmMsg{Request: m.Request, Address: l.n.address}.Append(nil))
	if p.Standing() >= book.Added {
		p.Came(l.now, h.SenderPeer, path.Way{Endpoint: at(ep)}, path.Beacon)
	}
	l.touch(p)
}

// neighbourRate is how often something unsigned of one kind is taken in the name of an
// added peer.
var neighbourRate = mono.Rate{PerSecond: 2, Burst: 10}

// neighbour returns the peer behind something unsigned from our own link. Anybody there
// can send it: for each kind of message an added peer has a budget, own, and all
// strangers have a small one together, b.
func (l *loop) neighbour(h *wire.Header, ep link.Endpoint, b *mono.Bucket, r mono.Rate, own func(*peer.Marks) *peer.Budget) *peer.Peer {
	from := h.Sender.Address
	p := l.peers.get(from)
	if p != nil && p.Standing() >= book.Added {
		if !own(&p.Marks).Allow(l.now, neighbourRate) {
			l.n.counters.count(dHint)
			return nil
		}
		return p
	}
	switch {
	case l.n.book.Standing(from) == book.Blocked:
		l.n.counters.count(dBlocked)
		return nil
	case !b.Allow(l.now, r), p == nil && !l.gate.keys.Allow(l.now, ep.Addr.Addr()):
		l.n.counters.count(dBudget)
		return nil
	}
	a, err := anode.AddressFromBytes(from[:])
	if err != nil {
		l.n.counters.count(dHeader)
		return nil
	}
	if p, err = l.meet(a, ep.Addr.Addr()); err != nil {
		return nil
	}
	return p
}

// resolve finds the address behind a ULA or short ID.
func (n *Node) resolve(ctx context.Context, key lookup.Key) (anode.Address, error) {
	answer := make(chan anode.Address, 1)
	err := n.call(ctx, func(l *loop) error {
		if key == lookup.ByULA(n.ula) || key == lookup.ByID(n.id) {
			answer <- n.address
			return nil
		}
		for c := n.index.byID(key.ID); c != nil; c = c.Next.Load() {
			if key.ULA.IsZero() || c.ULA == key.ULA {
				answer <- c.Address
				return nil
			}
		}
		if l.finder.table.Ask(l.now, key, waiter{found: answer}, 0, lookup.Person) == lookup.Full {
			return fmt.Errorf("%w: too many searches are under way", ErrUnknownPeer)
		}
		return nil
	})
	if err != nil {
		return anode.Address{}, err
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return anode.Address{}, ErrUnknownPeer
		}
		return a, nil
	case <-ctx.Done():
		return anode.Address{}, ctx.Err()
	case <-n.done:
		return anode.Address{}, ErrClosed
	}
}

// ResolveULA finds the address behind a ULA: among the peers, on the LAN, and by asking
// peers. It returns ErrUnknownPeer after some seconds without an answer.
func (n *Node) ResolveULA(ctx context.Context, u anode.ULA) (anode.Address, error) {
	return n.resolve(ctx, lookup.ByULA(u))
}

// ResolveID finds the address behind a short ID, as ResolveULA does. The ID alone
// proves less than a ULA.
func (n *Node) ResolveID(ctx context.Context, id anode.ID) (anode.Address, error) {
	return n.resolve(ctx, lookup.ByID(id))
}
