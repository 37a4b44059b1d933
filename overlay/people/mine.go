package people

import (
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// Devices of one person know each other. When the user says at this machine that a peer is a device of the same
// person, it and each other such device are introduced to each other. A device lets in at once any peer that another device
// introduces. It is told nothing of our friends, who decide about each of our devices for themselves. It does
// not pass an introduction on, so that none goes in circles, and what was removed does not come back.

// mine returns the devices of ours, except one.
func (c *Core) mine(except anode.Address) (list []book.Entry) {
	for _, e := range c.book.Entries() {
		if e.Mine && e.Added && !e.Blocked && !sameKey(e.Address, except) {
			list = append(list, e)
		}
	}
	return list
}

// SetMine says whether a peer is another device of ours.
func (c *Core) SetMine(now Now, a anode.Address, mine bool) error {
	e := c.book.Get(a)
	switch {
	case e.Standing() != book.Added:
		return ErrNotAdded
	case e.Mine == mine:
		return nil
	}
	x, p := c.begun(now), c.person(a)
	x.edit.Add = &book.Entry{Address: a, Mine: mine, Via: e.Via}
	p.Let = true
	if mine {
		c.spread(x, &p, e.Name)
	}
	c.people.put(x, a.X(), p)
	return x.commit()
}

// spread has a transaction make a new device of ours and the others known to each other.
func (c *Core) spread(x *tx, p *person, name string) {
	p.Spread = true
	for _, e := range c.mine(p.Address) {
		c.postIntro(x, e.Address, p.Address, name, "", true)
		c.postIntro(x, p.Address, e.Address, e.Name, "", true)
	}
}

// brought lets in a peer that a device of ours introduces.
func (c *Core) brought(x *tx, by anode.Address, i intro) {
	e, name := c.book.Get(i.Address), ""
	switch {
	case e.Added && (e.Fixed || len(e.Via) == 0), containsKey(e.Via, by): // people here added it, or it is known already
		return
	case !e.Added && c.book.Removed(i.Address, x.now.Wall):
		return
	case !e.Added:
		name = c.names.unique(firstOf(c.person(i.Address).As, i.Name), i.Address)
	}
	x.edit.Add = &book.Entry{Address: i.Address, Name: name, Endpoints: i.Endpoints, Mine: e.Mine || i.Mine,
		Via: append(slices.Clone(e.Via), by)}
	c.requests.drop(x, i.Address.X())
	p := c.person(i.Address)
	c.takeBack(x, &p)
	first := p.Asked.IsZero()
	p.know(x, Ways{Relays: i.Relays}) // the book has the endpoints
	if p.Let = true; first {
		p.Asked, p.Via = x.now.Wall, by
	}
	c.people.put(x, i.Address.X(), p)
	if first {
		x.then(func() { c.sendAsk(x.now, p) })
	}
	if !e.Added {
		x.do(Event{Kind: EventBrought, Address: i.Address, Name: name, Via: by})
	}
}

// heardRemoval takes that a device of ours removed a peer. It goes here too if no other device brought it, and people
// here did not add it.
func (c *Core) heardRemoval(x *tx, by, gone anode.Address) wire.TellStatus {
	e := c.book.Get(gone)
	switch {
	case !c.book.Get(by).Mine:
		return wire.TellNotNow
	case !e.Added || e.Fixed || !containsKey(e.Via, by):
		return wire.TellDone
	case len(e.Via) > 1:
		x.edit.Add = &book.Entry{Address: gone, Mine: e.Mine,
			Via: slices.DeleteFunc(slices.Clone(e.Via), func(v anode.Address) bool { return sameKey(v, by) })}
		return wire.TellDone
	}
	x.edit.Remove = gone
	x.do(Event{Kind: EventTaken, Address: gone, Name: c.names.shown(gone), Via: by})
	c.letGo(x, c.person(gone))
	return wire.TellDone
}
