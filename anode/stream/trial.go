package stream

import "time"

// CUBIC takes every loss for congestion, and it fills every queue. Whether a smaller window
// is of use can be observed: within two rounds the round trip becomes shorter, or not.
//
//   - After a loss the window is reduced as RFC 9438 has it. If no queue stands, and the
//     round trip does not become shorter, the loss was not congestion. The reduction is taken
//     back, and for some rounds further losses reduce nothing, as long as they are few and
//     no queue builds up. Few is LossThresh of BBR (draft-ietf-ccwg-bbr): 2 %.
//   - When a queue stands, the window is reduced to what the line holds without it. If the
//     queue goes, it was ours, and the reduction stays. If it does not go, another flow fills
//     it, and would take our share. The reduction is taken back, and CUBIC goes on alone
//     for a while: beside a flow of CUBIC a stream is one itself.
const (
	lossBound  = 0.02
	lossSpare  = 3  // packets lost in addition, for small windows
	freeRounds = 32 // in which losses reduce nothing

	// A queue stands if every round trip of a round is longer than the shortest by a
	// quarter, at least queueLeast and at most queueMost.
	queueLeast = 15 * time.Millisecond
	queueMost  = 25 * time.Millisecond

	effectRounds = 2 // until the effect of a reduction is seen
	queueRounds  = 3 // until a queue must be gone: two streams may try one after the other

	// rivalLeast and rivalMost bound how long CUBIC goes on alone beside another flow: twice
	// as long each time, since a trial costs two round trips of our share.
	rivalLeast = 20 * time.Second
	rivalMost  = 2 * time.Minute

	rateDecay = 0.8 // each round
	// shortLine is the round trip below which both ends hold more than the line does.
	shortLine = 5 * time.Millisecond
)

// rounds measures round by round: one lasts until a packet that was sent after its begin is
// acknowledged.
type rounds struct {
	end       uint64        // the round ends when this number is acknowledged
	since     time.Duration // when it began
	cur, last time.Duration // the shortest round trip of this round and of the last; 0: none
	bytes     int           // acknowledged in this round
	rate      float64       // bytes a second, of the fastest of the last rounds
}

// next begins a round.
func (r *rounds) next(now time.Duration, end uint64) {
	*r = rounds{end: end, since: now, last: r.cur, rate: r.rate}
}

// cause is what a trial is about.
type cause uint8

const (
	noTrial cause = iota
	lossTrial
	queueTrial
	lossFree // no reduction is on trial, and losses reduce nothing
)

// trial is a reduction of the window whose effect is observed.
type trial struct {
	cause  cause
	rounds int           // since it began
	before time.Duration // the round trip when it began; lossFree: without a queue
	at     time.Duration // when it began
	saved  *cubic        // the window before it

	lost, passed int // packets, since it began

	rival time.Duration // until when CUBIC goes on alone
	alone time.Duration // how long that was the last time; 0: the last queue was ours
}

// few reports whether no more packets were lost than chance may explain.
func (t *trial) few() bool {
	return float64(t.lost) <= lossBound*float64(t.lost+t.passed)+lossSpare
}

// stop ends a trial; the window stays as it is.
func (t *trial) stop() { *t = trial{rival: t.rival, alone: t.alone} }

// try begins a trial. The caller reduces the window.
func (s *sender) try(now time.Duration, why cause) {
	r := &s.rounds
	if r.cur == 0 || r.last != 0 && r.last < r.cur {
		r.cur = r.last
	}
	saved := s.cc
	saved.undo = nil
	t := &s.trial
	*t = trial{cause: why, before: r.cur, at: now, saved: &saved, rival: t.rival, alone: t.alone}
	r.next(now, s.sent.next)
}

// takeBack ends a trial and restores the window.
func (s *sender) takeBack(now time.Duration) {
	t, packet := &s.trial, s.packet
	s.cc = *t.saved
	s.cc.idle(now - t.at)
	s.cc.resize(packet)
	t.stop()
}

// compete ends a trial because another flow fills the queue.
func (s *sender) compete(now time.Duration) {
	t := &s.trial
	lost := t.lost > 0
	s.takeBack(now)
	t.alone = min(max(2*t.alone, rivalLeast), rivalMost)
	t.rival = now + t.alone
	if lost {
		s.cc.lost()
	}
}

// congested takes losses, once a round trip.
func (s *sender) congested(now time.Duration) {
	t := &s.trial
	switch {
	case t.cause != noTrial && t.few():
	case t.cause == lossTrial:
		t.stop()
	case t.cause == queueTrial:
		s.compete(now)
	case t.cause == noTrial && s.rounds.last != 0:
		s.try(now, lossTrial)
		t.lost = 1
		s.cc.lost()
	default:
		t.stop()
		s.cc.lost()
	}
}

// observe takes a round-trip time, and judges at the end of each round.
func (s *sender) observe(now, rtt time.Duration) {
	r := &s.rounds
	if s.rack.top >= r.end {
		r.rate = max(float64(r.bytes)/max(now-r.since, 1).Seconds(), r.rate*rateDecay)
		r.next(now, s.sent.next)
		s.trial.rounds++
		if r.last != 0 {
			s.judge(now)
		}
	}
	if r.cur == 0 || rtt < r.cur {
		r.cur = rtt
	}
}

// judge ends a trial, or begins one, with the round trip of the round that ended.
func (s *sender) judge(now time.Duration) {
	t, rtt := &s.trial, s.rounds.last
	bound := min(max(s.rtt.least/4, queueLeast), queueMost)
	empty := rtt < s.rtt.least+bound/2
	switch {
	case t.cause == lossTrial && !t.few():
		t.stop()
	case t.cause == lossTrial && t.rounds >= effectRounds:
		if !empty || rtt < t.before-t.before/16 {
			t.stop()
			break
		}
		s.takeBack(now)
		t.cause, t.before = lossFree, rtt
	case t.cause == queueTrial && t.rounds >= effectRounds && empty:
		t.stop()
		t.alone = 0
		s.cc.most = s.cc.window // from there it grows slowly at first
	case t.cause == queueTrial && t.rounds >= queueRounds:
		s.compete(now)
	case t.cause == lossFree && (!t.few() || t.rounds > freeRounds || rtt > t.before+t.before/8):
		t.stop()
		s.drain(now, bound)
	case t.cause == noTrial || t.cause == lossFree:
		s.drain(now, bound)
	}
}

// drain begins a trial if a queue stands. In a slow start that no loss ends it takes a window
// for a queue that is much larger than what arrives in a round trip.
func (s *sender) drain(now, bound time.Duration) {
	t, r := &s.trial, &s.rounds
	full := t.cause == lossFree && t.rounds > queueRounds && s.cc.slowStart() &&
		s.cc.window > r.rate*(2*s.rtt.least+bound).Seconds()
	if now < t.rival || r.last <= s.rtt.least+bound && !full {
		return
	}
	s.try(now, queueTrial)
	s.cc.reduce(min(r.rate*max(s.rtt.least, shortLine).Seconds()/s.cc.window, 1))
}
