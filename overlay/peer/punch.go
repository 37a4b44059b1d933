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
type opening struct {
	plan    path.Plan
	takes   bool            // the machine takes NAT_T
	there   []link.Endpoint // where it says that it is
	mapping uint8           // of the NAT in front of it, as it says; see Mapping
	guess   wire.Predict    // what it says about the next port, for the attempt with its ID

	attempt uint32    // the ID of the last one
	fire    mono.Time // when to send to the targets; 0: that was done
	fired   mono.Time
	grace   mono.Time // when to start at the earliest, since the other side is about to
	wanted  mono.Time // when somebody wanted a session last
	open    bool      // the last attempt is not concluded
	last    Attempt
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

// candidates takes the endpoints that a machine says it is at, and reports whether there are
// new ones. Those on our own link, and all if no NAT is in front of the machine, can be
// checked at once: see opening.
func (m *Machine) candidates(now mono.Time, list []wire.Endpoint) (fresh bool) {
	o := &m.opening
	var there []link.Endpoint
	for _, e := range list[:min(len(list), seal.MaxEndpoints)] {
		ep := link.Endpoint{Addr: e.Addr}
		if e.Kind != wire.UDP4 && e.Kind != wire.UDP6 || !m.peer.env.Shell.Hint(ep) || slices.Contains(there, ep) {
			continue
		}
		there = append(there, ep)
		fresh = fresh || !slices.Contains(o.there, ep)
	}
	o.there = there
	kind, _ := MappingOf(o.mapping)
	for _, ep := range there {
		if _, on := m.peer.env.Shell.Link(ep); on || kind == path.None {
			m.ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
		}
	}
	return fresh
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
	switch {
	case o.fire != 0:
		o.fire = now
	case now.Sub(o.fired) < max(sameAttempt, best.RTT) && !fresh: // it is the answer to ours
	default:
		o.attempt, o.fire = x.Attempt, now
		o.last = Attempt{At: now, Result: AttemptRunning}
	}
}

// Predict takes a PREDICT, which comes before the PUNCH of the same attempt.
func (p *Peer) Predict(in *Inbound, x wire.Predict) {
	if m := p.of(in); m != nil && p.added() {
		m.opening.guess = x
	}
}

// Readdressed begins the attempts of all machines anew: the outside sees us elsewhere.
func (ms *machines) Readdressed() {
	for _, m := range ms.all() {
		m.opening.plan.Reset()
	}
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
	if m.state != Up || r == nil || r.Way.Direct() || !o.takes || !m.peer.added() || !m.active(now) {
		return mono.Never
	}
	if at := max(o.plan.Next(), o.grace); at > now {
		return at
	}
	m.start(now, r)
	return o.fire
}

// active reports whether somebody wants to speak with the machine.
func (m *Machine) active(now mono.Time) bool {
	f := m.set.Flow()
	return now.Sub(max(mono.Time(f.Sent), mono.Time(f.Data), m.opening.wanted)) <= flowing
}

// start sends PUNCH by the relay. It says when we send: when it arrives.
func (m *Machine) start(now mono.Time, r *Route) {
	o, env := &m.opening, m.peer.env
	best, _ := m.ways.Best()
	delay := (best.RTT / 2).Round(time.Millisecond)
	o.attempt, o.fire = env.Request(), now.Add(delay)
	o.last = Attempt{At: now, Ours: true, Result: AttemptRunning}
	send := func(mode wire.NATTMode, options []byte) {
		env.Shell.Seal(m.peer.Contact, r, wire.NATTMsg{Mode: mode, Options: options}.Append([]byte{byte(wire.NATT)}), 0)
	}
	if x, ok := m.prediction(); ok {
		send(wire.NATTPredict, x.Append(nil))
	}
	x := wire.Punch{Attempt: o.attempt, Delay: delay, Endpoints: env.Shell.Own()}
	send(wire.NATTPunch, x.Append(nil))
	send(wire.NATTPunch, x.Append(nil)) // one may get lost, and then only one side would send
	env.Shell.Renew()                   // for the next attempt
}

// prediction says which ports our NAT will choose next, if it chooses them in order.
func (m *Machine) prediction() (x wire.Predict, ok bool) {
	p := m.peer.env.mapping()
	if p.Kind != path.Dependent && p.Kind != path.Unknown || p.Ports != path.Sequential || p.Step == 0 {
		return x, false
	}
	return wire.Predict{Attempt: m.opening.attempt, Endpoint: wire.UDP(p.Last), Step: int16(p.Step), Count: predictions}, true
}

// shoot sends to all targets.
func (m *Machine) shoot(now mono.Time) {
	o := &m.opening
	best, _ := m.ways.Best()
	o.fire, o.fired, o.open = 0, now, true
	targets := m.targets()
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

// targets are what an attempt sends to: the ports that were predicted, in their order, the
// endpoints that the machine names, and ways that worked before.
func (m *Machine) targets() (list []path.Target) {
	o := &m.opening
	add := func(ep link.Endpoint, x path.Origin) {
		w := path.Way{Endpoint: ep}
		if !slices.ContainsFunc(list, func(t path.Target) bool { return t.Way == w }) {
			_, on := m.peer.env.Shell.Link(ep)
			list = append(list, path.Target{Way: w, Origin: x, OnLink: on})
		}
	}
	if o.guess.Attempt == o.attempt {
		for _, e := range predicted(o.guess) {
			if m.peer.env.Shell.Hint(e) {
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
	if o.last.Result != AttemptRunning {
		return
	}
	o.last.Result = AttemptFailed
	for _, w := range m.ways.Ways() {
		if w.State == path.Confirmed && w.Direct() && w.Fitness != path.Stale {
			o.last.Result = AttemptDirect
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

// relay reports whether a relayed way works.
func (m *Machine) relay() bool {
	return slices.ContainsFunc(m.ways.Ways(), func(w path.Info) bool { return w.State == path.Confirmed && !w.Direct() })
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
