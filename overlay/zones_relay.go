package overlay

import (
	"bytes"
	"crypto/rand"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"time"
	"unique"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/anode/zone"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// zoneRelay is a relay of a zone that is in use.
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
// follows the draft alone does so at once. It is asked in rounds of silentAfter PINGs, as
// packets get lost. While it is silent, these are ever further apart, except that it is asked
// at once if somebody needs it, or if it answers anything else; and the next relay in the
// order of the zone file takes its place.
type zoneRelay struct {
	z       *zones
	address anode.Address
	zone    anode.Zone
	index   uint32
	file    *zone.File    // that names it; nil: none does
	said    link.Endpoint // where somebody said that it is, for an address of which it is no zone's relay; zero: nobody did
	peer    *peer.Peer    // whose ways are checked as those of any peer
	state   RelayState

	// The question to it.
	nonce   [8]byte         // of the last PING
	cookie  []byte          // what the relay wants to see in it; nil: nothing
	cookies int             // that came for it
	asked   []link.Endpoint // where that went; none: it is answered
	tries   int             // PINGs of this round
	pinged  mono.Time       // the last of them
	next    mono.Time       // when the next one is due
	rest    time.Duration   // between two rounds, while it is silent
	revived bool            // a round was added in this rest, since it answered something else
	at      link.Endpoint   // where it knows us to be reached from
	heard   mono.Time
	lost    bool // it may not know any more where we are

	users     map[*peer.Peer]bool // who are spoken with through it, or were
	used      mono.Time           // when there was last a user
	left      mono.Time           // when it ceased to be our own
	questions []wire.WhoisMsg     // that wait until we are registered
}

const (
	registerEvery = 20 * time.Second // PINGs that keep us registered, where nothing else keeps the way open
	confirmEvery  = 4 * time.Minute  // where something does
	firstPing     = 250 * time.Millisecond
	shortestPing  = 200 * time.Millisecond
	longestPing   = time.Second
	doubtAfter    = 2 // PINGs without an answer: the next relay is made ready
	silentAfter   = 4
	firstSilence  = 10 * time.Second // between two rounds of PINGs to a silent relay; doubles
	lastSilence   = 5 * time.Minute
	leftFor       = 10 * time.Minute // others look for us where we were
	unusedFor     = time.Minute
	mostQuestions = 8
	recentlyHeard = 200 * time.Millisecond
	lookEvery     = 2 * time.Second // a relay is asked because somebody looks at the status, or needs it
)

// adopt makes the peer that stands for the relay, or takes the one that is there. It
// returns false if that one is blocked.
func (r *zoneRelay) adopt() bool {
	l := r.z.l
	p := l.peers.get(r.address)
	switch {
	case p == nil:
		p = l.peers.add(peer.New(l.env, r.address))
	case p.Standing() == book.Blocked:
		return false
	}
	if p.Standing() < book.Relay {
		l.peers.strangers.forget(p)
		p.Decide(l.now, book.Relay, nil)
	}
	r.peer = p
	r.offer()
	return true
}

// entry is what the zone file says of it.
func (r *zoneRelay) entry() (zone.Relay, bool) {
	if r.file == nil {
		return zone.Relay{}, false
	}
	e, err := r.file.Relay(r.index)
	return e, err == nil && e.Addresses[0] == r.address
}

// named reports whether a newer file names the relay as well, and takes it.
func (r *zoneRelay) named(f *zone.File) bool {
	if f == nil {
		return false
	}
	for k := range uint32(f.Relays()) {
		if e, err := f.Relay(k); err == nil && e.Addresses[0] == r.address {
			r.file, r.index = f, k
			return true
		}
	}
	return false
}

// endpoints draws one of the relay's addresses of each family (draft 2.3.1), and lists where it
// takes packets there: by UDP, by TCP, and by HTTP where zone files come from.
func (r *zoneRelay) endpoints() (list []link.Endpoint) {
	e, named := r.entry()
	if !named && r.said != (link.Endpoint{}) {
		return r.givenEndpoint()
	}
	var of [2][]netip.Addr
	for _, ip := range e.IPs {
		if r.z.mayUse(r.zone, netip.AddrPortFrom(ip, max(e.UDP, 1))) {
			family := 0
			if ip.Is6() {
				family = 1
			}
			of[family] = append(of[family], ip)
		}
	}
	for _, ips := range of {
		if len(ips) > 0 {
			list = append(list, r.endpointsAt(ips[mathrand.IntN(len(ips))], e)...)
		}
	}
	return list
}

// endpointsAt lists the relay's endpoints at one of its addresses.
func (r *zoneRelay) endpointsAt(ip netip.Addr, e zone.Relay) (list []link.Endpoint) {
	if e.UDP != 0 {
		list = append(list, link.Endpoint{Addr: netip.AddrPortFrom(ip, e.UDP)})
	}
	if r.z.l.n.mux == nil {
		return list
	}
	if e.TCP != 0 {
		list = append(list, link.Endpoint{Addr: netip.AddrPortFrom(ip, e.TCP), Kind: link.TCP})
	}
	host := ip.String()
	if ip.Is6() {
		host = "[" + host + "]"
	}
	return append(list, link.Endpoint{Kind: link.HTTP, URL: unique.Make("http://" + host + "/")})
}

// offer names endpoints of the relay to its peer, which checks them, and returns those to which a
// packet may be sent at once.
func (r *zoneRelay) offer() (list []link.Endpoint) {
	list = r.endpoints()
	for _, ep := range list {
		r.peer.Offer(r.z.l.now, path.Way{Endpoint: ep}, path.Stored)
	}
	r.z.l.touch(r.peer)
	return slices.DeleteFunc(list, func(ep link.Endpoint) bool { return ep.Kind != link.UDP })
}

// follow registers by another way, since the relay is reached by that one now.
func (r *zoneRelay) follow(best *path.Info) {
	if best.Heard > r.pinged && !r.revived && r.rests() { // it is there: PINGs were lost
		r.revived = true
		r.revive()
		return
	}
	ep := best.Endpoint.Place()
	if ep == r.at && r.state == RelayRegistered || r.wasAsked(ep) || ep.Kind == link.UDP && !r.at.Kind.Connected() {
		return
	}
	r.again()
	r.z.moved()
}

// tick sends the PING that is due.
func (r *zoneRelay) tick() mono.Time {
	if r.z.l.now < r.next {
		return r.next
	}
	if r.tries >= silentAfter {
		if r.state != RelaySilent {
			r.fail()
		}
		r.tries, r.revived = 0, false
	}
	r.ping()
	return r.next
}

// ping asks the relay for a sign of life, and to register us.
func (r *zoneRelay) ping() {
	l := r.z.l
	if r.tries == 0 {
		rand.Read(r.nonce[:])
		r.asked, r.cookie, r.cookies = nil, nil, 0
	}
	to := []link.Endpoint(nil)
	if best, ok := r.peer.Best(); ok && best.Direct() {
		to = append(to, best.Endpoint)
		if r.tries > 0 {
			r.peer.Recheck(l.now)
			l.touch(r.peer)
		}
	}
	if len(to) == 0 || r.tries >= doubtAfter || r.state == RelaySilent { // it may have moved
		for _, ep := range r.offer() {
			if !slices.Contains(to, ep) {
				to = append(to, ep)
			}
		}
	}
	full := r.state != RelayRegistered || r.lost || r.tries > 0 // it may have started anew, and know no short ID
	for _, ep := range to {
		if !slices.Contains(r.asked, ep.Place()) {
			r.asked = append(r.asked, ep.Place())
		}
		l.shell.Plain(r.peer, ep, wire.Ping, r.question(), 0, full)
	}
	r.tries++
	r.pinged = l.now
	wait := r.patience()
	if r.rests() {
		r.rest = min(max(2*r.rest, firstSilence), lastSilence)
		wait = r.rest
	}
	r.next = l.now.Add(wait)
	if r.tries == doubtAfter && r.state != RelaySilent {
		r.doubt()
	}
}

// rests reports whether the relay is silent, and not being asked.
func (r *zoneRelay) rests() bool { return r.state == RelaySilent && r.tries >= silentAfter }

// revive asks a relay that rests at once.
func (r *zoneRelay) revive() {
	if r.rests() {
		r.tries, r.next = 0, r.z.l.now
		r.z.moved()
	}
}

// wasAsked reports whether the last PING went to an endpoint.
func (r *zoneRelay) wasAsked(ep link.Endpoint) bool { return slices.Contains(r.asked, ep.Place()) }

// patience is how long the answer to a PING is waited for.
func (r *zoneRelay) patience() time.Duration {
	d := firstPing
	if best, ok := r.peer.Best(); ok && best.RTT > 0 {
		d = min(max(2*best.RTT, shortestPing), longestPing)
	}
	return d << max(r.tries-2, 0) // 1, 1, 2, 4
}

// again begins to ask anew, whatever was known.
func (r *zoneRelay) again() {
	r.tries, r.rest, r.next, r.lost = 0, 0, r.z.l.now, true
}

// suspect asks the relay, if it was not heard just now and is not being asked.
func (r *zoneRelay) suspect() {
	now := r.z.l.now
	if r.state == RelayRegistered && r.tries == 0 && now.Sub(r.heard) >= recentlyHeard {
		r.next, r.lost = now, true
		r.z.moved()
	}
}

// looked is for somebody who looks at the status: what that says of a relay that was not heard
// lately should be true. It asks, and the next look shows the answer, or that there is none.
func (r *zoneRelay) looked() {
	now := r.z.l.now
	if now.Sub(r.heard) < lookEvery || now.Sub(r.pinged) < lookEvery {
		return
	}
	switch {
	case r.rests():
		r.rest = 0
		r.revive()
	case r.tries == 0:
		r.next = now
		r.z.moved()
	}
}

// doubt makes the next relay ready for those who are spoken with through this one: if it
// answers and this one does not, it is used.
func (r *zoneRelay) doubt() {
	before := r.state
	r.state = RelaySilent // for serving to pass it over
	for _, p := range r.sorted() {
		r.z.seek(p)
		r.z.l.touch(p)
	}
	r.state = before
}

// fail gives the relay up for a while.
func (r *zoneRelay) fail() {
	r.state, r.rest = RelaySilent, 0
	r.z.l.n.log.Info("the zone's relay does not answer", "zone", r.zone, "relay", r.index)
	r.doubt()
	r.z.moved()
}

// pong takes an answer to the last PING: the relay forwards for us. Who waits for that
// goes on. It counts once, and from where the PING went: everybody's packets go there now.
func (r *zoneRelay) pong(m *message) {
	if m.in != nil || m.hop != 0 || !bytes.HasPrefix(m.body, r.nonce[:]) || !r.wasAsked(m.from) {
		return
	}
	r.asked = nil
	r.peer.Ponged(r.z.l.now, path.Way{Endpoint: m.from.Place()}, r.z.l.now.Sub(r.pinged))
	r.z.l.touch(r.peer)
	was, again := r.state, r.lost || r.tries > doubtAfter || m.from.Place() != r.at
	r.at, r.state, r.rest, r.lost, r.tries = m.from.Place(), RelayRegistered, 0, false, 0
	r.heard, r.next = r.z.l.now, r.z.l.now.Add(r.every())
	r.z.moved()
	for _, q := range r.questions {
		r.send(q)
	}
	r.questions = nil
	if was != RelayRegistered || again {
		for _, p := range r.sorted() {
			p.Retry(r.z.l.now, r.way())
			r.z.l.touch(p)
		}
	}
	if was != RelayRegistered {
		r.z.l.reach.changed(r.peer)
	}
	if was == RelaySilent {
		r.back()
	}
}

// every is how often a PING keeps us registered. A relay forgets us after five minutes
// without a packet, but a NAT may forget us sooner.
func (r *zoneRelay) every() time.Duration {
	if r.at.Kind.Connected() || r.z.l.reach.kept(r.peer) {
		return confirmEvery
	}
	return registerEvery
}

// back brings those here whose first relay this is, and who had to use another.
func (r *zoneRelay) back() {
	r.z.l.n.log.Info("the zone's relay answers again", "zone", r.zone, "relay", r.index)
	for _, other := range r.z.list() {
		for _, p := range other.sorted() {
			if other != r && p.Address.Zone() == r.zone && r.z.serving(r.zone, p.Address.Sum()) == r {
				r.use(p)
			}
		}
	}
}

// use has a peer spoken with through the relay.
func (r *zoneRelay) use(p *peer.Peer) {
	r.users[p] = true
	r.used = r.z.l.now
	switch {
	case r.state == RelayRegistered && r.tries < doubtAfter:
		p.Offer(r.z.l.now, r.way(), path.Relay)
	case p.Waits() && r.z.l.now.Sub(r.pinged) >= lookEvery:
		r.rest = 0
		r.revive()
	}
	r.z.moved()
}

// sorted returns the users in a fixed order.
func (r *zoneRelay) sorted() []*peer.Peer {
	return slices.SortedFunc(maps.Keys(r.users), func(p, q *peer.Peer) int { return bytes.Compare(p.ID[:], q.ID[:]) })
}

func (r *zoneRelay) way() path.Way { return path.Way{Endpoint: r.at, Via: r.address} }

// ask has the relay asked for an address, now or when it knows us.
func (r *zoneRelay) ask(m wire.WhoisMsg) {
	r.used = r.z.l.now
	if r.state == RelayRegistered {
		r.send(m)
	} else if len(r.questions) < mostQuestions && !slices.ContainsFunc(r.questions, func(x wire.WhoisMsg) bool { return x.Request == m.Request }) {
		r.questions = append(r.questions, m)
	}
	r.z.moved()
}

func (r *zoneRelay) send(m wire.WhoisMsg) {
	r.peer.Reply(r.z.l.now, r.at, 0, wire.Whois, m.Append(nil))
}

// prune forgets the users that nobody speaks with any more.
func (r *zoneRelay) prune() {
	for p := range r.users {
		if s := p.State(); (s == peer.Idle || s == peer.Unreachable) && !p.Waits() {
			delete(r.users, p)
		}
	}
	if len(r.users) > 0 {
		r.used = r.z.l.now
	}
	if r.state == RelaySilent {
		r.questions = nil
	}
}

// needed reports whether the relay is of use: it is our own, or the one that should be,
// somebody is spoken with through it, or it was left not long ago.
func (r *zoneRelay) needed() bool {
	now, n := r.z.l.now, r.z.l.n
	if r == r.z.own || r == r.z.spare || len(r.users) > 0 || now.Sub(r.used) < unusedFor || now.Sub(r.left) < leftFor {
		return true
	}
	if r.file == nil || r.zone != n.address.Zone() || r.z.own == nil {
		return false
	}
	count := uint32(r.file.Relays())
	order := func(index uint32) uint32 { return (index + count - n.address.Sum()%count) % count }
	return order(r.index) < order(r.z.own.index)
}

func (r *zoneRelay) status() ZoneRelayStatus {
	s := ZoneRelayStatus{Index: r.index, Address: r.address, Own: r == r.z.own, State: r.state}
	if l := r.z.l; r.heard != 0 {
		s.LastHeard = new(l.n.cfg.Clock.Now().Add(-l.now.Sub(r.heard)).Round(0))
	}
	if best, ok := r.peer.Best(); ok {
		s.Endpoint, s.RTT = best.Endpoint.String(), float64(best.RTT.Microseconds())/1000
	}
	for w := range r.peer.Ways {
		if _, why := r.z.l.trouble(w.Endpoint); w.State != path.Confirmed && why != NoReason {
			s.TroubleReason = why
		}
	}
	return s
}
