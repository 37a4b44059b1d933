package peer

import (
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Came notes along which way a packet of a machine's came. How far it can be trusted
// is in its origin: it may be forged (Beacon) or a replay (Heard), so the way is checked
// before it is used.
func (p *Peer) Came(now mono.Time, peerID uint8, w path.Way, o path.Origin) path.Result {
	p.touch()
	return p.heardAs(now, peerID).came(now, w, o)
}

func (m *Machine) came(now mono.Time, w path.Way, o path.Origin) path.Result {
	if !w.Direct() {
		o = path.Relay
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

// Roamed takes another way than the one in use that the newest packet of a session came
// along.
func (p *Peer) Roamed(now mono.Time, in *Inbound, w path.Way) {
	if m := p.of(in); m != nil {
		m.came(now, w, path.Roamed)
		m.ways.Heard(now, w.Endpoint, w.Via)
		p.touch()
	}
}

// Told takes an endpoint at which the peer says that one of its machines is.
func (p *Peer) Told(now mono.Time, peerID uint8, ep link.Endpoint) path.Result {
	_, on := p.env.Shell.Link(ep)
	p.touch()
	return p.heardAs(now, peerID).ways.Add(now, path.Way{Endpoint: ep}, path.Told, on)
}

// LearnedWay takes an EPC that came along w from a machine: the only thing that makes an
// endpoint a way (draft 4.2.4). It reports whether the EPC was asked for.
func (p *Peer) LearnedWay(now mono.Time, peerID uint8, id uint32, w path.Way, hops int) bool {
	for _, m := range p.all() {
		if m.id() != 0 && m.id() != peerID {
			continue
		}
		if _, ok := m.ways.Answered(now, id, w.Endpoint, w.Via, hops); ok {
			p.failed = false
			if m == p.unknown {
				m.others |= 1 << peerID
			}
			p.remember(m)
			p.env.Shell.Changed(p, ChangedWays)
			p.touch()
			return true
		}
	}
	return false
}

// ProbeAck takes the answer to a probe of the path's size.
func (p *Peer) ProbeAck(now mono.Time, in *Inbound, x wire.ProbeMsg) {
	if m := p.of(in); m != nil {
		for _, s := range m.sizes {
			s.Answered(now, x.ID, int(x.Size))
		}
		p.touch()
	}
}

// Recheck has the ways of machines that are up checked, for those behind a relay to
// notice that it lost them, or after a change of links.
func (p *Peer) Recheck(now mono.Time) {
	for _, m := range p.all() {
		m.ways.Suspect(now)
	}
	p.touch()
}

// LinksChanged has the ways in use checked again: addresses, routes or links are other
// ones than before. Of a machine that nobody speaks to only those are checked that
// worked, for it to know where we are; others are when somebody wants it.
func (p *Peer) LinksChanged(now mono.Time) {
	for _, m := range p.all() {
		for _, w := range m.ways.Ways() {
			if _, on := p.env.Shell.Link(w.Endpoint); on != w.OnLink {
				m.ways.Add(now, w.Way, w.Origin, on)
			}
		}
		if m.state == Idle || m.state == Unreachable {
			m.ways.Silent(now)
		} else {
			m.ways.Suspect(now)
		}
		m.told = 0
		if r := m.line.Route.Load(); r != nil {
			limit, _ := p.env.Shell.Link(r.Way.Endpoint)
			m.sizeOf(r.Way).Restart(limit)
		}
	}
	p.touch()
}

// Heard gives a lost machine another HELLO: somebody heard it.
func (p *Peer) Heard(now mono.Time) {
	for _, m := range p.machines {
		m.again(now)
	}
	p.touch()
}
