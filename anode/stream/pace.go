package stream

import "time"

const (
	burstTime   = 2 * time.Millisecond // sent in one go at high rates
	quantumTime = time.Millisecond     // waited for
)

// pacer spreads packets over the round trip: a bucket of bytes.
type pacer struct {
	credit float64
	at     time.Duration // of credit; 0: the bucket is full
}

// rate returns bytes a second.
func (s *sender) rate() float64 {
	gain := 1.25
	if s.cc.slowStart() {
		gain = 2
	}
	return gain * s.cc.window / s.rtt.smooth.Seconds()
}

// paced reports whether a packet may be sent now, and otherwise when.
func (s *sender) paced(now time.Duration) (ok bool, when time.Duration) {
	if s.rtt.smooth == 0 {
		return true, 0
	}
	p, rate := &s.pace, s.rate()
	burst := max(firstWindow*s.cc.packet, rate*burstTime.Seconds())
	if p.at == 0 {
		p.credit = burst
	} else {
		p.credit = min(p.credit+rate*(now-p.at).Seconds(), burst)
	}
	p.at = now
	if p.credit > 0 {
		return true, 0
	}
	quantum := min(max(s.cc.packet, rate*quantumTime.Seconds()), maxSegments*s.cc.packet)
	return false, now + max(time.Duration((quantum-p.credit)/rate*float64(time.Second)), time.Microsecond)
}
