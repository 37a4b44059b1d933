package info2

import (
	"math"
	"net/netip"
	"slices"
	"time"
)

// handle takes one frame that came over a link.
func (c *core) handle(now time.Time, l *link, f frame) {
	switch l.state {
	case awaitHello:
		if f.kind != kindHello {
			c.counters.inc(BadHandshake)
			c.close(l)
			return
		}
		l.state, l.since, l.opened, l.deadline = open, now, now, time.Time{}
		l.quiet = now.Add(afterOK)
		c.inboundAt = now
		c.write(now, l, frame{kind: kindOK}.append(nil), sendGap)
		return
	case awaitOK:
		if f.kind != kindOK {
			c.counters.inc(BadHandshake)
			c.failDial(now, l)
			return
		}
		l.state, l.since, l.opened, l.deadline = open, now, now, time.Time{}
		c.greeted(now, l)
		return
	}
	if f.kind == kindOK && l.direction == outbound {
		return // some say it twice
	}
	l.spoke, l.suspect, l.quiet = true, false, time.Time{}
	s := c.sources.get(now, l.addr)
	if !s.messages.take(now) {
		c.counters.inc(DroppedBudget)
		if s.overdo(now) {
			c.cutFlooder(l.addr)
		}
		return
	}
	switch f.kind {
	case kindSend:
		c.onSend(now, l, f)
	case kindLogoff:
		c.onLogoff(now, l, f)
	case kindBackconnect:
		c.onBackconnect(now, l, f)
	case kindFriendRequest:
		c.push(now, l, frame{kind: kindFriend, addr: c.answer(now, l.addr)})
	case kindFriend:
		c.onFriend(now, l, f)
	case kindMalformed:
		c.counters.inc(DroppedMalformed)
	default:
		c.counters.inc(DroppedUnknown)
		if l.unknown++; l.unknown >= unknownMax {
			c.counters.inc(TooUnknown)
			c.punish(now, l)
		}
	}
}

// cutFlooder closes every connection of a source that was just banned.
func (c *core) cutFlooder(addr netip.Addr) {
	c.counters.inc(FloodersCut)
	for _, l := range slices.Clone(c.links) {
		if sourceKey(l.addr) == sourceKey(addr) {
			c.close(l)
		}
	}
	c.dropNeighbour(addr)
}

// greeted goes on after the OK of a host that we dialled.
func (c *core) greeted(now time.Time, l *link) {
	c.hosts.good(now, l.addr)
	if c.firstOut.IsZero() {
		c.firstOut = now
	}
	switch l.purpose {
	case deliver:
		if n := c.neighbour(l.addr); n != nil {
			n.until, n.failed = now.Add(neighbourFor), false
		}
		c.hosts.lasting(l.addr)
		c.counters.inc(Deliveries)
		l.out.push(l.parcel)
		l.deadline = now.Add(helloWait)
	case check:
		c.hosts.lasting(l.addr)
		c.ask(now, l)
		l.deadline = now.Add(checkWait)
	default:
		c.dropNeighbour(l.addr)
		if c.listening && l.local.IsValid() {
			c.push(now, l, frame{kind: kindBackconnect, addr: l.local})
		}
		if c.hosts.untried() < hearsayTeller {
			c.ask(now, l)
		}
	}
}

// onSend shows and forwards a text that is new.
func (c *core) onSend(now time.Time, l *link, f frame) {
	raw := f.text
	if f.text = Clean(raw); f.text != raw {
		c.counters.inc(TextsCleaned)
	}
	if f.text == "" {
		c.counters.inc(DroppedEmpty)
		return
	}
	if cut := cutText(f.text, maxText); cut != f.text {
		c.counters.inc(TextsCut)
		f.text = cut
	}
	if n := c.neighbour(l.addr); n != nil {
		n.until = now.Add(neighbourFor)
	}
	if !c.first(now, l, f) {
		return
	}
	c.do(action{op: opDeliver, message: Message{Time: now, MID: f.mid, Text: f.text, From: l.addr}})
	c.flood(now, f, origin(l.id), l.addr)
}

// onLogoff forwards it; a link ends only if its own other end says so, and says
// it first. One about ourselves is forged, and forwarded by us it would look like
// our own.
func (c *core) onLogoff(now time.Time, l *link, f frame) {
	first, ours := c.first(now, l, f), c.self[f.addr] || f.addr == l.local
	if first && !ours {
		c.flood(now, f, origin(l.id), l.addr)
	}
	if first && f.addr == l.addr {
		c.counters.inc(LogoffDirect)
		c.dropNeighbour(l.addr)
		c.hosts.rest(now, l.addr, pauseFirst)
		c.close(l)
		return
	}
	if ours {
		c.counters.inc(LogoffForged)
		return
	}
	c.counters.inc(LogoffRelayed)
	for _, o := range c.links {
		if o != l && o.addr == f.addr && o.receives() && !o.suspect {
			o.suspect = true
			if now.Sub(o.asked) >= replyWait {
				c.ask(now, o)
			}
		}
	}
}

// first reports whether a message is new, and keeps the books of the link.
func (c *core) first(now time.Time, l *link, f frame) bool {
	c.counters.inc(MessagesIn)
	key := memoryKey{f.kind, f.mid}
	if c.learn(now, f) {
		l.fresh++
		return true
	}
	l.dups++
	suppressed := l.out.drop(key)
	if n := c.neighbour(l.addr); n != nil {
		suppressed = n.out.drop(key) || suppressed
	}
	if suppressed {
		c.counters.inc(Suppressed)
	}
	return false
}

// learn remembers a message; false if it was known.
func (c *core) learn(now time.Time, f frame) bool {
	key := memoryKey{f.kind, f.mid}
	known, other := c.memory.recall(now, key, f.text)
	if known {
		c.counters.inc(Duplicates)
		if other && f.kind == kindSend {
			c.counters.inc(OtherText)
		}
		return false
	}
	c.counters.inc(MessagesNew)
	c.memory.add(now, key, f.text)
	return true
}

// flood queues a message for everybody but who brought it. Each receiver gets
// it after a delay of its own, the same for our own messages and for others'.
func (c *core) flood(now time.Time, f frame, from origin, fromAddr netip.Addr) {
	m := outgoing{key: memoryKey{f.kind, f.mid}, from: from, data: f.append(nil)}
	for _, l := range c.links {
		if l.receives() && origin(l.id) != from {
			m.due = now.Add(c.delay())
			c.queue(l, m)
		}
	}
	for _, n := range c.neighbours {
		if n.addr != fromAddr && !c.lasting(now, n.addr) {
			m.due = now.Add(c.delay())
			c.counters.add(DroppedQueue, n.out.push(m))
		}
	}
}

// queue hands a message to a link, and notes whether that is too slow for what
// comes.
func (c *core) queue(l *link, m outgoing) {
	displaced := l.out.push(m)
	c.counters.add(DroppedQueue, displaced)
	l.full = l.full || displaced > 0
}

// lasting says whether a link to the host has outlived what a per-message
// servent would keep.
func (c *core) lasting(now time.Time, a netip.Addr) bool {
	return slices.ContainsFunc(c.links, func(l *link) bool {
		return l.addr == a && l.purpose == keep && l.state == open && now.Sub(l.opened) > perMessage
	})
}

// push queues a frame between the two ends of a link.
func (c *core) push(now time.Time, l *link, f frame) {
	c.queue(l, outgoing{from: protocol, due: now, data: f.append(nil), bare: f.bare()})
}

// ask sends a friend request.
func (c *core) ask(now time.Time, l *link) {
	l.asked, l.owed = now, true
	c.push(now, l, frame{kind: kindFriendRequest})
}

// delay is exponential, cut at 600 ms, with a mean of 150 ms.
func (c *core) delay() time.Duration {
	whole := 1 - math.Exp(-float64(delayMax)/float64(delayBase))
	return time.Duration(-float64(delayBase) * math.Log(1-whole*c.rng.Float64()))
}

// pump dials, and writes what is due on every link.
func (c *core) pump(now time.Time) {
	c.dial(now)
	for _, l := range c.links {
		at, ok := l.sendable(now)
		if !ok || at.After(now) {
			continue
		}
		m, ok := l.out.pop(now)
		if !ok {
			continue
		}
		l.rate.take(now)
		l.full = l.full && l.out.bytes > queueLow/2
		gap := sendGap
		if m.bare {
			gap = bareGap
		}
		if m.from == protocol {
			c.counters.inc(ProtocolOut)
		} else {
			c.counters.inc(MessagesOut)
		}
		c.write(now, l, m.data, gap)
		if l.purpose == deliver {
			l.deadline = now.Add(lingerWait)
		}
	}
}

// onBackconnect remembers the wish; what it means shows when the link ends. A
// host that we have not dialled lately is asked whether it listens, so that it
// can be named to others.
func (c *core) onBackconnect(now time.Time, l *link, f frame) {
	if f.addr.IsValid() && f.addr != l.addr {
		c.counters.inc(BackconnectOther)
	}
	l.backconnect = now
	if n := c.neighbour(l.addr); n != nil {
		n.until = now.Add(neighbourFor)
	}
	if l.direction == outbound || !c.dialable(l.addr) || !c.hosts.add(now, l.addr, sourceKey(l.addr)) {
		return
	}
	h := c.hosts.byAddr[l.addr]
	if now.Sub(h.verified) >= verifiedFor && !now.Before(h.next) && !slices.Contains(c.checks, l.addr) && len(c.checks) < connsMax {
		c.checks = append(c.checks, l.addr)
	}
}

// onFriend takes an address into the host cache, if we asked for one.
func (c *core) onFriend(now time.Time, l *link, f frame) {
	if !l.owed || now.Sub(l.asked) > replyWait {
		c.counters.inc(FriendUnasked)
		return
	}
	l.owed = false
	if l.purpose == check {
		defer c.close(l)
	}
	switch {
	case f.addr.IsUnspecified():
	case !c.dialable(f.addr) || !mayTell(l.addr, f.addr):
		c.counters.inc(FriendForbidden)
	case !c.hosts.add(now, f.addr, sourceKey(l.addr)):
		c.counters.inc(FriendFull)
	}
}

// answer is what we tell one who asks for a friend: somebody linked to us whose
// handshake we have completed ourselves; few different ones per hour.
func (c *core) answer(now time.Time, asker netip.Addr) netip.Addr {
	s := c.sources.get(now, asker)
	if !now.Before(s.answersUntil) {
		s.answers, s.answersUntil = nil, now.Add(answersFor)
	}
	var fit []netip.Addr
	consider := func(a netip.Addr) {
		h := c.hosts.byAddr[a]
		if a != asker && h != nil && !h.verified.IsZero() && mayTell(asker, a) {
			fit = append(fit, a)
		}
	}
	for _, l := range c.links {
		if l.receives() {
			consider(l.addr)
		}
	}
	for _, n := range c.neighbours {
		consider(n.addr)
	}
	known := slices.DeleteFunc(slices.Clone(s.answers), func(a netip.Addr) bool { return !slices.Contains(fit, a) })
	fresh := slices.DeleteFunc(fit, func(a netip.Addr) bool { return slices.Contains(s.answers, a) })
	switch {
	case len(fresh) > 0 && len(s.answers) < answersMax:
		a := fresh[c.rng.IntN(len(fresh))]
		s.answers = append(s.answers, a)
		return a
	case len(known) > 0:
		return known[c.rng.IntN(len(known))]
	}
	return netip.IPv4Unspecified()
}
