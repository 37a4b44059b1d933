package peer

import (
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// publish shows the lanes the routes and sessions as they are: each is one pointer, so
// that what it costs depends on nobody but this peer.
func (p *Peer) publish() {
	var inbound []*Inbound
	var routes [16]*Line
	up := 0
	for _, m := range p.all() {
		inbound = append(inbound, m.inbound...)
		if m.line.Route.Load() != nil {
			up++
			routes[m.ID()&15] = m.line
		}
	}
	p.Route.Store(p.first(p.Route.Load()))
	if old := p.Machines.Load(); up < 2 {
		p.Machines.Store(nil)
	} else if old == nil || old.Routes != routes {
		p.Machines.Store(old.with(routes))
	}
	if len(inbound) == 0 {
		p.Inbound.Store(nil)
	} else if old := p.Inbound.Load(); old == nil || !slices.Equal(*old, inbound) {
		p.Inbound.Store(&inbound)
	}
}

// first returns the route of packets whose flow has no machine: that of the machine that
// had them before, as long as it is up. Otherwise each machine that comes up would take
// the flows of the one that was alone.
func (ms *machines) first(before *Route) (first *Route) {
	var heard mono.Time
	for _, m := range ms.known {
		r := m.line.Route.Load()
		if r == nil {
			continue
		}
		if before != nil && before.Line == m.line {
			return r
		}
		if at := m.heard(); first == nil || at > heard {
			first, heard = r, at
		}
	}
	return first
}

// forward publishes where a relay sends the machine's packets: the endpoint that
// answered last. An old way that was quicker may be dead.
func (m *Machine) forward() {
	var newest path.Info
	for _, w := range m.ways.Ways() {
		if w.State == path.Confirmed && w.Direct() && !w.Trial() && w.Heard > newest.Heard {
			newest = w
		}
	}
	var old Forward
	if f := m.peer.Forward.Load(); f != nil {
		old = *f
	}
	k := slices.IndexFunc(old, func(h Hop) bool { return h.PeerID == m.ID() })
	switch {
	case newest.Heard == 0 && k < 0, k >= 0 && old[k].Endpoint == newest.Endpoint:
		return
	case k >= 0:
		old = slices.Delete(slices.Clone(old), k, k+1)
	}
	next := Forward{}
	if newest.Heard != 0 {
		next = append(next, Hop{m.ID(), newest.Endpoint})
	}
	if next = append(next, old...); len(next) == 0 {
		m.peer.Forward.Store(nil)
		return
	}
	m.peer.Forward.Store(&next)
}

// unforward forgets where a relay sends the machine's packets.
func (p *Peer) unforward(peerID uint8) {
	f := p.Forward.Load()
	if f == nil {
		return
	}
	next := slices.DeleteFunc(slices.Clone(*f), func(h Hop) bool { return h.PeerID == peerID })
	if len(next) == 0 {
		p.Forward.Store(nil)
		return
	}
	p.Forward.Store(&next)
}

// savedEndpoints is how many endpoints are kept for the next start.
const savedEndpoints = 4

// remember notes the endpoints that work, for the next start. Those that work only because
// both sides sent at the same moment will not.
func (p *Peer) remember() {
	var es []wire.Endpoint
	for w := range p.Direct {
		if w.Endpoint.Conn == 0 && !w.Endpoint.Addr.Addr().IsLinkLocalUnicast() && !w.Punched && len(es) < savedEndpoints {
			es = append(es, w.Endpoint.Wire())
		}
	}
	if len(es) == 0 || slices.Equal(es, p.saved) {
		return
	}
	p.saved = es
	p.env.Shell.Changed(p, ChangedWays)
}
