package overlay

import (
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
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
	l      *loop
	table  *lookup.Table[waiter]
	asked  map[*peer.Peer]*lookup.Interval // when the LAN was last asked for a known peer
	relays []*peer.Peer                    // added peers that were reached directly, the latest last
	wanted map[*peer.Peer]struct{}         // that no way is known to yet: see offer
	warm   []anode.Address                 // whose endpoints are still to be tried since the start
	warmAt mono.Time                       // when to go on with them
}

// waiter is what waits for a look-up: a message, or a caller.
type waiter struct {
	msg     []byte
	unasked bool                 // see Queue.Unasked
	found   chan<- anode.Address // closed without a value if nobody is found
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
	if direct {
		delete(f.asked, p)
	}
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
		f.offer(p, best.Endpoint)
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
	delete(f.wanted, p)
	f.relays = slices.DeleteFunc(f.relays, func(r *peer.Peer) bool { return r == p })
}

// client returns the peer with an address that registered here, which is a stranger; nil
// if none has.
func (f *finder) client(x wire.WhoisMsg) *peer.Peer {
	c := f.l.clients.find(&x, true)
	if c == nil {
		return nil
	}
	p, err := f.l.meet(c.address, noSite)
	if err != nil {
		return nil
	}
	if !p.HasKey() {
		p.SetKey(seal.NewMAC(c.key))
	}
	return p
}

// byProgram returns the peer that a program found by its address; nil if none did.
func (f *finder) byProgram(u anode.ULA) *peer.Peer {
	if f.l.n.cfg.Known == nil {
		return nil
	}
	a, ok := f.l.n.cfg.Known(u)
	if !ok || a.ULA() != u {
		return nil
	}
	p, err := f.l.meet(a, noSite)
	if err != nil {
		return nil
	}
	return p
}

// seek looks for ways to a peer: on the LAN, less often the longer it is not found, and
// by relays. Those that were reached once are checked again, for the next time.
func (f *finder) seek(p *peer.Peer) {
	f.l.zones.seek(p)
	offered, checked := 0, 0
	f.want(p)
	for _, r := range slices.Backward(f.relays) {
		if r == p || r.Standing() < book.Added {
			continue
		}
		if best, ok := r.Best(); ok && best.Direct() && offered < maxRelays {
			p.Offer(f.l.now, path.Way{Endpoint: best.Endpoint, Via: r.Address}, path.Relay)
			offered++
			f.l.reach.introduce(r, best.Heard)
			if p.Unanswered(f.l.now) > relayDoubted {
				r.Want(f.l.now) // a session shows whether a copy of us has our peer ID, and our answers with it
				f.l.touch(r)
			}
		} else if !ok && checked < maxRelays {
			r.Recheck(f.l.now)
			f.l.touch(r)
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
	if last.Due(f.l.now) && f.table.AllowWhois(f.l.now) {
		last.Asked(f.l.now)
		f.askLAN(wire.WhoisMsg{Request: f.l.env.Request(), Kind: wire.WhoisID, ID: p.ID})
	}
}

// message takes WHOIS and IAM.
func (f *finder) message(m *message) error {
	if m.type_ == wire.Whois {
		return f.whois(m)
	}
	return f.iAm(m)
}

// tick asks what is due, and tries the endpoints of the last run.
func (f *finder) tick() mono.Time { return min(f.tickLookups(), f.tickWarm()) }

// linksChanged does nothing: what is looked for is asked for again soon.
func (f *finder) linksChanged() {}

// tickWarm tries the endpoints of the last run, of a few peers at a time.
func (f *finder) tickWarm() mono.Time {
	if len(f.warm) == 0 {
		return mono.Never
	}
	if f.l.now < f.warmAt {
		return f.warmAt
	}
	k := min(len(f.warm), warmPeers)
	for _, a := range f.warm[:k] {
		if p := f.l.peers.get(a); p != nil && p.Standing() >= book.Added {
			p.Learned(f.l.now, f.l.n.book.Learned(a))
			f.note(p)
			f.l.touch(p)
		}
	}
	if f.warm = f.warm[k:]; len(f.warm) == 0 {
		f.warm = nil
		return mono.Never
	}
	f.warmAt = f.l.now.Add(warmEvery)
	return f.warmAt
}

// waiting takes a message of the adapter's for a ULA that it could not be sent to.
func (f *finder) waiting(u anode.ULA, w waiter) {
	if u == f.l.n.ula {
		return
	}
	var p *peer.Peer
	if c := f.l.n.index.byULA(u); c != nil {
		p = f.l.peers.get(c.Address)
	} else {
		p = f.client(wire.WhoisMsg{Kind: wire.WhoisULA, ULA: u, ID: u.ID()})
	}
	if p == nil {
		p = f.byProgram(u)
	}
	if p != nil {
		p.Send(f.l.now, peer.Waiting{Msg: w.msg, Unasked: w.unasked})
		f.l.touch(p)
		return
	}
	switch f.table.Ask(f.l.now, lookup.ByULA(u), w, len(w.msg), lookup.Program) {
	case lookup.Nobody:
		f.unknown(u, w)
	case lookup.Full:
		f.l.n.counters.count(dWaitingFull)
	}
}

// unknown answers what waited for an address that nobody has.
func (f *finder) unknown(u anode.ULA, w waiter) {
	if w.found != nil {
		close(w.found)
		return
	}
	f.l.n.counters.count(dNoRoute)
	if f.l.n.cfg.Device != nil {
		f.l.n.cfg.Device.NoRoute(u, w.msg)
	}
}

// tickLookups asks the lookups that are due, and ends those without an answer.
func (f *finder) tickLookups() mono.Time {
	ask, over, next := f.table.Tick(f.l.now)
	for _, m := range ask {
		f.askLAN(m)
		f.askPeers(m)
		f.l.zones.ask(m)
	}
	for _, e := range over {
		for _, w := range e.Waiters {
			f.unknown(e.Key.ULA, w)
		}
	}
	return next
}

// askLAN broadcasts a WHOIS on every link. There is no key to sign it with.
func (f *finder) askLAN(m wire.WhoisMsg) {
	f.l.shell.broadcast(wire.Header{Recipient: wire.Party{ID: m.ID}, Type: wire.Whois}, m.Append(nil))
}

// askPeers asks added peers that can be reached directly.
func (f *finder) askPeers(m wire.WhoisMsg) {
	asked := 0
	for _, r := range slices.Backward(f.relays) {
		if best, ok := r.Best(); ok && best.Direct() && asked < maxRelays {
			r.Reply(f.l.now, best.Endpoint, 0, wire.Whois, m.Append(nil))
			asked++
		}
	}
}

// found takes an answer to a WHOIS of ours, if it is one: who answers is a stranger, and
// never added by that.
func (f *finder) found(x wire.IAmMsg) {
	waiters, ok := f.table.Answer(x.Request, x.Address)
	if !ok {
		return
	}
	a, err := anode.AddressFromBytes(x.Address[:])
	if err == nil {
		var p *peer.Peer
		if p, err = f.l.meet(a, noSite); err == nil {
			f.deliver(p, waiters)
			return
		}
	}
	for _, w := range waiters {
		f.unknown(a.ULA(), w)
	}
}

// known ends the look-ups for an address that became known in another way.
func (f *finder) known(p *peer.Peer) { f.deliver(p, f.table.Known(p.Address)) }

// deliver hands over what waited for a look-up.
func (f *finder) deliver(p *peer.Peer, waiters []waiter) {
	for _, w := range waiters {
		if w.found != nil {
			w.found <- p.Address
			close(w.found)
			continue
		}
		p.Send(f.l.now, peer.Waiting{Msg: w.msg, Unasked: w.unasked})
	}
	f.l.touch(p)
}

// askedOnLAN answers a WHOIS that came by broadcast, if it is for us: only the owner of
// an address answers. An added peer is looked at in turn, so that both sides know a way
// at once.
func (f *finder) askedOnLAN(h *wire.Header, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseWhois(msg)
	if err != nil {
		f.l.n.counters.count(dMessage)
		return
	}
	if !m.Matches(f.l.n.address) {
		return
	}
	p := f.neighbour(h, ep, &f.l.gate.whois, whoisRate, func(m *peer.Marks) *peer.Budget { return &m.Whois })
	if p == nil {
		return
	}
	p.Reply(f.l.now, ep, h.SenderPeer, wire.IAm, wire.IAmMsg{Request: m.Request, Address: f.l.n.address}.Append(nil))
	if p.Standing() >= book.Added {
		p.Came(f.l.now, h.SenderPeer, path.Way{Endpoint: ep.Place()}, path.Beacon)
	}
	f.l.touch(p)
}

// neighbourRate is how often something unsigned of one kind is taken in the name of an
// added peer.
var neighbourRate = mono.Rate{PerSecond: 2, Burst: 10}

// neighbour returns the peer behind something unsigned from our own link. Anybody there
// can send it: for each kind of message an added peer has a budget, own, and all
// strangers have a small one together, b.
func (f *finder) neighbour(h *wire.Header, ep link.Endpoint, b *mono.Bucket, r mono.Rate, own func(*peer.Marks) *peer.Budget) *peer.Peer {
	from := h.Sender.Address
	p := f.l.peers.get(from)
	if p != nil && p.Standing() >= book.Added {
		if !own(&p.Marks).Allow(f.l.now, neighbourRate) {
			f.l.n.counters.count(dHint)
			return nil
		}
		return p
	}
	switch {
	case f.l.n.book.Standing(from) == book.Blocked:
		f.l.n.counters.count(dBlocked)
		return nil
	case f.l.shell.hides(ep):
		f.l.n.counters.count(dHidden)
		return nil
	case !b.Allow(f.l.now, r), p == nil && !f.l.gate.others.Allow(f.l.now, ep.Addr.Addr()):
		f.l.n.counters.count(dBudget)
		return nil
	}
	a, err := anode.AddressFromBytes(from[:])
	if err != nil {
		f.l.n.counters.count(dHeader)
		return nil
	}
	if p, err = f.l.meet(a, ep.Addr.Addr()); err != nil {
		return nil
	}
	return p
}

// whois answers for ourselves, and as a relay for the peers that were added, to peers
// that were added.
func (f *finder) whois(m *message) error {
	x, err := wire.ParseWhois(m.body)
	if err != nil {
		return err
	}
	if x.Matches(f.l.n.address) {
		f.l.reply(m, wire.IAm, wire.IAmMsg{Request: x.Request, Address: f.l.n.address}.Append(nil))
		return nil
	}
	if m.peer.Standing() < book.Added {
		f.l.n.counters.count(dReflection)
		return nil
	}
	f.l.reply(m, wire.IAm, wire.IAmMsg{Request: x.Request, Address: f.named(&x, false)}.Append(nil))
	return nil
}

// named returns the address that a WHOIS asks for, of an added peer or of a client. The
// zero address is "not found". A guest is told of nobody who is not in a zone that is
// served.
func (f *finder) named(x *wire.WhoisMsg, guest bool) (found anode.Address) {
	n := f.l.n
	if x.Matches(n.address) {
		return n.address
	}
	for c := n.index.byID(x.ID); c != nil; c = c.Next.Load() {
		if c.Standing() >= book.Added && x.Matches(c.Address) && (!guest || n.servesZone(c.Address.Zone())) {
			found = c.Address
		}
	}
	if c := f.l.clients.find(x, !guest); found.IsZero() && c != nil {
		return c.address
	}
	return found
}

// iAm takes the answer to a WHOIS of ours. The address proves itself.
func (f *finder) iAm(m *message) error {
	x, err := wire.ParseIAm(m.body)
	if err != nil {
		return err
	}
	if x.Address == m.peer.Address {
		f.l.signals.came(m)
	}
	f.found(x)
	return nil
}
