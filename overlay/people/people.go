// Package people keeps what two people agree on before their machines exchange data: who asks to be
// let in, who was invited, who was introduced, and which devices belong to one person.
//
//	stranger --ask--> asked ----ACCEPT or their ASK----> friend --remove--> stranger (tombstone)
//	stranger <-ASK--- asking ---accept-----------------> friend
//	stranger --INTRO by a friend--> introduced --accept--> asked --ACCEPT or their ASK--> friend
//	stranger --a link--> approved, on both sides --ASK, ACCEPT--> friend
//	any ------block----> blocked
//
// Who was asked is let in when it has accepted too, by an ACCEPT or an ASK of its own, and not before: so
// neither side of an introduction is reachable before both have accepted it. What was accepted here is on the disk, and holds until it
// is withdrawn, or for 30 days, in any order of the two, and the friend who introduced them need not be there.
//
// Who withdraws a request, or removes a peer, says so by a BYE. If that does not arrive, the two settle it when they
// meet: what somebody says who is nothing to us gets TOLD "not allowed", and whoever sent an ACCEPT or a PROFILE
// takes that for a BYE. Who was let in for a request that was withdrawn is let in no more.
//
// A peer's rights depend on its standing in the book alone: blocked, stranger or added. A State
// follows from the standing and from the tables here. A request costs one record, and gives no
// right and no place in the engine; one of ours does once it is accepted.
//
// Core does all of it without a goroutine, a clock or a socket: events go in (Heard, Told, Up,
// Decided, and the verbs of people), Actions come out. All records have the X coordinate of an
// address as their key, since one key has many addresses. Each event writes one transaction of the
// book, with the IDs of the TELLs that it took, and answers after that:
//
//	people       X       what was said between a peer and us
//	requests     X       who waits for a decision here
//	invites      id      invitations that were issued
//	guests       id n    who used them
//	joins        X       invitations of others that we use
//	outbox       X id    TELLs that wait until they arrive
//	seen         X part  the last TELLs of each added peer
//
// So a TELL takes effect exactly once, also when packets are lost or a process is killed: its sender
// repeats it until TOLD comes, and its receiver knows the last 1024 of each peer.
package people

import (
	"errors"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// Errors of the verbs; those of the book and of anode/invite come too.
var (
	ErrNoRequest    = errors.New("nobody with that address asks")
	ErrNoInvitation = errors.New("no such invitation")
	ErrTooMany      = errors.New("there are too many of them")
	ErrNotAdded     = errors.New("the peer is not added")
	ErrBounds       = errors.New("not a usable number")
	ErrOwnLink      = errors.New("that is a link of this machine's own")
)

// Now is the time on both clocks: Wall is shown and stored, Mono decides what is due.
type Now struct {
	Wall time.Time
	Mono mono.Time
}

// Key is the X coordinate of an address. All addresses of one key have it.
type Key [32]byte

// State says how far things are between a peer and us.
type State uint8

// The states.
const (
	Stranger   State = iota
	Asking           // it asked us
	Asked            // we asked it
	Introduced       // a friend made it known to us
	Approved         // we let it in; it has not said that it lets us in
	Friend           // both let each other in
	Blocked
)

var states = [...]string{"stranger", "asking", "asked", "introduced", "approved", "friend", "blocked"}

// String returns the word for a state.
func (s State) String() string { return states[min(int(s), len(states)-1)] }

// Policy says whose requests are kept.
type Policy uint8

// The policies.
const (
	FromAll        Policy = iota
	FromIntroduced        // of those that a friend introduced
	FromNobody
)

// Book is what a Core needs of a *book.Book. Its questions do not wait; Commit waits for the disk.
type Book interface {
	Standing(a anode.Address) book.Standing
	Get(a anode.Address) book.Entry
	ByName(name string) (book.Entry, bool)
	Entries() []book.Entry
	Removed(a anode.Address, now time.Time) bool
	Records(t book.Table) ([]book.Record, error)
	Commit(e book.Edit, now time.Time) (book.Change, error)
}

// Config is what a Core is made of. The Core calls the functions within its own methods.
type Config struct {
	Self     anode.Address
	Book     Book
	Name     func() string    // what this machine is called, as book.CheckName; empty: nothing
	Services func() []Service // that friends are told of
	Secret   func() [32]byte  // the network's; zeros: none
	Policy   func() Policy
	Found    func(a anode.Address) []wire.Endpoint // where a peer was found, for introductions
	Random   func(b []byte)                        // fills b
}

// Relay is a relay and where it is.
type Relay struct {
	Address  anode.Address `json:"address"`
	Endpoint wire.Endpoint `json:"endpoint"`
}

// An Action is what the caller does after an event, in order: a Tell, Told, Know, Join, Secret or Event.
type Action any

// Tell sends a TELL once.
type Tell struct {
	To  anode.Address
	Msg wire.TellMsg
}

// Told answers a TELL.
type Told struct {
	To  anode.Address
	Msg wire.ToldMsg
}

// Know has a peer looked for where somebody said that it is, in place of what was said before.
type Know struct {
	Address anode.Address
	Ways    Ways
}

// Join begins or, with a zero ID, ends handshakes by an invitation of somebody's.
type Join struct {
	Issuer anode.Address
	ID     [8]byte
	PSK    [32]byte
	Ways   Ways
	Until  time.Time
}

// Secret is the network's secret, which the issuer of our invitation told us.
type Secret struct {
	Secret [32]byte
	From   anode.Address
}

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventAsks       EventKind = "asks"       // somebody asks to be let in
	EventIntroduced EventKind = "introduced" // a friend made somebody known
	EventFriend     EventKind = "friend"     // a peer let us in
	EventGuest      EventKind = "guest"      // an invitation was used
	EventLate       EventKind = "late"       // somebody came with an invitation that is used up or over
	EventLeft       EventKind = "left"       // a peer says that it removed us
	EventBrought    EventKind = "brought"    // a device of ours brought a peer
	EventTaken      EventKind = "taken"      // the device that brought a peer removed it
	EventUnanswered EventKind = "unanswered" // people here said yes, and the other side never did: that is over
	EventWithdrawn  EventKind = "withdrawn"  // somebody who asked was let in, and had taken that back before: it is let in no more
	EventJoin       EventKind = "join"       // a join is done, or does not go on
	EventRefused    EventKind = "refused"    // a peer does not take what we told it
)

// Event is something that people should know.
type Event struct {
	Kind    EventKind
	Address anode.Address
	Name    string        // of the peer here, or that it says
	Via     anode.Address // who introduced or brought it
	Text    string        // a note, an invitation's ID, or where somebody came from
	Asked   bool          // of EventFriend: the peer was only asked before, and is added with it
	Failed  *Joined       // of EventJoin: the link let nobody in, and why
}

// Counters are what was dropped, by reason.
type Counters struct {
	Blocked    uint64 // of a blocked key
	NotAllowed uint64 // that the sender may not say
	TooMuch    uint64 // beyond a bound
	Malformed  uint64
	Unknown    uint64 // of an unknown kind
	Again      uint64 // that came before, or right after a BYE
	Unwritten  uint64 // that could not be written: they come again
	Evicted    uint64 // requests that others took the place of
	OutboxFull uint64 // TELLs of ours for which there was no room
}

// Core is the state of all requests, invitations and friends. One goroutine calls its methods. New makes it.
type Core struct {
	cfg   Config
	book  Book
	names namer

	// in the book's tables; each part alone writes its own
	people   table[Key, person]
	requests table[Key, request]
	invites  invites
	joins    table[Key, join]
	outbox   outbox
	seen     seen

	// of this run alone
	marks   map[Key]*mark // of peers that are added or were asked
	unmet   map[Key]Up    // guests that came and could not be written
	byes    byes
	room    room
	actions []Action
	held    mono.Time // nothing is due before: the Store could not be written
	count   Counters
}

// mark is what is counted of one added peer.
type mark struct {
	tells  mono.Bucket
	asks   mono.Bucket
	intros mono.Bucket
	up     bool // an ordinary session came up in this run
}

// Rates of what peers say.
var (
	tellRate  = mono.Rate{PerSecond: 20, Burst: 100}
	askRate   = mono.Rate{PerSecond: 0.1, Burst: 6} // of a peer that is let in; it may remove us and come again a few times
	introRate = mono.Rate{PerSecond: 16.0 / (24 * 3600), Burst: 16}
)

// New makes a Core from what the book's tables hold. What cannot be read is left out and returned.
func New(cfg Config, now Now) (c *Core, problems []error, err error) {
	c = &Core{cfg: cfg, book: cfg.Book, invites: invites{self: cfg.Self, opens: map[inviteID]*Open{}}, marks: map[Key]*mark{}, unmet: map[Key]Up{}}
	c.names = namer{cfg.Book, &c.people}
	c.outbox = outbox{sending: map[tellKey]*outgoing{}, random: cfg.Random, do: c.do,
		added: func(a anode.Address) bool { return cfg.Book.Standing(a) == book.Added }}
	if problems, err = c.load(); err != nil {
		return nil, problems, err
	}
	c.begin(now)
	return c, problems, nil
}

// Take returns the actions since the last call.
func (c *Core) Take() []Action {
	list := c.actions
	c.actions = nil
	return list
}

// Counters returns what was dropped so far.
func (c *Core) Counters() Counters {
	n := c.count
	n.OutboxFull = c.outbox.full
	return n
}

func (c *Core) do(a Action) { c.actions = append(c.actions, a) }

// mark returns the counts of an added peer.
func (c *Core) mark(k Key) *mark {
	m := c.marks[k]
	if m == nil {
		m = &mark{}
		c.marks[k] = m
	}
	return m
}

// Next returns when Tick is due; mono.Never if nothing is.
func (c *Core) Next(now Now) mono.Time {
	next := min(c.room.next(now.Mono), c.outbox.next())
	if len(c.unmet) > 0 {
		next = now.Mono
	}
	for _, j := range c.joins.m {
		if j.State == JoinTrying {
			next = min(next, now.Mono.Add(max(j.Until.Sub(now.Wall), 0)))
		}
	}
	return max(next, c.held)
}

// Tick does what is due.
func (c *Core) Tick(now Now) {
	c.meetAgain(now)
	c.admit(now)
	c.resend(now)
	c.endJoins(now)
}
