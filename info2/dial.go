package info2

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// dialable says whether an address may ever be dialled.
func (c *core) dialable(a netip.Addr) bool {
	if c.self[a] || c.allow != nil && !c.allow(a) {
		return false
	}
	if a.IsLoopback() {
		return c.loopback
	}
	return !forbidden(a)
}

// usable says whether a host can become a link now.
func (c *core) usable(a netip.Addr) bool {
	return c.dialable(a) && c.neighbour(a) == nil && !slices.ContainsFunc(c.links, func(l *link) bool { return l.addr == a })
}

// kept counts the links, with those being dialled or greeted.
func (c *core) kept() (n int) {
	for _, l := range c.links {
		if l.purpose == keep && l.state != awaitHello && l.state != hearing {
			n++
		}
	}
	return n
}

// dial starts the dials that are wanted and allowed: one a second, five at
// once after a pause, four under way. The four wishes take turns, so that a
// talkative network does not keep us from finding new links.
func (c *core) dial(now time.Time) {
	if c.leaving {
		return
	}
	c.refill()
	for c.underWay() < dialsAtOnce && !c.dials.ready(now).After(now) {
		wishes := [...]func(time.Time) bool{c.dialWanted, c.dialParcel, c.dialLink, c.dialCheck}
		found := false
		for i := range wishes {
			if wishes[(c.turn+i)%len(wishes)](now) {
				c.turn += i + 1
				found = true
				break
			}
		}
		if !found {
			return
		}
		c.dials.take(now)
	}
}

func (c *core) underWay() int { return c.count(dialing) + c.count(awaitOK) }

// refill decides with hysteresis whether more links are wanted.
func (c *core) refill() {
	switch n := c.kept(); {
	case n < linksLow:
		c.filling = true
	case n >= linksWanted:
		c.filling = false
	}
}

// nextDial is when dial has something to do that it cannot do now; zero: never.
func (c *core) nextDial(now time.Time) (at time.Time) {
	if c.leaving || c.underWay() >= dialsAtOnce {
		return at
	}
	if !c.closed {
		at = c.explore
	}
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if len(c.wanted)+len(c.checks) > 0 {
		sooner(now)
	}
	for _, n := range c.neighbours {
		if due, ok := n.out.next(); ok && !n.dialled {
			sooner(due)
		}
	}
	if c.filling {
		if c.hosts.hasReady(now, c.usable) {
			sooner(now)
		} else {
			sooner(c.hosts.nextReady(now, c.usable))
			for _, l := range c.prunable() {
				if !c.closed {
					sooner(l.askable())
				}
			}
		}
	}
	if ready := c.dials.ready(now); !at.IsZero() && at.Before(ready) {
		at = ready
	}
	return at
}

func (c *core) start(now time.Time, a netip.Addr, p purpose) *link {
	c.counters.inc(Dials)
	// The shell gives up a dial earlier; this is for one that does not.
	l := c.newLink(now, a, outbound, p, dialing, 2*helloWait)
	c.do(action{op: opDial, id: l.id, addr: a})
	return l
}

func (c *core) dialWanted(now time.Time) bool {
	for len(c.wanted) > 0 {
		a := c.wanted[0]
		c.wanted = c.wanted[1:]
		if c.usable(a) {
			c.start(now, a, keep)
			return true
		}
	}
	return false
}

// dialParcel starts a delivery to a per-message neighbour.
func (c *core) dialParcel(now time.Time) bool {
	for i, n := range c.neighbours {
		if n.dialled {
			continue
		}
		m, ok := n.out.pop(now)
		if !ok {
			continue
		}
		n.dialled = true
		m.due = now
		c.start(now, n.addr, deliver).parcel = m
		// The next time, another neighbour is first.
		c.neighbours = append(slices.Delete(slices.Clone(c.neighbours), i, i+1), n)
		return true
	}
	return false
}

// dialLink makes a new link, because there are few, or to see more of the network.
func (c *core) dialLink(now time.Time) bool {
	exploring := !c.closed && !now.Before(c.explore)
	if !c.filling && !exploring {
		return false
	}
	if exploring {
		c.planExplore(now)
	}
	h := c.hosts.pick(now, c.rng, c.usable)
	if h == nil {
		if c.filling && !c.closed {
			c.askAround(now)
		}
		return false
	}
	c.start(now, h.addr, keep)
	return true
}

// askAround asks the links whom they know, when we know nobody to dial.
func (c *core) askAround(now time.Time) {
	for _, l := range c.links {
		if l.receives() && l.state == open && !now.Before(l.askable()) {
			c.ask(now, l)
		}
	}
}

func (c *core) dialCheck(now time.Time) bool {
	for len(c.checks) > 0 {
		a := c.checks[0]
		c.checks = c.checks[1:]
		if c.dialable(a) {
			c.start(now, a, check)
			return true
		}
	}
	return false
}

// planExplore draws the time of the next dial that only looks around.
func (c *core) planExplore(now time.Time) {
	c.explore = now.Add(exploreTime/2 + time.Duration(c.rng.Int64N(int64(exploreTime))))
}

// prune closes the least useful links above seven, and second links between the
// same two hosts. Only links that have lasted 20 s count, which is enough for
// whoever only asks whom we know.
func (c *core) prune(now time.Time) {
	settled := slices.DeleteFunc(c.prunable(), func(l *link) bool { return now.Sub(l.opened) < settleTime })
	excess := len(settled) - linksHigh
	rank := c.rank(now, settled)
	slices.SortStableFunc(settled, func(a, b *link) int {
		return cmp.Or(cmp.Compare(rank[a], rank[b]), a.opened.Compare(b.opened))
	})
	for _, l := range settled {
		switch {
		case isTwin(l, settled):
			c.counters.inc(Twins)
		case excess > 0:
			c.counters.inc(Pruned)
			c.hosts.rest(now, l.addr, pauseFirst)
		default:
			continue
		}
		c.close(l)
		excess--
	}
}

// rank orders links by what they are worth to us: friends, then the three most
// useful of those that we chose ourselves, so that strangers who come in cannot
// take all our places, then the rest; each by usefulness.
func (c *core) rank(now time.Time, links []*link) map[*link]float64 {
	const chosen, friendly = 1, 2
	rank := make(map[*link]float64)
	var ours []*link
	for _, l := range links {
		rank[l] = l.usefulness(now)
		if h := c.hosts.byAddr[l.addr]; h != nil && h.standing == friend {
			rank[l] += friendly
		} else if l.direction == outbound {
			ours = append(ours, l)
		}
	}
	slices.SortStableFunc(ours, func(a, b *link) int { return cmp.Compare(rank[b], rank[a]) })
	for _, l := range ours[:min(len(ours), linksLow)] {
		rank[l] += chosen
	}
	return rank
}

// isTwin says whether two hosts have dialled each other and l is the link to go:
// the one that the higher address dialled, which both ends can tell.
func isTwin(l *link, among []*link) bool {
	return l.direction == outbound && l.addr.Less(l.local) && slices.ContainsFunc(among, func(o *link) bool {
		return o.direction == inbound && o.addr == l.addr && o.local == l.local
	})
}

// prunable are the links that count towards the seven, oldest first.
func (c *core) prunable() (list []*link) {
	for _, l := range c.links {
		if l.purpose == keep && l.state == open {
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b *link) int { return a.opened.Compare(b.opened) })
	return list
}

// nextPrune is when prune finds something; zero: never.
func (c *core) nextPrune(now time.Time) (at time.Time) {
	list := c.prunable()
	for i, l := range list {
		settles := l.opened.Add(settleTime)
		// A twin is seen when the later of the two settles.
		if i >= linksHigh || now.Before(settles) && c.hasOther(list, l) {
			if at.IsZero() || settles.Before(at) {
				at = settles
			}
		}
	}
	return at
}

// hasOther says whether another link goes to the same host.
func (c *core) hasOther(list []*link, l *link) bool {
	return slices.ContainsFunc(list, func(o *link) bool { return o != l && o.addr == l.addr })
}

func (c *core) neighbour(a netip.Addr) *neighbour {
	for _, n := range c.neighbours {
		if n.addr == a {
			return n
		}
	}
	return nil
}

// addNeighbour makes a host one that is dialled for every message.
func (c *core) addNeighbour(now time.Time, a netip.Addr) {
	if n := c.neighbour(a); n != nil {
		n.until = now.Add(neighbourFor)
		return
	}
	if !c.dialable(a) {
		return
	}
	if len(c.neighbours) >= neighboursMax {
		c.counters.inc(NeighboursFull)
		return
	}
	c.neighbours = append(c.neighbours, &neighbour{addr: a, until: now.Add(neighbourFor)})
}

func (c *core) dropNeighbour(a netip.Addr) {
	c.dropNeighbours(func(n *neighbour) bool { return n.addr == a })
}

func (c *core) dropNeighbours(which func(*neighbour) bool) {
	c.neighbours = slices.DeleteFunc(c.neighbours, func(n *neighbour) bool {
		gone := which(n)
		if gone {
			c.counters.add(DroppedClosed, n.out.messages())
		}
		return gone
	})
}
