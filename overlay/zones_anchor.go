package overlay

import (
	"bytes"
	"crypto/rand"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/anode/zone"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// anchor is a relay of a zone that is in use.
//
//	            PONG                 PINGs without an answer
//	connecting ------> registered -----------------------------.
//	    |                  ^                                   |
//	    |                  | PONG                              |
//	    |                  |                                   v
//	    '------------------+-------------------------------> silent
//	              PINGs without an answer
//
// A relay sends its PONG when it has checked where we are and forwards for us; one that
// follows the draft alone does so at once. While one is silent, it is asked ever more
// seldom, and the next relay in the order of the zone file takes its place.
type anchor struct {
	z       *zones
	address anode.Address
	zone    anode.Zone
	index   uint32
	file    *zone.File // that names it
	peer    *peer.Peer // whose ways are checked as those of any peer
	state   RelayState

	// The question to it.
	nonce [8]byte       // of the last PING
	tries int           // PINGs since it last answered
	next  mono.Time     // when the next one is due
	rest  time.Duration // between two, while it is silent
	at    link.Endpoint // where it knows us to be reached from
	heard mono.Time
	lost  bool // it may not know any more where we are

	users     map[*peer.Peer]bool // who are spoken with through it, or were
	used      mono.Time           // when there was last a user
	left      mono.Time           // when it ceased to be our own
	questions []wire.WhoisMsg     // that wait until we are registered
}

const (
	anchorEvery   = 20 * time.Second // PINGs that keep us registered
	firstPing     = 250 * time.Millisecond
	shortestPing  = 200 * time.Millisecond
	longestPing   = time.Second
	doubtAfter    = 2 // PINGs without an answer: the next relay is made ready
	silentAfter   = 4
	firstSilence  = 10 * time.Second // between two PINGs to a silent relay; doubles
	lastSilence   = 5 * time.Minute
	leftFor       = 10 * time.Minute // others look for us where we were
	unusedFor     = time.Minute
	maxQuestions  = 8
	recentlyHeard = 200 * time.Millisecond
)

// adopt makes the peer that stands for the relay, or takes the one that is there. It
// returns false if that one is blocked.
func (a *anchor) adopt() bool {
	l := a.z.l
	p := l.peers.get(a.address)
	switch {
	case p == nil:
		p = l.peers.add(peer.New(l.env, a.address))
	case p.Standing() == book.Blocked:
		return false
	}
	if p.Standing() < book.Relay {
		l.peers.strangers.forget(p)
		p.Decide(l.now, book.Relay, nil)
	}
	a.peer = p
	a.offer()
	return true
}

// relay is what the zone file says of it.
func (a *anchor) relay() (zone.Relay, bool) {
	r, err := a.file.Relay(a.index)
	return r, err == nil && r.Addresses[0] == a.address
}

// named reports whether a newer file names the relay as well, and takes it.
func (a *anchor) named(f *zone.File) bool {
	if f == nil {
		return false
	}
	for k := range uint32(f.Relays()) {
		if r, err := f.Relay(k); err == nil && r.Addresses[0] == a.address {
			a.file, a.index = f, k
			return true
		}
	}
	return false
}

// endpoints draws one of the relay's endpoints of each family (draft 2.3.1).
func (a *anchor) endpoints() (list []link.Endpoint) {
	r, _ := a.relay()
	var of [2][]netip.AddrPort
	for _, ip := range r.IPs {
		if ep := netip.AddrPortFrom(ip, r.UDP); a.z.mayUse(ep) {
			family := 0
			if ip.Is6() {
				family = 1
			}
			of[family] = append(of[family], ep)
		}
	}
	for _, eps := range of {
		if len(eps) > 0 {
			list = append(list, udp(eps[mathrand.IntN(len(eps))]))
		}
	}
	return list
}

// offer names endpoints of the relay to its peer, which checks them.
func (a *anchor) offer() (list []link.Endpoint) {
	list = a.endpoints()
	for _, ep := range list {
		a.peer.Offer(a.z.l.now, path.Way{Endpoint: ep}, path.Stored)
	}
	a.z.l.touch(a.peer)
	return list
}

// tick sends the PING that is due.
func (a *anchor) tick() mono.Time {
	if a.z.l.now < a.next {
		return a.next
	}
	if a.tries >= silentAfter && a.state != RelaySilent {
		a.fail()
	}
	a.ping()
	return a.next
}

// ping asks the relay for a sign of life, and to register us.
func (a *anchor) ping() {
	l := a.z.l
	if a.tries == 0 {
		rand.Read(a.nonce[:])
	}
	to := []link.Endpoint(nil)
	if best, ok := a.peer.Best(); ok && best.Direct() {
		to = append(to, best.Endpoint)
		if a.tries > 0 {
			a.peer.Recheck(l.now)
			l.touch(a.peer)
		}
	} else {
		to = a.offer()
	}
	for _, ep := range to {
		a.peer.Reply(l.now, ep, 0, wire.Ping, a.nonce[:])
	}
	a.tries++
	wait := a.patience()
	if a.state == RelaySilent {
		a.rest = min(max(2*a.rest, firstSilence), lastSilence)
		wait = a.rest
	}
	a.next = l.now.Add(wait)
	if a.tries == doubtAfter {
		a.doubt()
	}
}

// patience is how long the answer to a PING is waited for.
func (a *anchor) patience() time.Duration {
	d := firstPing
	if best, ok := a.peer.Best(); ok && best.RTT > 0 {
		d = min(max(2*best.RTT, shortestPing), longestPing)
	}
	return d << max(a.tries-2, 0) // 1, 1, 2, 4
}

// again begins to ask anew, whatever was known.
func (a *anchor) again() {
	a.tries, a.rest, a.next, a.lost = 0, 0, a.z.l.now, true
}

// suspect asks the relay, if it was not heard just now and is not being asked.
func (a *anchor) suspect() {
	now := a.z.l.now
	if a.state == RelayRegistered && a.tries == 0 && now.Sub(a.heard) >= recentlyHeard {
		a.next, a.lost = now, true
		a.z.moved()
	}
}

// doubt makes the next relay ready for those who are spoken with through this one: if it
// answers and this one does not, it is used.
func (a *anchor) doubt() {
	before := a.state
	a.state = RelaySilent // for serving to pass it over
	for _, p := range a.sorted() {
		a.z.seek(p)
		a.z.l.touch(p)
	}
	if a == a.z.own {
		a.z.serving(a.z.l.n.address.Zone(), a.z.l.n.address.Sum())
	}
	a.state = before
}

// fail gives the relay up for a while.
func (a *anchor) fail() {
	a.state, a.rest = RelaySilent, 0
	a.z.l.n.log.Info("the zone's relay does not answer", "zone", a.zone, "relay", a.index)
	a.doubt()
	a.z.moved()
}

// pong takes an answer to the last PING: the relay forwards for us. Who waits for that
// goes on.
func (a *anchor) pong(m *message) {
	if m.in != nil || m.hop != 0 || string(m.body) != string(a.nonce[:]) {
		return
	}
	was, again := a.state, a.lost || a.tries > doubtAfter || at(m.from) != a.at
	a.at, a.state, a.rest, a.lost, a.tries = at(m.from), RelayRegistered, 0, false, 0
	a.heard, a.next = a.z.l.now, a.z.l.now.Add(anchorEvery)
	a.z.moved()
	for _, q := range a.questions {
		a.send(q)
	}
	a.questions = nil
	if was != RelayRegistered || again {
		for _, p := range a.sorted() {
			p.Retry(a.z.l.now, a.way())
			a.z.l.touch(p)
		}
	}
	if was == RelaySilent {
		a.back()
	}
}

// back brings those here whose first relay this is, and who had to use another.
func (a *anchor) back() {
	a.z.l.n.log.Info("the zone's relay answers again", "zone", a.zone, "relay", a.index)
	for _, other := range a.z.list() {
		for _, p := range other.sorted() {
			if other != a && p.Address.Zone() == a.zone && a.z.serving(a.zone, p.Address.Sum()) == a {
				a.use(p)
			}
		}
	}
}

// use has a peer spoken with through the relay.
func (a *anchor) use(p *peer.Peer) {
	a.users[p] = true
	a.used = a.z.l.now
	if a.state == RelayRegistered && a.tries < doubtAfter {
		p.Offer(a.z.l.now, a.way(), path.Relay)
	}
	a.z.moved()
}

// sorted returns the users in a fixed order.
func (a *anchor) sorted() []*peer.Peer {
	return slices.SortedFunc(maps.Keys(a.users), func(p, q *peer.Peer) int { return bytes.Compare(p.ID[:], q.ID[:]) })
}

func (a *anchor) way() path.Way { return path.Way{Endpoint: a.at, Via: a.address} }

// ask has the relay asked for an address, now or when it knows us.
func (a *anchor) ask(m wire.WhoisMsg) {
	a.used = a.z.l.now
	if a.state == RelayRegistered {
		a.send(m)
	} else if len(a.questions) < maxQuestions && !slices.ContainsFunc(a.questions, func(x wire.WhoisMsg) bool { return x.Request == m.Request }) {
		a.questions = append(a.questions, m)
	}
	a.z.moved()
}

func (a *anchor) send(m wire.WhoisMsg) {
	a.peer.Reply(a.z.l.now, a.at, 0, wire.Whois, m.Append(nil))
}

// prune forgets the users that nobody speaks with any more.
func (a *anchor) prune() {
	for p := range a.users {
		if s := p.State(); (s == peer.Idle || s == peer.Unreachable) && !p.Waits() {
			delete(a.users, p)
		}
	}
	if len(a.users) > 0 {
		a.used = a.z.l.now
	}
	if a.state == RelaySilent {
		a.questions = nil
	}
}

// needed reports whether the relay is of use: it is our own, or the one that should be,
// somebody is spoken with through it, or it was left not long ago.
func (a *anchor) needed() bool {
	now, n := a.z.l.now, a.z.l.n
	if a == a.z.own || len(a.users) > 0 || now.Sub(a.used) < unusedFor || now.Sub(a.left) < leftFor {
		return true
	}
	if a.zone != n.address.Zone() || a.z.own == nil {
		return false
	}
	count := uint32(a.file.Relays())
	order := func(index uint32) uint32 { return (index + count - n.address.Sum()%count) % count }
	return order(a.index) < order(a.z.own.index)
}

func (a *anchor) status() ZoneRelayStatus {
	s := ZoneRelayStatus{Index: a.index, Address: a.address, Own: a == a.z.own, State: a.state}
	if best, ok := a.peer.Best(); ok {
		s.Endpoint, s.RTT = wire.UDP(best.Endpoint.Addr).String(), float64(best.RTT.Microseconds())/1000
	}
	return s
}
