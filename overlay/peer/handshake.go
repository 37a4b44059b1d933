package peer

import (
	"errors"
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Reply sends an unsealed message to one machine of the peer's (0: any). It bears our
// full address until the peer has answered within the last minute (draft 3.2).
func (p *Peer) Reply(now mono.Time, ep link.Endpoint, machine uint8, t wire.Type, body []byte) {
	p.env.Shell.Plain(p, ep, t, body, machine, now.Sub(p.signed) > fullSenderFor)
}

// Hello answers a handshake of the machine with a peer ID, which came along w; ok is
// false if w leads through a relay that is not known. The session that it makes is
// pending until the machine sends in it. A HELLO that is not answered because it names no invitation leaves
// no trace.
func (p *Peer) Hello(now mono.Time, peerID uint8, body []byte, ep link.Endpoint, w path.Way, ok bool) error {
	m := p.with(peerID)
	if m == nil {
		if peerID == 0 {
			return ErrMachine
		}
		m = newMachine(p, peerID)
	}
	m.set.SetMAC(p.key)
	reply, pending, err := m.set.OnHello(now.Duration(), peerID, body)
	if errors.Is(err, seal.ErrUninvited) || errors.Is(err, seal.ErrLater) {
		return err
	}
	if !slices.Contains(p.known, m) {
		p.known = append(p.known, m)
	}
	if ok {
		m.came(now, w, path.Heard)
	}
	if !ok || !w.Direct() {
		p.renew()
	}
	m.sessions() // the lanes have to know it before the answer can be answered
	if reply != nil {
		m.handshake(ep, reply)
	}
	if pending != nil && ok {
		m.welcomed, m.welcomedAt = w, now
	}
	if errors.Is(err, seal.ErrVersion) {
		p.note(now, AnotherVersion, "")
	}
	if reply != nil && reply.Type == wire.Welcome && pending == nil {
		m.repeated(now)
	}
	return err
}

const (
	repeatsMost  = 6           // HELLOs that come again without a reason
	counterEvery = time.Minute // our HELLO to a machine that does not take our WELCOME
)

// repeated counts the HELLOs that come again although they were answered. The answer is
// lost, or the machine cannot read it: it has another secret. A HELLO of our own finds out.
func (m *Machine) repeated(now mono.Time) {
	m.repeats++
	if m.repeats >= repeatsMost && m.peer.added() {
		m.repeats = 0
		m.renew(now, counterEvery)
	}
}

// answeredBy turns the unknown machine into one with a peer ID. If other machines
// answered as well, it is not known where this one is.
func (m *Machine) answeredBy(now mono.Time, peerID uint8) {
	if m.others&^(1<<peerID) == 0 {
		return
	}
	ways := m.ways.Ways()
	m.ways = m.peer.newWays()
	for _, w := range ways {
		m.ways.Add(now, w.Way, w.Origin, w.OnLink)
	}
}

// ErrMachine is returned for a handshake of a machine without a peer ID.
var ErrMachine = errors.New("no peer ID")

// Welcome completes a handshake of ours, and returns the session that it made. Where the machine
// was not known before, it is now.
func (p *Peer) Welcome(now mono.Time, peerID uint8, body []byte, ep link.Endpoint, w path.Way, ok bool) (*seal.Session, error) {
	if _, err := seal.ParseWelcome(body); errors.Is(err, seal.ErrVersion) {
		p.note(now, AnotherVersion, "")
		return nil, err
	}
	m, err := p.asked(wire.Welcome, body)
	if err != nil {
		return nil, err
	}
	x, err := m.set.OnWelcome(now.Duration(), peerID, body)
	switch {
	case errors.Is(err, seal.ErrAuth):
		// Its MAC is right and it names our HELLO, so the peer made it for us: it agrees
		// on everything except the secret.
		p.note(now, OtherSecret, text(ep))
		return nil, err
	case err != nil:
		return nil, err
	}
	asker := m
	if m == p.unknown {
		p.unknown = nil
		p.unforward(0)
		if known := p.with(peerID); known != nil { // it shook hands with us, or was heard
			known.set.Absorb(now.Duration(), m.set)
			m = known
		} else {
			p.known = append(p.known, m)
			m.answeredBy(now, peerID)
		}
	}
	m.answered = ep
	m.opening.shake = shook{at: now, ours: true, told: m.opening.shake.told}
	if ok {
		m.came(now, w, path.Heard)
		sent := asker.shakes.answered(now, m.expected(w)*3/4)
		if m.proved(now, w, sent); asker != m && asker.ways.Asked(w) {
			m.ponged(now, w, now.Sub(sent))
		}
	}
	m.learn(now, x)
	m.sessions()
	m.examine(now, x, path.Way{Endpoint: ep})
	return x, nil
}

// learn notes what a machine said of itself in a handshake that is confirmed.
func (m *Machine) learn(now mono.Time, s *seal.Session) {
	m.repeats = 0
	m.peer.relieve(false)
	it, ok := s.Announced()
	if !ok {
		return
	}
	m.announced(now, it)
	m.peer.supersede(m, it.Instance)
}

// Confirm takes the first packet in a session that the peer began, which came along w.
func (p *Peer) Confirm(now mono.Time, in *Inbound, w path.Way, ok bool) {
	m := p.of(in)
	if m == nil {
		return
	}
	p.seen = now
	m.opening.shake = shook{at: now, new: true, told: m.opening.shake.told}
	m.set.Confirm(now.Duration(), in.Session)
	m.answered = w.Endpoint
	if p.unknown != nil {
		p.adoptWays(now, m)
	}
	if ok {
		m.came(now, w, path.Heard)
	}
	if ok && w == m.welcomed {
		m.proved(now, w, m.welcomedAt)
	}
	m.welcomed = path.Way{}
	m.learn(now, in.Session)
	m.sessions()
	m.examine(now, in.Session, w)
	if in.Session.Invited() {
		p.promote(now)
	}
}

// Lost has a new session made, over the ways that are known, with a machine that sends
// in one that we do not have. Anybody can forge such packets.
func (p *Peer) Lost(now mono.Time, peerID uint8) {
	m := p.with(peerID)
	if m == nil {
		m = p.target(now)
	}
	if err := m.set.OnUnknown(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
}

// clash is the search for another machine with the peer ID of this one: a copied disk
// brings it along.
type clash struct {
	id       uint32 // of the EPC_REQ to the old instances; 0: none is outstanding
	newcomer *seal.Session
	at       path.Way // where the newcomer is
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

// examine asks the instance of an older session whether it is still there, if the new
// one is of another. The question goes along all ways that work: the best may be the
// newcomer's already.
func (m *Machine) examine(now mono.Time, newcomer *seal.Session, at path.Way) {
	it, _ := newcomer.Announced()
	if it.Instance == (wire.Instance{}) || m.clash.id != 0 {
		return
	}
	for _, s := range m.set.Live() {
		old, ok := s.Announced()
		if s == newcomer || !ok || old.Instance == (wire.Instance{}) || old.Instance == it.Instance || s.Ended() {
			continue
		}
		if m.clash.id == 0 {
			m.clash = clash{id: m.peer.env.Request() | 1, newcomer: newcomer, at: at, until: now.Add(clashFor)}
		}
		for _, w := range m.ways.Ways() {
			if w.State == path.Confirmed {
				ask := Route{Session: s, Way: w.Way, PeerID: m.ID(), Line: m.line}
				m.peer.env.Shell.Seal(m.peer.Contact, &ask, wire.AppendEPC([]byte{byte(wire.EPCReq)}, m.clash.id), 0)
			}
		}
	}
}
