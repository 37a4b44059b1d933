package info2

import (
	"net/netip"
	"time"
)

// accepted takes a connection that came in. It returns false if the shell must
// close it, else the name that it has from now on.
func (c *core) accepted(now time.Time, remote, local netip.Addr) (linkID, bool) {
	if c.leaving {
		return 0, false
	}
	c.reach.learn(local)
	if !c.reach.allowed(remote) {
		c.fx.inc(RefusedForeign)
		return 0, false
	}
	s := c.sources.get(now, remote)
	if s.isBanned(now) {
		c.fx.inc(RefusedBanned)
		return 0, false
	}
	if !s.conns.take(now) {
		c.fx.inc(DroppedBudget)
		if s.overdo(now) {
			c.cutFlooder(remote)
		}
		return 0, false
	}
	same := c.links.count(func(l *link) bool { return l.addr == remote })
	if len(c.links.list) >= connsMax || same >= connsPer {
		c.fx.inc(RefusedFull)
		return 0, false
	}
	l := c.links.add(now, remote, inbound, keep, awaitHello, helloWait)
	l.local = local
	return l.id, true
}

// dialed answers opDial.
func (c *core) dialed(now time.Time, id linkID, local netip.Addr, err error) {
	l := c.links.find(id)
	if l == nil {
		if err == nil {
			c.fx.do(action{op: opClose, id: id})
		}
		return
	}
	if err != nil {
		c.failDial(now, l)
		return
	}
	c.reach.learn(local)
	if l.addr == local && !local.IsLoopback() {
		c.fx.inc(Twins)
		c.hosts.rest(now, l.addr, hearsayForget)
		c.links.close(l)
		return
	}
	l.local = local
	l.set(now, awaitOK, now.Add(helloWait))
	c.links.write(now, l, opWrite, frame{kind: kindHello}.append(nil), sendGap)
}

// failDial ends a connection of ours that came to nothing.
func (c *core) failDial(now time.Time, l *link) {
	c.fx.inc(DialsFailed)
	c.hosts.bad(now, l.addr, pauseFirst)
	if l.purpose == deliver {
		c.neighbours.failed(now, l.addr, l.parcel)
	}
	if l.state == dialing {
		c.links.remove(l)
	} else {
		c.links.close(l)
	}
}

// onHello opens a connection that came in, if it begins with a hello.
func (c *core) onHello(now time.Time, l *link, f frame) {
	if f.kind != kindHello {
		c.fx.inc(BadHandshake)
		c.links.close(l)
		return
	}
	l.set(now, open, time.Time{})
	l.out.quiet = now.Add(afterOK)
	c.presence.in = now
	c.links.write(now, l, opWrite, frame{kind: kindOK}.append(nil), sendGap)
}

// onOK goes on after the OK of a host that we dialled, if it is one.
func (c *core) onOK(now time.Time, l *link, f frame) {
	if f.kind != kindOK {
		c.fx.inc(BadHandshake)
		c.failDial(now, l)
		return
	}
	c.hosts.good(now, l.addr)
	if c.presence.out.IsZero() {
		c.presence.out = now
	}
	l.set(now, open, time.Time{})
	switch l.purpose {
	case deliver:
		c.hand(now, l)
	case check:
		c.hosts.lasting(l.addr)
		c.links.ask(now, l)
		l.deadline = now.Add(checkWait)
	default:
		c.neighbours.drop(l.addr)
		if c.presence.listening && l.local.IsValid() {
			c.links.push(now, l, frame{kind: kindBackconnect, addr: l.local})
		}
		if !c.topology.closed && c.hosts.untried() < hearsayTeller {
			c.links.ask(now, l)
		}
	}
}

// hand gives a per-message neighbour its message, and nothing else.
func (c *core) hand(now time.Time, l *link) {
	c.hosts.lasting(l.addr)
	if n := c.neighbours.find(l.addr); n != nil {
		n.failed = false
		c.neighbours.renew(now, l.addr)
		c.hosts.setPerMessage(l.addr, n.registered)
	}
	c.fx.inc(Deliveries)
	l.out.push(l.parcel)
	l.deadline = now.Add(helloWait)
}

// ended decides what the end of a stream means. A broken one may be a close with
// something unread, as well as the network's fault.
func (c *core) ended(now time.Time, l *link, broken bool) {
	age, patience := now.Sub(l.opened), brief
	if broken {
		patience = soon
	}
	hearers := c.links.count(func(l *link) bool { return l.state == hearing })
	switch {
	case l.state == awaitOK:
		c.failDial(now, l)
		return
	case l.state == awaitHello:
		c.fx.inc(BadHandshake)
	case l.purpose != keep:
	case l.registers(now):
		c.hosts.setPerMessage(l.addr, true)
		c.topology.callBack(now, l.addr, true)
	case l.direction == inbound && !l.said.spoke && !broken && hearers < hearersMax:
		// netcat ends its half when its input ends, and goes on reading.
		l.set(now, hearing, now.Add(neighbourFor))
		return
	case l.direction == inbound:
	case age < patience && !l.out.last.IsZero() && now.Sub(l.out.last) < soon:
		// It took one message and left: so it wants every one of them.
		c.topology.callBack(now, l.addr, false)
	case broken:
	case age < young:
		c.hosts.bad(now, l.addr, pauseShort) // it has links enough, probably
	default:
		c.hosts.lasting(l.addr)
		c.hosts.rest(now, l.addr, askAgain)
	}
	c.links.close(l)
}

// stays notes that a host that sent BACKCONNECT wants its link too, so that more
// than one message is welcome there. It is dialled once to learn whether it listens,
// and can be named to others.
func (c *core) stays(now time.Time, l *link) {
	l.backconnect = time.Time{}
	if l.direction == inbound {
		c.hosts.setPerMessage(l.addr, false)
		c.topology.check(now, l.addr)
	}
}
