package people

import (
	"bytes"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// tellKey names a TELL of ours: its receiver, and its ID.
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

// storedTell is a TELL that waits on the disk until it arrives.
type storedTell struct {
	To    anode.Address `json:"to"`
	Kind  wire.TellKind `json:"kind"`
	Body  []byte        `json:"body"`
	Since time.Time     `json:"since"`
}

// outgoing is a TELL that is being sent. ASK and PROFILE are not stored: they follow from the people.
type outgoing struct {
	storedTell
	tries   int
	due     mono.Time // mono.Never: with the next session
	refused int       // how often it was too much
	once    bool      // it does not wait for a session
	refusal bool      // it is an ASK that was refused: it is not sent, and only says when our yes is over
	rounds  int       // how often a session was used to send it again
}

// outbox is the TELLs that are on their way: those that wait on the disk, and those that follow from what
// is known of a peer.
type outbox struct {
	stored  table[tellKey, storedTell]
	sending map[tellKey]*outgoing
	full    uint64 // TELLs for which there was no room

	owed   map[anode.Address]bool // who gets a BYE when it comes, and is no peer
	owedOf uint64                 // the edits of stored that owed follows from

	random func(b []byte)
	added  func(a anode.Address) bool
	do     func(Action)
}

// Bounds of what waits.
const (
	outboxPeer  = 64
	outboxTotal = 1024
	outboxFor   = 30 * 24 * time.Hour
	outboxBye   = 24 * time.Hour // so long a BYE is sent to somebody who is no peer any more; after that, when it comes
)

// pauses are how long a TELL waits for TOLD before it is sent again; after the last it waits for the
// next session.
var pauses = [...]time.Duration{time.Second / 2, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// An ASK of somebody who is no peer has no session to wait for, so it is sent on, more and more seldom.
const (
	askPause    = time.Minute
	askPauseMax = time.Hour
	busyPause   = 15 * time.Second // after TellTooMuch, twice that the next time: askRate allows another one by then
	askAgain    = 24 * time.Hour   // once it arrived and until it is answered
	askFor      = 30 * 24 * time.Hour
	askRounds   = 3 // sessions of a run in which a peer is asked that answers nothing: it may be no version that can
)

func (o *outbox) newID() (id wire.TellID) {
	o.random(id[:])
	return id
}

// post has a transaction put a TELL in the outbox, and sends it then. Of ACCEPT and BYE to one peer only the last
// counts.
func (o *outbox) post(x *tx, to anode.Address, kind wire.TellKind, body []byte) {
	n, all := pending(x, to.X())
	for k := range o.stored.m {
		switch {
		case k.to != to.X():
		case kind != wire.TellIntro && o.stored.m[k].Kind == kind && o.stored.m[k].To == to && !isRemoval(kind, body):
			o.drop(x, k)
		default:
			n++
		}
	}
	if n >= outboxPeer || len(o.stored.m)+all >= outboxTotal && !o.makeRoom(x) {
		o.full++
		return
	}
	k := tellKey{to.X(), o.newID()}
	l := storedTell{to, kind, body, x.now.Wall}
	o.stored.put(x, k, l)
	x.then(func() { o.send(x.now, k, &outgoing{storedTell: l}) })
}

// makeRoom has a transaction forget the oldest BYE that was sent to no avail for long, and reports whether there was one.
// Its peer learns what it says when it says that it lets us in.
func (o *outbox) makeRoom(x *tx) bool {
	var oldest tellKey
	found := false
	for k, l := range o.stored.m {
		if l.late(x.now) && !o.added(l.To) && (!found || l.Since.Before(o.stored.m[oldest].Since)) && !dropped(x, k) {
			oldest, found = k, true
		}
	}
	if found {
		o.drop(x, oldest)
	}
	return found
}

// dropped reports whether a transaction forgets a TELL.
func dropped(x *tx, k tellKey) bool {
	return slices.ContainsFunc(x.edit.Records, func(r book.Record) bool {
		return r.Table == tableOutbox && r.Value == nil && bytes.Equal(r.Key, k.bytes())
	})
}

// pending returns how many TELLs a transaction puts in the outbox: to a peer, and to all.
func pending(x *tx, to Key) (n, all int) {
	for _, r := range x.edit.Records {
		if r.Table != tableOutbox || r.Value == nil {
			continue
		}
		if all++; bytes.HasPrefix(r.Key, to[:]) {
			n++
		}
	}
	return n, all
}

// isRemoval reports whether a body is a BYE about another peer.
func isRemoval(kind wire.TellKind, body []byte) bool {
	b, err := parseBye(body)
	return kind == wire.TellBye && err == nil && !b.Remove.IsZero()
}

// drop has a transaction forget a TELL.
func (o *outbox) drop(x *tx, k tellKey) {
	o.stored.drop(x, k)
	x.then(func() { delete(o.sending, k) })
}

// dropAll has a transaction forget the TELLs to a peer.
func (o *outbox) dropAll(x *tx, to Key) {
	for k := range o.stored.m {
		if k.to == to {
			o.stored.drop(x, k)
		}
	}
	x.then(func() { o.stop(to, func(*outgoing) bool { return true }) })
}

// takeBack has a transaction forget that a peer was removed, if it was not told yet: it is let in, or asked, again.
func (c *Core) takeBack(x *tx, p *person) {
	for k, l := range c.outbox.stored.m {
		if k.to == p.Address.X() && l.Kind == wire.TellBye && !isRemoval(l.Kind, l.Body) {
			c.outbox.drop(x, k)
			p.Owed = true
		}
	}
}

// owes returns who gets a BYE when a session with it is up, though it is no peer, and whether that changed since the
// last call. The map is not changed any more.
func (o *outbox) owes() (owed map[anode.Address]bool, changed bool) {
	if o.owed != nil && o.owedOf == o.stored.edits {
		return o.owed, false
	}
	o.owed, o.owedOf = map[anode.Address]bool{}, o.stored.edits
	for _, l := range o.stored.m {
		if l.Kind == wire.TellBye && !o.added(l.To) {
			o.owed[l.To] = true
		}
	}
	return o.owed, true
}

// holdsBye reports whether a BYE for a peer waits on the disk that is not stale.
func (o *outbox) holdsBye(to Key, now Now) bool {
	for k, l := range o.stored.m {
		if k.to == to && l.Kind == wire.TellBye && !l.stale(now) {
			return true
		}
	}
	return false
}

// stop ends the sending of the TELLs to a peer that which picks.
func (o *outbox) stop(to Key, which func(*outgoing) bool) {
	for k, t := range o.sending {
		if k.to == to && which(t) {
			delete(o.sending, k)
		}
	}
}

// send sends a TELL now, and again until it arrives.
func (o *outbox) send(now Now, k tellKey, t *outgoing) {
	o.sending[k] = t
	o.try(now, k, t)
}

// try sends a TELL once, and sets when it is due again.
func (o *outbox) try(now Now, k tellKey, t *outgoing) {
	o.do(Tell{t.To, wire.TellMsg{ID: k.id, Kind: t.Kind, Body: t.Body}})
	t.due = now.Mono.Add(o.pause(t))
	if t.tries >= len(pauses) && o.pause(t) == 0 {
		t.due = mono.Never
	}
	if t.tries++; t.once && t.due == mono.Never {
		delete(o.sending, k)
	}
}

// pause returns how long a TELL waits after it was sent; 0: for the next session.
func (o *outbox) pause(t *outgoing) time.Duration {
	switch n := t.tries; {
	case n < len(pauses):
		return pauses[n]
	case !o.added(t.To) && !t.once: // nobody tells when it has a session
		return t.later()
	}
	return 0
}

// later is the pause of an ASK that does not wait for a session.
func (t *outgoing) later() time.Duration {
	return min(askPauseMax, askPause<<min(max(t.tries-len(pauses), 0), 8))
}

// stale reports whether it is too late for a TELL.
func (t storedTell) stale(now Now) bool {
	return now.Wall.Sub(t.Since) > outboxFor
}

// late reports whether a TELL was sent to no avail for so long that it is only sent again when its peer comes.
func (t storedTell) late(now Now) bool {
	return t.Kind == wire.TellBye && now.Wall.Sub(t.Since) > outboxBye
}

// rests reports whether a TELL is not sent, but only kept until it is too old, or until somebody comes who is no peer.
func (o *outbox) rests(now Now, t *outgoing) bool {
	return t.refusal || t.tries >= len(pauses) && t.late(now) && !o.added(t.To)
}

// rest has a TELL be due when it is too old.
func (t *outgoing) rest(now Now) {
	t.due = now.Mono.Add(t.Since.Add(outboxFor).Sub(now.Wall) + time.Second)
}

// flushBye sends a BYE to somebody who is no peer, and came.
func (o *outbox) flushBye(now Now, a anode.Address) {
	for k, t := range o.sending {
		if t.To == a && t.Kind == wire.TellBye && o.rests(now, t) {
			t.tries = 0
			o.try(now, k, t)
		}
	}
}

// flush sends everything that waits for a session with a peer.
func (o *outbox) flush(now Now, a anode.Address) {
	for k, t := range o.sending {
		if k.to == a.X() && t.due == mono.Never && (t.Kind != wire.TellAsk || t.rounds < askRounds) {
			t.To, t.tries, t.rounds = a, 0, t.rounds+1
			o.try(now, k, t)
		}
	}
}

// replace sends a TELL that is not stored, in place of those to the peer that which picks.
func (o *outbox) replace(now Now, t *outgoing, which func(*outgoing) bool) {
	k := Key(t.To.X())
	o.stop(k, which)
	o.send(now, tellKey{k, o.newID()}, t)
}

// has reports whether a TELL to a peer that which picks is on its way.
func (o *outbox) has(to Key, which func(*outgoing) bool) bool {
	for k, t := range o.sending {
		if k.to == to && which(t) {
			return true
		}
	}
	return false
}

func isAsk(t *outgoing) bool  { return t.Kind == wire.TellAsk }
func isOnce(t *outgoing) bool { return t.once } // it says that an invitation lets nobody in

// next returns when the next TELL is due; mono.Never if none is.
func (o *outbox) next() mono.Time {
	next := mono.Never
	for _, t := range o.sending {
		next = min(next, t.due)
	}
	return next
}
