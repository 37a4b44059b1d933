package overlay

import (
	"math/rand/v2"
	"time"

	"anodenet/overlay/mono"
)

// copies notices other machines with our address. Two of them are nothing bad, as long
// as their peer IDs differ; a copied disk brings the same one along.
type copies struct {
	last   mono.Time // when another was noticed
	change mono.Time // when to draw another peer ID; Never
	drawn  mono.Time // when that was last done
	used   uint16    // the peer IDs of the others, a bit each
}

const (
	redrawEvery = time.Minute
	redrawDelay = 2 * time.Second // at most, so that of two that meet one changes
	copyFor     = 20 * time.Minute
)

// seen notes another machine with our address.
func (c *copies) seen(now mono.Time) { c.last = now }

// beacon takes a beacon of our own address, of a machine with some peer ID.
func (c *copies) beacon(now mono.Time, theirs, ours uint8) {
	c.seen(now)
	c.used |= 1 << theirs
	if theirs == ours && !c.change.Happened() {
		c.change = now.Add(rand.N(redrawDelay))
	}
}

// present reports whether another machine was noticed lately.
func (c *copies) present(now mono.Time) bool { return now.Sub(c.last) < copyFor }

// draw returns a peer ID that nobody was seen to use.
func (c *copies) draw(old uint8) uint8 {
	var free []uint8
	for id := uint8(1); id < 16; id++ {
		if id != old && c.used&(1<<id) == 0 {
			free = append(free, id)
		}
	}
	if len(free) == 0 {
		c.used = 0
		return 1 + (old+rand.N[uint8](14))%15
	}
	return free[rand.IntN(len(free))]
}

// settleCopies changes the peer ID when that is due.
func (l *loop) settleCopies() mono.Time {
	c := &l.copies
	if !c.change.Happened() {
		return mono.Never
	}
	if c.change > l.now {
		return c.change
	}
	c.change = 0
	if c.used&(1<<l.n.peerID()) != 0 {
		l.redraw(l.now)
	}
	return mono.Never
}

// redraw takes another peer ID, keeps it, and shakes hands again under it.
func (l *loop) redraw(now mono.Time) {
	c := &l.copies
	if now.Sub(c.drawn) < redrawEvery {
		return
	}
	c.drawn = now
	old := l.n.peerID()
	c.used |= 1 << old
	id := c.draw(old)
	l.n.ownID.Store(uint32(id))
	l.n.keepPeerID(id)
	l.n.log.Warn("another machine has this node's address and peer ID, as a copied disk brings along; this one takes another", "was", old, "peer_id", id)
	local := *l.env.Local
	local.PeerID = id
	l.env.Local = &local
	for _, p := range l.peers.byAddress {
		p.Reshake(now)
		l.touch(p)
	}
	l.beacon.restart(now)
	l.n.events.node(EventCopies)
}
