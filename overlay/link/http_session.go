package link

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// session is one client that posts to us, in however many requests and connections. Who knows
// its number can take sealed packets that are meant for another, as anybody on the way could; who
// does not cannot do anything to it.
type session struct {
	outbox
	web    *web
	id     sessionID
	ep     Endpoint   // its Place
	site   netip.Addr // whose guest it is
	behind bool       // it came by a reverse proxy on this host
	born   time.Time
	kept   atomic.Bool
	gone   atomic.Bool // dropped
	left   sync.Once   // guests no more

	vouched atomic.Int32 // connections that are strangers no more because of it

	flight sync.Mutex // guards what follows
	open   int        // requests
	quiet  time.Time  // since when there are none
	conns  []*webConn // of the requests, as far as they are strangers
	next   uint64     // number of the next body; 0: any
	turn   chan struct{}
	down   uint64                 // number of the request that has what waits
	offers map[uint64]chan uint64 // answers that stay open, and are not seen yet
}

var _ outlet = (*session)(nil)

// queue implements outlet.
func (s *session) queue(t *Train, patient bool) bool { return s.put(t, patient) }

// close implements outlet.
func (s *session) close() { s.end() }

// keep implements outlet.
func (s *session) keep() {
	if s.kept.Swap(true) {
		return
	}
	s.web.leave(s)
	s.flight.Lock()
	known := s.conns
	s.conns = nil
	s.flight.Unlock()
	for _, c := range known {
		s.vouch(c)
	}
}

// maxVouched is how many connections of strangers somebody who has proved who it is may have
// taken for its own. Others stay strangers, and end as these do.
const maxVouched = 2 * maxFlight

// vouch says that a connection is one of the session's.
func (s *session) vouch(c *webConn) {
	switch {
	case c.by.Load() != nil:
	case s.vouched.Add(1) > maxVouched:
		s.vouched.Add(-1)
		s.m.c.web.refusedVouch.Add(1)
	case !c.by.CompareAndSwap(nil, s):
		s.vouched.Add(-1)
	default:
		s.web.gate.known(c)
		if c.closed.Load() {
			c.disown()
		}
	}
}

// begin counts a request in. It returns false if there are too many.
func (s *session) begin(c *webConn) bool {
	kept := s.kept.Load()
	s.flight.Lock()
	defer s.flight.Unlock()
	if s.open >= maxFlight || !kept && s.open >= maxGuestFlight {
		return false
	}
	s.open++
	switch {
	case c == nil:
	case kept:
		s.vouch(c)
	default:
		s.conns = append(s.conns, c)
	}
	return true
}

// finish counts it out.
func (s *session) finish(c *webConn) {
	s.flight.Lock()
	defer s.flight.Unlock()
	if s.open--; s.open == 0 {
		s.quiet = time.Now()
	}
	if i := slices.Index(s.conns, c); c != nil && i >= 0 {
		s.conns = slices.Delete(s.conns, i, i+1)
	}
}

// late reports whether the session is to end, and counts why.
func (s *session) late(now time.Time) bool {
	s.flight.Lock()
	defer s.flight.Unlock()
	switch {
	case !s.kept.Load() && now.Sub(s.born) > proveFor:
		s.m.c.endedUnproved.Add(1)
		return true
	case s.open == 0 && !s.quiet.IsZero() && now.Sub(s.quiet) > quietFor:
		s.m.c.web.endedIdle.Add(1)
		return true
	}
	return false
}

// await waits for the bodies before number n, for as long as that makes sense.
func (s *session) await(n uint64, c *call) {
	if n == 0 {
		return
	}
	var late <-chan time.Time
	for {
		s.flight.Lock()
		if s.next == 0 {
			s.next = n
		}
		turn, mine := s.turn, n <= s.next
		s.flight.Unlock()
		if mine {
			return
		}
		if late == nil {
			timer := time.NewTimer(turnFor)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-turn:
		case <-late:
			s.m.c.web.outOfTurn.Add(1)
			return
		case <-c.gone:
			return
		case <-c.mux:
			return
		}
	}
}

// passed says that the body with number n was taken, or never will be.
func (s *session) passed(n uint64) {
	s.flight.Lock()
	defer s.flight.Unlock()
	if n == 0 || n < s.next {
		return
	}
	s.next = n + 1
	close(s.turn)
	s.turn = make(chan struct{})
}

// turnTo gives what waits to the request with number n, unless a later one has it. Requests
// without a number are alone.
func (s *session) turnTo(n uint64) chan struct{} {
	s.flight.Lock()
	defer s.flight.Unlock()
	if n < s.down {
		return nil
	}
	s.down = n
	return s.claim()
}

// offer announces an answer that stays open; nil: there are too many. The channel says under
// which number it was seen.
func (s *session) offer(n uint64) chan uint64 {
	s.flight.Lock()
	defer s.flight.Unlock()
	if s.offers[n] != nil || len(s.offers) >= maxGuestFlight {
		return nil
	}
	if s.offers == nil {
		s.offers = make(map[uint64]chan uint64)
	}
	seen := make(chan uint64, 1)
	s.offers[n] = seen
	return seen
}

// see says that the client sees answer n, which has another number now. It returns false if that
// is not open any more.
func (s *session) see(n, now uint64) bool {
	s.flight.Lock()
	defer s.flight.Unlock()
	seen := s.offers[n]
	if seen == nil {
		return false
	}
	delete(s.offers, n)
	seen <- now
	return true
}

// withdraw forgets an offer that nobody saw.
func (s *session) withdraw(n uint64, seen chan uint64) {
	s.flight.Lock()
	defer s.flight.Unlock()
	if s.offers[n] == seen {
		delete(s.offers, n)
	}
}
