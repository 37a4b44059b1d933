package peer

import (
	"anodenet/anode"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Relay returns the relay that carries data to the peer now, and is reached by a connection; ok is
// false if none does.
func (p *Peer) Relay(now mono.Time) (relay anode.Address, ok bool) {
	for _, m := range p.known {
		if r := m.line.Route.Load(); r != nil && !r.Way.Direct() && r.Way.Endpoint.Kind.Connected() && m.active(now) {
			return r.Way.Via, true
		}
	}
	return relay, false
}

// Carries notes that data goes through the peer, a relay. It reports whether that is news: the peer
// is to be looked at then.
func (p *Peer) Carries(now mono.Time) (news bool) {
	news = now.Sub(p.carried) > flowing
	p.carried = now
	return news
}

// Retry offers a way through a relay that forwards from now on. Checks of it that are
// under way begin anew: they were lost.
func (p *Peer) Retry(now mono.Time, w path.Way) {
	p.Offer(now, w, path.Relay)
	for _, m := range p.all() {
		m.ways.Retry(now, w.Via)
	}
}
