package overlay

import (
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// greetings go to added peers whose endpoints people gave and that are not reached in any way. If
// nobody can tell both sides to begin at the same time, both have to go on sending: each opens its
// own NAT by that for what the other sends. On a link of ours beacons do.
type greetings struct {
	of    map[*peer.Peer]mono.Time // since when each is greeted
	at    mono.Time
	pause time.Duration // when none of them is new any more; doubles
}

const (
	greetEvery  = 2 * time.Second // has a check begin that has ended: it takes 8 s and sends five packets
	greetFor    = 2 * time.Minute
	greetLater  = time.Minute
	greetLast   = 15 * time.Minute
	greetAgain  = 20 * time.Second // as eagerly as that after a change of our links
	greetMost   = 16               // peers at a time
	greetFew    = 2                // of those that are not new
	greetMemory = 256              // peers
)

// greet begins with a peer.
func (r *reach) greet(p *peer.Peer, e book.Entry) {
	g := &r.greetings
	if e.Standing() != book.Added || !r.away(e.Endpoints) {
		delete(g.of, p)
		return
	}
	if _, known := g.of[p]; known || len(g.of) < greetMemory {
		g.of[p], g.pause, g.at = r.l.now, greetLater, r.l.now
	}
}

// away reports whether an endpoint is on none of our links.
func (r *reach) away(list []wire.Endpoint) bool {
	for _, e := range list {
		if _, on := r.l.links.on(link.Endpoint{Addr: e.Addr}); !on && (e.Kind == wire.UDP4 || e.Kind == wire.UDP6) {
			return true
		}
	}
	return false
}

// again is eager for a while: our links are other ones.
func (g *greetings) again(now mono.Time) {
	g.at, g.pause = now, greetLater
	for p, since := range g.of {
		g.of[p] = max(since, now.Add(greetAgain-greetFor))
	}
}

// tickGreetings has the endpoints of peers checked that are not reached.
func (r *reach) tickGreetings() mono.Time {
	g := &r.greetings
	if r.l.now < g.at {
		return g.at
	}
	g.at = mono.Never
	if len(g.of) > 0 {
		g.at = r.l.now.Add(greetLast) // some may have been lost until then
	}
	fresh, old := 0, 0
	for p, since := range g.of {
		if _, ok := p.Best(); ok {
			continue
		}
		if r.l.now.Sub(since) < greetFor {
			g.at = r.l.now.Add(greetEvery)
			if fresh++; fresh <= greetMost {
				p.Learned(r.l.now, p.Saved())
				r.l.touch(p)
			}
		} else if old++; old <= greetFew {
			p.Learned(r.l.now, p.Saved())
			r.l.touch(p)
		}
	}
	if fresh == 0 && old > 0 {
		g.at = r.l.now.Add(g.pause)
		g.pause = min(2*g.pause, greetLast)
	}
	return g.at
}
