package peer

import (
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// What peers tell each other, and sessions by invitations (package seal), in which nothing else
// travels than what the wait for an ordinary session needs.

// Aside reports whether a type of message may travel in a session by an invitation.
func Aside(t wire.Type) bool {
	switch t {
	case wire.Ping, wire.Pong, wire.EPCReq, wire.EPC, wire.EPI, wire.NATT, wire.Tell, wire.Told, wire.Error:
		return true
	}
	return false
}

// tells reports whether a message is one that people tell each other.
func (w *Waiting) tells() bool {
	return len(w.Msg) > 0 && (wire.Type(w.Msg[0]) == wire.Tell || wire.Type(w.Msg[0]) == wire.Told)
}

// heardIn is where the peer's last TELL came from.
type heardIn struct {
	in *Inbound
	at link.Endpoint
}

// Join shakes hands with the peer by an invitation of its own, for as long as patience, and looks for ways to it.
func (p *Peer) Join(now mono.Time, i *seal.Invitation, patience time.Duration) {
	if p.blocked() {
		return
	}
	p.Look(now)
	p.renew()
	if err := p.target(now).set.Join(now.Duration(), i, patience); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
}

// Leave ends the handshakes by an invitation that are under way.
func (p *Peer) Leave(now mono.Time) {
	for _, m := range p.all() {
		m.set.Leave(now.Duration())
	}
}

// Joining reports whether a handshake by an invitation of the peer's is under way.
func (p *Peer) Joining() bool {
	return slices.ContainsFunc(p.all(), func(m *Machine) bool { return m.set.Joining() })
}

// Invited reports whether there is a confirmed session by an invitation.
func (ms *machines) Invited(now mono.Time) bool { return ms.invited(now) != nil }

// Guest reports whether there is a session by an invitation, which may be pending still. How many of those that
// prove nothing there can be is bounded by the handshakes that are made by one invitation.
func (ms *machines) Guest(now mono.Time) bool {
	return slices.ContainsFunc(ms.known, func(m *Machine) bool { return m.set.Guest(now.Duration()) })
}

// invited returns a machine with a confirmed session by an invitation, or nil.
func (ms *machines) invited(now mono.Time) *Machine {
	k := slices.IndexFunc(ms.known, func(m *Machine) bool { return m.set.Invited(now.Duration()) != nil })
	if k < 0 {
		return nil
	}
	return ms.known[k]
}

// promote makes an ordinary session with the machines that have one by an invitation: the peer
// is added now.
func (p *Peer) promote(now mono.Time) {
	for _, m := range p.known {
		if s := m.set.Invited(now.Duration()); s != nil && p.added() && !s.Initiator() {
			m.renew(now, 0) // handshakes by invitations are limited themselves
		}
	}
}

// Proceed makes an ordinary session with the machines that have one by their invitation, also if there is an
// older one: it may have ended at the other side, which is to say anew whether it has added us.
func (p *Peer) Proceed(now mono.Time) {
	for _, m := range p.known {
		if s := m.set.Invited(now.Duration()); s != nil && s.Initiator() {
			m.renew(now, renewEvery)
		}
	}
}

// Use makes handshakes from now on with env's Local, which has another network secret. Sessions
// that are up stay.
func (p *Peer) Use(now mono.Time) {
	for _, m := range p.all() {
		err := m.set.Use(now.Duration(), p.env.Local)
		if err == nil && m.set.Invited(now.Duration()) != nil && m.set.Current(now.Duration()) == nil {
			err = m.set.Want(now.Duration())
		}
		if err != nil {
			p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
		}
		m.sessions()
	}
	if p.trouble.reason == OtherSecret { // it was about the old one
		p.relieve(false)
	}
}

// aside returns the route of a machine's session by an invitation, for what may travel in it; nil
// if there is none, or no way.
func (m *Machine) aside(now mono.Time) *Route {
	s := m.set.Invited(now.Duration())
	best, ok := m.ways.Best()
	if s == nil || !ok || m.peer.blocked() {
		return nil
	}
	return &Route{Session: s, Way: best.Way, PeerID: m.ID(), Datagram: m.sizes.of(m.peer.env, best.Way).Size(), Line: m.line}
}

// telling returns the route for what people tell: the ordinary one, which may be nil, or that of the session by an
// invitation if the machine was heard there last. It may have started anew, and have lost the ordinary session.
func (m *Machine) telling(now mono.Time, ordinary *Route) *Route {
	aside := m.aside(now)
	if ordinary == nil || aside != nil && aside.Session.Heard() > ordinary.Session.Heard() {
		return aside
	}
	return ordinary
}

// flushAside sends what people tell, of all that waits, in a session by an invitation.
func (m *Machine) flushAside(now mono.Time) {
	q := &m.peer.queue
	if !slices.ContainsFunc(q.msgs, func(w Waiting) bool { return w.tells() }) {
		return
	}
	r := m.aside(now)
	if r == nil {
		return
	}
	for _, w := range q.tells() {
		m.send(now, r, w)
	}
}

// tells takes what people tell out of the queue.
func (q *queue) tells() (list []Waiting) {
	q.msgs = slices.DeleteFunc(q.msgs, func(w Waiting) bool {
		if !w.tells() {
			return false
		}
		list = append(list, w)
		q.bytes -= len(w.Msg)
		return true
	})
	return list
}

// HeardIn notes where a TELL of the peer's came from, for TellBack.
func (p *Peer) HeardIn(in *Inbound, at link.Endpoint) { p.heardIn = heardIn{in, at} }

// TellBack answers a TELL: where the peer's packets go, or else as the TELL came. It reports
// whether there was a session for it.
func (p *Peer) TellBack(now mono.Time, msg []byte) bool {
	if p.blocked() {
		return false
	}
	if m := p.spoken(); m != nil {
		if r := m.telling(now, m.line.Route.Load()); r != nil {
			m.send(now, r, Waiting{Msg: msg})
			return true
		}
	}
	in := p.heardIn.in
	if in == nil || in.Session.Ended() {
		return false
	}
	m := p.of(in)
	if m == nil {
		return false
	}
	r := &Route{Session: in.Session, PeerID: m.ID(), Line: m.line}
	r.Way.Endpoint = p.heardIn.at
	m.send(now, r, Waiting{Msg: msg})
	return true
}
