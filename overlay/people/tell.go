package people

import (
	"crypto/sha256"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// tellKey names a TELL of ours: to whom, and which.
type tellKey struct {
	to Key
	id wire.TellID
}

func (k tellKey) bytes() []byte { return append(k.to[:], k.id[:]...) }

func parseTellKey(b []byte) (k tellKey, ok bool) {
	if len(b) != len(k.to)+len(k.id) {
		return k, false
	}
	return tellKey{Key(b), wire.TellID(b[len(k.to):])}, true
}

// letter is a TELL that waits on the disk until it arrives.
type letter struct {
	To    anode.Address `json:"to"`
	Kind  wire.TellKind `json:"kind"`
	Body  []byte        `json:"body"`
	Since time.Time     `json:"since"`
}

// outgoing is a TELL that is being sent. ASK and PROFILE are in no outbox: they follow from the people.
type outgoing struct {
	letter
	tries   int
	due     mono.Time // mono.Never: with the next session
	refused int       // how often it was too much
	once    bool      // it does not wait for a session
	rounds  int       // how often a session was used to send it again
}

// Bounds of what waits.
const (
	outboxPeer  = 64
	outboxTotal = 1024
	outboxFor   = 30 * 24 * time.Hour
	outboxBye   = 24 * time.Hour // for somebody who is no peer any more
)

// pauses are how long a TELL waits for TOLD before it is sent again; after the last it waits for the
// next session.
var pauses = [...]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// An ASK of somebody who is no peer has no session to wait for, so it is sent on, more and more seldom.
const (
	askPause    = time.Minute
	askPauseMax = time.Hour
	busyPause   = 15 * time.Second // after TellTooMuch, twice that the next time: askRate allows another one by then
	askAgain    = 24 * time.Hour   // once it arrived and until it is answered
	askFor      = 30 * 24 * time.Hour
	askRounds   = 3 // sessions of a run in which a peer is asked that answers nothing: it may be no version that can
)

func (c *Core) newID() (id wire.TellID) {
	c.cfg.Random(id[:])
	return id
}

// post has a transaction put a TELL in the outbox, and sends it then. Of ACCEPT and BYE to one peer only the last
// counts.
func (c *Core) post(x *tx, to anode.Address, kind wire.TellKind, body []byte) {
	n := 0
	for k := range c.outbox.m {
		switch {
		case k.to != to.X():
		case kind != wire.TellIntro && c.outbox.m[k].Kind == kind && c.outbox.m[k].To == to && !isRemoval(kind, body):
			c.unpost(x, k)
		default:
			n++
		}
	}
	if n >= outboxPeer || len(c.outbox.m) >= outboxTotal {
		c.count.OutboxFull++
		return
	}
	k := tellKey{to.X(), c.newID()}
	l := letter{to, kind, body, x.now.Wall}
	c.outbox.put(x, k, l)
	x.then(func() { c.send(x.now, k, &outgoing{letter: l}) })
}

// isRemoval reports whether a body is a BYE about another peer.
func isRemoval(kind wire.TellKind, body []byte) bool {
	b, err := parseBye(body)
	return kind == wire.TellBye && err == nil && !b.Remove.IsZero()
}

// unpost has a transaction forget a TELL.
func (c *Core) unpost(x *tx, k tellKey) {
	c.outbox.drop(x, k)
	x.then(func() { delete(c.sending, k) })
}

// unpostAll has a transaction forget the TELLs to a peer.
func (c *Core) unpostAll(x *tx, to Key) {
	for k := range c.outbox.m {
		if k.to == to {
			c.outbox.drop(x, k)
		}
	}
	x.then(func() { c.stopSending(to, func(*outgoing) bool { return true }) })
}

// takeBack has a transaction forget that a peer was removed, if it was not told yet: it is let in, or asked, again.
func (c *Core) takeBack(x *tx, to Key) {
	for k, l := range c.outbox.m {
		if k.to == to && l.Kind == wire.TellBye && !isRemoval(l.Kind, l.Body) {
			c.unpost(x, k)
		}
	}
}

func (c *Core) stopSending(to Key, which func(*outgoing) bool) {
	for k, o := range c.sending {
		if k.to == to && which(o) {
			delete(c.sending, k)
		}
	}
}

// send sends a TELL now, and again until it arrives.
func (c *Core) send(now Now, k tellKey, o *outgoing) {
	c.sending[k] = o
	c.try(now, k, o)
}

func (c *Core) try(now Now, k tellKey, o *outgoing) {
	c.do(Tell{o.To, wire.TellMsg{ID: k.id, Kind: o.Kind, Body: o.Body}})
	o.due = now.Mono.Add(c.pause(o))
	if o.tries >= len(pauses) && c.pause(o) == 0 {
		o.due = mono.Never
	}
	if o.tries++; o.once && o.due == mono.Never {
		delete(c.sending, k)
	}
}

// pause returns how long a TELL waits after it was sent; 0: for the next session.
func (c *Core) pause(o *outgoing) time.Duration {
	switch n := o.tries; {
	case n < len(pauses):
		return pauses[n]
	case c.book.Standing(o.To) != book.Added && !o.once: // nobody tells when it has a session
		return min(askPauseMax, askPause<<min(n-len(pauses), 8))
	}
	return 0
}

// resend sends what is due.
func (c *Core) resend(now Now) {
	for k, o := range c.sending {
		if o.due > now.Mono {
			continue
		}
		if c.stale(now, o) {
			c.giveUp(now, k)
			continue
		}
		c.try(now, k, o)
	}
}

// stale reports whether it is too late for a TELL.
func (c *Core) stale(now Now, o *outgoing) bool {
	age := now.Wall.Sub(o.Since)
	return age > outboxFor || o.Kind == wire.TellBye && age > outboxBye
}

// giveUp forgets a TELL that is too old.
func (c *Core) giveUp(now Now, k tellKey) {
	x := c.begun(now)
	c.unpost(x, k)
	if p := c.people.m[k.to]; c.sending[k].Kind == wire.TellAsk && c.book.Standing(p.Address) != book.Added {
		c.people.drop(x, k.to)
	}
	x.commit()
}

// flush sends everything that waits for a session with a peer.
func (c *Core) flush(now Now, a anode.Address) {
	for k, o := range c.sending {
		if k.to == a.X() && o.due == mono.Never && (o.Kind != wire.TellAsk || o.rounds < askRounds) {
			o.To, o.tries, o.rounds = a, 0, o.rounds+1
			c.try(now, k, o)
		}
	}
}

// sendAsk asks a peer, in place of an ASK that is on its way.
func (c *Core) sendAsk(now Now, p person) {
	k := Key(p.Address.X())
	c.stopSending(k, func(o *outgoing) bool { return o.Kind == wire.TellAsk })
	body := ask{clean(c.cfg.Name(), maxName), p.Note, p.Via}.body()
	c.send(now, tellKey{k, c.newID()}, &outgoing{letter: letter{p.Address, wire.TellAsk, body, p.Asked}})
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
	k := Key(p.Address.X())
	if !p.Friend || c.book.Standing(p.Address) != book.Added {
		return
	}
	body := c.profileFor(p)
	if slices.Equal(p.Knows, digest(body)) || c.telling(k, body) {
		return
	}
	c.stopSending(k, func(o *outgoing) bool { return o.Kind == wire.TellProfile })
	c.send(now, tellKey{k, c.newID()}, &outgoing{letter: letter{p.Address, wire.TellProfile, body, now.Wall}})
}

// telling reports whether a PROFILE is on its way.
func (c *Core) telling(to Key, body []byte) bool {
	for k, o := range c.sending {
		if k.to == to && o.Kind == wire.TellProfile && slices.Equal(o.Body, body) {
			return true
		}
	}
	return false
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
	o := c.sending[k]
	if o == nil {
		return
	}
	if m.Status == wire.TellTooMuch {
		o.refused++
		o.due = now.Mono.Add(min(askPauseMax, busyPause<<min(o.refused-1, 8)))
		return
	}
	x := c.begun(now)
	c.unpost(x, k)
	if m.Status != wire.TellDone {
		x.do(Event{Kind: EventRefused, Address: from, Name: c.shown(from), Text: o.Kind.String() + ": " + m.Status.String()})
	}
	switch p, known := c.people.m[k.to]; {
	case !known:
	case o.Kind == wire.TellAsk:
		c.askTold(x, p, o, k, m.Status)
	case o.Kind == wire.TellProfile && m.Status == wire.TellDone:
		p.Knows = digest(o.Body)
		c.people.put(x, k.to, p)
	case o.Kind == wire.TellBye && c.book.Standing(p.Address) != book.Added && p.Asked.IsZero():
		c.people.drop(x, k.to)
	}
	x.commit() // if it fails, it is sent again with the next session, and taken for what came before
}

// askTold notes that an ASK arrived. One that is not answered is said again some day, and soon if the other side
// says that others that asked took its place.
func (c *Core) askTold(x *tx, p person, o *outgoing, k tellKey, s wire.TellStatus) {
	p.AskTold, p.Refused = s == wire.TellDone, s != wire.TellDone
	c.people.put(x, k.to, p)
	if s == wire.TellDone && c.book.Standing(p.Address) != book.Added {
		again := &outgoing{letter: o.letter, due: x.now.Mono.Add(askAgain), tries: len(pauses)}
		x.then(func() { c.sending[k] = again })
	}
}
