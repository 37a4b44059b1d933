package seal

import "time"

const (
	keyLife        = 180 * time.Second
	renewInitiator = 120 * time.Second // if data flows
	renewResponder = 150 * time.Second
	renewPackets   = packetLimit / 2

	keepaliveAfter = 500 * time.Millisecond  // data received, nothing sent
	helloAfter     = 1500 * time.Millisecond // data sent, nothing heard

	firstRetry  = 250 * time.Millisecond
	lastRetry   = 4 * time.Second
	attemptLife = 30 * time.Second // then it is made anew, with other keys
	giveUp      = 30 * time.Second // after the last Want
	maxConfirms = 3

	watch = 250 * time.Millisecond // between looks at the counts, while packets flow
	quiet = 2 * time.Second        // without a packet: the sessions are idle
)

// timers are a Set's; 0 is never in all of them.
type timers struct {
	wanted    time.Duration // somebody wanted to send
	joined    time.Duration // the same, of handshakes by an invitation
	tried     time.Duration // a handshake began, of our own
	trying    time.Duration // since when HELLOs go unanswered
	heard     time.Duration // a WELCOME came
	keepalive time.Duration // the last one sent
	owed      time.Duration // since when data received waits for anything to be sent
	silent    time.Duration // since when data sent waits for anything to be received
}

// relax lets a handshake under way end soon: it has lost its urgency.
func (t *timers) relax(now time.Duration) { t.wanted = min(t.wanted, now-giveUp+together) }

// Actions are what is due.
type Actions struct {
	Hello     *Message   // to be sent on every path
	Keepalive *Session   // to seal an empty message in
	Ended     []*Session // to be received on no more
	GaveUp    bool       // nobody answered, and there is no session: nothing need wait for one
}

// Tick returns what is due, and when to call it again: 0 is never. While nothing flows
// only the end of keys is due. It is also called when a session's
// Activate returned true.
func (s *Set) Tick(now time.Duration) (do Actions, next time.Duration) {
	now = max(now, 1)
	at := func(t time.Duration) {
		if next == 0 || t < next {
			next = t
		}
	}
	s.expire(now)
	f := s.timers.flow(s.live)
	active := s.watch(now, f)
	s.renew(now, f)
	s.proceed(now)
	do.Keepalive = s.keepalive(now, f, at)
	do.Hello = s.hello(now, at)
	if active {
		at(now + watch)
	}
	if t := s.timers.silent; t != 0 && s.attempt == nil {
		at(t + helloAfter)
	}
	for _, x := range s.live {
		at(x.born + keyLife)
		if x.Invited() {
			if since, ok := s.replaced(x); ok {
				at(since + lingersFor)
			}
		}
	}
	for _, x := range s.pending {
		at(x.born + pendingLife)
	}
	do.Ended, s.ended = s.ended, nil
	do.GaveUp, s.gaveUp = s.gaveUp, false
	return do, next
}

// expire ends what is too old. A pending session that was opened without Confirm
// having been called is confirmed.
func (s *Set) expire(now time.Duration) {
	for _, x := range s.Live() {
		if x.life.state == pending && now-x.born >= pendingLife && x.received.Load() != 0 {
			s.Confirm(now, x)
		}
	}
	s.keep(func(x *Session) bool {
		if x.life.state == pending {
			return now-x.born < pendingLife
		}
		if x.Invited() {
			if since, ok := s.replaced(x); ok && now-since >= lingersFor {
				return false
			}
		}
		return !x.tooOld(int64(now))
	})
}

// flow is when packets last went each way, on any session.
type flow struct {
	sent, keepalive time.Duration // data, and keepalives
	received, data  time.Duration // anything, and data
}

func (t *timers) flow(live []*Session) flow {
	f := flow{keepalive: t.keepalive, received: t.heard}
	for _, x := range live {
		f.sent = max(f.sent, time.Duration(x.sent.Load()))
		f.received = max(f.received, time.Duration(x.received.Load()))
		f.data = max(f.data, time.Duration(x.data.Load()))
	}
	return f
}

// flows reports whether data went either way just now.
func (f flow) flows(now time.Duration) bool {
	last := max(f.sent, f.data)
	return last != 0 && now-last < quiet
}

// watch follows the counts, and reports whether to look again soon. When all is quiet
// it marks the sessions idle, so that the next packet says so.
func (s *Set) watch(now time.Duration, f flow) (active bool) {
	t := &s.timers
	switch {
	case f.data <= max(f.sent, f.keepalive):
		t.owed = 0
	case t.owed <= max(f.sent, f.keepalive):
		t.owed = min(f.data, now)
	}
	switch {
	case f.sent <= max(f.received, t.tried): // heard, or tried since
		t.silent = 0
	case t.silent <= max(f.received, t.tried):
		t.silent = min(f.sent, now)
	}
	if f.flows(now) || t.owed != 0 || t.silent != 0 {
		return true
	}
	for _, x := range s.live {
		x.Deactivate()
	}
	if s.timers.flow(s.live) == f {
		return false
	}
	for _, x := range s.live { // a packet slipped in between
		x.Activate()
	}
	return true
}

// renew begins a handshake where the keys get old or the peer is silent.
func (s *Set) renew(now time.Duration, f flow) {
	if s.attempt != nil {
		return
	}
	t := &s.timers
	if t.silent != 0 && now-t.silent >= helloAfter {
		t.wanted = now
		s.begin(now, nil)
		return
	}
	x := s.Current(now)
	if x == nil {
		return
	}
	limit := renewInitiator
	if !x.initiator {
		limit = renewResponder
	}
	if now-x.born >= limit && f.flows(now) || x.used() >= renewPackets {
		t.wanted = now
		s.begin(now, nil)
	}
}

// keepalive is the session on which to send one: for one that the peer is to confirm,
// or since data was received and nothing sent.
func (s *Set) keepalive(now time.Duration, f flow, at func(time.Duration)) (due *Session) {
	due = s.proof(now, at)
	for _, x := range s.live {
		if x.initiator && !x.Invited() && x.sent.Load() == 0 && !x.heard() {
			due = x.confirmation(now, maxConfirms, due, at)
		}
	}
	if t := &s.timers; t.owed != 0 && due == nil {
		if now-t.owed >= keepaliveAfter {
			if due, t.owed = s.Current(now), 0; due == nil {
				due = s.Invited(now)
			}
		} else {
			at(t.owed + keepaliveAfter)
		}
	}
	if due != nil {
		s.timers.keepalive = now
	}
	return due
}

// hello is our HELLO where it is due. It is the same message again for 30 s, then a
// new one as long as somebody wants to send.
func (s *Set) hello(now time.Duration, at func(time.Duration)) *Message {
	t := &s.timers
	a := s.attempt
	if a == nil {
		return nil
	}
	end := t.wanted + giveUp
	if a.invitation != nil {
		end = max(end, t.joined+giveUp)
	}
	if now >= end {
		s.abandon(now)
		return nil
	}
	if now-a.began >= attemptLife {
		if s.begin(now, a.invitation) == nil {
			s.attempt.interval = lastRetry
			a = s.attempt
		}
	}
	var due *Message
	if a.next <= now {
		due = a.message(s.peerID)
		a.next = now + a.interval
		a.interval = min(2*a.interval, lastRetry)
	}
	at(min(a.next, end))
	return due
}

// abandon ends the handshake under way.
func (s *Set) abandon(now time.Duration) {
	s.attempt, s.timers.trying, s.timers.tried = nil, 0, now
	s.gaveUp = s.gaveUp || s.Current(now) == nil
}

// Unanswered is for how long HELLOs have gone unanswered; 0: none is under way.
func (s *Set) Unanswered(now time.Duration) time.Duration {
	if s.timers.trying == 0 {
		return 0
	}
	return max(now-s.timers.trying, 1)
}
