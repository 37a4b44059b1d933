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

// 10 Mbit/s, 100 ms, a queue of 100 packets.
func TestGoodput(t *testing.T) {
	const rate = 1250000
	got, queue, a, _ := bulk(t, line{delay: 50 * ms, rate: rate, backlog: 100 * 1292 * time.Second / rate}, 60)
	payload := float64(rate) * 1223 / 1292
	t.Logf("%.1f %% of the rate, longest queue %v, window %.0f", 100*got/payload, queue, a.s.send.cc.window)
	if got < 0.9*payload {
		t.Errorf("%.0f of %.0f bytes a second", got, payload)
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

// With 1 % loss CUBIC reaches what RFC 9438 says about its Reno-friendly region: about
// 1.2 / sqrt(loss) packets a round trip.
func TestLossyGoodput(t *testing.T) {
	got, _, _, _ := bulk(t, line{delay: 10 * ms, loss: 0.01}, 60)
	reno := 1.2 / math.Sqrt(0.01) * 1223 / 0.02
	t.Logf("%.0f bytes a second, Reno %.0f", got, reno)
	if got < 0.8*reno || got > 2.5*reno {
		t.Errorf("%.0f bytes a second, Reno %.0f", got, reno)
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
	if a.s.send.cc.slowStart() || a.s.send.cc.most != 0 && a.s.send.cc.prior != 0 {
		t.Errorf("slow start %v, window %.0f, before the loss %.0f", a.s.send.cc.slowStart(), a.s.send.cc.window, a.s.send.cc.prior)
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
