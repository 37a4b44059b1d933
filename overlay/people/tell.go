package people

import (
	"cmp"
	"crypto/sha256"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// resend sends what is due.
func (c *Core) resend(now Now) {
	for k, o := range c.outbox.sending {
		if o.due > now.Mono {
			continue
		}
		switch {
		case o.stale(now), o.once && o.late(now):
			c.giveUp(now, k)
		case c.outbox.rests(now, o):
			o.rest(now)
		default:
			c.outbox.try(now, k, o)
		}
	}
}

// giveUp forgets a TELL that is too old.
func (c *Core) giveUp(now Now, k tellKey) {
	x, p := c.begun(now), c.people.m[k.to]
	c.outbox.drop(x, k)
	switch kind := c.outbox.sending[k].Kind; {
	case kind == wire.TellAsk && p.asks():
		c.askOver(x, p)
	case kind == wire.TellBye && p.gone():
		c.people.drop(x, k.to)
	}
	x.commit()
}

// askOver has a transaction forget that people here said yes to somebody who never answered.
func (c *Core) askOver(x *tx, p person) {
	k := Key(p.Address.X())
	x.do(Event{Kind: EventUnanswered, Address: p.Address, Name: firstOf(p.As, p.Said), Via: firstBy(p.By)})
	c.forget(x, k)
	c.people.drop(x, k)
}

// askOn goes on with an ASK after a start.
func (c *Core) askOn(now Now, p person) {
	o := c.askFor(p)
	switch {
	case o.stale(now):
		x := c.begun(now)
		c.askOver(x, p)
		x.commit() // or at the next start
	case p.Refused:
		o.refusal = true
		o.rest(now)
		c.outbox.sending[tellKey{p.Address.X(), c.outbox.newID()}] = o
	default:
		c.sendAsk(now, p)
	}
}

// sendAsk asks a peer, in place of an ASK that is on its way.
func (c *Core) sendAsk(now Now, p person) {
	c.outbox.replace(now, c.askFor(p), isAsk)
}

// askFor returns the ASK for a peer.
func (c *Core) askFor(p person) *outgoing {
	body := ask{clean(c.cfg.Name(), maxName), p.Note, p.Via}.body()
	return &outgoing{storedTell: storedTell{p.Address, wire.TellAsk, body, p.Asked}}
}

// profileFor returns the PROFILE for a friend. The network's secret is for guests of ours.
func (c *Core) profileFor(p person) []byte {
	f := profile{Name: clean(c.cfg.Name(), maxSaid), Services: c.cfg.Services()}
	if p.Guest {
		f.Secret = c.cfg.Secret()
	}
	return f.body()
}

// digest is what is kept of a PROFILE that arrived.
func digest(body []byte) []byte {
	d := sha256.Sum256(body)
	return d[:8]
}

// tellProfile sends a friend our PROFILE if it has another one.
func (c *Core) tellProfile(now Now, p person) {
	if !p.Friend || c.book.Standing(p.Address) != book.Added {
		return
	}
	body := c.profileFor(p)
	profiles := func(o *outgoing) bool { return o.Kind == wire.TellProfile }
	same := func(o *outgoing) bool { return profiles(o) && slices.Equal(o.Body, body) }
	if slices.Equal(p.Knows, digest(body)) || c.outbox.has(p.Address.X(), same) {
		return
	}
	c.outbox.replace(now, &outgoing{storedTell: storedTell{p.Address, wire.TellProfile, body, now.Wall}}, profiles)
}

// ProfileChanged tells friends what is new of our name, our services and the network's secret.
func (c *Core) ProfileChanged(now Now) {
	for _, p := range c.people.m {
		c.tellProfile(now, p)
	}
}

// Told takes the answer to a TELL of ours.
func (c *Core) Told(now Now, from anode.Address, m wire.ToldMsg) {
	k := tellKey{from.X(), m.ID}
	o := c.outbox.sending[k]
	if o == nil {
		return
	}
	if m.Status == wire.TellTooMuch {
		o.refused++
		o.due = now.Mono.Add(min(askPauseMax, busyPause<<min(o.refused-1, 8)))
		return
	}
	x := c.begun(now)
	c.outbox.drop(x, k)
	denied := m.Status == wire.TellNotNow && (o.Kind == wire.TellAccept || o.Kind == wire.TellProfile)
	if m.Status != wire.TellDone && !denied {
		x.do(Event{Kind: EventRefused, Address: from, Name: c.names.shown(from), Text: o.Kind.String() + ": " + m.Status.String()})
	}
	switch p, known := c.people.m[k.to]; {
	case !known:
	case denied:
		c.leaves(x, p)
	case o.Kind == wire.TellAccept && m.Status == wire.TellDone && p.Untold:
		p.Untold = false
		c.people.put(x, k.to, p)
	case o.Kind == wire.TellIntro && m.Status == wire.TellNotNow && p.Friend: // are we still let in? A PROFILE asks that
		p.Knows = nil
		c.people.put(x, k.to, p)
		x.then(func() { c.tellProfile(now, p) })
	case o.Kind == wire.TellAsk:
		c.askTold(x, p, o, k, m.Status)
	case o.Kind == wire.TellProfile && m.Status == wire.TellDone:
		p.Knows = digest(o.Body)
		c.people.put(x, k.to, p)
	case o.Kind == wire.TellBye && p.gone():
		c.people.drop(x, k.to)
	}
	x.commit() // if it fails, it is sent again with the next session, and taken for what came before
}

// askTold notes that an ASK arrived. One that is not answered is said again some day, and soon if the other side
// says that others that asked took its place. One that is refused is not said again; but our yes stays, and an ASK of
// the other side's is welcome. While we use a link, its issuer may have heard a stranger: what it said to that one is no
// answer.
func (c *Core) askTold(x *tx, p person, o *outgoing, k tellKey, s wire.TellStatus) {
	if c.joins.m[k.to].State == JoinTrying && !p.Friend {
		if s == wire.TellDone && !p.AskTold {
			p.AskTold = true
			c.people.put(x, k.to, p)
		}
		x.then(func() {
			o.due = x.now.Mono.Add(cmp.Or(c.outbox.pause(o), o.later()))
			c.outbox.sending[k] = o
		})
		return
	}
	p.AskTold, p.Refused = s == wire.TellDone, s != wire.TellDone
	c.people.put(x, k.to, p)
	if !p.asks() {
		return
	}
	again := &outgoing{storedTell: o.storedTell, tries: len(pauses), refusal: p.Refused}
	if again.rest(x.now); !again.refusal {
		again.due = min(again.due, x.now.Mono.Add(askAgain))
	}
	x.then(func() { c.outbox.sending[k] = again })
}
