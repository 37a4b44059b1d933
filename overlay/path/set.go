package path

import (
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// Set is the ways to one machine of a peer, at most as many as all origins have places,
// and maxConfirmed. It belongs to one goroutine.
type Set struct {
	ways    []*Info // few, in no order
	best    *Info   // what Best returned last
	turned  bool    // it is another one, and Turned was not asked since
	id      func() uint32
	budgets [Predicted + 1]mono.Bucket // of hints, by origin
	checked mono.Time                  // all confirmed ways, last
	left    int                        // requests that the attempt under way may still send

	// Blocked reports whether UDP got no answer on the present network the last time; nil: nothing
	// is known. Lower says that our address is the lower one of both.
	Blocked func() bool
	Lower   bool

	// Dead has a connection that we opened ended, since nothing comes by it any more. The next
	// packet to the endpoint opens another one. It may be nil.
	Dead func(link.Endpoint)

	now    mono.Time // as Requests was told last
	since  mono.Time // a way has been needed, or a better one
	worked int       // the class of the way that worked last
	flows  bool      // data does
}

// NewSet returns an empty set; id returns random request IDs.
func NewSet(id func() uint32) *Set { return &Set{id: id, worked: classNone} }

// Add names a way. One that is new, or that failed, becomes a candidate to be checked
// at once, if its origin has a place and a budget for it; New says so. It takes the
// place of a failed way of its origin at most. No hint touches ways of other origins.
func (s *Set) Add(now mono.Time, w Way, o Origin, onLink bool) Result {
	if !s.Checking() {
		s.since = now
	}
	i := s.find(w)
	connected := w.Endpoint.Kind.Connected()
	if i != nil {
		i.named = now
		i.OnLink = onLink
		if o > i.Origin && s.count(o, connected) < placesOf(o, connected) {
			i.Origin = o
			if i.State != Confirmed {
				i.First = o
			}
		}
		if i.State != Failed {
			i.came(now, o)
			return Known
		}
	} else if s.count(o, connected) >= placesOf(o, connected) && s.stalest(o, connected) == nil {
		return Full
	}
	if !s.pay(now, o) {
		return Budget
	}
	if i == nil {
		i = s.enter(now, w, o, onLink)
	}
	i.start(now)
	i.came(now, o)
	s.trim(o)
	return New
}

// enter notes a way that was not known.
func (s *Set) enter(now mono.Time, w Way, o Origin, onLink bool) *Info {
	i := &Info{Way: w, Origin: o, First: o, OnLink: onLink, named: now, Since: now}
	s.ways = append(s.ways, i)
	return i
}

// Remove forgets all ways for which drop returns true.
func (s *Set) Remove(drop func(*Info) bool) {
	s.ways = slices.DeleteFunc(s.ways, drop)
	if !slices.Contains(s.ways, s.best) {
		s.best = nil
	}
}

// Withdraw forgets the direct ways of an origin that are not given any more. A confirmed one
// stays in use for as long as it works, in the place of a way that worked before.
func (s *Set) Withdraw(o Origin, given func(link.Endpoint) bool) {
	s.Remove(func(i *Info) bool {
		if i.Origin != o || !i.Direct() || given(i.Endpoint) {
			return false
		}
		i.Origin = Stored
		return i.State != Confirmed
	})
}

// Suspect begins a check of every way now, after a change of our links or the peer's.
// Confirmed ways stay in use meanwhile. Failed hints are checked within their budget.
func (s *Set) Suspect(now mono.Time) {
	for _, i := range s.ways {
		i.rest = 0
		if !i.check.pending && (i.State == Confirmed || s.pay(now, i.Origin)) {
			i.start(now)
		}
	}
}

// Silent begins a check of the confirmed ways, since nothing was heard although data
// was sent or expected. It does so every silentEvery at most, and reports whether it
// did. If the best way is relayed, relay is who relays it: its own ways need a check too.
func (s *Set) Silent(now mono.Time) (relay anode.Address, checked bool) {
	if now.Sub(s.checked) < silentEvery {
		return relay, false
	}
	s.checked = now
	s.checkConfirmed(now, nil)
	if best, ok := s.Best(); ok {
		relay = best.Via
	}
	return relay, true
}

// Check begins a check of a confirmed way, unless one is under way.
func (s *Set) Check(now mono.Time, w Way) {
	if i := s.find(w); i != nil && i.State == Confirmed && !i.check.pending {
		i.start(now)
	}
}

// checkConfirmed begins a check of the confirmed ways except one, and except stale ones,
// which attempts of both sides check.
func (s *Set) checkConfirmed(now mono.Time, except *Info) {
	for _, i := range s.ways {
		if i.State == Confirmed && i != except && i.Fitness != Stale && !i.check.pending {
			i.start(now)
		}
	}
}

// Heard notes that an authentic packet came from an endpoint, relayed by via if that is
// not zero. It must not be a replay: only what was opened in a session counts. It need
// not be reported for every packet; several times a second is enough.
func (s *Set) Heard(now mono.Time, src link.Endpoint, via anode.Address) {
	for _, i := range s.ways {
		if i.State == Confirmed && i.Endpoint.Same(&src) && i.Via == via {
			i.hear(now)
			s.compare(now, i)
		}
	}
}

// compare begins a check of the way in use if the peer was heard on another one and
// not on this for a while: it may be dead, or the peer may just prefer the other.
func (s *Set) compare(now mono.Time, heard *Info) {
	b := s.best
	if b == nil || b == heard || b.check.pending || now.Sub(b.Heard) < firstRetry || now.Sub(b.answered) < compareEvery {
		return
	}
	b.start(now)
}

// Nudge begins the check of a way that owes an answer anew, since something came from
// there: its requests may have been lost, and the next be due only in a while.
func (s *Set) Nudge(now mono.Time, w Way) {
	i := s.find(w)
	if i == nil || !i.check.pending || len(i.check.asked) == 0 {
		return
	}
	if c := &i.check; c.burst && !c.over {
		c.open = true
		if len(c.asked) < i.most() {
			c.next = now
			return
		}
	}
	last := i.check.asked[len(i.check.asked)-1].sent
	if now.Sub(last) >= firstRetry && (i.State == Confirmed || s.pay(now, Heard)) {
		i.start(now)
	}
}

// Requests returns the requests that are due, and when to ask again.
func (s *Set) Requests(now mono.Time) (due []Request, next mono.Time) {
	s.now = now
	next = s.tried(now)
	s.release(now)
	had := s.has()
	failed := false
	for _, i := range s.ways {
		c := &i.check
		if i.State == Failed && c.next <= now && i.retried(had) {
			s.again(now, i)
		}
		if c.pending && c.next <= now {
			switch {
			case s.Dead != nil && i.dead():
				s.Dead(i.Endpoint)
				i.become(now, Candidate)
				i.start(now)
				i.check.waits = false
				due = append(due, i.ask(now, s.id()))
			case c.over || len(c.asked) >= i.most():
				s.fail(now, i)
				failed = true
			case c.burst && s.left == 0:
				c.over, c.next = true, now.Add(c.wait)
			default:
				if c.burst {
					s.left--
				}
				due = append(due, i.ask(now, s.id()))
			}
		}
		if c.pending || i.State == Failed && i.retried(had) {
			next = min(next, c.next)
		}
	}
	if failed {
		for o := range places {
			s.trim(Origin(o)) // it may have been confirmed, and comes back to the places of its origin
		}
		if had != s.has() {
			next = now // the last good way failed: others may have to be tried again
		}
	}
	s.Remove(func(i *Info) bool {
		return i.State == Failed && !i.retried(had) && now.Sub(i.named) > retain
	})
	return due, next
}

// again begins the check of a way that failed. Where a way waits, it says itself until when.
func (s *Set) again(now mono.Time, i *Info) {
	if !s.pay(now, i.Origin) {
		i.check.next = now.Add(firstRest)
		return
	}
	i.start(now)
	i.check.single = s.beside(i)
	if i.Waiting() {
		i.check.next = s.dialAt(i, s.worked)
	}
}

// has returns the class of the best confirmed way, whether it answers or not.
func (s *Set) has() int {
	best := classNone
	for _, i := range s.ways {
		if i.State == Confirmed {
			best = min(best, class(i))
		}
	}
	return best
}

// retried reports whether a way is checked again by itself after it failed: while there are only
// worse ones, all direct ones that the user gave, that the peer named, or that worked before.
// While there are none, whoever wants one names them again.
func (i *Info) retried(has int) bool {
	return has != classNone && class(i) < has && has > 2 && i.Direct() && i.Origin >= Told && !i.Punched
}

// Answered takes an EPC that was authentic and came from the right machine. It returns
// the way that the EPC confirms, or ok false if it is no answer to a pending request.
// src is where the EPC came from, and via the relay whose endpoint that is, whatever
// the packet's hop count says; zero if it is no relay's. A direct way is confirmed only
// from its own endpoint, and never by what came from a relay.
func (s *Set) Answered(now mono.Time, id uint32, src link.Endpoint, via anode.Address, hops int) (w Way, ok bool) {
	for _, i := range s.ways {
		sent, try, known := i.check.find(now, id)
		if !known || !i.Endpoint.Same(&src) || i.Via != via {
			continue
		}
		rtt := max(now.Sub(sent), 1)
		if i.RTT == 0 || i.rough {
			i.RTT, i.rough = rtt, false
		} else {
			i.RTT += (rtt - i.RTT) / 4
		}
		isNew := i.State != Confirmed
		if i.check.burst {
			s.enough(now)
		} else if try >= 0 { // a burst begins before the way is open
			i.Loss.note(try, 1)
		}
		i.become(now, Confirmed)
		i.hear(now)
		i.answered, i.Hops = now, hops
		if i.check, i.rest = (check{}), 0; i.steady == 0 {
			i.steady = now
		}
		s.confirmed(now, i, isNew)
		return i.Way, true
	}
	return Way{}, false
}

// confirmed does what follows when a way was proved to lead to the peer.
func (s *Set) confirmed(now mono.Time, i *Info, isNew bool) {
	if i.Direct() {
		i.Origin = max(i.Origin, Stored)
	}
	if isNew {
		if s.beside(i) {
			i.trial, i.steady = now, now
		}
		s.trimConfirmed(i)
		s.checkConfirmed(now, i) // the peer may have moved here from there
	}
}

// Proved takes the answer to a message of the handshake, or to a sealed probe, that was sent along
// w, rtt before.
// It came along w too, and confirms a candidate. The check of the way goes on, and measures
// the round trip. A way that nothing was sent along yet proves nothing: the source of a
// packet can be forged by who forwards it. It reports whether the way was not confirmed
// before.
func (s *Set) Proved(now mono.Time, w Way, rtt time.Duration) bool {
	i := s.find(w)
	if i == nil || i.State != Candidate || !i.Checking() {
		return false
	}
	s.prove(now, i, rtt)
	return true
}

// Asked reports whether the peer was asked along w, and has answered or may still.
func (s *Set) Asked(w Way) bool {
	i := s.find(w)
	return i != nil && (i.State == Confirmed || i.Checking())
}

// Ponged takes the answer to a question other than a check's that was sent along w, rtt before,
// and bore what nobody can guess. It proves as much as the answer to a check, and ends one that is
// under way. It reports whether the way was not confirmed before.
func (s *Set) Ponged(now mono.Time, w Way, rtt time.Duration) bool {
	i := s.find(w)
	if i == nil || i.State == Confirmed {
		return false
	}
	s.prove(now, i, rtt)
	i.check = check{}
	return true
}

// prove confirms a way by something else than the answer to its check.
func (s *Set) prove(now mono.Time, i *Info, rtt time.Duration) {
	i.become(now, Confirmed)
	i.hear(now)
	i.answered = now
	i.RTT, i.rough = max(rtt, 1), true
	if i.check.burst {
		s.enough(now)
	}
	if !i.Direct() {
		i.Hops = 1
	}
	i.rest = 0
	s.confirmed(now, i, true)
}

// Checking reports whether any way is being checked, or is about to be.
func (s *Set) Checking() bool {
	return slices.ContainsFunc(s.ways, func(i *Info) bool { return i.check.pending && i.check.next != mono.Never })
}

func (s *Set) find(w Way) *Info {
	for _, i := range s.ways {
		if i.Way == w {
			return i
		}
	}
	return nil
}

// pay takes the price of one check of an unconfirmed way from the budget of an origin,
// and reports whether there was enough.
func (s *Set) pay(now mono.Time, o Origin) bool {
	if !o.hint() {
		return true
	}
	return s.budgets[o].Allow(now, hintBudget)
}
