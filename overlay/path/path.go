// Package path holds what is known of each way to one peer, and decides which to
// use and which to check next. It is pure: the engine tells it the time, sends the
// EPC_REQ messages that it asks for, and reports the EPCs that come back (draft
// 4.2.4: an endpoint is learned only by an EPC).
//
//	          Add                 EPC                     silence, link events
//	unknown ------> candidate ----------> confirmed ------------.
//	                 ^   | tries used up    ^  |                |
//	                 |   v                  |  '<-- Suspect ----'
//	                 '- failed <------------'  (checked again, still used meanwhile)
//
// A way that the user gave is tried again after ever longer rests when it failed.
package path

import (
	"cmp"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
)

// Limits and times.
const (
	maxWays    = 16
	maxTries   = 5
	firstRetry = 250 * time.Millisecond // doubles with each try
	retain     = 10 * time.Minute       // a failed way that nobody named again is forgotten
	firstRest  = 8 * time.Second        // before a static way that failed is checked again; doubles
	lastRest   = 5 * time.Minute
)

// Way is one way to a peer: an endpoint, and the relay that owns it, if it is not
// the peer's own. It is comparable.
type Way struct {
	Endpoint link.Endpoint
	Via      anode.Address // zero: direct
}

// Direct tells whether no relay is involved.
func (w Way) Direct() bool { return w.Via.IsZero() }

// Origin tells who named a way. A static one is never forgotten.
type Origin uint8

// The origins of ways.
const (
	Heard  Origin = iota // packets came from there, a beacon or a neighbour's
	Told                 // somebody said so (EPI, NAT_T)
	Stored               // worked the last time
	Static               // the user said so
	Relay                // through a peer that may relay
)

// State of one way.
type State uint8

// The states, as drawn above.
const (
	Candidate State = iota
	Confirmed
	Failed
)

// String gives the state's name.
func (s State) String() string {
	return [...]string{"candidate", "confirmed", "failed"}[s]
}

// Info is what is known of one way.
type Info struct {
	Way
	Origin Origin
	State  State
	OnLink bool          // its endpoint is on one of our links
	RTT    time.Duration // smoothed; 0 until confirmed
	Hops   int           // of the last EPC
	PeerID uint8         // which machine answered there
	Heard  time.Duration // when the last EPC came

	named   time.Duration // last Add
	checks  []check       // outstanding, newest last
	tries   int           // since the last EPC or Add
	rest    time.Duration // of a static way that failed: pause before the next check
	next    time.Duration // when to check again; meaningful while checking
	pending bool          // being checked
}

type check struct {
	id   uint32
	sent time.Duration
}

// Request asks the engine to send EPC_REQ with this ID along a way.
type Request struct {
	Way   Way
	ID    uint32
	First bool // of this check of the way
}

// Set is the ways to one peer. It belongs to one goroutine.
type Set struct {
	ways []*Info // few, in no order
	best *Info   // what Best returned last
	id   func() uint32
}

// NewSet makes an empty set; id gives random request IDs.
func NewSet(id func() uint32) *Set { return &Set{id: id} }

// Add names a way. A new one, or one that failed, becomes a candidate to be
// checked at once. It reports whether there is something new to check. A full set
// drops its least useful unconfirmed way, and refuses if there is none.
func (s *Set) Add(now time.Duration, w Way, o Origin, onLink bool) bool {
	if i := s.find(w); i != nil {
		i.named = now
		i.Origin = max(i.Origin, o)
		i.OnLink = onLink
		if i.State == Failed {
			i.State = Candidate
			i.start(now)
			return true
		}
		return false
	}
	if len(s.ways) == maxWays && !s.evict() {
		return false
	}
	i := &Info{Way: w, Origin: o, OnLink: onLink, named: now}
	i.start(now)
	s.ways = append(s.ways, i)
	return true
}

// Remove forgets all ways for which drop is true.
func (s *Set) Remove(drop func(*Info) bool) {
	s.ways = slices.DeleteFunc(s.ways, drop)
	if s.best != nil && s.find(s.best.Way) == nil {
		s.best = nil
	}
}

// Suspect has every way checked again at once, the confirmed ones too, which stay
// in use meanwhile: after silence where there should be an answer, or a link event.
func (s *Set) Suspect(now time.Duration) {
	for _, i := range s.ways {
		if !i.pending {
			if i.State == Failed {
				i.State = Candidate
			}
			i.start(now)
		}
	}
}

// Nudge has a way that owes an answer checked again now, since something came from
// there: its checks may have been lost, and the next be due only in a while.
func (s *Set) Nudge(now time.Duration, w Way) {
	i := s.find(w)
	if i == nil || !i.pending || len(i.checks) == 0 || now-i.checks[len(i.checks)-1].sent < firstRetry {
		return
	}
	i.start(now)
}

// Requests gives the checks that are due, and when to ask again (0: never, unless
// something changes).
func (s *Set) Requests(now time.Duration) (due []Request, next time.Duration) {
	for _, i := range s.ways {
		if !i.pending && i.State == Failed && i.Origin == Static && i.next <= now {
			i.start(now)
		}
		if i.pending && i.next <= now && i.tries == maxTries {
			i.fail(now)
		}
		switch {
		case !i.pending && (i.State != Failed || i.Origin != Static):
			continue
		case i.pending && i.next <= now:
			c := check{s.id(), now}
			i.checks = append(i.checks, c)
			due = append(due, Request{i.Way, c.id, i.tries == 0})
			i.next = now + firstRetry<<i.tries
			i.tries++
		}
		if next == 0 || i.next < next {
			next = i.next
		}
	}
	s.Remove(func(i *Info) bool {
		return i.State == Failed && i.Origin != Static && now-i.named > retain
	})
	return due, next
}

// Answered takes an EPC that was authentic and came from the right peer. It
// returns the way that it confirms, or ok false if no such ID is pending. src is
// where the EPC came from: a direct way is confirmed only from its own endpoint.
func (s *Set) Answered(now time.Duration, id uint32, src link.Endpoint, hops int, peerID uint8) (w Way, ok bool) {
	for _, i := range s.ways {
		k := slices.IndexFunc(i.checks, func(c check) bool { return c.id == id })
		if k < 0 || i.Endpoint.Addr != src.Addr {
			continue
		}
		rtt := max(now-i.checks[k].sent, 1)
		if i.RTT == 0 {
			i.RTT = rtt
		} else {
			i.RTT += (rtt - i.RTT) / 4
		}
		i.State, i.Heard, i.Hops, i.PeerID = Confirmed, now, hops, peerID
		i.pending, i.tries, i.checks, i.rest = false, 0, nil, 0
		return i.Way, true
	}
	return Way{}, false
}

// Best gives the way to use: a confirmed one, one that answers before one that owes
// an answer, direct before relayed, on-link before the rest, then the quickest; the
// one in use is left only for a clearly better one.
func (s *Set) Best() (Info, bool) {
	var best *Info
	for _, i := range s.ways {
		if i.State == Confirmed && (best == nil || better(i, best)) {
			best = i
		}
	}
	if old := s.best; old != nil && best != nil && old.State == Confirmed &&
		rank(old) == rank(best) && best.RTT > old.RTT*3/4 {
		best = old
	}
	s.best = best
	if best == nil {
		return Info{}, false
	}
	return *best, true
}

// Ways gives everything known, confirmed ways first.
func (s *Set) Ways() []Info {
	out := make([]Info, len(s.ways))
	for k, i := range s.ways {
		out[k] = *i
	}
	slices.SortStableFunc(out, func(a, b Info) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), cmp.Compare(a.RTT, b.RTT))
	})
	return out
}

// Checking tells whether any way is being checked.
func (s *Set) Checking() bool {
	return slices.ContainsFunc(s.ways, func(i *Info) bool { return i.pending })
}

// start has the way checked from the beginning.
func (i *Info) start(now time.Duration) {
	i.pending, i.tries, i.next, i.checks = true, 0, now, nil
}

// fail ends a check without an answer.
func (i *Info) fail(now time.Duration) {
	i.pending, i.State, i.checks = false, Failed, nil
	i.rest = min(max(2*i.rest, firstRest), lastRest)
	i.next = now + i.rest
}

func (s *Set) find(w Way) *Info {
	for _, i := range s.ways {
		if i.Way == w {
			return i
		}
	}
	return nil
}

// evict makes room by dropping the way that is least likely to be missed.
func (s *Set) evict() bool {
	var worst *Info
	for _, i := range s.ways {
		if i.State == Confirmed || i.Origin == Static {
			continue
		}
		if worst == nil || i.State > worst.State || i.State == worst.State && i.named < worst.named {
			worst = i
		}
	}
	if worst == nil {
		return false
	}
	s.Remove(func(i *Info) bool { return i == worst })
	return true
}

// rank orders ways by kind: lower is better.
func rank(i *Info) int {
	switch {
	case i.State != Confirmed:
		return 9
	case i.pending && i.tries > 1:
		return 8
	case !i.Direct():
		return 2 + min(i.Hops, 2)/2
	case !i.OnLink:
		return 1
	}
	return 0
}

func better(a, b *Info) bool {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.RTT, b.RTT)) < 0
}
