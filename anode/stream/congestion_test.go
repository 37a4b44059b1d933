package stream

import (
	"math"
	"testing"
	"time"
)

// bulk sends for so long over a line, in one direction, and returns bytes a second of the
// second half, and the longest queue in it.
func bulk(t *testing.T, l line, seconds int) (goodput float64, queue time.Duration, a, b *app) {
	t.Helper()
	w := newWorld(t, 1, l)
	b = &app{salt: 2, wants: 1, half: true}
	w.sides[1].serve = func(*Stream) *app { return b }
	a = w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 30, half: true})
	half := time.Duration(seconds) * time.Second / 2
	w.run(half, nil)
	before := b.got
	end := w.now + half
	for w.now < end {
		w.run(10*ms, nil)
		queue = max(queue, w.sides[0].busy-w.now)
	}
	return float64(b.got-before) / half.Seconds(), queue, a, b
}

// 10 Mbit/s, 100 ms, a queue of 100 packets: the rate is used, and the queue does not stand.
func TestGoodput(t *testing.T) {
	const rate = 1250000
	got, queue, a, _ := bulk(t, line{delay: 50 * ms, rate: rate, backlog: 100 * 1292 * time.Second / rate}, 60)
	payload := float64(rate) * 1223 / 1292
	t.Logf("%.1f %% of the rate, longest queue %v, window %.0f", 100*got/payload, queue, a.s.send.cc.window)
	if got < 0.9*payload {
		t.Errorf("%.0f of %.0f bytes a second", got, payload)
	}
	if queue > 50*ms {
		t.Errorf("a queue of %v", queue)
	}
}

// A line of 240 Mbit/s and 1 s holds 30 MB: windows and receive buffers grow to that.
func TestLongFatLine(t *testing.T) {
	const rate = 30 << 20
	got, _, _, b := bulk(t, line{delay: 500 * ms, rate: rate, backlog: 500 * ms}, 24)
	t.Logf("%.1f %% of the rate, receive buffer %d MiB", 100*got/rate, b.s.recv.capacity>>20)
	if got < 0.75*rate {
		t.Errorf("%.0f of %d bytes a second", got, rate)
	}
	if c := b.s.recv.capacity; c < 25<<20 || c > MaxWindow {
		t.Errorf("receive buffer of %d bytes", c)
	}
}

// 100 Mbit/s, 20 ms, 1 % of packets lost by chance: CUBIC alone gets 7 Mbit/s.
func TestLossyGoodput(t *testing.T) {
	const rate, size = 12500000, 8 << 20
	l := line{delay: 10 * ms, rate: rate, backlog: 50 * ms, loss: 0.01}
	for seed := range uint64(4) {
		_, a, b := exchange(t, seed, l, size, 0, 10*time.Second)
		got := size / (b.done - a.started).Seconds()
		t.Logf("seed %d: %.0f %% of the rate", seed, 100*got/rate)
		if got < 0.3*rate {
			t.Errorf("seed %d: %.0f of %d bytes a second", seed, got, rate)
		}
	}
}

// cubicAlone makes a sender one of CUBIC alone, until the next round.
func cubicAlone(s *sender) { s.trial, s.rounds.last = trial{rival: math.MaxInt64}, 0 }

// A stream and a flow of CUBIC share a line. Neither gets less than half of its share,
// whichever begins.
func TestFairnessCubic(t *testing.T) {
	l := line{delay: 20 * ms, rate: 1250000, backlog: 100 * ms}
	for first := range 2 {
		w := newWorld(t, uint64(first), l)
		var ends, flows []*app
		w.sides[1].serve = func(*Stream) *app {
			ends = append(ends, &app{salt: 2, wants: 1, half: true})
			return ends[len(ends)-1]
		}
		run := func(d time.Duration) {
			for end := w.now + d; w.now < end; {
				w.run(2*ms, nil)
				if cubic := 1 - first; cubic < len(flows) {
					cubicAlone(&flows[cubic].s.send)
				}
			}
		}
		for range 2 {
			flows = append(flows, w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 30, half: true}))
			run(4 * time.Second)
		}
		x, y := ends[0].got, ends[1].got
		run(24 * time.Second)
		x, y = ends[0].got-x, ends[1].got-y
		t.Logf("stream first %v: %d and %d bytes", first == 0, x, y)
		if 4*min(x, y) < x+y {
			t.Errorf("stream first %v: %d and %d bytes", first == 0, x, y)
		}
	}
}

// Two streams share a line: neither gets less than half of its share.
func TestFairness(t *testing.T) {
	const rate = 1250000
	w := newWorld(t, 1, line{delay: 20 * ms, rate: rate, backlog: 100 * ms})
	var ends []*app
	w.sides[1].serve = func(*Stream) *app {
		b := &app{salt: 2, wants: 1, half: true}
		ends = append(ends, b)
		return b
	}
	w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 30, half: true})
	w.run(5*time.Second, nil)
	w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 30, half: true})
	w.run(30*time.Second, nil)
	x, y := ends[0].got, ends[1].got
	w.run(60*time.Second, nil)
	x, y = ends[0].got-x, ends[1].got-y
	t.Logf("%d and %d bytes", x, y)
	if 4*min(x, y) < x+y {
		t.Errorf("%d and %d bytes", x, y)
	}
}

// HyStart++ leaves slow start before the queue is full, if that is long.
func TestHyStart(t *testing.T) {
	w := newWorld(t, 1, line{delay: 50 * ms, rate: 5 << 20, backlog: time.Second})
	b := &app{salt: 2, wants: 1, half: true}
	w.sides[1].serve = func(*Stream) *app { return b }
	a := w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 30, half: true})
	most := time.Duration(0)
	for range 300 {
		w.run(10*ms, nil)
		most = max(most, w.sides[0].busy-w.now)
	}
	if x := &a.s.send; x.cc.slowStart() || x.sent.order > uint64(x.sent.next-x.first) {
		t.Errorf("slow start %v, window %.0f, %d transmissions of %d packets", x.cc.slowStart(), x.cc.window, x.sent.order, x.sent.next-x.first)
	}
	if most > 500*ms {
		t.Errorf("a queue of %v", most)
	}
}

// The window after a loss follows RFC 9438: down to 0.7, back at W_max after K, and
// flat there.
func TestCubicGrowth(t *testing.T) {
	const p = 1000
	c := newCubic(p)
	c.window, c.threshold, c.most = 1000*p, 1000*p, 0
	c.lost()
	if c.window != 700*p || c.most != 1000*p {
		t.Fatalf("window %.0f, W_max %.0f", c.window, c.most)
	}
	k := math.Cbrt(1000 * 0.3 / 0.4)
	now := time.Second
	var at [30]float64
	for ms10 := range 2000 { // a window is acknowledged each 100 ms
		c.acked(now, int(c.window/10), 100*ms)
		now += 10 * ms
		if ms10%100 == 0 {
			at[ms10/100] = c.window / p
		}
	}
	for s := 1; s < 18; s++ {
		d := float64(s) - k
		want := 0.4*d*d*d + 1000
		if math.Abs(at[s]-want) > 15+0.02*want {
			t.Errorf("after %d s: %.0f packets, want %.0f", s, at[s], want)
		}
	}
	c.lost()
	before := c.most
	c.lost()
	if c.most >= before {
		t.Error("no fast convergence")
	}
}

func TestRTT(t *testing.T) {
	var r rtt
	if r.rto() != firstRTO {
		t.Error(r.rto())
	}
	r.sample(time.Second, 400*ms) // RFC 6298, 2.2
	if r.smooth != 400*ms || r.vary != 200*ms || r.rto() != 1200*ms+ackDelay {
		t.Errorf("%+v, %v", r, r.rto())
	}
	r.sample(2*time.Second, 800*ms) // 2.3
	if r.smooth != 450*ms || r.vary != 250*ms || r.least != 400*ms {
		t.Errorf("%+v", r)
	}
	for i := range 40 {
		r.sample(time.Duration(3+2*i)*time.Second, time.Second)
	}
	if r.least != time.Second {
		t.Errorf("the smallest stays %v", r.least)
	}
}
