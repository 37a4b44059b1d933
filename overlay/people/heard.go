package people

import (
	"bytes"
	"maps"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// Heard is a TELL as it came.
type Heard struct {
	From     anode.Address
	Host     netip.Addr // of the machine that it came from, a relay perhaps; invalid: not known
	Endpoint string     // the same, for people to see
	Msg      wire.TellMsg
}

// Up is a session that is confirmed.
type Up struct {
	Address    anode.Address
	Invitation [8]byte // zero: an ordinary session, with a peer or one of Owed
	Issued     bool    // the invitation is ours: the other side has proved the token
	Endpoint   string  // where the other side is, for people to see
}

// Heard takes a TELL. What the book says now decides, not what it said when the TELL came.
func (c *Core) Heard(now Now, h Heard) {
	switch s := c.book.Standing(h.From); {
	case s == book.Blocked:
		c.count.Blocked++
	case h.Msg.Kind != wire.TellBye && c.byes.has(now.Mono, h.From.X()):
		c.count.Again++
	case s == book.Added:
		c.heardPeer(now, h)
	case h.Msg.Kind == wire.TellAsk && !c.person(h.From).asks():
		c.heardStranger(now, h)
	case c.person(h.From).asks():
		c.heardAsked(now, h)
	case h.Msg.Kind == wire.TellBye && (c.requests.m[h.From.X()].Asked || c.room.holds(h.From.X())):
		c.take(now, h, c.heardWithdrawal)
	default:
		c.heardStrange(h)
	}
}

// heardStrange takes a TELL of somebody who is nothing to us. If it believes otherwise, it learns that. Nothing is kept:
// the engine bounds how many come.
func (c *Core) heardStrange(h Heard) {
	c.count.NotAllowed++
	if h.Msg.Kind == wire.TellBye { // both sides agree
		c.told(h, wire.TellDone)
	} else {
		c.told(h, wire.TellNotNow)
	}
}

// heardPeer takes a TELL of an added peer.
func (c *Core) heardPeer(now Now, h Heard) {
	k := Key(h.From.X())
	switch {
	case !c.mark(k).tells.Allow(now.Mono, tellRate):
		c.count.TooMuch++
		c.told(h, wire.TellTooMuch)
	case c.seen.knows(k, h.Msg.ID):
		c.count.Again++
		c.told(h, wire.TellDone)
	default:
		c.take(now, h, c.handle)
	}
}

// heardAsked takes an answer of somebody who was asked, and gets TOLD and nothing else.
func (c *Core) heardAsked(now Now, h Heard) {
	switch h.Msg.Kind {
	case wire.TellAsk, wire.TellAccept, wire.TellProfile:
		c.take(now, h, c.handle)
	case wire.TellBye:
		c.take(now, h, c.heardBye)
	default:
		c.count.NotAllowed++
	}
}

// handler takes a TELL in a transaction. Unless it returns TellDone, nothing is written.
type handler func(x *tx, h Heard) wire.TellStatus

// take has a handler take a TELL, writes what comes of it, and answers.
func (c *Core) take(now Now, h Heard, f handler) {
	x := c.begun(now)
	s := f(x, h)
	if s == wire.TellDone {
		if x.added(h.From) {
			c.seen.note(x, h.From.X(), h.Msg.ID)
		}
		if x.commit() != nil {
			return // it comes again
		}
		if b, err := parseBye(h.Msg.Body); h.Msg.Kind == wire.TellBye && err == nil && b == (bye{}) {
			c.byes.note(now.Mono, h.From.X())
		}
	}
	switch s {
	case wire.TellNotNow:
		c.count.NotAllowed++
	case wire.TellUnknown:
		c.count.Unknown++
	case wire.TellTooMuch:
		c.count.TooMuch++
	case wire.TellMalformed:
		c.count.Malformed++
	}
	c.told(h, s)
}

func (c *Core) told(h Heard, s wire.TellStatus) {
	c.do(Told{h.From, wire.ToldMsg{ID: h.Msg.ID, Status: s}})
}

// byes are the peers whose BYE came just now. A TELL that a peer sent before it may arrive after it, so none is answered:
// the peer repeats what it still means.
type byes []lastBye

type lastBye struct {
	of Key
	at mono.Time
}

const (
	byesMax = 64
	byeFor  = time.Second
)

func (l *byes) note(now mono.Time, k Key) {
	others := slices.DeleteFunc(*l, func(b lastBye) bool { return b.of == k })
	*l = append(others[max(0, len(others)-byesMax+1):], lastBye{k, now})
}

func (l byes) has(now mono.Time, k Key) bool {
	for _, b := range l {
		if b.of == k && now.Sub(b.at) < byeFor {
			return true
		}
	}
	return false
}

// handle takes a TELL of an added peer, or of one that we asked.
func (c *Core) handle(x *tx, h Heard) wire.TellStatus {
	switch h.Msg.Kind {
	case wire.TellAsk:
		return c.heardAsk(x, h)
	case wire.TellAccept:
		return c.heardAccept(x, h)
	case wire.TellBye:
		return c.heardBye(x, h)
	case wire.TellProfile:
		return c.heardProfile(x, h)
	case wire.TellIntro:
		return c.heardIntro(x, h)
	}
	return wire.TellUnknown
}

// heardAsk takes an ASK of somebody who was let in already, or was asked: both sides agree.
func (c *Core) heardAsk(x *tx, h Heard) wire.TellStatus {
	a, err := parseAsk(h.Msg.Body)
	if err != nil {
		return wire.TellMalformed
	}
	if !c.mark(h.From.X()).asks.Allow(x.now.Mono, askRate) {
		return wire.TellTooMuch
	}
	p := c.person(h.From)
	if p.Said == "" {
		p.Said = a.Name
	}
	p.Knows = nil // it may have lost what we told it
	c.befriend(x, p)
	return wire.TellDone
}

// heardAccept takes an ACCEPT.
func (c *Core) heardAccept(x *tx, h Heard) wire.TellStatus {
	a, err := parseAccept(h.Msg.Body)
	if err != nil {
		return wire.TellMalformed
	}
	p := c.person(h.From)
	p.Calls, p.Untold = a.Name, false
	c.accepted(x, p)
	return wire.TellDone
}

// heardProfile takes a PROFILE. Only a peer that lets us in sends one.
func (c *Core) heardProfile(x *tx, h Heard) wire.TellStatus {
	f, err := parseProfile(h.Msg.Body)
	if err != nil {
		return wire.TellMalformed
	}
	p := c.person(h.From)
	p.Said, p.Services, p.Untold = f.Name, f.Services, false
	if _, joining := c.joins.m[h.From.X()]; joining && f.Secret != [32]byte{} {
		p.Secret = true
		x.do(Secret{f.Secret, h.From})
	}
	c.accepted(x, p)
	return wire.TellDone
}

// befriend makes a friend of somebody who asked, and answers.
func (c *Core) befriend(x *tx, p person) {
	p.Untold = p.Untold || c.book.Standing(p.Address) != book.Added
	c.outbox.post(x, p.Address, wire.TellAccept, accept{c.accepted(x, p)}.body())
}

// accepted notes that a peer lets us in, and lets it in if we asked it. It returns the peer's name here.
func (c *Core) accepted(x *tx, p person) (name string) {
	k, e := Key(p.Address.X()), c.book.Get(p.Address)
	if name = e.Name; x.edit.Add != nil {
		name = x.edit.Add.Name
	}
	asked := !x.added(p.Address)
	if asked || name == "" && (p.Guest || p.Unnamed) || p.Mine && !e.Mine {
		if name == "" {
			name = c.names.unique(firstOf(p.As, p.Said), p.Address)
		}
		x.edit.Add = &book.Entry{Address: p.Address, Name: name, Mine: e.Mine || p.Mine, Via: e.Via}
		p.Unnamed = true
	}
	if len(p.Ways.Hosts) > 0 { // from now on the book has them
		if x.edit.Add == nil {
			x.edit.Add = &book.Entry{Address: p.Address, Name: name, Mine: e.Mine, Via: e.Via}
		}
		x.edit.Add.Hosts, p.Ways.Hosts = p.Ways.Hosts, nil
		x.do(Know{p.Address, p.Ways})
	}
	p.Unnamed = p.Unnamed && name == "" // its PROFILE says its name
	if !p.Friend {
		x.do(Event{Kind: EventFriend, Address: p.Address, Name: firstOf(name, p.Said), Asked: asked})
	}
	c.takeBack(x, &p)
	p.Let, p.Friend, p.Left, p.Owed, p.As, p.Asked, p.AskTold, p.Refused = true, true, false, false, "", x.now.Wall, true, false
	if p.Mine {
		p.Mine = false
		c.spread(x, &p, name)
	}
	c.people.put(x, k, p)
	c.requests.drop(x, k)
	x.then(func() {
		c.outbox.stop(k, isAsk)
		c.tellProfile(x.now, p)
		c.joinGoesOn(x.now, p.Address)
	})
	return name
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// heardBye takes a BYE: of a peer that removed us, of a device of ours that removed a peer that it brought, or
// of somebody whose invitation does not let us in.
func (c *Core) heardBye(x *tx, h Heard) wire.TellStatus {
	b, err := parseBye(h.Msg.Body)
	p := c.person(h.From)
	switch {
	case err != nil:
		return wire.TellMalformed
	case !b.Remove.IsZero():
		return c.heardRemoval(x, h.From, b.Remove)
	case b.Why != Left:
		if b.Why > Removed { // of a later version
			b.Why = gone
		}
		if c.joins.m[p.Address.X()].State == JoinTrying && (b.Why == Used || b.Why == Removed) { // it does not let us in
			c.leaves(x, p)
		}
		c.joinFails(x, h.From, b.Why)
		return wire.TellDone
	}
	c.leaves(x, p)
	return wire.TellDone
}

// leaves has a transaction follow that a peer does not let us in any more. What it may do here people decide, unless
// it was let in for a request alone which it had withdrawn.
func (c *Core) leaves(x *tx, p person) {
	e := c.book.Get(p.Address)
	switch {
	case !p.Friend:
	case p.Untold && e.Added && !e.Fixed && !e.Mine:
		c.takeOut(x, p, e)
	default:
		p.Friend, p.Left, p.Knows, p.Untold = false, true, nil, false
		c.people.put(x, p.Address.X(), p)
		x.do(Event{Kind: EventLeft, Address: p.Address, Name: c.names.shown(p.Address)})
	}
}

// takeOut has a transaction take out somebody who was let in because it asked. Who was introduced waits for a decision
// again.
func (c *Core) takeOut(x *tx, p person, e book.Entry) {
	k := Key(p.Address.X())
	x.edit.Remove = p.Address
	x.do(Event{Kind: EventWithdrawn, Address: p.Address, Name: c.names.shown(p.Address), Via: firstBy(p.By)})
	c.forget(x, k)
	c.people.drop(x, k)
	if len(p.By) > 0 {
		c.makeRoom(x, ofIntroduced)
		c.requests.put(x, k, request{Address: p.Address, Name: p.Said, Endpoints: e.Endpoints, Relays: p.Ways.Relays, By: p.By, Since: x.now.Wall})
	}
}

// Up takes a session that is confirmed.
func (c *Core) Up(now Now, u Up) {
	a := u.Address
	switch {
	case c.book.Standing(a) == book.Blocked:
		c.count.Blocked++
	case u.Invitation != [8]byte{} && u.Issued:
		c.guestUp(now, u)
	case u.Invitation != [8]byte{}:
		c.issuerUp(now, u)
	case c.book.Standing(a) == book.Stranger:
		c.outbox.flushBye(now, a)
	default:
		c.peerUp(now, a)
	}
}

// Owed returns who is no peer, and is told something when a session with it comes up, and whether that changed since the
// last call. The map is not changed any more.
func (c *Core) Owed() (owed map[anode.Address]bool, changed bool) { return c.outbox.owes() }

// peerUp is an ordinary session with an added peer. What waits for it is sent; a peer that does not know yet
// that it was added is asked, once.
func (c *Core) peerUp(now Now, a anode.Address) {
	c.mark(a.X()).up = true
	c.outbox.flush(now, a)
	if p := c.person(a); !p.Friend && !p.AskTold && !p.Left && !p.Refused && !c.outbox.has(a.X(), isAsk) {
		c.ask(now, p)
	}
	c.joinGoesOn(now, a)
}

// ask asks a peer that was added. It is let in already; so it is asked for no more than to do the same.
func (c *Core) ask(now Now, p person) {
	x := c.begun(now)
	p.Let, p.Asked = true, now.Wall
	c.people.put(x, p.Address.X(), p)
	if x.commit() == nil {
		c.sendAsk(now, p)
	}
}

// Decided follows a decision of people about a peer, which the book has: it was added, removed, blocked
// or named, by whatever way.
func (c *Core) Decided(now Now, a anode.Address) {
	k := Key(a.X())
	p, known := c.people.m[k]
	switch s := c.book.Standing(a); {
	case s == book.Blocked && !known:
		c.blocked(now, c.person(a))
	case s == book.Blocked && !p.unaware():
		c.blocked(now, p)
	case s == book.Added && !p.Let:
		c.letIn(now, c.person(a))
	case s == book.Stranger && known && p.Address == a && (p.Let || p.unaware()):
		c.removed(now, p)
	}
}

// Review follows decisions of people that were missed: it looks at everybody.
func (c *Core) Review(now Now) {
	for _, e := range c.book.Entries() {
		c.Decided(now, e.Address)
	}
	for _, p := range slices.Collect(maps.Values(c.people.m)) { // also those who were removed
		c.Decided(now, p.Address)
	}
}

// blocked follows that people here blocked somebody, who is told nothing until the block ends. Its record says whether it
// is to be told then.
func (c *Core) blocked(now Now, p person) {
	x, k := c.begun(now), Key(p.Address.X())
	c.takeBack(x, &p)
	c.forget(x, k)
	if p.knowsUs() {
		c.people.put(x, k, person{Address: p.Address, Owed: true})
	} else {
		c.people.drop(x, k)
	}
	c.dropIntroductions(x, p.Address)
	x.commit()
}

// letIn follows that people here added a peer. If it asked, that is the answer.
func (c *Core) letIn(now Now, p person) {
	x, k := c.begun(now), Key(p.Address.X())
	c.takeBack(x, &p)
	if r, listed := c.requests.m[k]; listed && r.Address == p.Address && r.Asked && !r.Declined {
		c.befriend(x, p)
		x.commit()
		return
	}
	c.requests.drop(x, k)
	if x.commit() == nil {
		c.ask(now, p)
	}
}

// removed follows the removal of a peer by people here: it is told, and so are the devices of ours that it was
// brought to.
func (c *Core) removed(now Now, p person) {
	x := c.begun(now)
	c.letGo(x, p)
	if p.Spread {
		for _, e := range c.mine(p.Address) {
			c.outbox.post(x, e.Address, wire.TellBye, bye{Remove: p.Address}.body())
		}
	}
	x.commit()
}

// letGo has a transaction forget a peer that is let in no more. It is told, unless it knows nothing of us.
func (c *Core) letGo(x *tx, p person) {
	c.forget(x, p.Address.X())
	if p.knowsUs() {
		c.sayLeft(x, p.Address)
	} else {
		c.people.drop(x, p.Address.X())
	}
}

// sayLeft has a transaction tell somebody that it is let in no more, or that people here do not want to let it in any
// more. Its record stays until it knows, or does not answer for outboxFor.
func (c *Core) sayLeft(x *tx, a anode.Address) {
	c.outbox.post(x, a, wire.TellBye, bye{}.body())
	c.people.put(x, a.X(), person{Address: a})
}

// forget has a transaction drop all that waits between a peer and us.
func (c *Core) forget(x *tx, k Key) {
	c.outbox.dropAll(x, k)
	c.seen.forget(x, k)
	c.forgetWays(x, k)
	c.requests.drop(x, k)
	c.endJoin(x, k)
	x.then(func() {
		delete(c.marks, k)
		c.room.leave(k)
	})
}

// sameKey reports whether two addresses are of one key.
func sameKey(a, b anode.Address) bool { x, y := a.X(), b.X(); return bytes.Equal(x[:], y[:]) }

func containsKey(list []anode.Address, a anode.Address) bool {
	return slices.ContainsFunc(list, func(b anode.Address) bool { return sameKey(a, b) })
}
