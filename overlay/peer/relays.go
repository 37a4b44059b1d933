package peer

import (
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Retry offers a way through a relay that forwards from now on. Checks of it that are
// under way begin anew: they were lost.
func (p *Peer) Retry(now mono.Time, w path.Way) {
	p.Offer(now, w, path.Relay)
	for _, m := range p.all() {
		m.ways.Retry(now, w.Via)
	}
}
