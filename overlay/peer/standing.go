package peer

import (
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// stand is what one machine said about us.
type stand struct {
	told    wire.StandingMsg // whether it has added us
	refuses bool             // it lets only replies in: what else we send is lost
	at      mono.Time        // when it said so
}

const (
	askAgain   = 5 * time.Second // a machine's word is believed while packets to it are refused
	renewEvery = time.Second     // handshakes that a machine can cause
)

// admits reports whether everything of the peer is let in, which is what we tell it.
func (p *Peer) admits() bool {
	return p.added() || !p.blocked() && p.env.Open != nil && p.env.Open()
}

// announced takes what a machine said in a handshake. Unless its standing is exact, it may
// let us in although it has not added us.
func (m *Machine) announced(now mono.Time, it seal.Announcement) {
	exact := it.Capabilities&seal.ExactStanding != 0
	m.line.Announce(it.Capabilities)
	m.stands(now, it.Standing, exact && it.Standing == wire.StandingNotAdded)
	m.reaches(now, it)
}

// stands notes what a machine said about us.
func (m *Machine) stands(now mono.Time, x wire.StandingMsg, refuses bool) {
	if x == wire.StandingUnknown {
		return
	}
	changed := m.peer.stood != x || m.stand.refuses != refuses
	m.stand, m.peer.stood = stand{x, refuses, now}, x
	if changed {
		m.peer.env.Shell.Changed(m.peer, ChangedState)
	}
}

// Stands takes a STANDING, which came in a session.
func (p *Peer) Stands(now mono.Time, in *Inbound, x wire.StandingMsg) {
	m := p.of(in)
	if m == nil {
		return
	}
	removed := m.stand.told == wire.StandingAdded && x == wire.StandingNotAdded
	m.stands(now, x, x == wire.StandingNotAdded)
	if removed { // it may have ended the session as well
		m.renew(now, renewEvery)
	}
}

// renew begins a handshake with a machine that may be up, because of something that it
// said: at most once in a while, since it can say so again and again.
func (m *Machine) renew(now mono.Time, every time.Duration) {
	if m.renewed != 0 && now.Sub(m.renewed) < every {
		return
	}
	m.renewed = now
	if err := m.set.Renew(now.Duration()); err != nil {
		m.peer.env.Log.Warn("handshake", "peer", m.peer.Label(), "err", err)
	}
}

// Admits returns whether the other side has added us, as far as it told: the machine that
// is spoken to, or else the last one that told.
func (p *Peer) Admits() wire.StandingMsg {
	if m := p.spoken(); m != nil && m.stand.told != wire.StandingUnknown {
		return m.stand.told
	}
	return p.stood
}

// Refused notes that packets to the peer were refused here, because it lets only replies
// in. If it said so a while ago it is asked again, by a handshake: the message that it has
// added us may have been lost.
func (p *Peer) Refused(now mono.Time) {
	for _, m := range p.known {
		if m.state == Up && m.stand.refuses && now.Sub(m.stand.at) >= askAgain {
			m.stand.at = now
			m.renew(now, renewEvery)
		}
	}
}

// Tell says to all machines of the peer, now and in handshakes to come, whether it is let
// in.
func (p *Peer) Tell() {
	x := p.standing()
	for _, m := range p.all() {
		m.set.SetStanding(x == wire.StandingAdded, p.added())
		if r := m.line.Route.Load(); r != nil {
			p.env.Shell.Seal(p.Contact, r, x.Append([]byte{byte(wire.Standing)}), 0)
		}
	}
}

// TellOne says it to the machine of a session, of which something was refused. It came from
// ep, where the answer goes if there is no way yet.
func (p *Peer) TellOne(in *Inbound, ep link.Endpoint) {
	m := p.of(in)
	if m == nil {
		return
	}
	r := &Route{Session: in.Session, Way: path.Way{Endpoint: ep}, PeerID: m.ID(), Line: m.line}
	if known := m.line.Route.Load(); known != nil {
		r = known
	}
	p.env.Shell.Seal(p.Contact, r, p.standing().Append([]byte{byte(wire.Standing)}), 0)
}

// standing is what we tell the peer.
func (p *Peer) standing() wire.StandingMsg {
	if p.admits() {
		return wire.StandingAdded
	}
	return wire.StandingNotAdded
}

// Dismiss tells a peer that was removed that it is not let in any more.
func (p *Peer) Dismiss() {
	p.SetStanding(book.Stranger)
	p.publishKey()
	p.Tell()
}

// Told returns whether the machine has added us, as far as it told.
func (m *Machine) Told() wire.StandingMsg { return m.stand.told }
