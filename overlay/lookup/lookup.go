// Package lookup finds the address behind a ULA, or behind a short ID alone, by asking
// the networks (WHOIS by broadcast) and the known peers. It is pure: the caller passes
// the time, sends the WHOIS messages that Tick returns, and reports the answers.
//
//	        Ask                   Tick: asked at 0, 0.5 and 1.5 s
//	none --------> in line ---------------------------------------> asked
//	                  |                                               |
//	                  |  4 s, or displaced                            |  3 s, or 5 s in all
//	                  v                                               v
//	               Ended{Asked: false}                    Ended, remembered for 10 s
//
// Answer and Known end a lookup at any time. Anything that waits for a lookup comes back
// exactly once: from Answer, from Known, or in an Ended.
//
// A program that scans the prefix must cost the network little and other programs
// nothing. All questions together have one budget, of which a part is kept for persons.
// The order in line is: persons, then keys by how often programs asked for them, then the
// newest. A program that means it sends again, which a scan does not. If there are too
// many lookups, the one that is last in line makes room for a new one.
package lookup

import (
	"container/list"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// Limits and times.
const (
	maxPrograms     = 128
	maxPersons      = 32
	maxMessages     = 64 // that wait for one lookup
	maxBytes        = 128 << 10
	maxBytesInAll   = 1 << 20
	lifetime        = 3 * time.Second // from the first question on
	lifetimeInAll   = 5 * time.Second
	lifetimeUnasked = 4 * time.Second // so that an answer has one second at least
)

// pauses are the times between the questions of one lookup.
var pauses = [...]time.Duration{500 * time.Millisecond, time.Second}

// Origin is the kind of party that wants an address.
type Origin uint8

// The origins.
const (
	Program Origin = iota // a packet of the adapter
	Person                // a call of the API
	origins
)

// Result is what became of an Ask.
type Result uint8

// The results. Only Waiting keeps what waits; it comes back later.
const (
	Waiting Result = iota
	Nobody         // the network was asked a moment ago, and nobody knew
	Full           // too much waits already
)

// String returns the result's name.
func (r Result) String() string { return [...]string{"waiting", "nobody", "full"}[r] }

// Key is what an address is wanted for: a ULA, or a short ID alone.
type Key struct {
	ULA anode.ULA // zero: the short ID alone
	ID  anode.ID
}

// ByULA is the key of a ULA.
func ByULA(u anode.ULA) Key { return Key{u, u.ID()} }

// ByID is the key of a short ID alone, which proves less than a ULA.
func ByID(id anode.ID) Key { return Key{ID: id} }

// Whois is the question for a key, without the ID of a request.
func (k Key) Whois() wire.WhoisMsg { return k.whois(0) }

// whois is the question for a key.
func (k Key) whois(request uint32) wire.WhoisMsg {
	kind := wire.WhoisULA
	if k.ULA.IsZero() {
		kind = wire.WhoisID
	}
	return wire.WhoisMsg{Request: request, Kind: kind, ULA: k.ULA, ID: k.ID}
}

// Ended is a lookup that found nobody, with everything that waited for it.
type Ended[W any] struct {
	Key     Key
	Waiters []W
	Asked   bool // false: the budget allowed no question in time
}

// Counters count what became of lookups and answers.
type Counters struct {
	Questions   uint64 // asked on the network
	Found       uint64
	Nobody      uint64 // ended without an answer
	Unasked     uint64 // ended without a question
	Displaced   uint64 // by one that was asked for as often, or more often
	Remembered  uint64 // answered from memory: nobody
	Full        uint64 // refused: too many lookups
	WaitingFull uint64 // refused: too much waits
	NotThere    uint64 // a peer does not know it
	Stray       uint64 // answers to no question of ours, or not the address asked for
}

// Table is all lookups that are under way. W is what waits for an answer: a message, or
// a caller's channel. It is for one goroutine, and made by New.
type Table[W any] struct {
	Counters Counters

	random  func() uint32
	budget  budget
	nobody  nobody
	habits  habits
	lookups map[place]*lookup[W]
	asked   map[uint32]*lookup[W] // by request
	count   [origins]int
	bytes   int // of all that waits, and of displaced
	due     queue[W]
	line    line[W]

	displaced []Ended[W] // until the next Tick
	returning int        // bytes of displaced
}

// place is where a lookup is found. A person's lookup and a program's for one key are
// two, so that neither can use up the other's room, time or turn.
type place struct {
	key Key
	who Origin
}

// lookup is the search for one key.
type lookup[W any] struct {
	place
	request uint32
	habit   int // how often programs asked for it lately
	asks    int // on the network so far
	end     mono.Time
	limit   mono.Time // the latest end
	waiters []W
	bytes   int

	// Owned by queue and line.
	due     mono.Time
	index   int
	inLine  *list.List
	element *list.Element
}

// New makes a table. Request IDs come from random, which must be hard to predict.
func New[W any](random func() uint32) *Table[W] {
	seed := uint64(random())<<32 | uint64(random())
	return &Table[W]{
		random:  random,
		nobody:  nobody{seed: seed},
		habits:  habits{seed: seed},
		lookups: map[place]*lookup[W]{},
		asked:   map[uint32]*lookup[W]{},
	}
}

// Ask starts a lookup, or joins the one that is under way. waiter, which takes size bytes
// of memory, comes back later if the result is Waiting. Call Tick after it: there may be
// a question to send.
func (t *Table[W]) Ask(now mono.Time, key Key, waiter W, size int, who Origin) Result {
	if who == Person {
		t.nobody.clear(key)
	} else if t.nobody.has(now, key) {
		t.Counters.Remembered++
		return Nobody
	}
	l := t.seek(now, place{key, who})
	if l == nil {
		t.Counters.Full++
		return Full
	}
	if len(l.waiters) >= maxMessages || l.bytes+size > maxBytes || t.bytes+size > maxBytesInAll {
		t.Counters.WaitingFull++
		return Full
	}
	l.waiters = append(l.waiters, waiter)
	l.bytes += size
	t.bytes += size
	return Waiting
}

// seek returns the lookup at a place. It makes one if there is none, and returns nil if
// there is no room.
func (t *Table[W]) seek(now mono.Time, p place) *lookup[W] {
	habit := 0
	if p.who == Program {
		habit = t.habits.note(now, p.key)
	}
	l := t.lookups[p]
	if l != nil {
		l.habit = max(l.habit, habit)
		t.line.again(l)
		return l
	}
	if !t.room(p.who, habit) {
		return nil
	}
	l = &lookup[W]{place: p, habit: habit, end: now.Add(lifetimeUnasked), limit: now.Add(lifetimeInAll)}
	t.lookups[p] = l
	t.count[p.who]++
	t.due.put(l, l.end)
	t.line.join(l)
	return l
}

// room reports whether one more lookup fits, and displaces another one if need be.
func (t *Table[W]) room(who Origin, habit int) bool {
	if who == Person {
		return t.count[Person] < maxPersons
	}
	if t.count[Program] < maxPrograms {
		return true
	}
	last := t.line.last()
	if last == nil || last.habit > habit || len(t.displaced) >= maxPrograms {
		return false
	}
	t.Counters.Displaced++
	t.returning += last.bytes
	t.bytes += last.bytes // they are still ours until Tick returns them
	t.displaced = appendEnded(t.displaced, t.remove(last))
	return true
}

// Answer takes the answer to a WHOIS, and returns everything that waited for the address.
// ok is false if nothing was asked that it answers. The zero address is "not found": the
// peer that was asked does not know it, but others may.
func (t *Table[W]) Answer(request uint32, a anode.Address) (waiters []W, ok bool) {
	l := t.asked[request]
	if l != nil && a.IsZero() {
		t.Counters.NotThere++
		return nil, false
	}
	if l == nil || !l.answeredBy(a) {
		t.Counters.Stray++
		return nil, false
	}
	return t.Known(a), true
}

// answeredBy reports whether a is a valid address and the one that was asked for.
func (l *lookup[W]) answeredBy(a anode.Address) bool {
	m := l.key.whois(l.request)
	if !m.Matches(a) {
		return false
	}
	_, err := anode.AddressFromBytes(a[:])
	return err == nil
}

// Known ends the lookups that an address answers, however it became known, and returns
// everything that waited for it.
func (t *Table[W]) Known(a anode.Address) (waiters []W) {
	u := a.ULA()
	for _, key := range [...]Key{ByULA(u), ByID(u.ID())} {
		t.nobody.clear(key)
		for who := range origins {
			if l := t.lookups[place{key, who}]; l != nil {
				t.Counters.Found++
				waiters = append(waiters, t.remove(l).Waiters...)
			}
		}
	}
	return waiters
}

// remove forgets a lookup.
func (t *Table[W]) remove(l *lookup[W]) Ended[W] {
	delete(t.lookups, l.place)
	if l.asks > 0 {
		delete(t.asked, l.request)
	}
	t.count[l.who]--
	t.bytes -= l.bytes
	t.due.drop(l)
	t.line.leave(l)
	return Ended[W]{l.key, l.waiters, l.asks > 0}
}

func appendEnded[W any](over []Ended[W], e Ended[W]) []Ended[W] {
	if len(e.Waiters) == 0 {
		return over
	}
	return append(over, e)
}
