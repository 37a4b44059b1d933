package link

import (
	"sync"
	"time"
)

const (
	// aheadFor is how long the system may have to send what it took. More would only wait there,
	// where it can be dropped no more.
	aheadFor = 10 * time.Millisecond
	// notSent is how many bytes that are at most, and leastAhead at least: a network whose speed
	// changes must find something to send.
	notSent    = 64 << 10
	leastAhead = 8 << 10
	// speedOver is over how long the speed of a connection is measured.
	speedOver = 20 * time.Millisecond
	// slowLook is how often it is looked at least what the system has sent.
	slowLook = 20 * time.Millisecond
)

// speed is how fast a connection takes what is written, while there is always more to write.
type speed struct {
	rate  float64   // bytes a second; 0: not known
	since time.Time // when bytes were counted from; zero: nothing is being written
	bytes int
}

// works says that there is something to write.
func (s *speed) works(now time.Time) {
	if s.since.IsZero() {
		s.since, s.bytes = now, 0
	}
}

// rests says that there is nothing to write any more.
func (s *speed) rests() { s.since = time.Time{} }

// wrote says that bytes were written.
func (s *speed) wrote(bytes int, now time.Time) {
	s.bytes += bytes
	d := now.Sub(s.since)
	if s.since.IsZero() || d < speedOver {
		return
	}
	rate := float64(s.bytes) / d.Seconds()
	if s.rate != 0 {
		rate = (s.rate + rate) / 2
	}
	s.rate, s.since, s.bytes = rate, now, 0
}

// ahead is how many bytes the system may have that it has not sent.
func (s *speed) ahead() int {
	if s.rate == 0 {
		return notSent
	}
	return int(min(max(s.rate*aheadFor.Seconds(), leastAhead), notSent))
}

// lasts is how long the connection takes for some bytes.
func (s *speed) lasts(bytes int) time.Duration {
	if s.rate == 0 {
		return 0
	}
	return time.Duration(float64(bytes) / s.rate * float64(time.Second))
}

// ready waits until the system has nearly sent what it took, on a network that is slow: what waits
// with the system can be dropped no more. It returns how many bytes to write then. mu guards the
// speed; raw is the connection, or nil if what the system has is not known.
func (s *speed) ready(mu *sync.Mutex, raw *rawWrite, done <-chan struct{}) int {
	for {
		mu.Lock()
		ahead, unsent := s.ahead(), 0
		if ahead < notSent && raw != nil {
			unsent = raw.unsent()
		}
		wait := s.lasts(unsent - ahead)
		mu.Unlock()
		if unsent <= ahead {
			return ahead
		}
		timer := time.NewTimer(min(max(wait, time.Millisecond), slowLook))
		select {
		case <-timer.C:
		case <-done:
			timer.Stop()
			return ahead
		}
	}
}
