package path

import (
	"time"

	"anodenet/overlay/mono"
)

// Probe asks the engine to send Count PROBE messages of Size bytes along a way: one that
// leaves as a single packet, joined to nothing, or several that leave as one train. The
// probes of one call leave in their order.
type Probe struct {
	ID    uint32
	Size  int // of the sealed datagram
	Count int
}

// Traffic is what the engine knows of the data on a way.
type Traffic struct {
	Large mono.Time // when a datagram of at least Search.Large bytes was last sent
	Heard mono.Time // when anything authentic was last received
}

// Times of the search.
const (
	probeWait   = 250 * time.Millisecond // for an answer, beside the round trip
	maxLag      = 2 * time.Second        // the most that a slow answer adds to that
	answerFor   = 5 * time.Second        // an answer counts
	flowFor     = 2 * time.Second        // large data flows this long after the last
	verifyEvery = time.Second            // while large data flows; doubles while nothing is answered
	verifyLast  = time.Minute
	raiseEvery  = 2 * time.Second // while large data flows and the size is below the limit
	quickLeast  = 50 * time.Millisecond
	earlyMost   = 1472 // bytes of a probe that is sent before anything else: what Ethernet carries
)

// Search finds how long a sealed datagram one way carries, and whether trains arrive
// there. It is for one goroutine.
type Search struct {
	sizes  sizes
	trains trains
	id     func() uint32
	lag    time.Duration // of the last answer: queues make it longer than the round trip
}

// NewSearch returns the search for a way on which link and adapter promise datagrams of
// limit bytes. It trusts them until that is disproved. id returns random IDs.
func NewSearch(limit int, id func() uint32) Search {
	return Search{sizes: newSizes(limit), id: id}
}

// Restart continues with another limit, keeping what was found; with the same limit it
// is Recheck.
func (s *Search) Restart(limit int) {
	s.sizes.restart(limit)
	s.trains.recheck()
}

// Recheck verifies the present size, and whether trains arrive, since something may have
// changed. Both are kept until they are disproved.
func (s *Search) Recheck() {
	s.sizes.recheck()
	s.trains.recheck()
}

// Doubt verifies the present size alone.
func (s *Search) Doubt() { s.sizes.recheck() }

// Size returns the longest sealed datagram to send.
func (s *Search) Size() int { return s.sizes.size }

// Try has the size found out by several probes at once, since the way is not used before a
// large one was answered.
func (s *Search) Try() { s.sizes.trial = !s.sizes.proven }

// Retry has larger sizes than the present one asked for.
func (s *Search) Retry() {
	s.sizes.recheck()
	s.sizes.raised = 0
}

// Proven reports whether a datagram of Size bytes was answered.
func (s *Search) Proven() bool { return s.sizes.proven }

// Steady reports whether a way has carried datagrams of Size bytes since a time, for long enough
// to be used in place of a connection.
func (s *Search) Steady(now, since mono.Time) bool {
	z := &s.sizes
	since = max(since, z.steady)
	return z.steady != 0 && now.Sub(since) >= trialFor && z.last.Sub(since) >= trialFor-2*verifyEvery
}

// Large returns from which length on a datagram counts for Traffic.Large.
func (s *Search) Large() int { return s.sizes.size * 3 / 4 }

// Trains reports whether several packets may be sent as one train.
func (s *Search) Trains() bool { return !s.trains.off }

// Due returns the probes to send now, and when to ask again. Ask also after Answered,
// and when the first large datagram is sent after two seconds without: there is no timer
// while nothing large flows. rtt is the round trip of the way. With trains false nothing is found out about
// trains: toward strangers, and where the system sends none.
func (s *Search) Due(now mono.Time, rtt time.Duration, used Traffic, trains bool) (probes []Probe, next mono.Time) {
	wait := probeWait + max(rtt, s.lag)
	sizes, next := s.sizes.due(now, wait, quickWait(rtt), used)
	if len(sizes) > 0 {
		id := s.id()
		for _, size := range sizes {
			s.sizes.sent.add(id, size, now)
			probes = append(probes, Probe{id, size, 1})
		}
	}
	if trains && s.sizes.phase == idle {
		p, t := s.trains.due(now, wait, used, s.id)
		probes, next = append(probes, p...), min(next, t)
	}
	return probes, next
}

// quickWait is how long the first probes of a trial wait for their answers: the sooner they are
// sent again, the sooner a way can be used on which packets get lost.
func quickWait(rtt time.Duration) time.Duration { return max(rtt+rtt/4, quickLeast) }

// Early returns a probe of the longest datagram that can leave before anything is known of the
// way, with its first check: if both are answered, the way is good. ok is false if it would be of
// no use. No answer says nothing.
func (s *Search) Early(now mono.Time) (p Probe, ok bool) {
	z := &s.sizes
	if z.proven || z.phase != idle || z.size > earlyMost {
		return Probe{}, false
	}
	id := s.id()
	z.sent.add(id, z.size, now)
	return Probe{id, z.size, 1}, true
}

// Answered takes a PROBE_ACK that came in a session. What answers no outstanding probe
// changes nothing. It returns how long the answer to a probe of a size took; 0: it is none.
func (s *Search) Answered(now mono.Time, id uint32, size int) (rtt time.Duration) {
	if sent, ok := s.sizes.sent.take(id, size, now); ok {
		s.lag = min(now.Sub(sent), maxLag)
		s.sizes.answered(now, size)
		return max(now.Sub(sent), 1)
	}
	s.trains.answered(id, size)
	return 0
}

// maxSent is how many probes can be outstanding: more than two rounds of the search.
const maxSent = 32

// outstanding holds the probes that may still be answered, the newest maxSent.
type outstanding struct{ list []sentProbe }

type sentProbe struct {
	id   uint32
	size int
	at   mono.Time
}

func (o *outstanding) add(id uint32, size int, now mono.Time) {
	if len(o.list) == maxSent {
		o.list = append(o.list[:0], o.list[1:]...)
	}
	o.list = append(o.list, sentProbe{id, size, now})
}

// take removes a probe that was answered, unless its answer is too old to mean anything.
func (o *outstanding) take(id uint32, size int, now mono.Time) (sent mono.Time, ok bool) {
	for i, p := range o.list {
		if p.id == id && p.size == size {
			o.list = append(o.list[:i], o.list[i+1:]...)
			return p.at, now.Sub(p.at) <= answerFor
		}
	}
	return 0, false
}
