package seal

import "time"

// Flow is when packets last went each way on a Set's sessions, on the clock of Tick; 0
// is never.
type Flow struct {
	Sent     time.Duration // data
	Received time.Duration // anything
	Data     time.Duration // anything but keepalives
}

// Flow returns when packets last went.
func (s *Set) Flow() Flow {
	f := s.timers.flow(s.live)
	return Flow{f.sent, f.received, f.data}
}

// Unheard is for how long data that was sent has been waiting for anything to be
// received, as the last Tick found it; 0: it is not.
func (s *Set) Unheard(now time.Duration) time.Duration {
	if s.timers.silent == 0 {
		return 0
	}
	return max(now-s.timers.silent, 1)
}
