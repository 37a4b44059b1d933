package peer

import (
	"errors"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Signed notes that an unsealed packet of the peer's was authentic. It may be a replay.
func (p *Peer) Signed(now mono.Time) {
	p.signed, p.seen = now, now
	p.touch()
}

// Reply sends an unsealed message to one machine of the peer's (0: any). It bears our
// full address until the peer has answered within the last minute (draft 3.2).
func (p *Peer) Reply(now mono.Time, ep link.Endpoint, machine uint8, t wire.Type, body []byte) {
	p.env.Shell.Plain(p, ep, t, body, machine, now.Sub(p.signed) > fullSenderFor)
}

// Hello answers a handshake of the machine with a peer ID, which came along w; ok is
// false if w leads through a relay that is not known. The session that it makes is
// pending until the machine sends in it.
func (p *Peer) Hello(now mono.Time, peerID uint8, body []byte, ep link.Endpoint, w path.Way, ok bool) error {
	m := p.machine(peerID)
	if m == nil {
		if peerID == 0 || len(p.machines) == maxMachines {
			return ErrMachine
		}
		m = newMachine(p, peerID)
		p.machines = append(p.machines, m)
	}
	if ok {
		m.came(now, w, path.Heard)
	}
	reply, _, err := m.set.OnHello(now.Duration(), peerID, body)
	m.sessions() // the lanes have to know it before the answer can be answered
	if reply != nil {
		m.handshake(ep, reply)
	}
	p.touch()
	return err
}

// answeredBy turns the unknown machine into one with a peer ID. If other machines
// answered as well, it is not known where this one is.
func (m *Machine) answeredBy(now mono.Time, peerID uint8) {
	if m.others&^(1<<peerID) == 0 {
		return
	}
	ways := m.ways.Ways()
	m.ways = path.NewSet(m.peer.env.Request)
	for _, w := range ways {
		m.ways.Add(now, w.Way, w.Origin, w.OnLink)
	}
}

// maxMachines is how many machines of one address are kept at a time: one for each peer
// ID.
const maxMachines = 15

// ErrMachine is returned for a handshake of a machine without a peer ID.
var ErrMachine = errors.New("no peer ID")

// Welcome completes a handshake of ours. Where the machine was not known before, it is
// now.
func (p *Peer) Welcome(now mono.Time, peerID uint8, body []byte, ep link.Endpoint, w path.Way, ok bool) error {
	m, err := p.asked(wire.Welcome, body)
	if err != nil {
		return err
	}
	x, err := m.set.OnWelcome(now.Duration(), peerID, body)
	if err != nil {
		return err
	}
	if m == p.unknown {
		p.unknown = nil
		p.unforward(0)
		if known := p.machine(peerID); known != nil { // it shook hands with us, or was heard
			known.set.Absorb(now.Duration(), m.set)
			m = known
		} else {
			p.machines = append(p.machines, m)
			m.answeredBy(now, peerID)
		}
	}
	m.answered = ep
	if ok {
		m.came(now, w, path.Heard)
	}
	m.sessions()
	m.learn(x)
	p.touch()
	return nil
}

// learn notes what a machine said of itself in a handshake that is confirmed.
func (m *Machine) learn(s *seal.Session) {
	if it, ok := s.Announced(); ok && m.peer.SetAdmits(it.Standing) {
		m.peer.env.Shell.Changed(m.peer, ChangedState)
	}
}

// Cookie takes a COOKIE, which has no MAC: the HELLO goes out again, with it.
func (p *Peer) Cookie(now mono.Time, body []byte, ep link.Endpoint) error {
	m, err := p.asked(wire.Cookie, body)
	if err != nil {
		return err
	}
	again, err := m.set.OnCookie(now.Duration(), body)
	if again != nil {
		m.handshake(ep, again)
	}
	p.touch()
	return err
}

// Stale takes a STALE: a new handshake begins, with a greater stamp.
func (p *Peer) Stale(now mono.Time, body []byte) error {
	m, err := p.asked(wire.Stale, body)
	if err != nil {
		return err
	}
	p.touch()
	return m.set.OnStale(now.Duration(), body)
}

// asked returns the machine whose outstanding HELLO a message answers.
func (p *Peer) asked(t wire.Type, body []byte) (*Machine, error) {
	index, ok := seal.Answers(t, body)
	if !ok {
		return nil, seal.ErrBody
	}
	for _, m := range p.all() {
		if m.set.Outstanding(index) {
			return m, nil
		}
	}
	return nil, seal.ErrUnexpected
}

// Confirm takes the first packet in a session that the peer began, which came along w.
func (p *Peer) Confirm(now mono.Time, in *Inbound, w path.Way, ok bool) {
	m := p.of(in)
	if m == nil {
		return
	}
	p.seen = now
	m.set.Confirm(now.Duration(), in.Session)
	if p.unknown != nil {
		p.adoptWays(now, m)
	}
	if ok {
		m.came(now, w, path.Heard)
	}
	m.sessions()
	m.learn(in.Session)
	if ok {
		m.examine(now, in.Session, w)
	}
	p.touch()
}

// of returns the machine of a session; nil if it has ended.
func (p *Peer) of(in *Inbound) *Machine {
	for _, m := range p.all() {
		if m.line == in.Line {
			return m
		}
	}
	return nil
}

// Lost has a new session made, over the ways that are known, with a machine that sends
// in one that we do not have. Anybody can forge such packets.
func (p *Peer) Lost(now mono.Time, peerID uint8) {
	m := p.machine(peerID)
	if m == nil {
		m = p.target(now)
	}
	if err := m.set.OnUnknown(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
	p.touch()
}

// Active has Tick called: packets flow in a session that was idle.
func (p *Peer) Active() { p.touch() }

// Sealed notes that a sealed message came, in a session.
func (p *Peer) Sealed(now mono.Time) {
	p.seen = now
	p.touch()
}

// clash is the search for another machine with the peer ID of this one: a copied disk
// brings it along.
type clash struct {
	id       uint32 // of the EPC_REQ to the old instance; 0: none is outstanding
	old      *seal.Session
	newcomer *seal.Session
	way      path.Way // of the newcomer
	until    mono.Time
}

// clashFor is how long the old instance has to answer.
const clashFor = time.Second

func (c *clash) tick(now mono.Time) (next mono.Time) {
	switch {
	case c.id == 0:
		return mono.Never
	case now >= c.until:
		*c = clash{} // it is gone: the machine has restarted
		return mono.Never
	}
	return c.until
}

// examine asks the instance of an older session whether it is still there, where the
// new one, which came along w, is of another. It may be at any of the ways: the one in
// use may be the newcomer's.
func (m *Machine) examine(now mono.Time, newcomer *seal.Session, w path.Way) {
	it, _ := newcomer.Announced()
	if it.Instance == (wire.Instance{}) || m.clash.id != 0 {
		return
	}
	for _, s := range m.set.Live() {
		old, ok := s.Announced()
		if s == newcomer || !ok || old.Instance == (wire.Instance{}) || old.Instance == it.Instance || s.Ended() {
			continue
		}
		m.clash = clash{id: m.peer.env.Request() | 1, old: s, newcomer: newcomer, way: w, until: now.Add(clashFor)}
		for _, x := range m.ways.Ways() {
			if x.State == path.Confirmed {
				ask := Route{Session: s, Way: x.Way, PeerID: m.id(), Line: m.line}
				m.peer.env.Shell.Seal(m.peer.Contact, &ask, wire.AppendEPC([]byte{byte(wire.EPCReq)}, m.clash.id), 0)
			}
		}
		return
	}
}

// Answered takes a sealed EPC in a session, and reports whether it was the answer of an
// instance that shares its peer ID with another. That one is told so.
func (p *Peer) Answered(now mono.Time, in *Inbound, id uint32) bool {
	m := p.of(in)
	if m == nil || m.clash.id == 0 || m.clash.id != id || m.clash.old != in.Session {
		return false
	}
	c := m.clash
	m.clash = clash{}
	it, ok := c.newcomer.Announced()
	if !ok || c.newcomer.Ended() {
		return true
	}
	r := Route{Session: c.newcomer, Way: c.way, PeerID: m.id(), Line: m.line}
	p.env.Shell.Seal(p.Contact, &r, it.Instance.Append([]byte{byte(wire.Clash)}), 0)
	p.env.Shell.Changed(p, ChangedClash)
	return true
}
