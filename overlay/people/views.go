package people

import (
	"sort"
	"time"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// Request is somebody who waits for a decision here, or who was asked for one.
type Request struct {
	Address anode.Address
	Name    string // that it says
	As      string // that it gets here; of Asked alone
	Note    string
	Via     anode.Address // who introduced it; zero: nobody
	Since   time.Time
	State   State // Asking, Introduced or Asked
	Refused bool  // of Asked: it does not take requests, or declined an earlier one
}

func (c *Core) requestOf(r request) Request {
	q := Request{Address: r.Address, Name: r.Name, Note: r.Note, Via: firstBy(r.By), Since: r.Since, State: Introduced}
	if r.Asked {
		q.State = Asking
	}
	return q
}

func (c *Core) askOf(p person) Request {
	return Request{Address: p.Address, Name: p.Said, As: p.As, Note: p.Note, Via: firstBy(p.By), Since: p.Asked, State: Asked, Refused: p.Refused}
}

// Requests returns who waits for a decision, and who was asked, oldest first.
func (c *Core) Requests(now Now) (list []Request) {
	for _, r := range c.requests.m {
		if !r.Declined && !r.over(now.Wall) {
			list = append(list, c.requestOf(r))
		}
	}
	for _, p := range c.people.m {
		if p.asks() {
			list = append(list, c.askOf(p))
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Since.Before(list[j].Since) })
	return list
}

// Peer is the state of one peer.
type Peer struct {
	Address  anode.Address
	State    State
	Name     string
	Mine     bool
	Via      []anode.Address // which devices of ours brought it, or which friends introduced it
	Said     string          // what it calls itself
	Calls    string          // what it calls us
	Left     bool            // it says that it removed us
	Refused  bool            // as in Request
	Services []Service
}

// State returns how far things are with an address.
func (c *Core) State(now Now, a anode.Address) State { return c.Peer(now, a).State }

// Peer returns what there is with an address.
func (c *Core) Peer(now Now, a anode.Address) Peer {
	e, p, r := c.book.Get(a), c.person(a), c.requests.m[a.X()]
	v := Peer{Address: a, Name: e.Name, Mine: e.Mine, Via: e.Via, Said: p.Said, Calls: p.Calls, Left: p.Left, Services: p.Services}
	if len(v.Via) == 0 {
		v.Via = p.By
	}
	switch {
	case e.Blocked:
		v.State = Blocked
	case e.Added && p.Friend:
		v.State = Friend
	case e.Added:
		v.State = Approved
	case p.asks():
		v.State, v.Name, v.Refused = Asked, p.As, p.Refused
	case r.Declined || r.over(now.Wall):
	case r.Asked:
		v.State, v.Said, v.Via = Asking, r.Name, r.By
	case len(r.By) > 0:
		v.State, v.Said, v.Via = Introduced, r.Name, r.By
	}
	return v
}

// Peers returns all who are not strangers, in the order of their addresses.
func (c *Core) Peers(now Now) (list []Peer) {
	has := map[anode.Address]bool{}
	add := func(a anode.Address) {
		if has[a] {
			return
		}
		has[a] = true
		if p := c.Peer(now, a); p.State != Stranger {
			list = append(list, p)
		}
	}
	for _, e := range c.book.Entries() {
		add(e.Address)
	}
	for _, p := range c.people.m {
		add(p.Address)
	}
	for _, r := range c.requests.m {
		add(r.Address)
	}
	sort.Slice(list, func(i, j int) bool { return compare(list[i].Address, list[j].Address) < 0 })
	return list
}

// Offer is what a friend says that it offers.
type Offer struct {
	Address  anode.Address
	Services []Service
}

// Offers returns the services that friends told us of.
func (c *Core) Offers() (list []Offer) {
	for _, p := range c.people.m {
		if p.Friend && len(p.Services) > 0 && c.book.Standing(p.Address) >= book.Added {
			list = append(list, Offer{p.Address, p.Services})
		}
	}
	return list
}

// tidy deletes what is over, at a start.
func (c *Core) tidy(now Now) {
	x := c.begun(now)
	c.invites.tidy(x)
	for k, r := range c.requests.m {
		if r.over(now.Wall) {
			c.requests.drop(x, k)
		}
	}
	for k, l := range c.outbox.stored.m {
		if l.stale(now) {
			c.outbox.drop(x, k)
		}
	}
	for k, p := range c.people.m {
		if p.gone() && !c.outbox.holdsBye(k, now) {
			c.people.drop(x, k)
		}
	}
	for k := range c.seen.rings {
		if !c.let(k) {
			c.seen.forget(x, k)
		}
	}
	x.commit() // what cannot be deleted does no harm
	c.endJoins(now)
}

// let reports whether a key was let in.
func (c *Core) let(k Key) bool {
	p, ok := c.people.m[k]
	return ok && p.Let
}

var _ Book = (*book.Book)(nil)
