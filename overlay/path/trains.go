package path

import (
	"time"

	"anodenet/overlay/mono"
)

// Trains may be lost where single packets arrive: the kernel takes them, and a driver or
// a tunnel loses them. One trial is a single probe, a train and another single probe:
//
//	untried --- train answered ---------------------------> arrive
//	   |                                                      ^
//	   '--- lostTrains trials of which both single probes,    | train answered
//	        but no packet of the train was answered ------> lost (tried again, rarely)
//
// A peer that answers nothing disproves nothing.
const (
	trainProbes = 8   // one that arrives is enough
	trainSize   = 256 // bytes of each probe of a trial
	lostTrains  = 3   // trials that disprove trains
	maxTrials   = 6   // of which some may say nothing; then it is left until Recheck
	trainRest   = time.Minute
	trainLast   = 30 * time.Minute
)

// trains finds out whether trains arrive.
type trains struct {
	off    bool // disproved
	known  bool // nothing to find out
	lost   int  // trials that were lost
	trials int
	trial  trial
	next   mono.Time     // the end of the trial, or when to try again
	rest   time.Duration // while off
}

// trial is what was sent, and what of it was answered; the zero value is none.
type trial struct {
	ids      [3]uint32 // before, train, after
	answered [3]bool
	sent     bool
}

// recheck begins anew; trains are used or not as before until there is a result.
func (t *trains) recheck() { *t = trains{off: t.off, rest: t.rest} }

// due returns the probes of a trial that begins now, and when to call again.
func (t *trains) due(now mono.Time, wait time.Duration, used Traffic, id func() uint32) ([]Probe, mono.Time) {
	if t.trial.sent && now >= t.next {
		t.judge(now)
	}
	switch {
	case t.known && !t.off:
		return nil, mono.Never
	case now < t.next && t.trial.sent:
		return nil, t.next
	case t.known && now.Sub(used.Large) >= flowFor:
		return nil, mono.Never // nobody misses trains
	case now < t.next:
		return nil, t.next
	}
	t.trial = trial{ids: [3]uint32{id(), id(), id()}, sent: true}
	t.trials++
	t.next = now.Add(wait)
	x := t.trial.ids
	return []Probe{{x[0], trainSize, 1}, {x[1], trainSize, trainProbes}, {x[2], trainSize, 1}}, t.next
}

// judge ends a trial without an answer to its train.
func (t *trains) judge(now mono.Time) {
	conclusive := t.trial.answered[0] && t.trial.answered[2]
	t.trial.sent = false
	if conclusive {
		t.lost++
	}
	switch {
	case t.known && conclusive:
		t.rest = min(2*t.rest, trainLast)
		t.next = now.Add(t.rest)
	case t.known:
		t.next = now.Add(t.rest)
	case t.lost == lostTrains:
		t.off, t.known = true, true
		t.rest = max(t.rest, trainRest)
		t.next = now.Add(t.rest)
	case t.trials == maxTrials:
		t.known = true
		t.rest = max(t.rest, trainRest)
		t.next = now.Add(t.rest)
	case !conclusive:
		t.next = now.Add(time.Second << t.trials)
	}
}

// answered takes an answer that is none to a probe of a size. That of a train counts
// even if it comes late.
func (t *trains) answered(id uint32, size int) {
	if size != trainSize || t.trials == 0 {
		return
	}
	for k, x := range t.trial.ids {
		if x == id {
			t.trial.answered[k] = true
		}
	}
	if t.trial.answered[1] {
		*t = trains{known: true}
	}
}
