package peer

import (
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Came notes along which way a packet of a machine's came. How far it can be trusted
// is in its origin: it may be forged (Beacon) or a replay (Heard), so the way is checked
// before it is used. What can be forged makes no machine.
func (p *Peer) Came(now mono.Time, peerID uint8, w path.Way, o path.Origin) path.Result {
	m := p.with(peerID)
	if m == nil && o == path.Beacon {
		m = p.target(now)
	} else if m == nil {
		m = p.heardAs(now, peerID)
	}
	return m.came(now, w, o)
}

func (m *Machine) came(now mono.Time, w path.Way, o path.Origin) path.Result {
	if !w.Direct() {
		o = path.Relay
	}
	if w.Direct() && m.ways.Settled(now, w) {
		return path.Known
	}
	_, on := m.peer.env.Shell.Link(w.Endpoint)
	r := m.ways.Add(now, w, o, on)
	switch {
	case r == path.Known:
		m.ways.Nudge(now, w)
	case r == path.New && o != path.Beacon && w.Direct():
		m.silent(now) // it may have moved: does it still answer where it was?
	}
	return r
}

// Told takes an endpoint at which the peer says that one of its machines is.
func (p *Peer) Told(now mono.Time, peerID uint8, ep link.Endpoint) path.Result {
	_, on := p.env.Shell.Link(ep)
	return p.heardAs(now, peerID).ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
}

// LearnedWay takes an EPC that came along w from a machine: the only thing that makes an
// endpoint a way (draft 4.2.4). It reports whether the EPC was asked for.
func (p *Peer) LearnedWay(now mono.Time, peerID uint8, id uint32, w path.Way, hops int) bool {
	for _, m := range p.all() {
		if m.ID() != 0 && m.ID() != peerID {
			continue
		}
		if _, ok := m.ways.Answered(now, id, w.Endpoint, w.Via, hops); ok {
			if m == p.unknown {
				m.others |= 1 << peerID
			}
			m.learned()
			return true
		}
	}
	return false
}

// learned does what follows when a way works.
func (m *Machine) learned() {
	p := m.peer
	m.shakes.renew()
	p.failed = false
	p.relieve(true)
	if m.state == Unreachable {
		m.state = Idle
	}
	p.remember()
	p.env.Shell.Changed(p, ChangedWays)
}

// proved takes an answer to a message of the handshake that left along w at a time.
func (m *Machine) proved(now mono.Time, w path.Way, sent mono.Time) {
	if m.ways.Proved(now, w, now.Sub(sent)) {
		m.learned()
	}
}

// Ponged takes the answer to a PING to the peer, which left along w a while before and came back
// along it.
func (p *Peer) Ponged(now mono.Time, w path.Way, rtt time.Duration) {
	for _, m := range p.all() {
		m.ponged(now, w, rtt)
	}
}

func (m *Machine) ponged(now mono.Time, w path.Way, rtt time.Duration) {
	if m.ways.Ponged(now, w, rtt) {
		m.learned()
	}
}

// Ended takes the end of a connection to an endpoint.
func (p *Peer) Ended(now mono.Time, ep link.Endpoint) {
	for _, m := range p.all() {
		m.ways.Ended(now, ep)
	}
	p.env.Shell.Changed(p, ChangedWays)
}
