package peer

import (
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

const (
	predictions   = 8                      // ports that are guessed
	sameAttempt   = 500 * time.Millisecond // PUNCHes of both sides within this, and a round trip, are one attempt
	burstWait     = 600 * time.Millisecond // for answers, beside the round trip
	mappingFor    = time.Second            // and so is what others saw of us
	renewWait     = 150 * time.Millisecond // for them to say it again
	holdFor       = time.Second            // for the relay to answer, before an attempt
	natForgets    = 20 * time.Second       // how long a NAT remembers at least, if nothing is known of it
	longExchange  = 3 * time.Second        // after this NATs take a mapping for one of a conversation
	leastDatagram = 1232                   // bytes of a datagram that a direct way has to carry
)

// mappingByte writes a mapping as the handshake says it.
func mappingByte(m path.Mapping) uint8 { return uint8(m.Kind)<<4 | uint8(m.Ports) }

// Reach is what handshakes say about where we are.
func (e *Env) Reach() seal.Reach {
	return seal.Reach{Endpoints: e.Shell.Own(), Mapping: mappingByte(e.mapping())}
}

func (e *Env) mapping() path.Mapping {
	if e.Mapping == nil {
		return path.Mapping{}
	}
	return e.Mapping()
}

// reaches takes what a machine said in a handshake about where it is.
func (m *Machine) reaches(now mono.Time, it seal.Announcement) {
	o := &m.opening
	o.said.takes = it.Capabilities&seal.TakesPunch != 0
	if !m.peer.added() {
		return
	}
	o.said.mapping = it.Reach.Mapping
	o.need.wanted = now
	if m.candidates(now, it.Reach.Endpoints) {
		o.plan.ResetBy(now)
	}
}

// renew asks how the outside sees us, where that changes all the time: an attempt to open a
// direct way may need it soon.
func (p *Peer) renew() {
	if m := p.env.mapping(); p.added() && predictable(m.Kind, m.Ports) {
		p.env.Shell.Renew()
	}
}

// candidates takes the endpoints that a machine says it is at, and reports whether there are
// new ones. Those on our own link, and all if no NAT is in front of the machine, can be
// checked at once: see opening.
func (m *Machine) candidates(now mono.Time, list []wire.Endpoint) (fresh bool) {
	o := &m.opening
	kind := o.said.kind()
	fickle := kind == path.Dependent || o.said.predictable() // the port says nothing
	same := func(a, b link.Endpoint) bool {
		return a.Addr == b.Addr || fickle && a.Addr.Addr() == b.Addr.Addr()
	}
	inside := m.sharesNAT(list)
	var there, useless []link.Endpoint
	for _, e := range list[:min(len(list), seal.MaxEndpoints)] {
		ep, ok := link.FromWire(e)
		switch {
		case !ok || ep.Kind == link.HTTP || slices.Contains(there, ep):
		case ep.Kind == link.TCP:
			m.connectable(now, ep)
		case !m.peer.env.Shell.Hint(ep, inside):
			useless = append(useless, ep)
		default:
			there = append(there, ep)
			fresh = fresh || !slices.ContainsFunc(o.said.there, func(x link.Endpoint) bool { return same(x, ep) })
		}
	}
	o.said.there, o.said.useless = there, useless
	for _, ep := range there {
		if _, on := m.peer.env.Shell.Link(ep); on || kind == path.None {
			m.ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
		}
	}
	return fresh
}

// connectable takes an endpoint at which a machine says that it takes connections. One is opened if
// nothing better works.
func (m *Machine) connectable(now mono.Time, ep link.Endpoint) {
	if m.peer.env.Shell.Hint(ep, false) {
		_, on := m.peer.env.Shell.Link(ep)
		m.ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
	}
}

// sharesNAT reports whether one of the endpoints that a machine says it is at has a public
// address of ours, so that both are behind one NAT.
func (m *Machine) sharesNAT(list []wire.Endpoint) bool {
	own := m.peer.env.Shell.Own()
	return slices.ContainsFunc(list, func(e wire.Endpoint) bool {
		a := e.Addr.Addr()
		return a.Is4() && !a.IsPrivate() && slices.ContainsFunc(own, func(o wire.Endpoint) bool { return o.Addr.Addr() == a })
	})
}

// Punch takes a PUNCH, which came in a session: the machine sends to our endpoints now.
func (p *Peer) Punch(now mono.Time, in *Inbound, x wire.Punch) {
	m := p.of(in)
	if m == nil || !p.added() || x.Attempt == m.opening.said.punch {
		return
	}
	o := &m.opening
	o.said.takes, o.said.punch = true, x.Attempt
	fresh := m.candidates(now, x.Endpoints)
	if fresh {
		o.plan.ResetBy(now)
	}
	best, _ := m.ways.Best()
	o.said.invited = false
	switch {
	case o.try.fire != 0:
		o.try.fire = now
	case now.Sub(o.try.fired) < max(sameAttempt, best.RTT) && !fresh: // it is the answer to ours
	default:
		o.try.begin(now, x.Attempt, now, false)
		m.complete(now)
	}
}

// complete tells a machine where we are, once after a handshake: when we took part in that, we may
// not have known it yet, and then the machine sends nothing in this attempt. We do, so that our
// NAT lets in what it sends a little later.
func (m *Machine) complete(now mono.Time) {
	o := &m.opening
	r := m.line.Route.Load()
	if o.shake.told == o.shake.at || now.Sub(o.shake.at) > startGrace || r == nil {
		return
	}
	o.shake.told = o.shake.at
	for _, e := range m.peer.env.Shell.Own() {
		if !e.Addr.Addr().IsPrivate() {
			m.peer.env.Shell.Seal(m.peer.Contact, r, wire.EPIMsg{Endpoint: e}.Append([]byte{byte(wire.EPI)}), 0)
		}
	}
}

// Predict takes a PREDICT. It comes before the PUNCH of the same attempt, or alone, if we are
// to start.
func (p *Peer) Predict(now mono.Time, in *Inbound, x wire.Predict) {
	m := p.of(in)
	if m == nil || !p.added() {
		return
	}
	o := &m.opening
	o.said.guess, o.said.guessed = x, now
	o.said.invited = m.turn() == answers && now.Sub(o.try.fired) > sameAttempt
}

// turn says who is to start an attempt.
func (m *Machine) turn() turn {
	own := m.peer.env.mapping()
	return m.opening.said.turn(predictable(own.Kind, own.Ports), m.peer.lower())
}

// lower reports whether our address is the lower one.
func (p *Peer) lower() bool {
	own := p.env.Local.Identity.Address()
	return slices.Compare(own[:], p.Address[:]) < 0
}

// punch starts an attempt if one is due, and sends to the targets when it is time to.
func (m *Machine) punch(now mono.Time) (next mono.Time) {
	o := &m.opening
	if o.try.fire != 0 && o.try.fire <= now {
		m.shoot(now)
	}
	if o.try.fire != 0 {
		return o.try.fire
	}
	tell := m.tellAgain(now)
	o.conclude(m.ways)
	r := m.line.Route.Load()
	if m.state != Up || r == nil || byUDP(r.Way) && !o.need.moved || !o.said.takes || !m.peer.added() || !m.active(now) {
		return tell
	}
	via, ok := m.other()
	if !ok {
		return tell
	}
	if via.Heard < o.need.changed && now.Sub(o.need.changed) < holdFor {
		return min(o.need.changed.Add(holdFor), tell) // the relay may have lost us: its answer comes first
	}
	turn := m.turn()
	if turn == either && o.shake.new && o.plan.Next() <= now {
		o.try.begin(now, m.peer.env.Request(), now, false)
		m.complete(now)
		m.shoot(now)
		return tell
	}
	at := o.due(turn)
	if at <= now && turn != either && turn != waits {
		at = m.foresee(now)
	}
	if at > now {
		return min(at, tell)
	}
	if turn == invites && o.try.asked == 0 {
		o.try.asked = now
		m.sendPredict(r.by(via))
		return min(now.Add(startGrace), tell)
	}
	m.start(now, r.by(via), via.RTT)
	return o.try.fire
}

// foresee asks how the outside sees us now, for the prediction, and returns when we should
// know.
func (m *Machine) foresee(now mono.Time) mono.Time {
	o := &m.opening
	seen := m.peer.env.mapping().At
	if now.Sub(seen) <= mappingFor {
		return now
	}
	if o.try.renewed == 0 {
		o.try.renewed = now
		m.peer.env.Shell.Renew()
	}
	return o.try.renewed.Add(renewWait)
}

// active reports whether somebody wants to speak with the machine.
func (m *Machine) active(now mono.Time) bool {
	f := m.set.Flow()
	return now.Sub(max(mono.Time(f.Sent), mono.Time(f.Data), m.opening.need.wanted)) <= flowing
}

// by returns the route with another way.
func (r *Route) by(w path.Info) *Route {
	to := *r
	to.Way, to.Datagram = w.Way, 0
	return &to
}

// start sends PUNCH by the relay, with a round trip of rtt. It says when we send: when it
// arrives.
func (m *Machine) start(now mono.Time, r *Route, rtt time.Duration) {
	o, env := &m.opening, m.peer.env
	delay := (rtt / 2).Round(time.Millisecond)
	o.try.begin(now, env.Request(), now.Add(delay), true)
	m.sendPredict(r)
	x := wire.Punch{Attempt: o.try.id, Delay: delay, Endpoints: env.Shell.Own()}
	m.sendNATT(r, wire.NATTPunch, x.Append(nil))
	m.sendNATT(r, wire.NATTPunch, x.Append(nil)) // one may get lost, and then only one side would send
	o.try.tell = now.Add(max(rtt+rtt/4, tellLeast))
}

// tellAgain sends PUNCH again if the machine may not have got it, since no direct way works, and
// returns when it is to be sent again.
func (m *Machine) tellAgain(now mono.Time) mono.Time {
	t := &m.opening.try
	via, ok := m.other()
	r := m.line.Route.Load()
	if best, _ := m.ways.Best(); !ok || r == nil || byUDP(best.Way) || m.state != Up {
		t.tell = 0
	}
	if m.opening.again(now, via.RTT) {
		x := wire.Punch{Attempt: t.id, Endpoints: m.peer.env.Shell.Own()}
		m.sendNATT(r.by(via), wire.NATTPunch, x.Append(nil))
	}
	if t.tell == 0 {
		return mono.Never
	}
	return t.tell
}

func (m *Machine) sendNATT(r *Route, mode wire.NATTMode, options []byte) {
	x := wire.NATTMsg{Mode: mode, Options: options}
	m.peer.env.Shell.Seal(m.peer.Contact, r, x.Append([]byte{byte(wire.NATT)}), 0)
}

// sendPredict says which ports our NAT will choose next, if that can be predicted.
func (m *Machine) sendPredict(r *Route) {
	p := m.peer.env.mapping()
	if !predictable(p.Kind, p.Ports) || p.Step == 0 || !p.Last.IsValid() {
		return
	}
	x := wire.Predict{Attempt: m.opening.try.id, Endpoint: wire.UDP(p.Last), Step: int16(p.Step), Count: predictions}
	m.sendNATT(r, wire.NATTPredict, x.Append(nil))
}

// shoot sends to all targets.
func (m *Machine) shoot(now mono.Time) {
	o := &m.opening
	best, _ := m.ways.Best()
	targets := m.targets(now)
	o.shoot(now)
	m.retry()
	most := o.plan.Begin(now, len(targets), &m.peer.budget)
	o.try.Targets = m.ways.Punch(now, targets, most, burstWait+2*best.RTT)
	o.try.Sent = most
	switch {
	case len(targets) == 0:
		o.try.Result = AttemptNothing
	case most == 0:
		o.try.Result = AttemptBudget
	}
	m.peer.more = true
}

// retry has large packets tried again on direct ways that swallowed them.
func (m *Machine) retry() {
	for _, w := range m.ways.Ways() {
		if x := m.sizes.find(w.Way); x != nil && w.State == path.Confirmed && w.Direct() && w.Fitness != path.Fit {
			x.Retry()
		}
	}
}

// targets are what an attempt sends to: the ports that were predicted, in their order, the
// endpoints that the machine names, and ways that worked before.
func (m *Machine) targets(now mono.Time) (list []path.Target) {
	o := &m.opening
	add := func(ep link.Endpoint, x path.Origin) {
		w := path.Way{Endpoint: ep}
		if !slices.ContainsFunc(list, func(t path.Target) bool { return t.Way == w }) {
			_, on := m.peer.env.Shell.Link(ep)
			list = append(list, path.Target{Way: w, Origin: x, OnLink: on})
		}
	}
	for _, e := range o.said.guesses(now) {
		if m.peer.env.Shell.Hint(e, false) {
			add(e, path.Predicted)
		}
	}
	for _, ep := range o.said.there {
		add(ep, path.Told)
	}
	for _, w := range m.ways.Ways() {
		if byUDP(w.Way) && (w.State == path.Confirmed || w.Origin >= path.Stored) {
			add(w.Endpoint, w.Origin)
		}
	}
	return list
}

// judge says what the direct ways are good for, and returns when that changes by itself.
func (m *Machine) judge(now mono.Time) (next mono.Time) {
	next = mono.Never
	if !m.peer.added() {
		return next
	}
	least := m.leastDatagram()
	relay := m.relay()
	m.ways.Judge(func(i *path.Info) path.Fitness {
		if i.Endpoint.Kind.Connected() {
			return path.Fit // nothing is lost or too large there
		}
		if m.throughNAT(i) && relay && m.opening.said.takes {
			at := i.Heard.Add(m.forgets(i))
			if at <= now {
				return path.Stale
			}
			next = min(next, at)
		}
		x := m.sizes.find(i.Way)
		switch {
		case x == nil || !x.Proven(), i.Trial() && !x.Steady(now, i.TrialSince()):
			return path.Unproven
		case x.Size() < least:
			return path.Small
		}
		return path.Fit
	})
	return next
}

// doubtDirect has a direct way in use checked if data has gone unanswered for two round
// trips: if there is no answer either, the relay takes over at once. The check is a single
// request, as a rule, since a peer that only receives sends nothing for half a second.
func (m *Machine) doubtDirect(now, since mono.Time, best path.Info) mono.Time {
	o := &m.opening
	if o.need.doubted >= since || now.Sub(o.need.doubted) < relayEvery {
		return mono.Never
	}
	at := since.Add(max(2*best.RTT+doubtMore, doubtLeast))
	if now < at {
		return at
	}
	o.need.doubted = now
	m.ways.Check(now, best.Way)
	m.peer.more = true
	return mono.Never
}

// relay reports whether a way works that is no direct one by UDP.
func (m *Machine) relay() bool {
	_, ok := m.other()
	return ok
}

// other returns the best way that works, and is no direct one by UDP: it carries packets, and what
// is said about attempts, where that one does not.
func (m *Machine) other() (path.Info, bool) {
	for _, w := range m.ways.Ways() { // best first
		if w.State == path.Confirmed && !byUDP(w.Way) {
			return w, true
		}
	}
	return path.Info{}, false
}

// byUDP reports whether a way leads to the peer itself, without a connection.
func byUDP(w path.Way) bool { return w.Direct() && !w.Endpoint.Kind.Connected() }

// replaceable reports whether another way takes over from the one in use, or one can be opened
// that does.
func (m *Machine) replaceable(best *path.Info) bool {
	return byUDP(best.Way) && (m.relay() || m.ways.Spare())
}

// moves has an attempt made since we are elsewhere, or are seen elsewhere.
func (m *Machine) moves(now mono.Time) {
	o := &m.opening
	o.plan.Reset()
	o.need.moved, o.need.changed = true, now
}

// coordinated reports whether a way is checked by attempts of both sides: see opening.
func (m *Machine) coordinated(i *path.Info) bool {
	return i.Punched && !i.OnLink && m.opening.said.kind() != path.None && m.opening.said.takes && m.relay()
}

// forgets is how long the NATs on a way remember it while nothing moves. What was measured of
// ours is of a mapping in long use; they remember a short exchange for less (Linux: 30 s).
func (m *Machine) forgets(i *path.Info) time.Duration {
	switch d := m.peer.env.mapping().Lifetime; {
	case d == 0:
		return natForgets
	case i.Exchange() < longExchange:
		return min(d, natForgets)
	default:
		return d
	}
}

// throughNAT reports whether a NAT or a firewall on a way may forget it.
func (m *Machine) throughNAT(i *path.Info) bool {
	open := m.opening.said.kind() == path.None && m.peer.env.mapping().Kind == path.None && i.Endpoint.Addr.Addr().Is4()
	return !i.OnLink && !open && i.First != path.Static
}

// leastDatagram is the length of datagrams that a direct way has to carry: what every link
// does, or the relayed way, if that is less.
func (m *Machine) leastDatagram() int {
	least := leastDatagram
	for _, x := range m.sizes.list {
		if !x.way.Direct() && x.Proven() {
			least = min(least, x.Size())
		}
	}
	return least
}
