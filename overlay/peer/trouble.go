package peer

import (
	"slices"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// trouble is why there is no session with a peer, as the last try showed. It is for people
// to read: nothing that is done depends on it. The zero value is none.
//
//	a WELCOME for our HELLO, with the right MAC, that does not decrypt   other secret
//	a handshake of a version that we do not know, with the right MAC     another version
//	checks are answered, and HELLOs are not                              no session
//	its packets come, with the right MAC, and our checks are unanswered  not heard there
//	nothing comes                                                        what the endpoints showed
type trouble struct {
	reason   Reason
	at       mono.Time
	endpoint string // that it is about; empty: none
}

// finding is what a datagram to an endpoint showed.
type finding struct {
	endpoint link.Endpoint
	symptom  link.Symptom
	at       mono.Time
}

// search is what is known of the try to reach a peer that is under way, or was the last.
type search struct {
	asking    mono.Time // since when HELLOs were unanswered; 0: never
	diagnosed mono.Time // when a diagnosis was last asked for
	findings  []finding // at most maxFindings, one for each endpoint
}

const (
	troubleFor    = time.Hour              // it says nothing about now
	provedFor     = time.Minute            // weaker signs change nothing about what was proved
	answersFor    = 10 * time.Second       // a peer that answered so recently is there
	findingFor    = 30 * time.Second       // what an endpoint showed
	diagnoseAfter = 200 * time.Millisecond // without an answer: later, ICMP errors about our HELLOs would have used up their limit
	diagnoseEvery = 10 * time.Second       // for one peer
	judgeAfter    = 3 * time.Second        // without an answer, a try is in trouble
	diagnoseMost  = 4                      // endpoints
	maxFindings   = 8
)

// proved reports whether a trouble follows from what only the peer can have sent.
func (t *trouble) proved(now mono.Time) bool {
	return (t.reason == OtherSecret || t.reason == AnotherVersion) && now.Sub(t.at) < provedFor
}

// passes reports whether a way that works ends the trouble.
func (r Reason) passes() bool {
	switch r {
	case NotHeardThere, NotRunning, NoMachine, Rejected, NoAnswer, SendRefused, NoRoute, NoEndpoint:
		return true
	}
	return false
}

// Trouble returns why there is no session with the peer, as far as the last try showed,
// and the endpoint that the reason is about.
func (p *Peer) Trouble(now mono.Time) (Reason, string) {
	if p.trouble.reason == NoReason || now.Sub(p.trouble.at) > troubleFor {
		return NoReason, ""
	}
	return p.trouble.reason, p.trouble.endpoint
}

// note records a trouble.
func (p *Peer) note(now mono.Time, r Reason, endpoint string) {
	changed := p.trouble.reason != r || p.trouble.endpoint != endpoint
	p.trouble = trouble{r, now, endpoint}
	if changed {
		p.env.Shell.Changed(p, ChangedState)
	}
}

// relieve ends the trouble: there is a session, or, with way, a way.
func (p *Peer) relieve(way bool) {
	if way && !p.trouble.reason.passes() {
		return
	}
	had := p.trouble.reason
	p.trouble, p.search.findings = trouble{}, nil
	if had != NoReason {
		p.env.Shell.Changed(p, ChangedState)
	}
}

// LinksChanged has the ways in use checked again, and forgets what was wrong with our own
// links.
func (p *Peer) LinksChanged(now mono.Time) {
	if r := p.trouble.reason; r == NoRoute || r == SendRefused {
		p.relieve(true)
	}
	p.machines.LinksChanged(now)
}

// PunchAnew says that it is known now how the outside sees us, and was not before.
func (p *Peer) PunchAnew() { p.machines.PunchAnew() }

// unreachable records why the try to reach the peer failed, and returns it as an error.
func (p *Peer) unreachable(now mono.Time) error {
	r, ep := p.judge(now)
	p.note(now, r, ep)
	return &UnreachableError{r, ep}
}

// Why returns the error for somebody who does not want to wait for an answer any more.
func (p *Peer) Why(now mono.Time) error {
	if p.blocked() {
		return ErrBlocked
	}
	if m := p.spoken(); m != nil && !p.trouble.proved(now) {
		best, _ := m.ways.Best()
		return &UnreachableError{NoAnswer, text(best.Endpoint)}
	}
	r, ep := p.judge(now)
	return &UnreachableError{r, ep}
}

// judge says why the peer is not reached, as far as it is known now.
func (p *Peer) judge(now mono.Time) (Reason, string) {
	asking := p.search.asking
	heard := p.answered()
	switch {
	case p.trouble.proved(now):
		return p.trouble.reason, p.trouble.endpoint
	case heard.Heard > 0 && heard.Heard >= asking && now.Sub(heard.Heard) < answersFor:
		if p.Admits() == wire.StandingNotAdded {
			return NotAddedThere, ""
		}
		return NoSession, text(heard.Endpoint)
	}
	r, ep := p.symptom(now, p.direct())
	if r == NoEndpoint {
		if x := p.connectable(); x != (link.Endpoint{}) {
			return NoAnswer, text(x)
		}
	}
	if r == NoAnswer && asking > 0 && p.signed > asking {
		r = NotHeardThere
	}
	return r, ep
}

// connectable returns an endpoint at which a connection to the peer could be opened; zero if
// there is none.
func (p *Peer) connectable() link.Endpoint {
	for _, m := range p.all() {
		for _, w := range m.ways.Ways() {
			if w.Direct() && w.Endpoint.Kind.Connected() && w.Endpoint.Conn == 0 {
				return w.Endpoint
			}
		}
	}
	return link.Endpoint{}
}

// answered returns the way on which the peer answered a check last; its zero value if on
// none that still works.
func (p *Peer) answered() (last path.Info) {
	for _, m := range p.all() {
		for _, w := range m.ways.Ways() {
			if w.State == path.Confirmed && w.Heard > last.Heard {
				last = w
			}
		}
	}
	return last
}

// direct lists the endpoints at which the peer may be, without a relay.
func (p *Peer) direct() (list []link.Endpoint) {
	for _, m := range p.all() {
		for _, w := range m.ways.Ways() {
			if byUDP(w.Way) && w.Origin != path.Roamed && !slices.Contains(list, w.Endpoint) {
				list = append(list, w.Endpoint)
			}
		}
	}
	return list
}

// telling orders the symptoms by how much they say about the peer, most first. One
// endpoint that is silent says more than others to which nothing can be sent, and than
// those at which nobody is any more.
var telling = [...]struct {
	symptom link.Symptom
	reason  Reason
}{
	{link.PortClosed, NotRunning},
	{link.Rejected, Rejected},
	{link.Silence, NoAnswer},
	{link.NoHost, NoMachine},
	{link.SendRefused, SendRefused},
	{link.NoRoute, NoRoute},
}

// symptom returns what the endpoints of a peer that does not answer show.
func (p *Peer) symptom(now mono.Time, direct []link.Endpoint) (Reason, string) {
	for _, t := range telling {
		for _, ep := range direct {
			if p.found(now, ep) == t.symptom {
				return t.reason, text(ep)
			}
		}
	}
	return NoEndpoint, ""
}

// found returns what an endpoint showed lately.
func (p *Peer) found(now mono.Time, ep link.Endpoint) link.Symptom {
	for _, f := range p.search.findings {
		if f.endpoint == ep && now.Sub(f.at) < findingFor {
			return f.symptom
		}
	}
	return link.Silence
}

// Found takes what a datagram to an endpoint showed. Anybody may have forged it.
func (p *Peer) Found(now mono.Time, ep link.Endpoint, x link.Symptom) {
	s := &p.search
	s.findings = slices.DeleteFunc(s.findings, func(f finding) bool { return f.endpoint == ep })
	if x != link.Silence {
		if len(s.findings) == maxFindings {
			s.findings = slices.Delete(s.findings, 0, 1)
		}
		s.findings = append(s.findings, finding{ep, x, now})
	}
	if p.trouble.reason.passes() && p.spoken() == nil {
		r, at := p.judge(now)
		p.note(now, r, at)
	}
}

// unanswered looks at a try whose HELLOs have gone unanswered for d.
func (p *Peer) unanswered(now mono.Time, d time.Duration) {
	s := &p.search
	s.asking = now.Add(-d)
	if p.spoken() != nil {
		return
	}
	if heard := p.answered(); d >= diagnoseAfter && heard.Heard < s.asking && now.Sub(s.diagnosed) >= diagnoseEvery {
		if list := p.direct(); len(list) > 0 {
			s.diagnosed = now
			p.env.Shell.Diagnose(p, list[:min(len(list), diagnoseMost)])
		}
	}
	if d >= judgeAfter {
		r, at := p.judge(now)
		p.note(now, r, at)
	}
}

// text writes an endpoint as flags take it.
func text(ep link.Endpoint) string {
	if ep == (link.Endpoint{}) {
		return ""
	}
	return ep.String()
}
