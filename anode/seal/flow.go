package seal

import "time"

// Flow is when packets last went each way on a Set's sessions, on the clock of Tick; 0
// is never.
type Flow struct {
	Sent     time.Duration // data
	Received time.Duration // anything
	Data     time.Duration // anything except keepalives
	Unheard  time.Duration // since when data that was sent waits for anything, as the last Tick found it; 0: it does not
}

// Flow returns when packets last went.
func (s *Set) Flow() Flow {
	f := s.timers.flow(s.live)
	return Flow{f.sent, f.received, f.data, s.timers.silent}
}
