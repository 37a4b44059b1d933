package lookup

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// base is a valid address; its key has one in every zone.
var base = func() anode.Address {
	a, err := anode.ParseAddress("aeaqeayeaaaahwwqwzjziiq47gyfdyp6zjlypuey37tdp7eqxhxziximg5zfqema")
	if err != nil {
		panic(err)
	}
	return a
}()

// address returns the nth address.
func address(n int) anode.Address {
	key, err := base.PublicKey()
	if err != nil {
		panic(err)
	}
	return anode.NewAddress(anode.Zone(n), key)
}

// scanned returns the nth key of a scan. No address has it.
func scanned(n int) Key {
	return ByULA(anode.ULA{0: 0xfd, 8: 0x77, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

// start is when a test begins.
var start = mono.At(time.Hour)

// bench is a table with its clock, and what came of it.
type bench struct {
	*Table[int]
	t         *testing.T
	now       mono.Time
	questions []wire.WhoisMsg
	at        []time.Duration // of each question, since start
	over      []Ended[int]
}

func newBench(t *testing.T) *bench {
	random := rand.New(rand.NewPCG(1, 2))
	return &bench{Table: New[int](random.Uint32), t: t, now: start}
}

// ask asks and ticks.
func (b *bench) ask(key Key, waiter int, who Origin, want Result) {
	b.t.Helper()
	if got := b.Ask(b.now, key, waiter, 0, who); got != want {
		b.t.Fatalf("at %v: %v, want %v", b.now.Sub(start), got, want)
	}
	b.tick()
}

func (b *bench) tick() mono.Time {
	questions, over, next := b.Tick(b.now)
	for range questions {
		b.at = append(b.at, b.now.Sub(start))
	}
	b.questions = append(b.questions, questions...)
	b.over = append(b.over, over...)
	return next
}

// until lets the time pass, and ticks when Tick wants it.
func (b *bench) until(d time.Duration) {
	b.t.Helper()
	end := start.Add(d)
	for {
		next := b.tick()
		if next <= b.now {
			b.t.Fatalf("at %v: due again at once", b.now.Sub(start))
		}
		if next > end {
			b.now = end
			return
		}
		b.now = next
	}
}

func near(got []time.Duration, want ...time.Duration) bool {
	return slices.EqualFunc(got, want, func(g, w time.Duration) bool { return g >= w && g-w <= 2*grain })
}

const ms = time.Millisecond

func TestOneLookup(t *testing.T) {
	b := newBench(t)
	key := ByULA(address(1).ULA())
	b.ask(key, 7, Program, Waiting)
	b.ask(key, 8, Program, Waiting)
	b.until(2900 * ms)
	if !near(b.at, 0, 500*ms, 1500*ms) {
		t.Errorf("asked at %v", b.at)
	}
	for _, m := range b.questions {
		if m.Kind != wire.WhoisULA || m.ULA != key.ULA || m.ID != key.ID || m.Request != b.questions[0].Request {
			t.Errorf("asked %+v", m)
		}
	}
	if len(b.over) != 0 {
		t.Error("it was over before three seconds")
	}
	b.until(3 * time.Second)
	b.tick()
	if len(b.over) != 1 || !slices.Equal(b.over[0].Waiters, []int{7, 8}) || !b.over[0].Asked || b.over[0].Key != key {
		t.Errorf("over: %+v", b.over)
	}
	if b.tick() != mono.Never {
		t.Error("a timer runs without work")
	}
	if c := (Counters{Questions: 3, Nobody: 1}); b.Counters != c {
		t.Errorf("counters %+v, want %+v", b.Counters, c)
	}
}

func TestAnswer(t *testing.T) {
	a := address(1)
	broken := a
	broken[39] += 2 // no point on the curve
	for _, c := range []struct {
		name  string
		key   Key
		other uint32 // added to the request
		a     anode.Address
		ok    bool
		count Counters
	}{
		{"of a ULA", ByULA(a.ULA()), 0, a, true, Counters{Questions: 1, Found: 1}},
		{"of a short ID", ByID(a.ID()), 0, a, true, Counters{Questions: 1, Found: 1}},
		{"not found there", ByULA(a.ULA()), 0, anode.Address{}, false, Counters{Questions: 1, NotThere: 1}},
		{"another request", ByULA(a.ULA()), 1, a, false, Counters{Questions: 1, Stray: 1}},
		{"another request, not found", ByULA(a.ULA()), 1, anode.Address{}, false, Counters{Questions: 1, Stray: 1}},
		{"another address", ByULA(a.ULA()), 0, address(2), false, Counters{Questions: 1, Stray: 1}},
		{"another address for a short ID", ByID(a.ID()), 0, address(2), false, Counters{Questions: 1, Stray: 1}},
		{"no address at all", ByID(broken.ID()), 0, broken, false, Counters{Questions: 1, Stray: 1}},
	} {
		b := newBench(t)
		b.ask(c.key, 7, Person, Waiting)
		waiters, ok := b.Answer(b.questions[0].Request+c.other, c.a)
		if ok != c.ok || ok != slices.Equal(waiters, []int{7}) {
			t.Errorf("%s: %v, %v", c.name, waiters, ok)
		}
		if b.Counters != c.count {
			t.Errorf("%s: counters %+v, want %+v", c.name, b.Counters, c.count)
		}
		if waiters, ok = b.Answer(b.questions[0].Request+c.other, c.a); c.ok && (ok || len(waiters) != 0) {
			t.Errorf("%s: taken twice", c.name)
		}
		if b.until(10 * time.Second); len(b.over) == 1 == c.ok {
			t.Errorf("%s: over %+v", c.name, b.over)
		}
	}
}

func TestKnownEndsAllLookupsOfTheAddress(t *testing.T) {
	b := newBench(t)
	a := address(1)
	b.ask(ByULA(a.ULA()), 1, Program, Waiting)
	b.ask(ByULA(a.ULA()), 2, Person, Waiting)
	b.ask(ByID(a.ID()), 3, Person, Waiting)
	b.ask(ByULA(address(2).ULA()), 4, Program, Waiting)
	if w := b.Known(a); !slices.Equal(slices.Sorted(slices.Values(w)), []int{1, 2, 3}) {
		t.Errorf("%v came back", w)
	}
	if w := b.Known(a); len(w) != 0 {
		t.Errorf("%v came back twice", w)
	}
	b.until(6 * time.Second)
	if len(b.over) != 1 || !slices.Equal(b.over[0].Waiters, []int{4}) {
		t.Errorf("over: %+v", b.over)
	}
}

func TestNobodyIsRemembered(t *testing.T) {
	over := 3 * time.Second
	for _, c := range []struct {
		name  string
		after time.Duration
		do    func(b *bench, key Key)
		want  Result
	}{
		{"at once", 0, nil, Nobody},
		{"after 9.9 s", 9900 * ms, nil, Nobody},
		{"after 10 s", 10 * time.Second, nil, Waiting},
		{"a person asks anyway", 0, func(b *bench, key Key) { b.ask(key, 2, Person, Waiting) }, Waiting},
		{"known meanwhile", 0, func(b *bench, key Key) { b.Known(address(1)) }, Waiting},
	} {
		b := newBench(t)
		key := ByULA(address(1).ULA())
		b.ask(key, 1, Program, Waiting)
		b.until(over)
		b.until(over + c.after)
		if c.do != nil {
			c.do(b, key)
		}
		if got := b.Ask(b.now, key, 3, 0, Program); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if (c.want == Nobody) != (b.Counters.Remembered == 1) {
			t.Errorf("%s: %d counted", c.name, b.Counters.Remembered)
		}
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	for _, c := range []struct {
		name      string
		keys      int
		size, fit int
	}{
		{"messages of one key", 1, 100, 64},
		{"bytes of one key", 1, 10 << 10, 12},
		{"bytes in all", 20, 64 << 10, 16},
	} {
		b := newBench(t)
		fit := 0
		for i := range 100 {
			if b.Ask(b.now, scanned(i%c.keys), i, c.size, Program) == Waiting {
				fit++
			}
		}
		if fit != c.fit || b.Counters.WaitingFull != uint64(100-c.fit) {
			t.Errorf("%s: %d fit, %d counted, want %d", c.name, fit, b.Counters.WaitingFull, c.fit)
		}
		if got := b.Ask(b.now, scanned(0), 1, 0, Person); got != Waiting {
			t.Errorf("%s: a person: %v", c.name, got)
		}
		if b.until(6 * time.Second); b.bytes != 0 {
			t.Errorf("%s: %d bytes are still counted", c.name, b.bytes)
		}
	}
}

func TestLookupsAreBounded(t *testing.T) {
	b := newBench(t)
	for i := range 40 {
		want := Waiting
		if i >= maxPersons {
			want = Full
		}
		b.ask(scanned(i), i, Person, want)
	}
	// Programs have their own room, where the oldest that was not asked makes room.
	for i := range 200 {
		b.ask(scanned(i), 1000+i, Program, Waiting)
	}
	if b.count != [...]int{maxPrograms, maxPersons} || len(b.lookups) != maxPrograms+maxPersons {
		t.Errorf("%v lookups, %d in all", b.count, len(b.lookups))
	}
	if len(b.over) != 200-maxPrograms || b.over[0].Waiters[0] != 1000 || b.over[0].Asked {
		t.Errorf("%d were displaced, the first was %+v", len(b.over), b.over[0])
	}
	if b.Counters.Full != 8 || b.Counters.Displaced != 72 {
		t.Errorf("counters %+v", b.Counters)
	}
	if got := b.Ask(b.now, scanned(0), 1, 0, Program); got != Waiting {
		t.Errorf("what was displaced and never asked is refused: %v", got)
	}
}

// What was displaced is bounded too, if nobody ticks.
func TestDisplacedAreBounded(t *testing.T) {
	b := newBench(t)
	got := [3]int{}
	for i := range 1000 {
		got[b.Ask(b.now, scanned(i), i, 0, Program)]++
	}
	if got[Waiting] != 2*maxPrograms || len(b.displaced) != maxPrograms {
		t.Errorf("%d wait, %d displaced", got[Waiting], len(b.displaced))
	}
}

func TestOrder(t *testing.T) {
	b := newBench(t)
	for i := range 2 {
		b.ask(scanned(i), i, Program, Waiting) // they use up the tokens at hand
	}
	b.ask(scanned(10), 10, Program, Waiting)
	b.ask(scanned(11), 11, Program, Waiting)
	b.ask(scanned(12), 12, Program, Waiting)
	b.ask(scanned(10), 13, Program, Waiting)
	b.ask(scanned(20), 20, Person, Waiting)
	b.ask(scanned(21), 21, Person, Waiting)
	b.ask(scanned(22), 22, Person, Waiting)
	b.until(3900 * ms)
	var order []Key
	for _, m := range b.questions {
		if k := (Key{m.ULA, m.ID}); !slices.Contains(order, k) {
			order = append(order, k)
		}
	}
	want := []Key{scanned(0), scanned(1), scanned(20), scanned(21), scanned(22), scanned(10), scanned(12), scanned(11)}
	if !slices.Equal(order, want) {
		t.Errorf("asked in the order %v", order)
	}
}

// A lookup that is asked late has a second for its answer, and five seconds in all.
func TestTimesOfALateLookup(t *testing.T) {
	b := newBench(t)
	key := scanned(0)
	b.Ask(b.now, key, 1, 0, Program)
	b.now = start.Add(3900 * ms)
	b.ask(scanned(1), 2, Program, Waiting)
	b.until(4900 * ms)
	if len(b.over) != 0 {
		t.Errorf("over: %+v", b.over)
	}
	b.until(5 * time.Second)
	if b.tick(); len(b.over) != 1 || b.over[0].Key != key {
		t.Errorf("over: %+v", b.over)
	}
}

func TestUnaskedLookupIsNotRemembered(t *testing.T) {
	b := newBench(t)
	for i := range maxPrograms {
		b.ask(scanned(i), i, Program, Waiting)
	}
	b.until(4 * time.Second)
	b.tick()
	unasked := 0
	for _, e := range b.over {
		if e.Asked {
			continue
		}
		unasked++
		if b.nobody.has(b.now, e.Key) {
			t.Fatalf("%v was never asked, and is remembered", e.Key)
		}
	}
	if unasked < 100 || b.Counters.Unasked != uint64(unasked) {
		t.Errorf("%d were never asked, %d counted", unasked, b.Counters.Unasked)
	}
}

func TestInterval(t *testing.T) {
	var i Interval
	now := start
	if !i.Due(now) || i.Next() != 0 {
		t.Error("the first search is not due at once")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		i.Asked(now)
		next := now.Add(want * time.Second)
		if i.Next() != next || i.Due(next-1) || !i.Due(next) {
			t.Errorf("a pause of %v, want %v s", i.Next().Sub(now), want)
		}
		now = next
	}
	if i.Reset(); !i.Due(now) {
		t.Error("not due after a reset")
	}
	if i.Asked(now); i.Next() != now.Add(time.Second) {
		t.Error("the pauses do not begin anew after a reset")
	}
}
