package people

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// inviteID names an invitation; see invite.Token.Keys.
type inviteID [8]byte

func (id inviteID) bytes() []byte  { return id[:] }
func (id inviteID) String() string { return hex.EncodeToString(id[:]) }

func parseInviteID(b []byte) (id inviteID, ok bool) {
	if len(b) != len(id) {
		return id, false
	}
	return inviteID(b), true
}

// invitation is one that was issued. It is kept until it expires, also when it is used up: a guest who is
// too late is told so, and the issuer sees that two had the link.
type invitation struct {
	Token   invite.Token `json:"token"`
	Name    string       `json:"name,omitempty"` // that the guest gets
	Uses    int          `json:"uses"`           // left
	Of      int          `json:"of"`
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires"`
	Mine    bool         `json:"mine,omitempty"`
	Late    []guest      `json:"late,omitempty"` // who came when it was used up, the last maxLate
}

// guest is who came with an invitation.
type guest struct {
	Address  anode.Address `json:"address"`
	At       time.Time     `json:"at"`
	Endpoint string        `json:"endpoint,omitempty"`
}

// guestKey is an invitation and the number of its use, from 0.
type guestKey struct {
	id inviteID
	n  uint32
}

func (k guestKey) bytes() []byte { return binary.BigEndian.AppendUint32(k.id[:], k.n) }

func parseGuestKey(b []byte) (k guestKey, ok bool) {
	if len(b) != len(k.id)+4 {
		return k, false
	}
	return guestKey{inviteID(b), binary.BigEndian.Uint32(b[len(k.id):])}, true
}

// invites are the invitations that were issued, who used them, and what they open now.
type invites struct {
	self   anode.Address
	issued table[inviteID, invitation]
	guests table[guestKey, guest]
	open   map[[8]byte]*Open // nil: to be made anew
	opens  map[inviteID]*Open
}

// The bounds of invitations.
const (
	maxInvites     = 256 // that can be used
	maxInvitesKept = 512 // with those that are used up
	maxUses        = 1000
	maxLate        = 8
	maxUnmet       = 64
	InviteFor      = 24 * time.Hour      // if nothing is said
	InviteForMost  = 30 * 24 * time.Hour // at most
)

// Invite says what an invitation is to be. Zeros are the defaults: one use, InviteFor.
type Invite struct {
	Name string // that the guest gets here; empty: the one that it says
	Uses int
	For  time.Duration
	Mine bool // the guest is another device of ours
}

// Invite issues an invitation.
func (c *Core) Invite(now Now, r Invite) (Invitation, invite.Token, error) {
	if r.Uses == 0 {
		r.Uses = 1
	}
	if r.For == 0 {
		r.For = InviteFor
	}
	if err := c.checkInvite(now, r); err != nil {
		return Invitation{}, invite.Token{}, err
	}
	var t invite.Token
	c.cfg.Random(t[:])
	id, _ := t.Keys(c.cfg.Self)
	v := invitation{Token: t, Name: r.Name, Uses: r.Uses, Of: r.Uses, Mine: r.Mine,
		Created: now.Wall.Round(0).UTC(), Expires: now.Wall.Add(r.For).Truncate(time.Second).UTC()}
	x := c.begun(now)
	c.invites.tidy(x)
	c.invites.put(x, id, v)
	return c.invitationOf(id, v), t, x.commit()
}

func (c *Core) checkInvite(now Now, r Invite) error {
	if r.Uses < 1 || r.Uses > maxUses {
		return fmt.Errorf("%w: uses: want 1 to %d", ErrBounds, maxUses)
	}
	if r.For < time.Second || r.For > InviteForMost {
		return fmt.Errorf("%w: the time: want at most %d days", ErrBounds, InviteForMost/(24*time.Hour))
	}
	if err := c.names.given(r.Name, anode.Address{}); err != nil {
		return err
	}
	n := 0
	for _, v := range c.invites.issued.m {
		if v.usable(now.Wall) {
			n++
		}
	}
	if n >= maxInvites {
		return fmt.Errorf("%w: %d invitations can be used", ErrTooMany, n)
	}
	return nil
}

func (v invitation) usable(now time.Time) bool { return v.Uses > 0 && now.Before(v.Expires) }

// put has a transaction write an invitation.
func (i *invites) put(x *tx, id inviteID, v invitation) {
	i.issued.put(x, id, v)
	i.changed(x, id)
}

// drop has a transaction delete an invitation, with its guests.
func (i *invites) drop(x *tx, id inviteID) {
	v := i.issued.m[id]
	for n := range v.Of - v.Uses {
		i.guests.drop(x, guestKey{id, uint32(n)})
	}
	i.issued.drop(x, id)
	i.changed(x, id)
}

// tidy has a transaction delete invitations that are over, and those that are used up if there are too
// many, the oldest first.
func (i *invites) tidy(x *tx) {
	var used []inviteID
	for id, v := range i.issued.m {
		if !x.now.Wall.Before(v.Expires) {
			i.drop(x, id)
		} else if v.Uses == 0 {
			used = append(used, id)
		}
	}
	slices.SortFunc(used, func(a, b inviteID) int { return i.issued.m[a].Created.Compare(i.issued.m[b].Created) })
	for _, id := range used[:max(0, len(used)-(maxInvitesKept-maxInvites-1))] {
		i.drop(x, id)
	}
}

// Open is an invitation whose token opens sessions. It is never changed.
type Open struct {
	PSK     [32]byte
	Expires time.Time
	left    bool // a use is
	full    bool // so many came late that no more are told in a session
	guests  map[Key]struct{}
}

// Admits reports whether an address may make a session by the invitation. When it is used up, its guests still may:
// until they have the network's secret, they may have no other way. So may the first ones who are too late: they are
// told so, and the issuer learns that others have the link.
func (o *Open) Admits(a anode.Address, now time.Time) bool {
	_, guest := o.guests[a.X()]
	return now.Before(o.Expires) && (o.left || !o.full || guest)
}

// OpenInvitations returns the invitations that open sessions, and whether they are others than at the last
// call. The map is never changed.
func (c *Core) OpenInvitations() (open map[[8]byte]*Open, changed bool) { return c.invites.openNow() }

// openNow is Core.OpenInvitations.
func (i *invites) openNow() (open map[[8]byte]*Open, changed bool) {
	if i.open != nil {
		return i.open, false
	}
	i.open = map[[8]byte]*Open{}
	for id, v := range i.issued.m {
		if i.opens[id] == nil {
			i.opens[id] = i.openOf(id, v)
		}
		i.open[id] = i.opens[id]
	}
	return i.open, true
}

func (i *invites) openOf(id inviteID, v invitation) *Open {
	o := &Open{Expires: v.Expires, left: v.Uses > 0, full: len(v.Late) >= maxLate, guests: map[Key]struct{}{}}
	_, o.PSK = v.Token.Keys(i.self)
	for n := range v.Of - v.Uses {
		o.guests[i.guests.m[guestKey{id, uint32(n)}].Address.X()] = struct{}{}
	}
	for _, g := range v.Late {
		o.guests[g.Address.X()] = struct{}{}
	}
	return o
}

// changed has an Open made anew when a transaction is written.
func (i *invites) changed(x *tx, id inviteID) {
	x.then(func() {
		i.open = nil
		delete(i.opens, id)
	})
}

// guestUp takes a session by an invitation of ours: the other side has proved the token. What cannot be written is taken
// again.
func (c *Core) guestUp(now Now, u Up) {
	k := Key(u.Address.X())
	if delete(c.unmet, k); c.guestCame(now, u) != nil && len(c.unmet) < maxUnmet {
		c.unmet[k] = u
	}
}

// meetAgain takes again the guests that could not be written.
func (c *Core) meetAgain(now Now) {
	unmet := c.unmet
	c.unmet = map[Key]Up{}
	for _, u := range unmet {
		c.Up(now, u)
	}
}

func (c *Core) guestCame(now Now, u Up) error {
	id := inviteID(u.Invitation)
	v, known := c.invites.issued.m[id]
	k, e := Key(u.Address.X()), c.book.Get(u.Address)
	switch {
	case !known || !now.Wall.Before(v.Expires):
		c.sayBye(now, u.Address, Over)
		return nil
	case e.Added: // it spends nothing; but what waits for it, the network's secret perhaps, can be sent
		return c.readmit(now, u.Address)
	case c.invites.usedBy(id, k):
		return c.late(now, id, v, u, Removed)
	case v.Uses == 0:
		return c.late(now, id, v, u, Used)
	}
	return c.letGuestIn(now, id, v, u)
}

// letGuestIn spends one use and lets the guest in, or neither.
func (c *Core) letGuestIn(now Now, id inviteID, v invitation, u Up) error {
	x, p := c.begun(now), c.person(u.Address)
	r := c.requests.m[u.Address.X()]
	name := v.Name
	if name == "" {
		name = firstOf(p.As, r.Name, p.Said)
	}
	name = c.names.unique(name, u.Address)
	x.edit.Add = &book.Entry{Address: u.Address, Name: name, Mine: v.Mine}
	c.invites.guests.put(x, guestKey{id, uint32(v.Of - v.Uses)}, guest{u.Address, now.Wall.Round(0).UTC(), u.Endpoint})
	v.Uses--
	c.invites.put(x, id, v)
	c.requests.drop(x, u.Address.X())
	c.takeBack(x, &p)
	x.then(func() { c.outbox.stop(u.Address.X(), isOnce) })
	p.Let, p.Guest, p.Mine, p.Asked, p.Knows, p.AskTold = true, true, v.Mine, now.Wall, nil, !p.Owed
	c.people.put(x, u.Address.X(), p)
	x.do(Event{Kind: EventGuest, Address: u.Address, Name: name, Text: id.String()})
	switch { // else its ASK comes
	case r.Asked && !r.Declined && !r.over(now.Wall): // it came in an ordinary session
		p.Said = firstOf(p.Said, r.Name)
		c.outbox.post(x, u.Address, wire.TellAccept, accept{c.accepted(x, p)}.body())
	case p.Owed: // it may take us for a friend and ask nothing
		x.then(func() { c.sendAsk(now, p) })
	}
	return x.commit()
}

// readmit tells a guest who is let in already again what it may have missed.
func (c *Core) readmit(now Now, a anode.Address) error {
	x, p := c.begun(now), c.person(a)
	p.Let, p.Guest, p.Knows = true, true, nil
	c.people.put(x, a.X(), p)
	x.then(func() {
		c.outbox.stop(a.X(), isOnce)
		c.outbox.flush(now, a)
		c.tellProfile(now, p)
	})
	return x.commit()
}

// usedBy reports whether a key has used an invitation before.
func (i *invites) usedBy(id inviteID, k Key) bool {
	v := i.issued.m[id]
	for n := range v.Of - v.Uses {
		if i.guests.m[guestKey{id, uint32(n)}].Address.X() == k {
			return true
		}
	}
	return false
}

// late notes a guest who comes too late, and tells it why.
func (c *Core) late(now Now, id inviteID, v invitation, u Up, why Reason) error {
	x := c.begun(now)
	again := slices.ContainsFunc(v.Late, func(g guest) bool { return sameKey(g.Address, u.Address) })
	if !again {
		v.Late = append(slices.Clone(v.Late), guest{u.Address, now.Wall.Round(0).UTC(), u.Endpoint})
		v.Late = v.Late[max(0, len(v.Late)-maxLate):]
		c.invites.put(x, id, v)
		x.do(Event{Kind: EventLate, Address: u.Address, Name: c.names.shown(u.Address), Text: u.Endpoint})
	}
	x.then(func() { c.sayBye(now, u.Address, why) })
	return x.commit()
}

// sayBye tells a guest that an invitation does not let it in, while the session is there.
func (c *Core) sayBye(now Now, to anode.Address, why Reason) {
	t := &outgoing{storedTell: storedTell{to, wire.TellBye, bye{Why: why}.body(), now.Wall}, once: true}
	c.outbox.replace(now, t, isOnce)
}

// Revoke ends the one invitation whose ID begins so.
func (c *Core) Revoke(now Now, prefix string) (Invitation, error) {
	var found []inviteID
	for id := range c.invites.issued.m {
		if prefix != "" && strings.HasPrefix(id.String(), strings.ToLower(prefix)) {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return Invitation{}, fmt.Errorf("%w: %q", ErrNoInvitation, clean(prefix, maxName))
	}
	x, v := c.begun(now), c.invitationOf(found[0], c.invites.issued.m[found[0]])
	c.invites.drop(x, found[0])
	return v, x.commit()
}

// Invitation is one that was issued.
type Invitation struct {
	ID               string // 16 hex digits
	Name             string
	Uses, Of         int // left, and in all
	Created, Expires time.Time
	Mine             bool
	Guests, Late     []Guest
}

// Guest is who came with an invitation.
type Guest struct {
	Address  anode.Address
	Name     string // here; empty: none
	At       time.Time
	Endpoint string
}

func (c *Core) invitationOf(id inviteID, v invitation) Invitation {
	i := Invitation{ID: id.String(), Name: v.Name, Uses: v.Uses, Of: v.Of, Created: v.Created, Expires: v.Expires, Mine: v.Mine}
	for n := range v.Of - v.Uses {
		if g, ok := c.invites.guests.m[guestKey{id, uint32(n)}]; ok {
			i.Guests = append(i.Guests, c.guestOf(g))
		}
	}
	for _, g := range v.Late {
		i.Late = append(i.Late, c.guestOf(g))
	}
	return i
}

func (c *Core) guestOf(g guest) Guest {
	return Guest{g.Address, c.book.Get(g.Address).Name, g.At, g.Endpoint}
}

// Invitations returns the invitations that are not over, the newest first.
func (c *Core) Invitations(now Now) (list []Invitation) {
	for _, id := range slices.Collect(maps.Keys(c.invites.issued.m)) {
		if v := c.invites.issued.m[id]; now.Wall.Before(v.Expires) {
			list = append(list, c.invitationOf(id, v))
		}
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		if !a.Created.Equal(b.Created) {
			return a.Created.After(b.Created)
		}
		return a.ID < b.ID
	})
	return list
}
