package stream

import (
	"math"
	"time"
)

// Parameters of RFC 9438 and RFC 9406.
const (
	cubicC    = 0.4
	cubicBeta = 0.7
	// cubicAlpha has Reno-friendly growth lose as much as CUBIC does (RFC 9438, 4.3).
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)

	firstWindow = 10 // packets (RFC 6928)
	leastWindow = 2  // packets

	hystartLeast   = 4 * time.Millisecond
	hystartMost    = 16 * time.Millisecond
	hystartSamples = 8
	hystartGrowth  = 4
	hystartRounds  = 5
)

// cubic is the congestion window: CUBIC with HyStart++. Windows are bytes of payload.
type cubic struct {
	packet    float64 // the largest payload
	window    float64
	threshold float64 // of slow start; +Inf before the first loss

	most  float64 // W_max: the window before the last loss
	prior float64 // the window at the last loss
	reno  float64 // W_est
	k     float64 // seconds until the window is W_max again
	epoch time.Duration

	slow hystart
	undo *cubic // as it was before a timeout
}

// hystart finds the end of slow start by round-trip times (RFC 9406).
type hystart struct {
	end       uint64 // the round ends when this number is acknowledged
	last, cur time.Duration
	samples   int
	base      time.Duration // conservative slow start: the round trip that it began with
	rounds    int           // of conservative slow start
}

func newCubic(packet int) cubic {
	p := float64(packet)
	return cubic{packet: p, window: firstWindow * p, threshold: math.Inf(1)}
}

// resize takes another largest payload.
func (c *cubic) resize(packet int) {
	c.packet = float64(packet)
	c.window = max(c.window, leastWindow*c.packet)
}

func (c *cubic) slowStart() bool { return c.window < c.threshold }

// acked grows the window by what was acknowledged. next is the number that is sent next.
func (c *cubic) acked(now time.Duration, bytes int, smooth time.Duration) {
	if c.slowStart() {
		grow := float64(bytes)
		if c.slow.base != 0 {
			grow /= hystartGrowth
		}
		c.window += grow
		return
	}
	if c.epoch == 0 {
		c.begin(now)
	}
	n := float64(bytes) / c.packet
	w := c.window / c.packet
	alpha := cubicAlpha
	if c.reno >= c.prior {
		alpha = 1
	}
	c.reno += alpha * n / w * c.packet
	t := (now - c.epoch).Seconds()
	if c.at(t) < c.reno {
		c.window = max(c.window, c.reno)
		return
	}
	target := min(max(c.at(t+smooth.Seconds()), c.window), 1.5*c.window)
	c.window += (target - c.window) / w * n
}

// begin starts an epoch of congestion avoidance.
func (c *cubic) begin(now time.Duration) {
	c.epoch = now
	c.reno = c.window
	c.most = max(c.most, c.window)
	c.k = math.Cbrt((c.most - c.window) / c.packet / cubicC)
}

// at returns W_cubic, t seconds after the epoch began.
func (c *cubic) at(t float64) float64 {
	d := t - c.k
	return (cubicC*d*d*d)*c.packet + c.most
}

// idle excludes a time in which the program had nothing to send from the epoch.
func (c *cubic) idle(d time.Duration) {
	if c.epoch != 0 {
		c.epoch += d
	}
}

// lost reduces the window: once for all losses of one round trip.
func (c *cubic) lost() { c.reduce(cubicBeta) }

// reduce reduces the window to a fraction.
func (c *cubic) reduce(beta float64) {
	c.prior = c.window
	if c.window < c.most {
		c.most = c.window * (1 + cubicBeta) / 2
	} else {
		c.most = c.window
	}
	c.threshold = max(c.window*beta, leastWindow*c.packet)
	c.window = c.threshold
	c.epoch = 0
	c.slow = hystart{}
}

// timeout reduces the window to one packet, and remembers how it was.
func (c *cubic) timeout() {
	before := *c
	before.undo = nil
	c.lost()
	c.window = c.packet
	c.undo = &before
}

// spurious takes the last timeout back.
func (c *cubic) spurious() {
	if c.undo != nil {
		*c = *c.undo
	}
}

// restart makes the window small again after a pause (RFC 5681, 4.1).
func (c *cubic) restart() {
	if c.window > firstWindow*c.packet {
		c.threshold = max(min(c.threshold, math.MaxFloat64), 0.75*c.window)
		c.window = firstWindow * c.packet
		c.epoch = 0
	}
}

// measured takes a round-trip time while in slow start; acked is the greatest number that
// was acknowledged, and next the one that is sent next.
func (c *cubic) measured(d time.Duration, acked, next uint64) {
	if !c.slowStart() {
		return
	}
	s := &c.slow
	if acked >= s.end {
		s.round(next)
		if s.rounds > hystartRounds {
			c.threshold = c.window
			return
		}
	}
	if s.cur == 0 || d < s.cur {
		s.cur = d
	}
	s.samples++
	if s.samples < hystartSamples {
		return
	}
	switch {
	case s.base != 0 && s.cur < s.base:
		s.base, s.rounds = 0, 0
	case s.base == 0 && s.last != 0 && s.cur >= s.last+min(max(s.last/8, hystartLeast), hystartMost):
		s.base, s.rounds = s.cur, 1
	}
}

// round begins a round of slow start.
func (s *hystart) round(next uint64) {
	s.end, s.last, s.cur, s.samples = next, s.cur, 0, 0
	if s.base != 0 {
		s.rounds++
	}
}
