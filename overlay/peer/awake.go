package peer

import (
	"time"

	"anodenet/overlay/mono"
)

// usedFor is how long before a sleep data flowed with a peer that is spoken to after it.
const usedFor = 2 * time.Minute

// Woke is told that the node did not run since before. Sessions may have ended meanwhile: they are
// made anew now with machines with which data flowed.
func (p *Peer) Woke(now, before mono.Time) {
	for _, m := range p.known {
		f := m.set.Flow()
		last := mono.Time(max(f.Sent, f.Data))
		if m.state == Up && before.Sub(last) < usedFor && m.set.Current(now.Duration()) == nil {
			p.want(now, m)
		}
	}
}
