package peer

import (
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// byRelay makes a side that knows another one by a relay alone, trip away.
func (w *world) byRelay(trip time.Duration) (a, b *fake) {
	a, b = w.pair()
	a.trip, b.trip = trip, trip
	via := anode.Address{1}
	a.relay, b.relay = via, via
	a.p.Offer(w.now, path.Way{Endpoint: b.at, Via: via}, path.Relay)
	return a, b
}

// A HELLO goes out again when its answer is overdue by the round trip to the relay, a few times
// and ever later.
func TestHelloAgain(t *testing.T) {
	for _, c := range []struct {
		trip         time.Duration
		early, later int // HELLOs in the first 250 ms, and after 30 s
	}{
		{0, 2, 11},
		{30 * time.Millisecond, 4, 19},
		{time.Second, 2, 17},
	} {
		w := newWorld(t, 1)
		a, _ := w.byRelay(c.trip)
		a.say("first")
		end := w.now.Add(30 * time.Second)
		at := w.now.Add(249 * time.Millisecond)
		early, n := 0, 0
		count := func(x *packet) bool {
			if x.typ == wire.Hello {
				n++
				if w.now <= at {
					early++
				}
			}
			return true
		}
		w.run(end.Sub(w.now), count)
		if early != c.early || n > c.later {
			t.Errorf("to a relay %v away %d HELLOs at first and %d in all, want %d and at most %d", c.trip, early, n, c.early, c.later)
		}
	}
}

// If the first packets get lost, the session is there before the time at which package seal
// repeats its HELLO.
func TestHelloAgainIsAnswered(t *testing.T) {
	w := newWorld(t, 1)
	a, _ := w.byRelay(30 * time.Millisecond)
	a.say("first")
	lostBefore := w.now.Add(40 * time.Millisecond)
	w.run(200*time.Millisecond, func(*packet) bool { return w.now < lostBefore })
	is(t, "the state", a.p.State(), Up)
}

// The round trip is that of the HELLO that was answered, and not of a later one.
func TestShakesAnswered(t *testing.T) {
	at := mono.At(time.Hour)
	ms := func(n int) mono.Time { return at.Add(time.Duration(n) * time.Millisecond) }
	var s shakes
	for _, n := range []int{0, 20, 250} {
		s.note(ms(n), at)
	}
	for _, c := range []struct{ now, least, sent int }{
		{604, 450, 20}, // not the one after 250 ms
		{604, 0, 250},
		{64, 48, 0},
		{40, 48, 0}, // quicker than expected
	} {
		if got := s.answered(ms(c.now), time.Duration(c.least)*time.Millisecond); got != ms(c.sent) {
			t.Errorf("%+v: %v after the first", c, got.Sub(at))
		}
	}
	s.note(ms(900), ms(900))
	is(t, "the first of another handshake", s.answered(ms(901), time.Hour), ms(900))
}

// All HELLOs were lost. When the peer answers something else, the handshake ends then, not when the
// next HELLO is due by itself.
func TestHelloAfterProof(t *testing.T) {
	w := newWorld(t, 1)
	a, _ := w.byRelay(30 * time.Millisecond)
	a.say("first")
	until := w.now.Add(3500 * time.Millisecond) // the next EPC_REQ is sent at 3.52 s, the next HELLO at 3.75 s
	w.run(3700*time.Millisecond, func(*packet) bool { return w.now < until })
	is(t, "the state", a.p.State(), Up)
}

// A proof allows a few HELLOs more, not endless ones, and keeps when the first was sent.
func TestShakesRenew(t *testing.T) {
	at := mono.At(time.Hour)
	var s shakes
	now := at
	sent := 0
	for range 5 {
		s.note(now, at)
		for n := 0; n < 100; n++ {
			due := s.due(30 * time.Millisecond)
			if due == mono.Never {
				break
			}
			now, sent = due, sent+1
			s.again++
			s.note(now, at)
		}
		s.renew()
	}
	if sent < againMost+3*againProved || sent > againMost+4*againProved {
		t.Errorf("%d HELLOs with four proofs", sent)
	}
	is(t, "the first", s.answered(now, time.Hour), at)
}

// Two HELLOs cross: one machine of the peer is known by then, and not along which way. The answer
// to ours proves that all the same.
func TestWelcomeProvesForKnownMachine(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.byRelay(30 * time.Millisecond)
	a.say("first")
	w.run(10*time.Millisecond, func(*packet) bool { return true })
	a.relay, b.relay = anode.Address{2}, anode.Address{2} // what comes now comes by another relay
	b.p.Offer(w.now, path.Way{Endpoint: a.at, Via: b.relay}, path.Relay)
	b.say("crossing")
	w.run(5*time.Millisecond, func(x *packet) bool { return x.typ != wire.Hello || x.to != a.at })
	is(t, "machines of the peer", len(a.p.all()), 2)
	a.relay, b.relay = anode.Address{1}, anode.Address{1}
	w.run(100*time.Millisecond, func(x *packet) bool { return x.typ == wire.EPC || x.to == a.at && x.typ == wire.Hello })
	is(t, "the state", a.p.State(), Up)
}
