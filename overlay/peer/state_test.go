package peer

import (
	"errors"
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/path"
)

// Each state with all facts, against the table above State.
func TestStateTable(t *testing.T) {
	all := []State{Idle, Seeking, Shaking, Up, Lost, Unreachable}
	arrows := map[State][]State{}
	for _, s := range all {
		for bits := range 32 {
			f := facts{way: bits&1 != 0, session: bits&2 != 0, trying: bits&4 != 0, silent: bits&8 != 0, gaveUp: bits&16 != 0}
			want := Unreachable
			switch {
			case f.session && f.way && !f.silent:
				want = Up
			case f.session && f.way:
				want = Lost
			case f.gaveUp:
			case f.trying && f.way:
				want = Shaking
			case f.trying:
				want = Seeking
			case s == Idle || s == Up:
				want = Idle
			}
			got := s.next(f)
			if got != want {
				t.Errorf("%v with %+v: %v, want %v", s, f, got, want)
			}
			if again := got.next(f); again != got && !f.gaveUp {
				t.Errorf("%v with %+v does not rest: %v, then %v", s, f, got, again)
			}
			if !slices.Contains(arrows[s], got) {
				arrows[s] = append(arrows[s], got)
			}
		}
	}
	for _, s := range all {
		if quiet := s.next(facts{}); quiet != Idle && quiet != Unreachable {
			t.Errorf("%v without any facts stays %v", s, quiet)
		}
		if idle := slices.Contains(arrows[s], Idle); idle != (s == Idle || s == Up) {
			t.Errorf("an arrow from %v to idle: %v", s, idle)
		}
	}
}

// What a peer goes through, from outside.
func TestStates(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	is(t, "at first", a.p.State(), Idle)
	a.say("x")
	is(t, "something waits", a.p.State(), Seeking)
	w.run(patience+time.Second, nil)
	is(t, "failed", len(a.failed), 1)
	w.run(time.Minute, nil)
	is(t, "nobody answered", a.p.State(), Unreachable)

	a.p.Offer(w.now, direct(2), path.Stored)
	w.run(time.Second, func(p *packet) bool { return p.typ == wire.Welcome })
	is(t, "a way answers again", a.p.State(), Idle)
	a.say("y")
	w.run(time.Second, func(p *packet) bool { return p.typ == wire.Welcome })
	is(t, "a way and no session", a.p.State(), Shaking)
	w.run(5*time.Second, nil)
	is(t, "up", a.p.State(), Up)
	is(t, "up for b", b.p.State(), Up)

	a.say("z")
	w.run(5*time.Second, lost)
	is(t, "silent", a.p.State(), Lost)
	if a.p.Route.Load() != nil {
		t.Error("there is a route to a machine that is lost")
	}
	b.say("here")
	w.run(time.Second, nil)
	is(t, "heard again", a.p.State(), Up)
	w.run(4*time.Minute, nil)
	is(t, "keys ended", a.p.State(), Idle)
	is(t, "nothing is due", a.p.entry.due > w.now.Add(time.Hour), true)

	a.say("once more")
	w.run(time.Second, nil)
	is(t, "up again", a.p.State(), Up)
	a.say("z")
	w.run(5*time.Minute, lost)
	is(t, "gone", a.p.State(), Unreachable)
}

func TestDecide(t *testing.T) {
	w := newWorld(t, 1)
	a, _ := w.pair()
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("waits")
	a.p.Tick(w.now)
	a.p.Decide(w.now, book.Blocked, nil)
	is(t, "answered", errors.Is(a.failed[dgram("waits")], ErrBlocked), true)
	is(t, "answers", len(a.failed), 1)
	is(t, "machines", len(a.p.all()), 0)
	a.drop()
	a.say("refused")
	is(t, "refused", len(a.failed), 2)
	w.run(time.Minute, nil)
	is(t, "packets to one who is blocked", len(a.sent), 0)
	is(t, "due", a.p.entry.due.Happened(), false)

	a.p.Decide(w.now, book.Added, nil)
	is(t, "unblocked", a.p.State(), Idle)
	a.p.Offer(w.now, direct(2), path.Stored)
	a.say("goes")
	w.run(time.Second, nil)
	is(t, "up", a.p.State(), Up)
	is(t, "b admits", a.p.Admits(), wire.StandingAdded)

	a.p.Decide(w.now, book.Blocked, nil)
	for what, there := range map[string]bool{"route": a.p.Route.Load() != nil, "inbound": a.p.Inbound.Load() != nil,
		"forward": a.p.Forward.Load() != nil, "MAC": a.p.MAC.Load() != nil, "machines": a.p.Machines.Load() != nil} {
		if there {
			t.Errorf("the lanes have a %s of one who is blocked", what)
		}
	}
}
