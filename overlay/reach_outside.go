package overlay

import (
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// outside is how others see us since our links were last other ones.
type outside struct {
	samples []path.Sample                  // of which the mapping is told
	by      []testimony                    // who said what last
	asked   map[link.Endpoint]int          // how often each was asked without an answer
	due     mono.Time                      // when to look who is to be asked
	mapping path.Mapping                   // as told by the samples
	mapped  []netip.AddrPort               // by the router, on request
	ports   ports                          // of new sockets
	rebound map[anode.Address]*mono.Bucket // who may say that a mapping has changed; at most maxTestimony
}

// testimony is what one said last.
type testimony struct {
	who  anode.Address  // zero: a STUN server
	to   netip.AddrPort // that was asked
	seen netip.AddrPort
	at   mono.Time
}

// ports is the search for the rule by which our NAT gives ports to new sockets.
type ports struct {
	due    mono.Time
	left   int // sockets that may still be opened for it
	sock   *extra
	renews bool // it is for a fresh mapping alone
	last   mono.Time

	searches int // begun for the mapping that we have
}

const (
	maxSamples   = 16
	maxTestimony = 8
	askTries     = 3
	maxAskedOnes = 64                     // who did not answer and are remembered: one peer may turn up at ever more places
	portTries    = 3                      // new sockets: two steps show a rule
	portsAfter   = 100 * time.Millisecond // an answer: others come meanwhile
	portsEvery   = time.Minute            // a rule is looked for, at most; doubles to an hour
	freshEvery   = 250 * time.Millisecond // a fresh mapping is asked for
)

// reboundRate bounds how often one other has all our ways checked by saying that it sees us elsewhere
// than before. Who goes on with that lies, or is behind another kind of NAT than we know.
var reboundRate = mono.Rate{PerSecond: 1. / 60, Burst: 3}

// believes reports whether what somebody says of a change has consequences.
func (o *outside) believes(now mono.Time, who anode.Address) bool {
	b := o.rebound[who]
	if b == nil {
		if o.rebound == nil || len(o.rebound) == maxTestimony {
			o.rebound = map[anode.Address]*mono.Bucket{}
		}
		b = &mono.Bucket{}
		o.rebound[who] = b
	}
	return b.Allow(now, reboundRate)
}

// begin forgets what was seen by other links.
func (o *outside) begin(now mono.Time) {
	mapped := o.mapped
	*o = outside{due: now, mapped: mapped, rebound: o.rebound}
	o.ports.due = mono.Never
}

// tickOutside asks the witnesses that have not said anything yet.
func (r *reach) tickOutside() mono.Time {
	o := &r.outside
	if r.l.now >= o.ports.due {
		r.tryPort()
	}
	if r.l.now < o.due {
		return min(o.due, o.ports.due)
	}
	o.due = mono.Never
	for _, w := range r.witnesses() {
		ep := w.at.Endpoint.Place()
		if o.heard(ep.Addr) || r.questions.waits(ep) || o.asked[ep] >= askTries {
			continue
		}
		if o.asked == nil || len(o.asked) == maxAskedOnes {
			o.asked = map[link.Endpoint]int{}
		}
		o.asked[ep]++
		r.ask(w.peer, ep, nil, forMapping, 0, patience(w.at.RTT))
	}
	return o.ports.due
}

// patience is how long an answer may take on a way with a round trip.
func patience(rtt time.Duration) time.Duration {
	return min(max(2*rtt+100*time.Millisecond, 300*time.Millisecond), answerIn)
}

// heard reports whether somebody said how it sees the main socket.
func (o *outside) heard(to netip.AddrPort) bool {
	return slices.ContainsFunc(o.samples, func(s path.Sample) bool { return s.Main && s.To == to })
}

// plausible reports whether an address can be one at which others see us.
func (r *reach) plausible(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !r.l.isOverlay(a)
}

// seen takes what somebody said about the main socket. If it said something else before, our NAT
// has forgotten us, or is another one.
func (r *reach) seen(s path.Sample, who anode.Address) {
	o := &r.outside
	delete(o.asked, link.Endpoint{Addr: s.To})
	o.testify(testimony{who, s.To, s.Seen, s.At})
	k := slices.IndexFunc(o.samples, func(x path.Sample) bool { return x.Main && x.To == s.To })
	switch {
	case k < 0:
		if len(o.samples) == maxSamples {
			o.samples = slices.Delete(o.samples, 0, 1)
		}
		o.samples = append(o.samples, s)
		r.classify()
		r.filtering.look(r.l.now)
		r.hairpin.look(r.l.now)
		r.searchPorts(s)
	case o.samples[k].Seen == s.Seen:
		r.searchPorts(s)
	case o.believes(r.l.now, who):
		r.moved(s)
	default:
		o.samples[k] = s // the others may see us where they did
		r.classify()
	}
}

// searchPorts has the rule of the ports looked for, after an answer about the main socket. What was
// lost is tried again, ever more seldom.
func (r *reach) searchPorts(s path.Sample) {
	o := &r.outside
	p := &o.ports
	switch {
	case !s.Seen.Addr().Is4(), o.mapping.Kind == path.None, o.mapping.Ports != path.PortsUnknown:
	case p.sock != nil || p.due != mono.Never: // it is being looked for
	case r.l.now.Sub(p.last) > portsEvery<<min(p.searches, 6):
		p.due, p.left = r.l.now.Add(portsAfter), portTries
		p.searches++
	}
}

// moved begins anew, since the mapping of the main socket is another one.
func (r *reach) moved(s path.Sample) {
	o := &r.outside
	r.l.n.counters.count(cRebound)
	o.samples = []path.Sample{s}
	r.classify()
	o.ports.last, o.ports.searches = 0, 0
	r.searchPorts(s)
	r.l.n.log.Info("the outside sees another endpoint of this node", "endpoint", s.Seen)
	o.due, o.asked = r.l.now, nil
	r.extras.shut(r.lifetime.sock)
	r.lifetime.begin(r.l.now)
	r.anchors.askAll(r.l.now)
	for _, x := range r.anchors.list { // for them to learn where we are
		x.peer.Recheck(r.l.now)
		r.l.touch(x.peer)
	}
	for _, p := range r.l.peers.byAddress {
		if p.State() == peer.Up {
			p.LinksChanged(r.l.now)
			r.l.touch(p)
		}
	}
}

// testify notes who said what.
func (o *outside) testify(t testimony) {
	o.by = slices.DeleteFunc(o.by, func(x testimony) bool { return x.to == t.to })
	if len(o.by) == maxTestimony {
		o.by = slices.Delete(o.by, 0, 1)
	}
	o.by = append(o.by, t)
}

// classify tells the mapping anew.
func (r *reach) classify() {
	o := &r.outside
	m := path.Classify(o.samples, r.l.links.own)
	m.Lifetime = r.lifetime.known(r)
	if was := o.mapping; was.Kind != m.Kind || was.Ports != m.Ports {
		r.l.n.log.Info("NAT", "mapping", m.Kind, "ports", m.Ports, "endpoint", m.Last)
	}
	first := !o.mapping.Last.IsValid() && m.Last.IsValid()
	o.mapping = m
	r.anchors.due = r.l.now
	if first {
		r.found()
	}
}

// found has direct ways sought anew, since what failed before failed without our endpoint outside: UDP
// may have got no answer until now.
func (r *reach) found() {
	for _, p := range r.l.peers.byAddress {
		if p.State() == peer.Up {
			p.PunchAnew()
			r.l.touch(p)
		}
	}
}

// tryPort asks by a new socket how it is seen, if the rule of the ports is not known yet.
func (r *reach) tryPort() {
	o := &r.outside
	o.ports.due = mono.Never
	w, ok := r.witness4()
	switch {
	case !ok, o.ports.sock != nil:
		return
	case !o.ports.renews && (o.ports.left == 0 || o.mapping.Kind == path.None || o.mapping.Ports != path.PortsUnknown):
		return
	}
	o.ports.left--
	o.ports.last = r.l.now
	if o.ports.sock = r.open(w.peer, w.at.Endpoint); o.ports.sock != nil {
		r.ask(w.peer, w.at.Endpoint, o.ports.sock, forPorts, 0, patience(w.at.RTT))
	}
}

// witness4 returns the first witness by IPv4.
func (r *reach) witness4() (witness, bool) {
	list := r.witnesses()
	k := slices.IndexFunc(list, func(w witness) bool { return w.at.Endpoint.Addr.Addr().Is4() })
	if k < 0 {
		return witness{}, false
	}
	return list[k], true
}

// portSeen takes the answer about a new socket.
func (r *reach) portSeen(q *question, s path.Sample) {
	o := &r.outside
	r.extras.shut(q.sock)
	o.ports.sock = nil
	if o.ports.renews {
		o.ports.renews = false
		o.mapping.Last, o.mapping.At = s.Seen, s.At
		return
	}
	if len(o.samples) < maxSamples {
		o.samples = append(o.samples, s)
	}
	r.classify()
	o.ports.due = r.l.now // for another, if the rule is not known yet
}

// portLost ends the question of a new socket that nobody answered.
func (r *reach) portLost(q *question) {
	o := &r.outside
	r.extras.shut(q.sock)
	o.ports.sock, o.ports.renews = nil, false
	if o.ports.left > 0 {
		o.ports.due = r.l.now
	}
}

// Renew implements peer.Shell: where ports follow one another, a new socket shows which is the
// latest.
func (s *shell) Renew() {
	r := &s.l.reach
	o := &r.outside
	if o.mapping.Ports != path.Sequential || o.ports.sock != nil || s.l.now.Sub(o.ports.last) < freshEvery {
		return
	}
	o.ports.renews = true
	r.tryPort()
	o.ports.renews = o.ports.sock != nil
}

// mapping returns how the outside sees us.
func (l *loop) mapping() path.Mapping { return l.reach.outside.mapping }
