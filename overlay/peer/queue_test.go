package peer

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/path"
)

func TestQueueBounds(t *testing.T) {
	for _, c := range []struct {
		name         string
		size, accept int
	}{
		{"many", 10, queueMessages},
		{"long", 10000, queueBytes / 10000},
		{"too long for all", queueBytes + 1, 0},
		{"as long as all", queueBytes, 1},
	} {
		var q queue
		n := 0
		for range 200 {
			if q.add(5, Waiting{Msg: make([]byte, c.size)}) {
				n++
			}
		}
		is(t, c.name, n, c.accept)
		is(t, c.name+": taken", len(q.take()), c.accept)
		is(t, c.name+": then", len(q.msgs)+q.bytes, 0)
	}
}

// Each message that waits is sent once or answered once.
func TestWaiting(t *testing.T) {
	t.Run("sent", func(t *testing.T) {
		w := newWorld(t, 1)
		a, b := w.pair()
		for n := range queueMessages + 3 {
			a.say(fmt.Sprint(n))
		}
		is(t, "refused", len(a.failed), 3)
		for _, err := range a.failed {
			is(t, "the queue is full", errors.Is(err, ErrFull), true)
		}
		got := map[string]int{}
		a.p.Offer(w.now, direct(2), path.Stored)
		w.run(time.Second, func(p *packet) bool {
			if p.to == b.at && p.session != nil && p.typ == wire.Dgram {
				got[string(p.body)]++
			}
			return false
		})
		is(t, "sent", len(got), queueMessages)
		for msg, n := range got {
			is(t, msg, n, 1)
		}
		is(t, "answered", len(a.failed), 3)
	})
	t.Run("answered", func(t *testing.T) {
		w := newWorld(t, 1)
		a, _ := w.pair()
		a.say("x")
		w.run(patience-time.Millisecond, nil)
		is(t, "before its time", len(a.failed), 0)
		w.run(2*time.Millisecond, nil)
		is(t, "unreachable", errors.Is(a.failed[dgram("x")], ErrUnreachable), true)
		is(t, "waits", a.p.Waits(), false)
	})
	t.Run("lost", func(t *testing.T) {
		w := newWorld(t, 1)
		a, b := w.pair()
		w.meet(a, b)
		a.say("void")
		w.run(5*time.Second, lost)
		is(t, "state", a.p.State(), Lost)
		a.say("x")
		w.run(patienceLost+time.Millisecond, lost)
		is(t, "unreachable", errors.Is(a.failed[dgram("x")], ErrUnreachable), true)
	})
	t.Run("closed", func(t *testing.T) {
		w := newWorld(t, 1)
		a, _ := w.pair()
		a.say("x")
		a.p.Close(w.now, ErrRemoved)
		is(t, "removed", errors.Is(a.failed[dgram("x")], ErrRemoved), true)
	})
}

// A message that waited has the timers of its session run: what is not answered leads
// to a HELLO, although nothing else happens.
func TestWaitingWakesTimers(t *testing.T) {
	w := newWorld(t, 1)
	a, b := w.pair()
	w.meet(a, b)
	w.run(30*time.Second, nil) // idle
	a.say("x")
	w.run(2*time.Second, lost)
	if a.p.Each()[0].set.Unanswered(w.now.Duration()) == 0 {
		t.Error("no HELLO is under way")
	}
}
