package path

import (
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/overlay/mono"
)

// world is one way in a simulation: what it carries when, and what is on it.
type world struct {
	t     *testing.T
	rand  *rand.Rand
	s     Search
	now   mono.Time
	start mono.Time
	rtt   time.Duration
	queue time.Duration // that the round trip does not include

	mtu    func(at time.Duration) int // largest datagram that arrives
	loss   float64                    // of each packet, both directions
	trains func(at time.Duration) bool
	large  func(at time.Duration) bool // full-size data is sent
	small  bool                        // something small is heard all the time

	used      Traffic
	acks      []ack
	probes    int
	lastTrial time.Duration
	trials    int
	tooLarge  time.Duration // when a datagram above the true size was last sent
}

type ack struct {
	at   mono.Time
	id   uint32
	size int
}

func always(n int) func(time.Duration) int { return func(time.Duration) int { return n } }

func yes(time.Duration) bool { return true }

func newWorld(t *testing.T, limit int, seed uint64) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 7)), now: mono.At(time.Hour), rtt: 30 * ms,
		trains: yes, large: func(time.Duration) bool { return false }, small: true, tooLarge: -1}
	w.start = w.now
	w.s = NewSearch(limit, w.rand.Uint32)
	return w
}

func (w *world) at() time.Duration { return w.now.Sub(w.start) }

func (w *world) passes() bool { return w.rand.Float64() >= w.loss }

// run runs the way until at, in steps of 10 ms, as an engine does: it asks when the
// timer is due, after answers, and when large data begins.
func (w *world) run(until time.Duration) {
	w.t.Helper()
	next := w.now
	for ; w.at() < until; w.now = w.now.Add(10 * ms) {
		ask := next <= w.now
		for len(w.acks) > 0 && w.acks[0].at <= w.now {
			a := w.acks[0]
			w.acks = w.acks[1:]
			w.used.Heard = w.now
			w.s.Answered(w.now, a.id, a.size)
			ask = true
		}
		if w.small && w.mtu(w.at()) > 0 {
			w.used.Heard = w.now
		}
		if w.large(w.at()) {
			ask = ask || w.now.Sub(w.used.Large) > 2*time.Second
			w.used.Large = w.now
			if w.s.Size() > w.mtu(w.at()) {
				w.tooLarge = w.at()
			}
		}
		if ask {
			next = w.ask()
		}
	}
}

func (w *world) ask() mono.Time {
	w.t.Helper()
	probes, next := w.s.Due(w.now, w.rtt, w.used, true)
	if next <= w.now {
		w.t.Fatalf("due at %v, and it is %v", next, w.now)
	}
	for _, p := range probes {
		w.probes += p.Count
		if p.Count > 1 {
			w.trials++
			w.lastTrial = w.at()
			if !w.trains(w.at()) {
				continue
			}
		}
		if p.Size <= w.mtu(w.at()) && w.passes() && w.passes() {
			w.acks = append(w.acks, ack{w.now.Add(w.rtt + w.queue), p.ID, p.Size})
			if w.rand.IntN(10) == 0 { // duplicated
				w.acks = append(w.acks, ack{w.now.Add(w.rtt + w.queue), p.ID, p.Size})
			}
		}
	}
	return next
}

func (w *world) right(size int) bool { return w.s.Size() <= size && w.s.Size() >= size-maxGap }

func TestSearchFirst(t *testing.T) {
	for _, c := range []struct {
		name            string
		limit, size, by int
		probes          int
		time            time.Duration
	}{
		{"as promised", 1472, 1472, 0, 1, 50 * ms},
		{"1500 there 1400 here", 1472, 1372, 0, 40, 1600 * ms},
		{"router of 1300", 1472, 1272, 0, 40, 1600 * ms},
		{"9000 against 1500", 8972, 1472, 0, 42, 1900 * ms},
		{"loopback against 1280", 65000, 1232, 0, 50, 1900 * ms},
		{"576", 1472, 548, 0, 40, 1900 * ms},
		{"one byte less than promised", 1472, 1471, 0, 40, 1600 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.limit, 1)
			w.mtu = always(c.size)
			w.run(c.time)
			if !w.right(c.size) {
				t.Errorf("%d after %v, want %d", w.s.Size(), c.time, c.size)
			}
			w.run(time.Minute)
			n := w.probes - w.trials*(trainProbes+2)
			if !w.right(c.size) || n > c.probes {
				t.Errorf("%d by %d probes, want %d by %d", w.s.Size(), n, c.size, c.probes)
			}
			if _, next := w.s.Due(w.now, w.rtt, w.used, true); next != mono.Never {
				t.Error("there is a timer though nothing flows")
			}
			t.Logf("%d by %d probes", w.s.Size(), n)
		})
	}
}

// steps is an MTU that changes every so often.
func steps(every time.Duration, sizes ...int) func(time.Duration) int {
	return func(at time.Duration) int { return sizes[min(int(at/every), len(sizes)-1)] }
}

func TestSearchFollows(t *testing.T) {
	const every = 20 * time.Second
	for _, sizes := range [][]int{
		{1472, 1272, 1472}, {1472, 1372, 1272, 1372, 1472}, {1272, 1232, 1452}, {1472, 548, 600, 1472}, {1472, 1470, 1472},
	} {
		for seed := range uint64(10) {
			w := newWorld(t, 1472, seed)
			w.mtu, w.large = steps(every, sizes...), yes
			for k, n := range sizes {
				from := time.Duration(k) * every
				w.run(from + 3*time.Second)
				if !w.right(n) {
					t.Fatalf("%v, seed %d: %d 3 s after it became %d", sizes, seed, w.s.Size(), n)
				}
				before := w.probes
				for w.at() < from+every {
					w.run(w.at() + 100*ms)
					if !w.right(n) && w.at() < from+every {
						t.Fatalf("%v, seed %d: %d at %v", sizes, seed, w.s.Size(), w.at())
					}
				}
				if w.tooLarge > from+3*time.Second {
					t.Fatalf("%v, seed %d: a datagram that does not pass was sent %v after the change", sizes, seed, w.tooLarge-from)
				}
				if rate := float64(w.probes-before) / 17; rate > 4 {
					t.Errorf("%.1f probes a second to keep %d", rate, n)
				}
			}
		}
	}
}

// Nothing large flows: nothing is measured. When it flows again, the size is verified
// at once, and found.
func TestSearchRests(t *testing.T) {
	w := newWorld(t, 1472, 1)
	w.mtu = steps(time.Minute, 1472, 1272, 1472)
	w.run(50 * time.Second)
	n := w.probes
	w.run(100 * time.Second)
	if w.probes != n || w.s.Size() != 1472 {
		t.Errorf("%d probes while nothing large was sent, size %d", w.probes-n, w.s.Size())
	}
	w.large = func(at time.Duration) bool { return at < 110*time.Second }
	w.run(103 * time.Second)
	if !w.right(1272) {
		t.Errorf("%d 3 s after large data began", w.s.Size())
	}
	w.run(170 * time.Second) // it grows while nothing flows
	if !w.right(1272) {
		t.Errorf("%d, though nothing was measured", w.s.Size())
	}
	w.large = yes
	w.run(173 * time.Second)
	if w.s.Size() != 1472 {
		t.Errorf("%d 3 s after large data began on a path that grew", w.s.Size())
	}
}

// Loss makes the search err to the small side for a while; it never stays there.
func TestSearchLoss(t *testing.T) {
	for _, c := range []struct {
		loss  float64 // each direction
		right float64 // share of the time
	}{{0.1, 0.99}, {0.3, 0.95}} {
		total, right, tooLarge := 0, 0, 0
		for seed := range uint64(20) {
			w := newWorld(t, 1472, seed)
			w.mtu, w.large, w.loss = steps(time.Minute, 1272, 1472), yes, c.loss
			for w.at() < 2*time.Minute {
				w.run(w.at() + 100*ms)
				if at := w.at() % time.Minute; at < 5*time.Second {
					continue
				}
				total++
				size := w.mtu(w.at())
				if w.s.Size() > size {
					tooLarge++
				}
				if w.s.Size() >= size*9/10 && w.s.Size() <= size {
					right++
				}
			}
		}
		share := float64(right) / float64(total)
		t.Logf("loss %v: right %.3f of the time, too large %d of %d", c.loss, share, tooLarge, total)
		if share < c.right || tooLarge > 0 {
			t.Errorf("loss %v: right %.3f of the time, too large %d of %d", c.loss, share, tooLarge, total)
		}
	}
}

// Answers that are later than the round trip says are no lost ones.
func TestSearchQueues(t *testing.T) {
	for _, size := range []int{1472, 1272} {
		for _, queue := range []time.Duration{300 * ms, 700 * ms, 1500 * ms} {
			w := newWorld(t, 1472, 1)
			w.mtu, w.large, w.queue = always(size), yes, queue
			w.run(15 * time.Second)
			for w.at() < time.Minute {
				w.run(w.at() + 100*ms)
				if !w.right(size) {
					t.Fatalf("%d at %v, want %d, queue of %v", w.s.Size(), w.at(), size, queue)
				}
			}
			if w.tooLarge > 5*time.Second+2*queue {
				t.Errorf("queue of %v: a datagram that does not pass was sent after %v", queue, w.tooLarge)
			}
		}
	}
}

// Where nothing at all is answered, the size stays, and probes become rare; when the
// peer is back, all is measured again.
func TestSearchBlackHole(t *testing.T) {
	w := newWorld(t, 1472, 1)
	w.mtu, w.large = steps(5*time.Minute, 0, 1272), yes
	w.run(time.Minute)
	first := w.probes
	w.run(5 * time.Minute)
	if w.s.Size() != 1472 {
		t.Errorf("silence changed the size to %d", w.s.Size())
	}
	if n := w.probes - first; n > 4*(verifyTries+wideTries*14)+4*10 {
		t.Errorf("%d probes in 4 min of silence", n)
	}
	if !w.s.Trains() {
		t.Error("silence disproved trains")
	}
	w.run(5*time.Minute + 3*time.Second)
	if !w.right(1272) {
		t.Errorf("%d 3 s after the peer came back", w.s.Size())
	}
}

func TestRestartAndRecheck(t *testing.T) {
	w := newWorld(t, 1472, 1)
	w.mtu = always(1272)
	w.run(5 * time.Second)
	size, n := w.s.Size(), w.probes
	for range 20 { // events that change nothing cost a probe and a trial, and forget nothing
		w.s.Recheck()
		w.run(w.at() + time.Second)
		if w.s.Size() != size {
			t.Fatalf("an event changed the size to %d", w.s.Size())
		}
	}
	if n = w.probes - n; n > 20*(1+trainProbes+2) {
		t.Errorf("%d probes for 20 events", n)
	}
	w.s.Restart(1200)
	if w.s.Size() != 1200 {
		t.Errorf("%d with a limit of 1200", w.s.Size())
	}
	w.run(w.at() + 3*time.Second)
	w.s.Restart(1472)
	if w.s.Size() != 1200 {
		t.Errorf("%d: a new limit is no reason to trust more than was found", w.s.Size())
	}
	w.run(w.at() + 3*time.Second)
	if !w.right(1272) {
		t.Errorf("%d after the limit was raised", w.s.Size())
	}
}

// Answers that nobody asked for change nothing.
func TestSearchForged(t *testing.T) {
	s := NewSearch(1472, ids())
	now := mono.At(0)
	probes, next := s.Due(now, 0, Traffic{}, false)
	for range 5 {
		id := probes[0].ID
		s.Answered(now, id+1, 1472)
		s.Answered(now, id, 1471)
		s.Answered(now, id, 65535)
		s.Answered(now, id-1, trainSize)
		s.Answered(now.Add(time.Minute), id, 1472)
		if s.sizes.phase == idle || s.Size() != 1472 {
			t.Fatalf("taken: phase %v, size %d", s.sizes.phase, s.Size())
		}
		now = next
		probes, next = s.Due(now, 0, Traffic{}, false)
	}
}
