package path

import (
	"time"

	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// A way in a connection (TCP, HTTP) costs more than one by UDP, and carries less. So one that we
// would have to open waits while UDP may still answer:
//
//	             no better way works, and none may still answer
//	waiting ------------------------------------------------------> checked, like any way
//	   ^                                                               |
//	   '---------------------------------------------------------------'
//	             it failed, or ended while it was not in use
//
// While a connection is used, UDP is checked again and again. One that answers is on trial first:
// it is used when it has carried large packets for a while, so that a firewall that lets UDP
// through now and then does no harm.
const (
	connectAfter  = 1500 * time.Millisecond // since a way is needed: so long UDP may answer
	connectSoon   = 300 * time.Millisecond  // the same, where no endpoint of UDP is known
	connectHTTP   = 500 * time.Millisecond  // more, where a connection by TCP may be had
	connectBeside = 5 * time.Second         // the same, where a relay answers by UDP: attempts to open a direct way come first
	provenWithin  = 5 * time.Second         // a way by UDP that has not carried a large packet by then does not work

	connectTries = 3 // requests in a connection, which loses none: they are late
	besideFirst  = 2 * time.Second
	besideLast   = 4 * time.Second // between two checks of UDP beside a connection that carries data
	trialFor     = 5 * time.Second
	trialEvery   = time.Second      // between requests of a trial
	trialLong    = 15 * time.Second // a trial that takes so long goes on with few requests:
	trialSeldom  = 30 * time.Second // large packets get lost
)

// waits reports whether a check of the way waits while UDP may answer.
func (i *Info) waits() bool {
	return i.State != Confirmed && i.Direct() && i.Endpoint.Kind.Connected() && i.Endpoint.Conn == 0
}

// came ends the wait if something came from there: there is a connection already.
func (i *Info) came(now mono.Time, o Origin) {
	if i.Waiting() && (o == Heard || o == Roamed) {
		i.check.waits, i.check.next = false, now
	}
}

// Waiting reports whether nothing is sent along the way yet, since another may be better.
func (i *Info) Waiting() bool { return i.check.pending && i.check.waits }

// Trial reports whether the way works, and has to do so for longer before it is used.
func (i *Info) Trial() bool { return i.trial != 0 }

// TrialSince returns when the trial began; 0: there is none.
func (i *Info) TrialSince() mono.Time { return i.trial }

// class orders ways by what they are, as long as they work: lower is better.
func class(i *Info) int {
	k := i.Endpoint.Kind
	switch {
	case i.Direct() && k == link.UDP && i.OnLink:
		return 0
	case i.Direct() && k == link.UDP:
		return 1
	case i.Direct() && k == link.Ethernet:
		return 2
	case i.Direct() && k == link.TCP:
		return 3
	case i.Direct():
		return 6
	}
	hops := min(i.Hops, 2) / 2
	switch k {
	case link.TCP:
		return 7 + hops
	case link.HTTP:
		return 9 + hops
	}
	return classRelayed + hops
}

const (
	classRelayed = 4  // by a relay that is reached by UDP; 5: by two
	classNone    = 99 // no way
)

// works returns the class of the best way that works well enough to do without another.
func (s *Set) works(now mono.Time) int {
	best := classNone
	for _, i := range s.ways {
		switch {
		case i.State != Confirmed || i.Trial() || i.silent():
		case i.Fitness == Small || i.Fitness == Stale || i.Fitness == Unproven && now.Sub(i.Since) >= provenWithin:
		default:
			best = min(best, class(i))
		}
	}
	return best
}

// release says of each way that waits until when it does.
func (s *Set) release(now mono.Time) {
	works := s.works(now)
	if s.worked < classRelayed && works >= classRelayed {
		s.since = now
	}
	s.worked = works
	for _, i := range s.ways {
		if i.Waiting() {
			i.check.next = s.dialAt(i, works)
		}
	}
}

// dialAt returns when a way that waits may be checked, while a way of the class works is the best.
func (s *Set) dialAt(i *Info, works int) mono.Time {
	switch {
	case works <= class(i):
		return mono.Never
	case works < classRelayed+2:
		return s.since.Add(connectBeside)
	}
	wait := connectAfter
	switch {
	case s.Blocked != nil && s.Blocked(), s.failing():
		wait = 0
	case !s.asking():
		wait = connectSoon
	}
	if i.Endpoint.Kind == link.HTTP && s.dials(link.TCP) {
		wait += connectHTTP
	}
	return s.since.Add(wait)
}

// dials reports whether a way of a kind is about to be opened, or being opened.
func (s *Set) dials(k link.Kind) bool {
	for _, i := range s.ways {
		if i.Direct() && i.State == Candidate && i.Endpoint.Kind == k && i.check.pending {
			return true
		}
	}
	return false
}

// failing reports whether a way by UDP worked until just now.
func (s *Set) failing() bool {
	for _, i := range s.ways {
		if i.State == Confirmed && i.Direct() && !i.Endpoint.Kind.Connected() && (i.silent() || i.Trial()) {
			return true
		}
	}
	return false
}

// asking reports whether a way by UDP may still answer.
func (s *Set) asking() bool {
	for _, i := range s.ways {
		if i.State == Candidate && i.check.pending && !i.Endpoint.Kind.Connected() {
			return true
		}
	}
	return false
}

// Spare reports whether there is a way in a connection, or one could be opened.
func (s *Set) Spare() bool {
	for _, i := range s.ways {
		if i.Direct() && i.Endpoint.Kind.Connected() && (i.State == Confirmed || i.Waiting()) {
			return true
		}
	}
	return false
}

// Flows says whether data flows. UDP is checked more often then, while a connection carries it.
func (s *Set) Flows(now mono.Time, flows bool) {
	began := flows && !s.flows
	s.flows = flows
	if !began {
		return
	}
	for _, i := range s.ways {
		if i.State == Failed && s.beside(i) {
			i.rest, i.check.next = 0, min(i.check.next, now)
		}
	}
}

// beside reports whether a way is checked again because a connection is used in its place.
func (s *Set) beside(i *Info) bool {
	return s.best != nil && s.best.Endpoint.Kind.Connected() && !i.Endpoint.Kind.Connected() && i.Direct()
}

// fail ends a check without an answer.
func (s *Set) fail(now mono.Time, i *Info) {
	if s.flows && s.beside(i) {
		i.fail(now, besideFirst, besideLast)
	} else {
		i.fail(now, firstRest, lastRest)
	}
}

// try puts the ways by UDP on trial, since a connection is used in their place.
func (s *Set) try(now mono.Time) {
	for _, i := range s.ways {
		if i.State == Confirmed && s.beside(i) {
			i.trial, i.steady = now, 0
		}
	}
}

// tried looks at the ways on trial: those that did well are used from now on, and the others
// are asked again. It returns when to look again.
func (s *Set) tried(now mono.Time) (next mono.Time) {
	next = mono.Never
	for _, i := range s.ways {
		switch {
		case !i.Trial():
			continue
		case i.State != Confirmed || !s.connected():
			i.trial = 0
			continue
		case i.silent():
			i.steady = 0
		}
		if i.check.pending {
			continue
		}
		at := i.answered.Add(trialEvery)
		if now.Sub(i.trial) >= trialLong {
			at = i.answered.Add(trialSeldom)
		}
		if now < at {
			next = min(next, at)
		} else if i.steady != 0 && now.Sub(i.steady) >= trialFor && i.Fitness == Fit {
			i.trial = 0
		} else {
			i.start(now)
		}
	}
	return next
}

// connected reports whether a way in a connection is confirmed.
func (s *Set) connected() bool {
	for _, i := range s.ways {
		if i.State == Confirmed && i.Endpoint.Kind.Connected() {
			return true
		}
	}
	return false
}

// dead reports whether a connection that we opened, and that worked, does so no more, and does not say
// that it ended: a firewall may have forgotten it. A system that is asked to send there goes on for
// much longer.
func (i *Info) dead() bool {
	c := &i.check
	return i.State == Confirmed && i.Direct() && i.Endpoint.Kind.Connected() && i.Endpoint.Conn == 0 &&
		len(c.asked) >= i.most() && i.Heard <= c.asked[0].sent
}

// Ended takes the end of a connection, or that none could be opened. Ways in one that the other
// side opened are gone. One that is in use is opened again by its check.
func (s *Set) Ended(now mono.Time, ep link.Endpoint) {
	s.Remove(func(i *Info) bool { return ep.Conn != 0 && i.Endpoint.Same(&ep) })
	for _, i := range s.ways {
		switch {
		case !i.Endpoint.Same(&ep) || i.State == Failed || i.Waiting():
		case i.State == Candidate && !i.Checking():
		case i.State == Candidate, i.check.reopens:
			s.fail(now, i)
		case i == s.best:
			i.start(now)
			i.check.reopens = true
		default:
			i.become(now, Candidate)
			i.start(now)
		}
	}
}
