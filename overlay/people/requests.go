package people

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// request is somebody who waits for a decision here: it asked, friends introduced it, or both.
type request struct {
	Address   anode.Address   `json:"address"`
	Name      string          `json:"name,omitempty"` // that it says, or else the one who introduced it
	Note      string          `json:"note,omitempty"`
	Endpoints []wire.Endpoint `json:"endpoints,omitempty"` // that the one who introduced it says
	Relays    []Relay         `json:"relays,omitempty"`    // the same
	By        []anode.Address `json:"by,omitempty"`        // who introduced it
	Since     time.Time       `json:"since"`
	Heard     time.Time       `json:"heard,omitzero"` // when its last ASK was written
	Asked     bool            `json:"asked,omitempty"`
	ID        wire.TellID     `json:"id,omitzero"`   // of its ASK
	Host      netip.Addr      `json:"host,omitzero"` // that it came from
	Declined  bool            `json:"declined,omitempty"`
}

// The bounds of requests.
const (
	maxAsks     = 64
	maxIntros   = 64
	maxDeclined = 64
	requestFor  = 30 * 24 * time.Hour
	declinedFor = 7 * 24 * time.Hour // so long an answer holds
	saidFor     = 24 * time.Hour     // people are told once in this time of somebody who withdraws an ASK and asks again
)

func (r request) over(now time.Time) bool {
	if r.Declined {
		return now.Sub(r.Since) > declinedFor
	}
	return now.Sub(r.Since) > requestFor
}

// class is which of the bounds a request counts for.
type class uint8

const (
	ofStrangers class = iota
	ofIntroduced
	ofDeclined
)

func (r request) class() class {
	switch {
	case r.Declined:
		return ofDeclined
	case len(r.By) > 0:
		return ofIntroduced
	}
	return ofStrangers
}

// heardStranger takes an ASK of somebody who is not let in, not blocked, and was not asked.
func (c *Core) heardStranger(now Now, h Heard) {
	r, listed := c.requests.m[h.From.X()]
	listed = listed && !r.over(now.Wall)
	policy := c.cfg.Policy()
	a, err := parseAsk(h.Msg.Body)
	switch {
	case err != nil:
		c.count.Malformed++
		c.told(h, wire.TellMalformed)
	case policy == FromNobody, policy == FromIntroduced && (!listed || len(r.By) == 0), listed && r.Declined:
		c.count.NotAllowed++
		c.told(h, wire.TellNotNow)
	case listed && r.Asked && r.ID == h.Msg.ID:
		c.count.Again++
		c.told(h, wire.TellDone)
	case listed && r.Asked && r.Address == h.From && r.Name == firstOf(a.Name, r.Name) && r.Note == firstOf(a.Note, r.Note):
		c.told(h, wire.TellDone)
	case listed && now.Wall.Sub(r.Heard).Abs() < time.Duration(float64(time.Second)/askRate.PerSecond):
		c.count.TooMuch++
	case listed:
		c.list(now, waiting{from: h.From, id: h.Msg.ID, ask: a, host: h.Host, endpoint: h.Endpoint})
	default:
		c.room.enter(waiting{from: h.From, id: h.Msg.ID, ask: a, host: h.Host, endpoint: h.Endpoint, at: now.Mono})
		c.admit(now)
	}
}

// admit lists those who wait for it, as fast as may be.
func (c *Core) admit(now Now) {
	for {
		w, ok := c.room.pick(now.Mono)
		if !ok {
			return
		}
		if c.book.Standing(w.from) == book.Stranger {
			c.list(now, w)
		}
	}
}

// list writes a request, and tells who asks.
func (c *Core) list(now Now, w waiting) {
	x, k := c.begun(now), Key(w.from.X())
	r, listed := c.requests.m[k]
	if !listed || r.over(now.Wall) {
		r, listed = request{Since: now.Wall}, false
	}
	first := !r.Asked && now.Wall.Sub(r.Heard) > saidFor
	r.Address, r.Asked, r.ID, r.Host, r.Heard = w.from, true, w.id, w.host, now.Wall
	r.Name, r.Note = firstOf(w.ask.Name, r.Name), firstOf(w.ask.Note, r.Note)
	if !listed {
		c.makeRoom(x, r.class())
	}
	c.requests.put(x, k, r)
	if x.commit() != nil {
		return // it comes again
	}
	c.do(Told{w.from, wire.ToldMsg{ID: w.id, Status: wire.TellDone}})
	if first {
		c.do(Event{Kind: EventAsks, Address: w.from, Name: r.Name, Via: firstBy(r.By), Text: r.Note})
	}
}

func firstBy(list []anode.Address) (a anode.Address) {
	if len(list) > 0 {
		return list[0]
	}
	return a
}

// makeRoom has a transaction drop requests of a class until there is room for one. The sender of one is told, and asks
// again after a while.
func (c *Core) makeRoom(x *tx, of class) {
	var list []request
	for k, r := range c.requests.m {
		if r.over(x.now.Wall) {
			c.requests.drop(x, k)
		} else if r.class() == of {
			list = append(list, r)
		}
	}
	for most := [...]int{ofStrangers: maxAsks, ofIntroduced: maxIntros, ofDeclined: maxDeclined}[of]; len(list) >= most; {
		old := oldestOf(list, of)
		list = slices.DeleteFunc(list, func(r request) bool { return sameKey(r.Address, old.Address) })
		c.requests.drop(x, old.Address.X())
		c.count.Evicted++
		if old.Asked && of != ofDeclined {
			x.do(Told{old.Address, wire.ToldMsg{ID: old.ID, Status: wire.TellTooMuch}})
		}
	}
}

// oldestOf returns the oldest of the requests of a class; of strangers, the one of the region, there of the network, and
// there of the host, that most came from; of those who were introduced, the one of the friend who introduced most.
func oldestOf(list []request, of class) request {
	var crowd []request
	switch of {
	case ofStrangers:
		for _, i := range crowdOf(len(list), func(i, level int) netip.Addr { return levels(list[i].Host)[level] }) {
			crowd = append(crowd, list[i])
		}
	case ofIntroduced:
		most := mostIntroduced(list)
		crowd = slices.DeleteFunc(slices.Clone(list), func(r request) bool { return firstBy(r.By) != most })
	default:
		crowd = list
	}
	return slices.MinFunc(crowd, func(a, b request) int { return a.Since.Compare(b.Since) })
}

func mostIntroduced(list []request) (most anode.Address) {
	n := map[anode.Address]int{}
	for _, r := range list {
		a := firstBy(r.By)
		if n[a]++; n[a] > n[most] {
			most = a
		}
	}
	return most
}

// heardIntro takes an INTRO. That of a device of ours lets the peer in, unless people here removed it.
func (c *Core) heardIntro(x *tx, h Heard) wire.TellStatus {
	i, err := parseIntro(h.Msg.Body)
	switch {
	case err != nil:
		return wire.TellMalformed
	case !c.book.Get(h.From).Mine && !c.mark(h.From.X()).intros.Allow(x.now.Mono, introRate):
		return wire.TellTooMuch
	case sameKey(i.Address, c.cfg.Self), sameKey(i.Address, h.From), c.book.Standing(i.Address) == book.Blocked:
		return wire.TellDone // and nothing comes of it
	case c.book.Get(h.From).Mine:
		c.brought(x, h.From, i)
	case c.book.Standing(i.Address) == book.Added:
	case c.person(i.Address).asks():
		c.introducedAgain(x, h.From, i)
	case c.cfg.Policy() == FromNobody:
		return wire.TellNotNow
	default:
		c.introduced(x, h.From, i)
	}
	return wire.TellDone
}

// introduced lists somebody that a friend introduced.
func (c *Core) introduced(x *tx, by anode.Address, i intro) {
	k := Key(i.Address.X())
	r, listed := c.requests.m[k]
	if !listed || r.over(x.now.Wall) {
		r = request{Address: i.Address, Since: x.now.Wall}
	}
	if r.Declined || containsKey(r.By, by) {
		return
	}
	was := r.class()
	r.Name, r.Note = firstOf(r.Name, clean(i.Name, maxName)), firstOf(r.Note, i.Note)
	if len(r.Endpoints)+len(r.Relays) == 0 {
		r.Endpoints, r.Relays = i.Endpoints, i.Relays
	}
	if len(r.By) < book.MaxVia {
		r.By = append(slices.Clone(r.By), by)
	}
	if !listed || was != ofIntroduced {
		c.makeRoom(x, ofIntroduced)
	}
	c.requests.put(x, k, r)
	x.then(func() { c.room.leave(k) })
	x.do(Event{Kind: EventIntroduced, Address: i.Address, Name: r.Name, Via: by, Text: i.Note})
}

// introducedAgain takes an introduction of somebody that people here asked already.
func (c *Core) introducedAgain(x *tx, by anode.Address, i intro) {
	p := c.person(i.Address)
	if containsKey(p.By, by) || len(p.By) >= book.MaxVia {
		return
	}
	p.By = append(slices.Clone(p.By), by)
	if p.Ways.IsZero() {
		p.know(x, Ways{Endpoints: i.Endpoints, Relays: i.Relays})
	}
	c.people.put(x, i.Address.X(), p)
}

// request returns who waits for a decision under an address.
func (c *Core) request(now Now, a anode.Address) (request, error) {
	r, ok := c.requests.m[a.X()]
	if !ok || r.Declined || r.over(now.Wall) {
		return request{}, fmt.Errorf("%w: %s", ErrNoRequest, a.ID())
	}
	return r, nil
}

// Accept accepts somebody who asked or was introduced, and returns the name that it gets: as, or else the one
// that it says, made unique. Who asked has agreed already, and is let in. Who was only introduced is asked, and
// let in when it accepts too, by an ASK or ACCEPT of its own. To accept it again changes nothing but the name.
func (c *Core) Accept(now Now, a anode.Address, as string) (name string, err error) {
	if p := c.person(a); p.asks() {
		return c.promise(now, p, as)
	}
	r, err := c.request(now, a)
	if err != nil {
		return "", err
	}
	if err := c.names.given(as, r.Address); err != nil {
		return "", err
	}
	if name = as; name == "" {
		name = c.names.unique(r.Name, r.Address)
	}
	if !r.Asked {
		return name, c.Ask(now, AskRequest{Address: r.Address, Name: name})
	}
	x := c.begun(now)
	x.edit.Add = &book.Entry{Address: r.Address, Name: name, Endpoints: r.Endpoints}
	p := c.person(r.Address)
	p.By, p.Said = r.By, r.Name
	p.know(x, Ways{Relays: r.Relays}) // the book has the endpoints
	c.befriend(x, p)
	return name, x.commit()
}

// promise changes the name that somebody who was asked gets, and returns it; an empty one leaves it.
func (c *Core) promise(now Now, p person, as string) (name string, err error) {
	if as == "" || as == p.As {
		return p.As, nil
	}
	if err := c.names.given(as, p.Address); err != nil {
		return "", err
	}
	x := c.begun(now)
	p.As = as
	c.people.put(x, p.Address.X(), p)
	return as, x.commit()
}

// Decline refuses a request for a week, also one that people here accepted before. The other side is told
// only if it asks again, or was asked.
func (c *Core) Decline(now Now, a anode.Address) (Request, error) {
	x, k := c.begun(now), Key(a.X())
	r, err := c.request(now, a)
	was := c.requestOf(r)
	if p := c.person(a); p.asks() {
		was, err = c.askOf(p), nil
		r = request{Address: a, Name: p.Said, By: p.By}
		c.withdraw(x, p)
	}
	if err != nil {
		return Request{}, err
	}
	r.Declined, r.Since = true, now.Wall
	c.makeRoom(x, ofDeclined)
	c.requests.put(x, k, r)
	x.then(func() { c.room.leave(k) })
	return was, x.commit()
}

// Withdraw takes back what somebody was asked who has not answered. It returns false if there is no such person.
func (c *Core) Withdraw(now Now, a anode.Address) (bool, error) {
	p := c.person(a)
	if !p.asks() {
		return false, nil
	}
	x := c.begun(now)
	c.withdraw(x, p)
	return true, x.commit()
}

// withdraw has a transaction forget our ASK. The other side may have it on its list, and is told.
func (c *Core) withdraw(x *tx, p person) {
	c.forget(x, p.Address.X())
	c.sayLeft(x, p.Address)
}

// dropIntroductions has a transaction forget everybody that a friend introduced who is blocked now, unless they asked or
// others introduced them too. Those that people here accepted stay.
func (c *Core) dropIntroductions(x *tx, by anode.Address) {
	for k, r := range c.requests.m {
		if !containsKey(r.By, by) || r.Declined {
			continue
		}
		r.By = slices.DeleteFunc(slices.Clone(r.By), func(a anode.Address) bool { return sameKey(a, by) })
		if len(r.By) > 0 || r.Asked {
			c.requests.put(x, k, r)
		} else {
			c.requests.drop(x, k)
		}
	}
}

// heardWithdrawal takes the BYE of somebody who takes back an ASK about which nothing was decided here.
func (c *Core) heardWithdrawal(x *tx, h Heard) wire.TellStatus {
	if b, err := parseBye(h.Msg.Body); err != nil || b != (bye{}) {
		return wire.TellMalformed
	}
	k := Key(h.From.X())
	r := c.requests.m[k]
	switch {
	case !r.Asked, r.Declined:
	case len(r.By) > 0:
		r.Asked, r.ID, r.Host = false, wire.TellID{}, netip.Addr{}
		c.requests.put(x, k, r)
	default:
		c.requests.drop(x, k)
	}
	x.then(func() { c.room.leave(k) })
	return wire.TellDone
}

// maxAsked is how many we ask at a time who are no peers.
const maxAsked = 64

// AskRequest is somebody who is asked to let us in.
type AskRequest struct {
	Address anode.Address
	Name    string // that it gets here when it lets us in; empty: the one that it says
	Note    string
	Mine    bool // it is another device of ours
	Ways    Ways // where it may be, beside where a friend who introduced it says
}

// Ask asks somebody to let us in, who is let in when it does and not before. Somebody who asked us is let in at once.
func (c *Core) Ask(now Now, r AskRequest) error {
	a := r.Address
	switch s := c.book.Standing(a); {
	case sameKey(a, c.cfg.Self):
		return book.ErrSelf
	case s == book.Blocked:
		return fmt.Errorf("%w: unblock it first", book.ErrBlocked)
	}
	if err := errors.Join(c.names.given(r.Name, a), r.Ways.check()); err != nil {
		return err
	}
	known, err := c.request(now, a)
	if err == nil && known.Asked {
		_, err := c.Accept(now, a, r.Name)
		return errors.Join(err, c.alsoMine(now, a, r.Mine))
	}
	p := c.person(a)
	if p.Friend {
		return c.alsoMine(now, a, r.Mine)
	}
	if !p.asks() && c.asked() >= maxAsked {
		return fmt.Errorf("%w: %d were asked and have not answered", ErrTooMany, maxAsked)
	}
	x := c.begun(now)
	c.takeBack(x, &p)
	if err == nil { // a friend introduced it
		p.By, p.Via, p.Said = known.By, firstBy(known.By), known.Name
		r.Ways.Endpoints, r.Ways.Relays = slices.Concat(r.Ways.Endpoints, known.Endpoints), slices.Concat(r.Ways.Relays, known.Relays)
		c.requests.drop(x, a.X())
	}
	p.Let, p.As = c.book.Standing(a) == book.Added, r.Name
	p.decided(now, clean(r.Note, maxNote), r.Mine)
	p.know(x, r.Ways)
	c.people.put(x, a.X(), p)
	x.then(func() { c.sendAsk(now, p) })
	return x.commit()
}

// asked returns how many we asked who are no peers.
func (c *Core) asked() (n int) {
	for _, p := range c.people.m {
		if p.asks() {
			n++
		}
	}
	return n
}

// Introduce makes two peers known to each other. It returns the TELLs that say so, for Waits.
func (c *Core) Introduce(now Now, a, b anode.Address, note string) (to []anode.Address, err error) {
	for _, p := range []anode.Address{a, b} {
		if c.book.Standing(p) != book.Added {
			return nil, fmt.Errorf("%w: %s", ErrNotAdded, c.names.shown(p))
		}
	}
	if sameKey(a, b) {
		return nil, book.ErrSelf
	}
	x := c.begun(now)
	c.postIntro(x, a, b, c.book.Get(b).Name, clean(note, maxNote), false)
	c.postIntro(x, b, a, c.book.Get(a).Name, clean(note, maxNote), false)
	return []anode.Address{a, b}, x.commit()
}

// postIntro has a transaction tell one peer of another, which has a name here.
func (c *Core) postIntro(x *tx, to, of anode.Address, name, note string, mine bool) {
	p := c.person(of)
	name = firstOf(name, p.Said)
	c.outbox.post(x, to, wire.TellIntro, intro{of, clean(name, maxName), note, c.cfg.Found(of), p.Ways.Relays, mine}.body())
}

// Waits reports whether a TELL of a kind to a peer has not arrived yet.
func (c *Core) Waits(to anode.Address, kind wire.TellKind) bool {
	return c.outbox.has(to.X(), func(o *outgoing) bool {
		p := c.people.m[to.X()]
		return o.Kind == kind && (kind != wire.TellAsk || !p.AskTold && !p.Refused)
	})
}
