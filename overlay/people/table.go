package people

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// table is one kind of record, in memory and in the Store. Values are replaced, never changed.
type table[K comparable, V any] struct {
	name book.Table
	key  func(K) []byte
	m    map[K]V

	edits uint64 // of m
}

// load reads a table. parse reads a key; a record that cannot be read is left out.
func (t *table[K, V]) load(b Book, name book.Table, key func(K) []byte, parse func([]byte) (K, bool)) (problems []error, err error) {
	t.name, t.key, t.m = name, key, map[K]V{}
	records, err := b.Records(name)
	for _, r := range records {
		var v V
		k, ok := parse(r.Key)
		if !ok || json.Unmarshal(r.Value, &v) != nil {
			problems = append(problems, fmt.Errorf("%w: %s", book.ErrRecord, name))
			continue
		}
		t.m[k] = v
	}
	return problems, err
}

// put has a transaction write a value, and the table have it then.
func (t *table[K, V]) put(x *tx, k K, v V) {
	value, err := json.Marshal(v)
	if err != nil {
		x.err = err
		return
	}
	x.edit.Records = append(x.edit.Records, book.Record{Table: t.name, Key: t.key(k), Value: value})
	x.then(func() { t.m[k] = v; t.edits++ })
}

// drop has a transaction delete a value.
func (t *table[K, V]) drop(x *tx, k K) {
	if _, ok := t.m[k]; !ok {
		return
	}
	x.edit.Records = append(x.edit.Records, book.Record{Table: t.name, Key: t.key(k)})
	x.then(func() { delete(t.m, k); t.edits++ })
}

// tx is one transaction: what is to be written, and what follows when it is.
type tx struct {
	c     *Core
	now   Now
	edit  book.Edit
	err   error
	after []func()
}

func (c *Core) begun(now Now) *tx { return &tx{c: c, now: now} }

// then has something happen when the transaction is written.
func (x *tx) then(f func()) { x.after = append(x.after, f) }

// do has an action follow.
func (x *tx) do(a Action) { x.then(func() { x.c.do(a) }) }

// commit writes the transaction. Without an error, everything that follows has happened.
func (x *tx) commit() error {
	if x.err == nil && (x.edit.Add != nil || !x.edit.Remove.IsZero() || len(x.edit.Records) > 0) {
		_, x.err = x.c.book.Commit(x.edit, x.now.Wall)
	}
	if x.err != nil {
		x.c.count.Unwritten++
		x.c.held = x.now.Mono.Add(time.Second)
		return x.err
	}
	for _, f := range x.after {
		f()
	}
	return nil
}

// added reports whether an address is added, or is with this transaction.
func (x *tx) added(a anode.Address) bool {
	return x.c.book.Standing(a) == book.Added && x.edit.Remove != a || x.edit.Add != nil && x.edit.Add.Address == a
}

// The tables.
const (
	tablePeople   book.Table = "people"
	tableRequests book.Table = "requests"
	tableInvites  book.Table = "invites"
	tableGuests   book.Table = "guests"
	tableJoins    book.Table = "joins"
	tableOutbox   book.Table = "outbox"
	tableSeen     book.Table = "seen"
)

// Service is what a peer offers its friends.
type Service struct {
	Name  string   `json:"name"`          // may be empty
	Type  string   `json:"type"`          // such as http
	Proto uint8    `json:"proto"`         // 6 TCP, 17 UDP
	Port  uint16   `json:"port"`          // not 0
	TXT   []string `json:"txt,omitempty"` // key=value
}

// person is what was said between a peer and us. There is a record for peers that are added, that we
// asked, or that are still to be told that they were removed.
type person struct {
	Address  anode.Address   `json:"address"`
	Let      bool            `json:"let,omitempty"` // it is added, or was until people removed it
	Friend   bool            `json:"friend,omitempty"`
	Left     bool            `json:"left,omitempty"`    // it says that it removed us
	Owed     bool            `json:"owed,omitempty"`    // it was removed or blocked before, and may not know that
	Untold   bool            `json:"untold,omitempty"`  // it was let in because it asked, and has not said that it knows
	Guest    bool            `json:"guest,omitempty"`   // it came with an invitation of ours
	Secret   bool            `json:"secret,omitempty"`  // we came with an invitation of its, and it told us the network's secret
	Unnamed  bool            `json:"unnamed,omitempty"` // it was added when it let us in, and had not said its name yet
	Spread   bool            `json:"spread,omitempty"`  // our other devices were told of it
	Said     string          `json:"said,omitempty"`    // what it calls itself
	Calls    string          `json:"calls,omitempty"`   // what it calls us
	Services []Service       `json:"services,omitempty"`
	By       []anode.Address `json:"by,omitempty"`    // who introduced it
	Knows    []byte          `json:"knows,omitempty"` // the digest of our PROFILE that it has
	Ways     Ways            `json:"ways,omitzero"`

	// of our ASK
	Asked   time.Time     `json:"asked,omitzero"` // zero: never
	AskTold bool          `json:"ask_told,omitempty"`
	Refused bool          `json:"refused,omitempty"` // it does not let itself be asked; our yes stays
	Note    string        `json:"note,omitempty"`
	Via     anode.Address `json:"via,omitzero"`
	As      string        `json:"as,omitempty"`   // its name here, once it accepts
	Mine    bool          `json:"mine,omitempty"` // a device of ours, which the others are told of once it accepts
}

// person returns the record of a peer, or one with nothing but its address.
func (c *Core) person(a anode.Address) person {
	p := c.people.m[a.X()]
	p.Address = a
	return p
}

// decided notes that people here want to be let in by somebody. What it answered before does not count.
func (p *person) decided(now Now, note string, mine bool) {
	p.Asked, p.AskTold, p.Refused, p.Left, p.Note, p.Mine = now.Wall, false, false, false, note, mine
}

// asks reports whether people here said yes to somebody who is not added, and who has not said the same.
func (p person) asks() bool { return !p.Asked.IsZero() && !p.Let }

// knowsUs reports whether a peer may believe that we let it in, or want to.
func (p person) knowsUs() bool { return p.Friend || p.Owed || p.AskTold }

// unaware reports whether a record says only that its peer was blocked, and may believe that it is let in.
func (p person) unaware() bool { return p.Owed && !p.Let && p.Asked.IsZero() }

// gone reports whether nothing is between a peer and us but a BYE that it did not get yet.
func (p person) gone() bool { return p.Asked.IsZero() && !p.Let && !p.Owed }

// load reads the tables.
func (c *Core) load() (problems []error, err error) {
	for _, read := range []func() ([]error, error){
		func() ([]error, error) { return c.people.load(c.book, tablePeople, keyBytes, parseKey) },
		func() ([]error, error) { return c.requests.load(c.book, tableRequests, keyBytes, parseKey) },
		func() ([]error, error) {
			return c.invites.issued.load(c.book, tableInvites, inviteID.bytes, parseInviteID)
		},
		func() ([]error, error) {
			return c.invites.guests.load(c.book, tableGuests, guestKey.bytes, parseGuestKey)
		},
		func() ([]error, error) { return c.joins.load(c.book, tableJoins, keyBytes, parseKey) },
		func() ([]error, error) { return c.outbox.stored.load(c.book, tableOutbox, tellKey.bytes, parseTellKey) },
		func() ([]error, error) { return c.seen.load(c.book) },
	} {
		more, err := read()
		problems = append(problems, more...)
		if err != nil {
			return problems, err
		}
	}
	return problems, nil
}

func keyBytes(k Key) []byte { return k[:] }

func parseKey(b []byte) (k Key, ok bool) {
	if len(b) != len(k) {
		return k, false
	}
	return Key(b), true
}

// begin does what a start does: it tidies up, and sends what waits.
func (c *Core) begin(now Now) {
	c.tidy(now)
	c.beginWays()
	for k, l := range c.outbox.stored.m {
		o := &outgoing{storedTell: l, due: now.Mono}
		if c.outbox.sending[k] = o; l.late(now) && !c.outbox.added(l.To) {
			o.tries = len(pauses)
		}
	}
	for _, p := range slices.Collect(maps.Values(c.people.m)) {
		c.Decided(now, p.Address)
		if p, ok := c.people.m[p.Address.X()]; ok && p.asks() {
			c.askOn(now, p)
		}
	}
	c.ProfileChanged(now)
	c.beginJoins(now)
}
