package info2

import (
	"net/netip"
	"slices"
	"time"
)

// handleAll takes what came over a link: frames, and what was wrong with the
// bytes after them. It stops at the frame that closes the link.
func (c *core) handleAll(now time.Time, l *link, frames []frame, err error) {
	for _, f := range frames {
		if !c.links.has(l) {
			return
		}
		c.handle(now, l, f)
	}
	if err != nil && c.links.has(l) {
		c.fx.inc(TooLong)
		c.punish(now, l)
	}
}

// handle takes one frame that came over a link.
func (c *core) handle(now time.Time, l *link, f frame) {
	switch l.state {
	case awaitHello:
		c.onHello(now, l, f)
		return
	case awaitOK:
		c.onOK(now, l, f)
		return
	}
	if f.kind == kindOK && l.direction == outbound {
		return // some say it twice
	}
	l.said.spoke, l.said.suspect, l.out.quiet = true, false, time.Time{}
	s := c.sources.get(now, l.addr)
	if !s.messages.take(now) {
		c.fx.inc(DroppedBudget)
		if s.overdo(now) {
			c.cutFlooder(l.addr)
		}
		return
	}
	switch f.kind {
	case kindSend:
		c.flood.onSend(now, l, f)
	case kindLogoff:
		c.onLogoff(now, l, f)
	case kindBackconnect:
		c.onBackconnect(now, l, f)
	case kindFriendRequest:
		c.friends.onRequest(now, l)
	case kindFriend:
		if c.friends.onReply(now, l, f.addr) && l.purpose == check {
			c.links.close(l)
		}
	case kindMalformed:
		c.fx.inc(DroppedMalformed)
	default:
		c.fx.inc(DroppedUnknown)
		if l.said.unknown++; l.said.unknown >= unknownMax {
			c.fx.inc(TooUnknown)
			c.punish(now, l)
		}
	}
}

// punish closes a link for what came over it.
func (c *core) punish(now time.Time, l *link) {
	if l.state == awaitOK {
		c.failDial(now, l)
		return
	}
	if l.direction == outbound {
		c.hosts.bad(now, l.addr, pauseFirst)
	}
	c.links.close(l)
}

// cutFlooder closes every connection of a source that was just banned.
func (c *core) cutFlooder(addr netip.Addr) {
	c.fx.inc(FloodersCut)
	for _, l := range slices.Clone(c.links.list) {
		if sourceKey(l.addr) == sourceKey(addr) {
			c.links.close(l)
		}
	}
	c.neighbours.drop(addr)
}

// onBackconnect notes the wish; what it means shows when the link ends, or does
// not.
func (c *core) onBackconnect(now time.Time, l *link, f frame) {
	if f.addr.IsValid() && f.addr != l.addr {
		c.fx.inc(BackconnectOther)
	}
	l.backconnect = now
	c.neighbours.renew(now, l.addr)
}

// onLogoff forwards it; a link ends only if its own other end says so, and says
// it first. One about ourselves is forged, and forwarded by us it would look like
// our own.
func (c *core) onLogoff(now time.Time, l *link, f frame) {
	first, ours := c.flood.first(now, l, f), c.reach.self[f.addr] || f.addr == l.local
	if first && !ours {
		c.flood.forward(now, l, f)
	}
	switch {
	case first && f.addr == l.addr:
		c.fx.inc(LogoffDirect)
		c.neighbours.drop(l.addr)
		c.hosts.rest(now, l.addr, pauseFirst)
		c.links.close(l)
	case ours:
		c.fx.inc(LogoffForged)
	default:
		c.fx.inc(LogoffRelayed)
		c.links.doubt(now, l, f.addr)
	}
}
