package overlay

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// copies notices other machines with our address. Two of them are nothing bad, as long
// as their peer IDs differ; a copied disk brings the same one along.
type copies struct {
	l       *loop
	last    mono.Time // when another was noticed
	change  mono.Time // when to draw another peer ID; 0: not to
	changes mono.Bucket
	others  map[netip.Addr]uint8 // their peer IDs, by where they were seen; unspecified: told by a peer
}

const (
	redrawDelay = 2 * time.Second // at most, so that of two that meet one changes
	copyFor     = 20 * time.Minute
	maxCopies   = 32 // addresses of others that are remembered
)

// changeRate is how often the peer ID may change: once a minute, and once more at once,
// since two machines that change at the same time may draw the same one.
var changeRate = mono.Rate{PerSecond: 1. / 60, Burst: 2}

// seen notes another machine with our address.
func (c *copies) seen(now mono.Time) { c.last = now }

// beacon takes a beacon of our own address, from another machine.
func (c *copies) beacon(from netip.Addr, theirs uint8) {
	c.seen(c.l.now)
	c.note(from, theirs)
	if theirs == c.l.n.peerID() && !c.change.Happened() {
		c.change = c.l.now.Add(rand.N(redrawDelay))
	}
}

// note remembers the peer ID of another machine.
func (c *copies) note(from netip.Addr, id uint8) {
	if c.others == nil || len(c.others) >= maxCopies {
		c.others = map[netip.Addr]uint8{}
	}
	c.others[from] = id
}

// used reports whether another machine has a peer ID.
func (c *copies) used(id uint8) bool {
	for _, x := range c.others {
		if x == id {
			return true
		}
	}
	return false
}

// present reports whether another machine was noticed lately.
func (c *copies) present(now mono.Time) bool { return now.Sub(c.last) < copyFor }

// draw returns a peer ID that nobody was seen to use.
func (c *copies) draw(old uint8) uint8 {
	var free []uint8
	for id := uint8(1); id < 16; id++ {
		if id != old && !c.used(id) {
			free = append(free, id)
		}
	}
	if len(free) == 0 {
		c.others = nil
		return 1 + (old+rand.N[uint8](14))%15
	}
	return free[rand.IntN(len(free))]
}

// tick changes the peer ID when that is due, unless the other machine did it first.
func (c *copies) tick() mono.Time {
	if !c.change.Happened() {
		return mono.Never
	}
	if c.change > c.l.now {
		return c.change
	}
	c.change = 0
	if c.used(c.l.n.peerID()) {
		c.redraw(c.l.now)
	}
	return mono.Never
}

// redraw takes another peer ID, keeps it, and shakes hands again under it.
func (c *copies) redraw(now mono.Time) {
	if !c.changes.Allow(now, changeRate) {
		return
	}
	old := c.l.n.peerID()
	id := c.draw(old)
	c.l.n.ownID.Store(uint32(id))
	c.l.n.keepPeerID(id)
	c.l.n.log.Warn("another machine has this node's address and peer ID, as a copied disk brings along; this one takes another", "was", old, "peer_id", id)
	local := *c.l.env.Local
	local.PeerID = id
	c.l.env.Local = &local
	for _, p := range c.l.peers.byAddress {
		p.Reshake(now)
		c.l.touch(p)
	}
	c.l.beacon.linksChanged() // so that the others know
	c.l.n.events.node(EventCopies)
}

// message takes a CLASH: another machine with our address has our peer ID.
func (c *copies) message(m *message) error {
	x, err := wire.ParseClash(m.body)
	if err == nil && x == c.l.n.instance {
		c.seen(c.l.now)
		c.note(netip.IPv6Unspecified(), c.l.n.peerID())
		c.redraw(c.l.now)
	}
	return err
}

// linksChanged does nothing: the new link will tell.
func (c *copies) linksChanged() {}
