package peer

import (
	"net/netip"
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// opening is the attempts to open a direct way to one machine, while there is only a
// relayed one. Both sides send at the same moment:
//
//	starter     PUNCH by the relay     waits as long as the PUNCH takes     sends to all targets
//	other side                         gets it                              sends to all targets
//
// A packet that came to a NAT before its own side has sent could take the very port that
// its own side needs. So nothing is sent to where a NAT may be at another time.
//
// Either side may start. Who gets a PUNCH while its own one is on the way sends at once: so
// both still send at the same moment, that of the earlier one.
//
// A NAT that chooses a new port for each destination, and chooses them in order, can be
// predicted. Whoever is behind one starts, with a PREDICT before the PUNCH, since a
// prediction gets old. If both are, the one with the higher address sends a PREDICT alone,
// which has the other one start.
type opening struct {
	plan    path.Plan
	takes   bool            // the machine takes NAT_T
	there   []link.Endpoint // where it says that it is
	useless []link.Endpoint // where it says that it is as well, and nothing is sent: on no link of ours, for instance
	mapping uint8           // of the NAT in front of it, as it says; see MappingOf
	guess   wire.Predict    // what it says about its next ports
	guessed mono.Time       // when it said so; 0: never, or it is used up
	invited bool            // it waits for us to start
	renewed mono.Time       // when our own mapping was asked for, for the next attempt; 0: it was not
	asked   mono.Time       // when we had the other side start; 0: we did not

	moved   bool      // we are elsewhere: an attempt is needed although there is a direct way
	changed mono.Time // since when the relay may have lost us
	doubted mono.Time // when the direct way in use was last checked since nothing came

	attempt uint32    // the ID of the last one
	fire    mono.Time // when to send to the targets; 0: that was done
	fired   mono.Time
	ready   mono.Time // when the last handshake ended
	began   bool      // that was ours
	told    mono.Time // the ready after which the machine was told where we are, beside PUNCH
	wanted  mono.Time // when somebody wanted a session last
	open    bool      // the last attempt is not concluded
	last    Attempt
	count   int // attempts
	sent    int // requests of all attempts
}

// Attempt is what is known of the last attempt to open a direct way.
type Attempt struct {
	At      mono.Time // when it began; 0: there was none
	Ours    bool      // the machine here started it
	Targets int       // endpoints
	Sent    int       // requests
	Result  AttemptResult
}

// AttemptResult is how an attempt ended.
type AttemptResult string

// The results. They are stable: scripts read them.
const (
	AttemptRunning AttemptResult = "running"
	AttemptDirect  AttemptResult = "direct"  // a direct way answered
	AttemptSmall   AttemptResult = "small"   // one answered, and large packets get lost on it
	AttemptFailed  AttemptResult = "failed"  // no endpoint answered
	AttemptNothing AttemptResult = "nothing" // the peer named no endpoint that we may send to
	AttemptBudget  AttemptResult = "budget"  // too many packets were sent lately
	AttemptNone    AttemptResult = ""        // there was none
)

const (
	predictions   = 8                      // ports that are guessed
	startGrace    = 500 * time.Millisecond // for the other side to start first
	sameAttempt   = 500 * time.Millisecond // PUNCHes of both sides within this, and a round trip, are one attempt
	burstWait     = 600 * time.Millisecond // for answers, beside the round trip
	guessFor      = 2 * time.Second        // a prediction is of use
	mappingFor    = time.Second            // and so is what others saw of us
	renewWait     = 150 * time.Millisecond // for them to say it again
	holdFor       = time.Second            // for the relay to answer, before an attempt
	natForgets    = 20 * time.Second       // how long a NAT remembers at least, if nothing is known of it
	leastDatagram = 1232                   // bytes of a datagram that a direct way has to carry
)

// mappingByte writes a mapping as the handshake says it.
func mappingByte(m path.Mapping) uint8 { return uint8(m.Kind)<<4 | uint8(m.Ports) }

// MappingOf reads it; what is not known here is Unknown.
func MappingOf(b uint8) (path.MappingKind, path.PortKind) {
	kind, ports := path.MappingKind(b>>4), path.PortKind(b&15)
	if kind > path.Dependent {
		kind = path.Unknown
	}
	if ports > path.Random {
		ports = path.PortsUnknown
	}
	return kind, ports
}

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
	o.takes = it.Capabilities&seal.TakesPunch != 0
	if !m.peer.added() {
		return
	}
	o.mapping = it.Reach.Mapping
	o.wanted = now
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
	kind, ports := MappingOf(o.mapping)
	fickle := kind == path.Dependent || predictable(kind, ports) // the port says nothing
	same := func(a, b link.Endpoint) bool {
		return a.Addr == b.Addr || fickle && a.Addr.Addr() == b.Addr.Addr()
	}
	inside := m.sharesNAT(list)
	var there, useless []link.Endpoint
	for _, e := range list[:min(len(list), seal.MaxEndpoints)] {
		ep := link.Endpoint{Addr: e.Addr}
		switch {
		case e.Kind != wire.UDP4 && e.Kind != wire.UDP6 || slices.Contains(there, ep):
		case !m.peer.env.Shell.Hint(ep, inside):
			useless = append(useless, ep)
		default:
			there = append(there, ep)
			fresh = fresh || !slices.ContainsFunc(o.there, func(x link.Endpoint) bool { return same(x, ep) })
		}
	}
	o.there, o.useless = there, useless
	for _, ep := range there {
		if _, on := m.peer.env.Shell.Link(ep); on || kind == path.None {
			m.ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
		}
	}
	return fresh
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
	if m == nil || !p.added() || x.Attempt == m.opening.attempt {
		return
	}
	o := &m.opening
	o.takes = true
	fresh := m.candidates(now, x.Endpoints)
	if fresh {
		o.plan.ResetBy(now)
	}
	best, _ := m.ways.Best()
	o.invited = false
	switch {
	case o.fire != 0:
		o.fire = now
	case now.Sub(o.fired) < max(sameAttempt, best.RTT) && !fresh: // it is the answer to ours
	default:
		o.attempt, o.fire = x.Attempt, now
		o.last = Attempt{At: now, Result: AttemptRunning}
		m.complete(now)
	}
}

// complete tells a machine where we are, once after a handshake: when we took part in that, we may
// not have known it yet, and then the machine sends nothing in this attempt. We do, so that our
// NAT lets in what it sends a little later.
func (m *Machine) complete(now mono.Time) {
	o := &m.opening
	r := m.line.Route.Load()
	if o.told == o.ready || now.Sub(o.ready) > startGrace || r == nil {
		return
	}
	o.told = o.ready
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
	o.guess, o.guessed = x, now
	o.invited = m.turn() == answers && now.Sub(o.fired) > sameAttempt
}

// turn says who is to start an attempt.
type turn uint8

const (
	either  turn = iota
	starts       // we are, at once
	answers      // we are, when the other side has sent its PREDICT
	invites      // the other side is, when we have sent our PREDICT
	waits        // the other side is
)

// turn says who is to start: see opening.
func (m *Machine) turn() turn {
	own := m.peer.env.mapping()
	kind, ports := MappingOf(m.opening.mapping)
	ours, theirs := predictable(own.Kind, own.Ports), predictable(kind, ports)
	switch {
	case ours && theirs && m.peer.lower():
		return answers
	case ours && theirs:
		return invites
	case ours:
		return starts
	case theirs:
		return waits
	}
	return either
}

// predictable reports whether a NAT has another port for each destination, as far as is
// known, and the next one can be guessed.
func predictable(k path.MappingKind, p path.PortKind) bool {
	return (k == path.Dependent || k == path.Unknown) && p == path.Sequential
}

// lower reports whether our address is the lower one.
func (p *Peer) lower() bool {
	own := p.env.Local.Identity.Address()
	return slices.Compare(own[:], p.Address[:]) < 0
}

// punch starts an attempt if one is due, and sends to the targets when it is time to.
func (m *Machine) punch(now mono.Time) (next mono.Time) {
	o := &m.opening
	if o.fire != 0 && o.fire <= now {
		m.shoot(now)
	}
	if o.fire != 0 {
		return o.fire
	}
	m.conclude()
	r := m.line.Route.Load()
	if m.state != Up || r == nil || r.Way.Direct() && !o.moved || !o.takes || !m.peer.added() || !m.active(now) {
		return mono.Never
	}
	via, ok := m.relayedWay()
	if !ok {
		return mono.Never
	}
	if via.Heard < o.changed && now.Sub(o.changed) < holdFor {
		return o.changed.Add(holdFor) // the relay may have lost us: its answer comes first
	}
	turn := m.turn()
	at := o.due(turn)
	if at <= now && turn != either && turn != waits {
		at = m.foresee(now)
	}
	if at > now {
		return at
	}
	if turn == invites && o.asked == 0 {
		o.asked = now
		m.sendPredict(r.by(via))
		return now.Add(startGrace)
	}
	m.start(now, r.by(via), via.RTT)
	return o.fire
}

// due returns when we are to start.
func (o *opening) due(t turn) mono.Time {
	next := o.plan.Next()
	switch {
	case o.invited:
		return 0
	case t == starts, t == invites && o.asked == 0, t == either && o.began:
		return next
	case t == either:
		return max(next, o.ready.Add(startGrace))
	}
	return max(next, o.ready, o.asked).Add(startGrace) // the other side did not
}

// foresee asks how the outside sees us now, for the prediction, and returns when we should
// know.
func (m *Machine) foresee(now mono.Time) mono.Time {
	o := &m.opening
	seen := m.peer.env.mapping().At
	if now.Sub(seen) <= mappingFor {
		return now
	}
	if o.renewed == 0 {
		o.renewed = now
		m.peer.env.Shell.Renew()
	}
	return o.renewed.Add(renewWait)
}

// active reports whether somebody wants to speak with the machine.
func (m *Machine) active(now mono.Time) bool {
	f := m.set.Flow()
	return now.Sub(max(mono.Time(f.Sent), mono.Time(f.Data), m.opening.wanted)) <= flowing
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
	o.attempt, o.fire = env.Request(), now.Add(delay)
	o.last = Attempt{At: now, Ours: true, Result: AttemptRunning}
	m.sendPredict(r)
	x := wire.Punch{Attempt: o.attempt, Delay: delay, Endpoints: env.Shell.Own()}
	m.sendNATT(r, wire.NATTPunch, x.Append(nil))
	m.sendNATT(r, wire.NATTPunch, x.Append(nil)) // one may get lost, and then only one side would send
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
	x := wire.Predict{Attempt: m.opening.attempt, Endpoint: wire.UDP(p.Last), Step: int16(p.Step), Count: predictions}
	m.sendNATT(r, wire.NATTPredict, x.Append(nil))
}

// shoot sends to all targets.
func (m *Machine) shoot(now mono.Time) {
	o := &m.opening
	best, _ := m.ways.Best()
	o.fire, o.fired, o.open = 0, now, true
	targets := m.targets(now)
	o.invited, o.moved, o.asked, o.renewed, o.guessed = false, false, 0, 0, 0
	m.retry()
	most := o.plan.Begin(now, len(targets))
	o.last.Targets = m.ways.Punch(now, targets, most, burstWait+2*best.RTT)
	o.last.Sent = most
	switch {
	case len(targets) == 0:
		o.last.Result = AttemptNothing
	case most == 0:
		o.last.Result = AttemptBudget
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
	if now.Sub(o.guessed) <= guessFor {
		for _, e := range predicted(o.guess) {
			if m.peer.env.Shell.Hint(e, false) {
				add(e, path.Predicted)
			}
		}
	}
	for _, ep := range o.there {
		add(ep, path.Told)
	}
	for _, w := range m.ways.Ways() {
		if w.Direct() && (w.State == path.Confirmed || w.Origin >= path.Stored) {
			add(w.Endpoint, w.Origin)
		}
	}
	return list
}

// predicted lists the endpoints that a PREDICT means.
func predicted(x wire.Predict) (list []link.Endpoint) {
	if x.Endpoint.Kind != wire.UDP4 && x.Endpoint.Kind != wire.UDP6 || x.Step == 0 {
		return nil
	}
	for k := 1; k <= min(int(x.Count), predictions); k++ {
		port := int(x.Endpoint.Addr.Port()) + k*int(x.Step)
		if port < 1024 || port > 65535 {
			continue
		}
		list = append(list, link.Endpoint{Addr: netip.AddrPortFrom(x.Endpoint.Addr.Addr(), uint16(port))})
	}
	return list
}

// conclude notes how the last attempt ended.
func (m *Machine) conclude() {
	o := &m.opening
	if !o.open || m.ways.Bursting() {
		return
	}
	o.open = false
	o.last.Sent -= m.ways.Left()
	o.sent += o.last.Sent
	o.count++
	if o.last.Result != AttemptRunning {
		return
	}
	o.last.Result = AttemptFailed
	for _, w := range m.ways.Ways() {
		switch {
		case w.State != path.Confirmed || !w.Direct() || w.Fitness == path.Stale:
		case w.Fitness == path.Fit:
			o.last.Result = AttemptDirect
		case o.last.Result == AttemptFailed:
			o.last.Result = AttemptSmall
		}
	}
}

// judge says what the direct ways are good for, and returns when that changes by itself.
func (m *Machine) judge(now mono.Time) (next mono.Time) {
	next = mono.Never
	if !m.peer.added() {
		return next
	}
	least, forgets := m.leastDatagram(), m.forgets()
	relay := m.relay()
	m.ways.Judge(func(i *path.Info) path.Fitness {
		if m.throughNAT(i) && relay && m.opening.takes {
			at := i.Heard.Add(forgets)
			if at <= now {
				return path.Stale
			}
			next = min(next, at)
		}
		x := m.sizes.find(i.Way)
		switch {
		case x == nil || !x.Proven():
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
	if o.doubted >= since || now.Sub(o.doubted) < relayEvery {
		return mono.Never
	}
	at := since.Add(max(2*best.RTT+doubtMore, doubtLeast))
	if now < at {
		return at
	}
	o.doubted = now
	m.ways.Check(now, best.Way)
	m.peer.more = true
	return mono.Never
}

// relay reports whether a relayed way works.
func (m *Machine) relay() bool {
	_, ok := m.relayedWay()
	return ok
}

// relayedWay returns the best relayed way that works.
func (m *Machine) relayedWay() (path.Info, bool) {
	for _, w := range m.ways.Ways() { // best first
		if w.State == path.Confirmed && !w.Direct() {
			return w, true
		}
	}
	return path.Info{}, false
}

// moves has an attempt made since we are elsewhere, or are seen elsewhere.
func (m *Machine) moves(now mono.Time) {
	o := &m.opening
	o.plan.Reset()
	o.moved, o.changed = true, now
}

// coordinated reports whether a way is checked by attempts of both sides: see opening.
func (m *Machine) coordinated(i *path.Info) bool {
	kind, _ := MappingOf(m.opening.mapping)
	return i.Punched && !i.OnLink && kind != path.None && m.opening.takes && m.relay()
}

// forgets is how long our NAT remembers a way on which nothing moves.
func (m *Machine) forgets() time.Duration {
	if d := m.peer.env.mapping().Lifetime; d != 0 {
		return d
	}
	return natForgets
}

// throughNAT reports whether a NAT or a firewall on a way may forget it.
func (m *Machine) throughNAT(i *path.Info) bool {
	theirs, _ := MappingOf(m.opening.mapping)
	open := theirs == path.None && m.peer.env.mapping().Kind == path.None && i.Endpoint.Addr.Addr().Is4()
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
