package info2

import "time"

// sender is the outgoing half of a link: what waits, and when it may be written.
type sender struct {
	box     outbox
	rate    bucket
	full    bool      // the box displaces
	writing time.Time // a write is under way since; zero: none
	free    time.Time // no write before
	quiet   time.Time // after our OK: nothing before, unless the client speaks
	last    time.Time // end of the last write that held a message
}

func newSender() sender { return sender{rate: newBucket(messageRate, messageBurst)} }

// push queues a message, and returns how many others it displaced: then the link
// is too slow for what comes.
func (s *sender) push(m outgoing) (displaced int) {
	displaced = s.box.push(m)
	s.full = s.full || displaced > 0
	return displaced
}

// next returns when the next message can be written; ok is false if none can
// before something else happens.
func (s *sender) next(now time.Time) (at time.Time, ok bool) {
	due, waiting := s.box.next()
	if !waiting || !s.writing.IsZero() {
		return at, false
	}
	for _, bound := range [...]time.Time{s.free, s.quiet, s.rate.ready(now)} {
		if due.Before(bound) {
			due = bound
		}
	}
	return due, true
}

// pop takes the message that goes out now; ok is false if none is due.
func (s *sender) pop(now time.Time) (m outgoing, ok bool) {
	if m, ok = s.box.pop(now); !ok {
		return m, false
	}
	s.rate.take(now)
	s.full = s.full && s.box.bytes > queueLow/2
	return m, true
}

// begin notes that a write is under way, after which gap must pass.
func (s *sender) begin(now time.Time, gap time.Duration) {
	s.writing, s.free = now, now.Add(gap)
}

// stalled returns when a write under way takes too long; zero: there is none.
func (s *sender) stalled() time.Time {
	if s.writing.IsZero() {
		return time.Time{}
	}
	return s.writing.Add(stallWait)
}

// only drops what waits, and the pace with it, so that one last message can go.
// It returns how many messages that were.
func (s *sender) only() int {
	n := s.box.messages()
	s.box, s.rate = outbox{}, newBucket(messageRate, messageBurst)
	return n
}
