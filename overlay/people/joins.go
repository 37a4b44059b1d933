package people

import (
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/overlay/book"
)

// JoinState says how far a join is.
type JoinState string

// The states of a join.
const (
	JoinTrying JoinState = "trying" // until the invitation expires
	JoinDone   JoinState = "joined"
	JoinAsked  JoinState = "asked" // it lets nobody in, or is only a card; the issuer was asked
	JoinDead   JoinState = "dead"  // and the issuer does not let itself be asked
)

// join is the use of somebody else's invitation. Its token is kept only while it is needed.
type join struct {
	Issuer anode.Address `json:"issuer"`
	Link   string        `json:"link,omitempty"`
	State  JoinState     `json:"state"`
	Why    Reason        `json:"why,omitempty"`
	Silent bool          `json:"silent,omitempty"` // it expired, and the issuer never answered
	Failed bool          `json:"failed,omitempty"` // the issuer, or a handshake, said that the link lets nobody in
	Note   string        `json:"note,omitempty"`
	Since  time.Time     `json:"since"`
	Until  time.Time     `json:"until"`
}

const (
	maxJoins = 16
	joinKept = 24 * time.Hour // after it ended, for people to see
)

// JoinRequest is a link that is to be used.
type JoinRequest struct {
	Link invite.Link
	As   string // what the issuer is to be called here; empty: the name in the link
	Note string
	Ask  bool // ask only: the issuer is let in when it lets us in
	Mine bool // the issuer is another device of ours
}

// Joined is how a join goes.
type Joined struct {
	Address anode.Address
	Name    string // the issuer's, here
	Own     string // what the issuer calls us; empty: it did not say
	State   JoinState
	Why     Reason // with Failed: Used, Over, Removed, or another if it is not known which
	Failed  bool   // the link lets nobody in
	Silent  bool   // the link expired, and nobody answered
}

// Join uses a link, or returns how that goes. The issuer of an invitation is let in at once.
func (c *Core) Join(now Now, r JoinRequest) (Joined, error) {
	a, k := r.Link.Address, Key(r.Link.Address.X())
	switch {
	case sameKey(a, c.cfg.Self):
		return Joined{}, ErrOwnLink
	case c.book.Standing(a) == book.Blocked:
		return Joined{}, fmt.Errorf("%w: unblock it first", book.ErrBlocked)
	}
	p := c.person(a)
	done := p.Friend && !(p.Secret && c.cfg.Secret() == [32]byte{}) // without the secret that it told us, we reach it no more
	if j, ok := c.joins.m[k]; ok && (j.Link == r.Link.String() || j.State == JoinDone && done) {
		return c.joined(j), c.alsoMine(now, a, r.Mine)
	}
	if done && c.book.Standing(a) == book.Added {
		return c.joined(join{Issuer: a, State: JoinDone}), c.alsoMine(now, a, r.Mine)
	}
	if r.Link.Expired(now.Wall) {
		return Joined{}, invite.ErrExpired
	}
	if c.tidyJoins(now); len(c.joins.m) >= maxJoins {
		return Joined{}, fmt.Errorf("%w: %d links are in use", ErrTooMany, maxJoins)
	}
	if r.Link.Card() || r.Ask {
		return c.joinByAsking(now, r)
	}
	return c.joinByToken(now, r)
}

// Joining returns how the join with an issuer goes, by whichever of its links; ok is false if none is under way.
func (c *Core) Joining(issuer anode.Address) (j Joined, ok bool) {
	x := c.joins.m[issuer.X()]
	if x.State != JoinTrying {
		return Joined{}, false
	}
	return c.joined(x), true
}

// tidyJoins forgets the oldest join that has ended, if there are too many.
func (c *Core) tidyJoins(now Now) {
	var oldest Key
	found := false
	for k, j := range c.joins.m {
		if j.State != JoinTrying && (!found || j.Since.Before(c.joins.m[oldest].Since)) {
			oldest, found = k, true
		}
	}
	if found && len(c.joins.m) >= maxJoins {
		x := c.begun(now)
		c.joins.drop(x, oldest)
		x.commit()
	}
}

// alsoMine makes the issuer a device of ours if it is let in.
func (c *Core) alsoMine(now Now, a anode.Address, mine bool) error {
	if !mine || c.book.Standing(a) != book.Added {
		return nil
	}
	return c.SetMine(now, a, true)
}

func (c *Core) joinByAsking(now Now, r JoinRequest) (Joined, error) {
	a := r.Link.Address
	name := r.As
	if name == "" {
		name = c.names.unique(r.Link.Name, a)
	}
	if err := c.Ask(now, AskRequest{Address: a, Name: name, Note: r.Note, Mine: r.Mine, Ways: waysOf(r.Link)}); err != nil {
		return Joined{}, err
	}
	x := c.begun(now)
	j := join{Issuer: a, Link: r.Link.String(), State: JoinAsked, Note: r.Note, Since: now.Wall, Until: now.Wall.Add(askFor)}
	if c.person(a).Friend {
		j.State = JoinDone
	}
	c.joins.put(x, a.X(), j)
	return c.joined(j), x.commit()
}

func (c *Core) joinByToken(now Now, r JoinRequest) (Joined, error) {
	a, k := r.Link.Address, Key(r.Link.Address.X())
	name := r.As
	if err := c.names.given(name, a); err != nil {
		return Joined{}, err
	}
	e := c.book.Get(a)
	if name == "" && e.Name == "" {
		name = c.names.unique(r.Link.Name, a)
	}
	x, p := c.begun(now), c.person(a)
	j := join{Issuer: a, Link: r.Link.String(), State: JoinTrying, Note: clean(r.Note, maxNote), Since: now.Wall, Until: r.Link.Expires}
	if j.Until.IsZero() || j.Until.After(now.Wall.Add(InviteForMost)) {
		j.Until = now.Wall.Add(InviteForMost)
	}
	x.edit.Add = &book.Entry{Address: a, Name: name, Mine: e.Mine || r.Mine}
	c.takeBack(x, &p)
	p.Let = true
	p.decided(now, j.Note, r.Mine) // the ASK goes when the session is up
	p.know(x, waysOf(r.Link))
	c.people.put(x, k, p)
	c.requests.drop(x, k)
	c.joins.put(x, k, j)
	x.then(func() { c.beginJoin(j) })
	if err := x.commit(); err != nil {
		return Joined{}, err
	}
	return c.joined(j), nil
}

// beginJoin has handshakes made by an invitation.
func (c *Core) beginJoin(j join) {
	l, err := invite.Parse(j.Link)
	if err != nil || l.Card() {
		return
	}
	g := Join{Issuer: j.Issuer, Ways: waysOf(l), Until: j.Until}
	g.ID, g.PSK = l.Token.Keys(l.Address)
	c.do(g)
}

// beginJoins goes on with the joins after a start.
func (c *Core) beginJoins(now Now) {
	for _, j := range c.joins.m {
		if j.State == JoinTrying && now.Wall.Before(j.Until) {
			c.beginJoin(j)
		}
	}
}

// issuerUp is a session by an invitation that we use: the issuer is asked in it, and lets us in by it. It is asked though
// an ASK is on its way, or we take it for a friend: it may have heard a stranger, or have removed us since.
func (c *Core) issuerUp(now Now, u Up) {
	if c.joins.m[u.Address.X()].State == JoinTrying {
		c.outbox.flush(now, u.Address)
		c.sendAsk(now, c.person(u.Address))
	}
}

// joinGoesOn ends a join with success when the issuer is a friend, and an ordinary session with it is up.
func (c *Core) joinGoesOn(now Now, a anode.Address) {
	j, ok := c.joins.m[a.X()]
	if !ok || j.State == JoinDone || !c.person(a).Friend || j.State == JoinTrying && !c.mark(a.X()).up {
		return
	}
	x := c.begun(now)
	was := j.State
	j.State, j.Link, j.Until = JoinDone, "", now.Wall.Add(joinKept)
	c.joins.put(x, a.X(), j)
	x.do(Event{Kind: EventJoin, Address: a, Name: c.names.shown(a), Text: c.person(a).Calls})
	if was == JoinTrying {
		x.do(Join{Issuer: a})
	}
	x.commit()
}

// joinFails has a transaction end a join whose link lets nobody in. The issuer is asked instead.
func (c *Core) joinFails(x *tx, a anode.Address, why Reason) {
	j, ok := c.joins.m[a.X()]
	if !ok || j.State != JoinTrying {
		return
	}
	j.State, j.Failed, j.Why, j.Silent = JoinAsked, true, why, why == noAnswer
	j.Until = x.now.Wall.Add(askFor)
	c.joins.put(x, a.X(), j)
	x.do(Join{Issuer: a})
	failed := c.joined(j)
	x.do(Event{Kind: EventJoin, Address: a, Name: failed.Name, Failed: &failed})
	x.then(func() {
		if p := c.person(a); !p.Friend {
			c.sendAsk(x.now, p)
		}
	})
}

// Reasons that no BYE says.
const (
	gone     Reason = 0x80 // used, expired or revoked
	noAnswer Reason = 0xff
)

// Refused takes that a handshake with the issuer showed that it does not know an invitation any more.
func (c *Core) Refused(now Now, issuer anode.Address, id [8]byte) {
	l, err := invite.Parse(c.joins.m[issuer.X()].Link)
	if is, _ := l.Token.Keys(issuer); err != nil || is != id {
		return
	}
	x := c.begun(now)
	c.joinFails(x, issuer, gone)
	x.commit()
}

// endJoins ends the joins whose time is over.
func (c *Core) endJoins(now Now) {
	for k, j := range c.joins.m {
		if now.Wall.Before(j.Until) {
			continue
		}
		x := c.begun(now)
		if j.State == JoinTrying {
			c.joinFails(x, j.Issuer, noAnswer)
		} else {
			c.joins.drop(x, k)
		}
		x.commit()
	}
}

// endJoin has a transaction end a join because its issuer was removed or blocked.
func (c *Core) endJoin(x *tx, k Key) {
	if j, ok := c.joins.m[k]; ok {
		c.joins.drop(x, k)
		x.do(Join{Issuer: j.Issuer})
	}
}

func (c *Core) joined(j join) Joined {
	p := c.person(j.Issuer)
	r := Joined{Address: j.Issuer, Name: firstOf(c.book.Get(j.Issuer).Name, p.As), Own: p.Calls, State: j.State, Why: j.Why, Failed: j.Failed, Silent: j.Silent}
	if r.State == JoinAsked && p.Refused {
		r.State = JoinDead
	}
	return r
}
