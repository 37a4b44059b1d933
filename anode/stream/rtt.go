package stream

import "time"

const (
	firstRTO = time.Second
	minRTO   = 200 * time.Millisecond
	maxRTO   = 60 * time.Second
	// maxRepeat bounds the time between retransmissions when nothing is acknowledged. It is
	// less than RFC 6298 wants (60 s): after a blackout streams have to go on soon, and
	// one packet in 10 s harms nobody.
	maxRepeat = 10 * time.Second

	// ackDelay is the longest that we hold an acknowledgement back, and what we expect of
	// the peer.
	ackDelay = 25 * time.Millisecond

	minRTTAge = 30 * time.Second // after which the smallest round trip is measured anew
)

// rtt estimates the round-trip time (RFC 6298).
type rtt struct {
	smooth, vary time.Duration // smooth 0: not measured

	least, later time.Duration // the smallest; the smallest since half of its time
	since        time.Duration // when later began
}

// sample takes a measurement.
func (r *rtt) sample(now, d time.Duration) {
	d = max(d, time.Microsecond)
	if r.smooth == 0 {
		*r = rtt{d, d / 2, d, d, now}
		return
	}
	r.vary += ((r.smooth - d).Abs() - r.vary) / 4
	r.smooth = max(r.smooth+(d-r.smooth)/8, 1)
	r.least, r.later = min(r.least, d), min(r.later, d)
	if now-r.since > minRTTAge {
		r.least, r.later, r.since = r.later, d, now
	}
}

// rto returns the retransmission timeout before back-off.
func (r *rtt) rto() time.Duration {
	if r.smooth == 0 {
		return firstRTO
	}
	return min(max(r.smooth+max(4*r.vary, time.Millisecond)+ackDelay, minRTO), maxRTO)
}
