package overlay

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// clients is the part that registers the clients of a zone relay. What it does at an
// event does not depend on how many clients there are.
type clients struct {
	l      *loop
	x      *clientIndex
	most   int            // clients
	list   []*client      // in no order
	sites  map[site]int32 // how many of list each site has
	guests int            // of list
	checks []waiting      // clients being checked, each once
	keys   mono.Networks  // key agreements with newcomers
	proven mono.Networks  // with those who have shown where they are
	late   lateAnswers
	swept  int       // up to where the list was looked through
	sweep  mono.Time // when to go on
}

// check is the check of a place, which a client says it is at.
type check struct {
	request uint32
	machine uint8
	place   place
	ping    []byte // to be answered in the end; nil: nothing
	asked   mono.Time
	until   mono.Time
}

// waiting is a client whose check may end at a time.
type waiting struct {
	client *client
	until  mono.Time
}

// Bounds and times of clients.
const (
	maxClients   = 200_000 // a quarter of them may be guests
	maxChecks    = 20_000  // at a time, of those who never were at a place
	checkFor     = 5 * time.Second
	checkEvery   = 200 * time.Millisecond // EPC_REQs to one client
	maxEcho      = 64                     // bytes of a PING that is answered after a check
	silentClient = 5 * time.Minute
	sweepAll     = time.Minute // the whole list
	sweepSlice   = 512         // at a time
	evictSamples = 32
)

func newClients(l *loop) clients {
	return clients{l: l, x: l.n.clients, most: maxClients, sites: map[site]int32{}, proven: newProven(),
		keys: mono.Networks{Each: mono.Rate{PerSecond: 1000, Burst: 500}, Total: mono.Rate{PerSecond: 2000, Burst: 500}, Prefix: mono.Site}}
}

// open reports whether anybody may register.
func (s *clients) open() bool { return s.l.n.serves.Load() != nil && s.l.n.relays.Load() }

// newcomer takes a packet in the name of an address that is neither peer nor client, and
// reports whether it was its own. Others are for the gate.
func (s *clients) newcomer(h *wire.Header, msg, b []byte, ep link.Endpoint, proven bool) bool {
	n, keys := s.l.n, &s.keys
	if proven {
		keys = &s.proven
	}
	if !s.open() || h.Hop != 0 || h.Type != wire.Ping && h.Type != wire.EPCReq || !h.Sender.Full() || s.l.peers.get(h.Sender.Address) != nil {
		return false
	}
	if c := s.x.get(&h.Sender.Address); c != nil { // it registered a moment ago
		if seal.NewMAC(c.key).Verify(b, &s.l.shell.scratch) {
			s.message(c, h, msg, ep)
		} else {
			n.counters.count(dMAC)
		}
		return true
	}
	if n.book.Standing(h.Sender.Address) == book.Blocked {
		n.counters.count(dBlocked)
		return true
	}
	if !keys.Allow(s.l.now, ep.Addr.Addr()) {
		n.counters.count(dBudget)
		return true
	}
	key, err := seal.SharedKey(n.cfg.Identity, h.Sender.Address)
	if err != nil {
		n.counters.count(dHeader)
		return true
	}
	if !seal.NewMAC(key).Verify(b, &s.l.shell.scratch) {
		n.counters.count(dMAC)
		return true
	}
	n.counters.count(cControlRx)
	if c := s.add(h.Sender.Address, key, ep.Addr.Addr()); c != nil {
		s.message(c, h, msg, ep)
	}
	return true
}

// stranger registers an address that is a peer as well, though not an added one: somebody
// here speaks with it, or it with us, or it is a relay that we use. The packet itself is
// for those who serve peers.
func (s *clients) stranger(p *peer.Peer, h *wire.Header, msg []byte, ep link.Endpoint) {
	if !s.open() || h.Hop != 0 || p.Standing() >= book.Added {
		return
	}
	c := s.x.get(&p.Address)
	if c == nil && (h.Type == wire.Ping || h.Type == wire.EPCReq) {
		c = s.adopt(p, ep)
	}
	if c == nil {
		return
	}
	if b := c.at(h.SenderPeer, placeOf(ep)); b != nil {
		b.heard.Store(int64(s.l.now))
		return
	}
	switch h.Type {
	case wire.Ping:
		s.ask(c, h.SenderPeer, ep, nil)
	case wire.EPCReq, wire.NetIDReq:
		if !s.settled(c, h.SenderPeer, ep) {
			s.ask(c, h.SenderPeer, ep, nil)
		}
	case wire.EPC:
		if id, err := wire.ParseEPC(msg); err == nil {
			s.checked(c, h.SenderPeer, id, ep)
		}
	}
}

// adopt makes a client of a peer; nil if it cannot.
func (s *clients) adopt(p *peer.Peer, ep link.Endpoint) *client {
	if !s.keys.Allow(s.l.now, ep.Addr.Addr()) {
		s.l.n.counters.count(dBudget)
		return nil
	}
	key, err := seal.SharedKey(s.l.n.cfg.Identity, p.Address)
	if err != nil {
		return nil
	}
	return s.add(p.Address, key, ep.Addr.Addr())
}

// signed takes an authentic packet of a client from a lane.
func (s *clients) signed(c *client, b []byte, ep link.Endpoint) {
	h, msg, err := wire.Parse(b)
	if err != nil || s.x.get(&c.address) != c {
		return
	}
	s.message(c, &h, msg, ep)
}

// message takes an authentic message of a client.
func (s *clients) message(c *client, h *wire.Header, msg []byte, ep link.Endpoint) {
	at := c.at(h.SenderPeer, placeOf(ep))
	if at != nil {
		at.heard.Store(int64(s.l.now))
	}
	kind := h.Type
	if h.Hop != 0 {
		kind = wire.Error // it came by a relay, whose place is not the client's
	}
	switch kind {
	case wire.Ping:
		if at == nil {
			s.ask(c, h.SenderPeer, ep, msg)
		} else {
			s.reply(c, h.SenderPeer, ep, wire.Pong, msg)
		}
		return
	case wire.EPC:
		if id, err := wire.ParseEPC(msg); err == nil && s.checked(c, h.SenderPeer, id, ep) {
			return
		}
	case wire.Whois:
		if at != nil {
			s.whois(c, h, msg, ep)
			return
		}
	case wire.EPCReq, wire.NetIDReq:
		if at == nil && !s.settled(c, h.SenderPeer, ep) { // its NAT has started anew
			s.ask(c, h.SenderPeer, ep, nil)
		}
	}
	if p := s.peer(c, h.Type, ep); p != nil {
		s.l.gate.authentic(p, h, msg, ep, false)
		return
	}
	switch kind {
	case wire.EPCReq:
		if id, err := wire.ParseEPC(msg); err == nil {
			s.reply(c, h.SenderPeer, ep, wire.EPC, wire.AppendEPC(nil, id))
		}
	case wire.NetIDReq:
		s.netID(c, h, msg, ep)
	case wire.Linger:
		s.linger(c, h.SenderPeer, msg, ep)
	}
}

// peer returns the peer with a client's address, since it may be one as well; nil if
// nobody speaks with it. One that wants a session is met.
func (s *clients) peer(c *client, t wire.Type, ep link.Endpoint) *peer.Peer {
	p := s.l.peers.get(c.address)
	if p == nil && t == wire.Hello {
		if !s.l.gate.afford(ep.Addr.Addr(), costKey) {
			return nil
		}
		p, _ = s.l.meet(c.address, ep.Addr.Addr())
	}
	if p != nil && !p.HasKey() {
		p.SetKey(seal.NewMAC(c.key))
	}
	return p
}

// add makes a client, which is nowhere yet.
func (s *clients) add(a anode.Address, key [32]byte, from netip.Addr) *client {
	n := s.l.n
	site, guest := siteOf(from), !n.servesZone(a.Zone())
	if len(s.list)-s.x.count >= maxChecks || guest && s.guests >= s.most/4 && !s.evict(site, true) ||
		len(s.list) >= s.most && !s.evict(site, false) {
		n.counters.count(dClients)
		return nil
	}
	c := &client{address: a, id: a.ID(), key: key, site: site, guest: guest, slot: int32(len(s.list))}
	s.list = append(s.list, c)
	s.sites[site]++
	if c.guest {
		s.guests++
	}
	s.x.add(c)
	return c
}

// remove forgets a client.
func (s *clients) remove(c *client) {
	last := int32(len(s.list) - 1)
	if c.slot > last || s.list[c.slot] != c {
		return
	}
	s.list[c.slot] = s.list[last]
	s.list[c.slot].slot = c.slot
	s.list[last] = nil
	s.list = s.list[:last]
	if s.sites[c.site]--; s.sites[c.site] == 0 {
		delete(s.sites, c.site)
	}
	if c.guest {
		s.guests--
	}
	c.check = nil
	s.x.remove(c)
	s.l.releaseConnections(c)
}

// left forgets where a machine was whose connection ended.
func (s *clients) left(b *berth) {
	c := b.client
	if s.x.unmoor(b); c.places.Load() == nil && c.check == nil {
		s.remove(c)
	}
}

// evict makes room for one client of a site, or for one guest: of some of them, one of the
// site that has the most goes. It returns false if all are of sites that have no more than
// this.
func (s *clients) evict(site site, guests bool) bool {
	var worst *client
	for range evictSamples {
		c := s.list[rand.IntN(len(s.list))]
		if (c.guest || !guests) && (worst == nil || s.sites[c.site] > s.sites[worst.site]) {
			worst = c
		}
	}
	if worst == nil || s.sites[worst.site] <= s.sites[site]+1 {
		return false
	}
	s.remove(worst)
	return true
}

// holds reports whether a machine is at a place in a connection. No NAT takes that away, and its end is
// seen. A machine that tries UDP beside it says by a PING when it moves there.
func (c *client) holds(machine uint8) bool {
	b := c.to(machine)
	return b != nil && b.machine == machine && b.place.kind.Connected()
}

// restless is how long a machine may be silent where it is, before a question from where it was before
// has it checked there.
const restless = 2 * time.Second

// settled reports whether a question of a machine does not mean that it is elsewhere now: it holds a
// place, or asks from where it was before, and was heard where it is just now. One with several ways
// to us asks along all of them.
func (s *clients) settled(c *client, machine uint8, ep link.Endpoint) bool {
	if c.holds(machine) {
		return true
	}
	b := c.to(machine)
	return c.knows(machine, placeOf(ep)) && s.l.now.Sub(mono.Time(b.heard.Load())) < restless
}

// ask has a place checked. ping is what a PING from there carried, nil if none came.
func (s *clients) ask(c *client, machine uint8, ep link.Endpoint, ping []byte) {
	if machine == 0 {
		return // no machine's (draft 3.4)
	}
	now, at := s.l.now, placeOf(ep)
	k := c.check
	if k != nil && now.Sub(k.asked) < checkEvery {
		if k.place == at && k.machine == machine {
			k.echo(ping)
		}
		return
	}
	if k == nil || k.place != at || k.machine != machine {
		k = &check{request: s.l.env.Request(), machine: machine, place: at, until: now.Add(checkFor)}
	}
	k.echo(ping)
	k.asked = now
	if c.check = k; !c.queued {
		c.queued = true
		s.checks = append(s.checks, waiting{c, k.until})
	}
	s.reply(c, machine, ep, wire.EPCReq, wire.AppendEPC(nil, k.request))
}

// echo keeps what a PING carried, for the answer.
func (k *check) echo(ping []byte) {
	if ping != nil && len(ping) <= maxEcho {
		k.ping = append([]byte{}, ping...)
	}
}

// checked takes an EPC, and reports whether it was the answer to a check.
func (s *clients) checked(c *client, machine uint8, id uint32, ep link.Endpoint) bool {
	k := c.check
	if k == nil || k.request != id || k.machine != machine || k.place != placeOf(ep) {
		return false
	}
	c.check = nil
	s.l.keepConnection(ep, c, false)
	if lost := s.x.moor(c, machine, k.place, s.l.now); lost != nil && lost != c && lost.places.Load() == nil {
		s.remove(lost)
	}
	if k.ping != nil {
		s.reply(c, machine, ep, wire.Pong, k.ping)
	}
	return true
}

func (s *clients) reply(c *client, machine uint8, ep link.Endpoint, t wire.Type, body []byte) {
	s.l.shell.write(s.l.n.toClient(s.l.shell.buf[:0], c, machine, t, body, &s.l.shell.scratch), ep)
}

// netID answers as signals.netIDReq does.
func (s *clients) netID(c *client, h *wire.Header, msg []byte, ep link.Endpoint) {
	x, err := wire.ParseNetIDReq(msg)
	from := ep.Wire()
	switch {
	case err != nil:
		s.l.n.counters.count(dMessage)
	case x.Endpoint.Kind != wire.Unspecified && x.Endpoint != from:
		s.l.n.counters.count(dReflection)
	default:
		s.reply(c, h.SenderPeer, ep, wire.NetID, wire.NetIDMsg{Request: x.Request, Endpoint: from}.Append(nil))
	}
}

// whois answers for ourselves, for clients, and for added peers.
func (s *clients) whois(c *client, h *wire.Header, msg []byte, ep link.Endpoint) {
	x, err := wire.ParseWhois(msg)
	if err != nil {
		s.l.n.counters.count(dMessage)
		return
	}
	s.reply(c, h.SenderPeer, ep, wire.IAm, wire.IAmMsg{Request: x.Request, Address: s.l.finder.named(&x, c.guest)}.Append(nil))
}

// find returns the client that a WHOIS asks for, if it is somewhere; guests only if they
// may be found.
func (s *clients) find(x *wire.WhoisMsg, guests bool) *client {
	for c := s.x.named(x.ID); c != nil; c = c.next.Load() {
		if c.places.Load() != nil && (guests || !c.guest) && x.Matches(c.address) {
			return c
		}
	}
	return nil
}

// tick ends checks, and forgets clients that are silent: the list is looked through slice
// by slice.
func (s *clients) tick() mono.Time {
	now := s.l.now
	s.endChecks(now)
	s.answerLate(now)
	if now >= s.sweep {
		s.silent(now)
		parts := (len(s.list) + sweepSlice - 1) / sweepSlice
		s.sweep = now.Add(sweepAll / time.Duration(max(parts, 1)))
	}
	next := s.late.next()
	if len(s.list) > 0 {
		next = min(next, s.sweep)
	}
	if len(s.checks) > 0 {
		next = min(next, s.checks[0].until)
	}
	return next
}

// endChecks ends the checks whose time is over.
func (s *clients) endChecks(now mono.Time) {
	for len(s.checks) > 0 && s.checks[0].until <= now {
		c := s.checks[0].client
		s.checks[0] = waiting{}
		s.checks = s.checks[1:]
		if c.check != nil && c.check.until > now {
			s.checks = append(s.checks, waiting{c, c.check.until})
			continue
		}
		c.queued = false
		if c.check = nil; c.places.Load() == nil {
			s.remove(c)
		}
	}
	if len(s.checks) == 0 {
		s.checks = nil
	}
}

// silent looks through one slice of the list.
func (s *clients) silent(now mono.Time) {
	for range min(sweepSlice, len(s.list)) {
		if s.swept >= len(s.list) {
			s.swept = 0
		}
		c := s.list[s.swept]
		for b := c.places.Load(); b != nil; b = b.next.Load() {
			if now.Sub(mono.Time(b.heard.Load())) > silentClient {
				s.x.unmoor(b)
			}
		}
		if c.places.Load() == nil && c.check == nil {
			s.remove(c) // another takes its slot
		} else {
			s.swept++
		}
	}
}

// block forgets the clients with the key of an address. It looks at all clients: people
// block seldom.
func (s *clients) block(a anode.Address) {
	for k := len(s.list) - 1; k >= 0; k-- {
		if s.list[k].address.X() == a.X() {
			s.remove(s.list[k])
		}
	}
}

// serve follows a change of the zones that are served.
func (s *clients) serve() {
	for k := len(s.list) - 1; k >= 0; k-- {
		c := s.list[k]
		if !s.open() {
			s.remove(c)
			continue
		}
		if guest := !s.l.n.servesZone(c.address.Zone()); guest != c.guest {
			s.remove(c) // it registers again
		}
	}
}
