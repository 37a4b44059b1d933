package info2

import (
	"net/netip"
	"testing"
	"time"
)

// bench drives one core by hand and notes what it writes, and when.
type bench struct {
	t    *testing.T
	core *core
	now  time.Time
	// what the core asked for
	writes  map[linkID][]written
	dials   []action
	closed  map[linkID]bool
	heard   []string
	blocked map[linkID]bool // its writes never end
}

type written struct {
	at   time.Duration // since t0
	data string
	last bool // our half ends with it
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, now: t0, writes: make(map[linkID][]written), closed: make(map[linkID]bool), blocked: make(map[linkID]bool)}
	b.core = newCore(t0, rules{listening: true}, seeded(1, 1))
	return b
}

var here = ip("10.0.0.1")

// act collects the actions; writes end at once, unless blocked.
func (b *bench) act() {
	for actions := b.core.fx.take(); len(actions) > 0; actions = b.core.fx.take() {
		for _, a := range actions {
			switch a.op {
			case opWrite, opWriteLast:
				b.writes[a.id] = append(b.writes[a.id], written{b.now.Sub(t0), string(a.data), a.op == opWriteLast})
				if !b.blocked[a.id] {
					b.core.sent(b.now, a.id)
				}
			case opDial:
				b.dials = append(b.dials, a)
			case opClose:
				b.closed[a.id] = true
			case opDeliver:
				b.heard = append(b.heard, a.message.Text)
			}
		}
	}
}

// pass lets time pass, tick by tick.
func (b *bench) pass(d time.Duration) {
	b.t.Helper()
	b.act()
	end := b.now.Add(d)
	for n := 0; ; n++ {
		at := b.core.next(b.now)
		if at.IsZero() || at.After(end) {
			break
		}
		if n > 1000000 {
			b.t.Fatal("time stands still")
		}
		if at.After(b.now) {
			b.now = at
		}
		b.core.tick(b.now)
		b.act()
	}
	b.now = end
}

func (b *bench) accept(from string) linkID {
	b.t.Helper()
	id, ok := b.core.accepted(b.now, ip(from), here)
	if !ok {
		b.t.Fatalf("%s refused", from)
	}
	b.act()
	return id
}

func (b *bench) recv(id linkID, data string) {
	b.core.received(b.now, id, []byte(data))
	b.act()
}

func (b *bench) eof(id linkID) {
	b.core.eof(b.now, id)
	b.act()
}

// join accepts a connection and takes its hello.
func (b *bench) join(from string) linkID {
	b.t.Helper()
	id := b.accept(from)
	b.recv(id, helloLine)
	return id
}

// answerDial completes the oldest dial, up to the OK.
func (b *bench) answerDial() (linkID, netip.Addr) {
	b.t.Helper()
	if len(b.dials) == 0 {
		b.t.Fatal("no dial")
	}
	d := b.dials[0]
	b.dials = b.dials[1:]
	b.core.dialed(b.now, d.id, here, nil)
	b.act()
	b.recv(d.id, okLine)
	return d.id, d.addr
}

func (b *bench) data(id linkID) (list []string) {
	for _, w := range b.writes[id] {
		list = append(list, w.data)
	}
	return list
}

func (b *bench) say(text string) {
	b.t.Helper()
	if _, err := b.core.say(b.now, text); err != nil {
		b.t.Fatal(err)
	}
	b.act()
}
