package stream

import "time"

// What the sender does when no acknowledgement comes:
//
//	something flies --- tail ---> loss probe: one packet, new or the newest again
//	                '-- RTO ----> all that fly count as lost; the first goes again alone
//	nothing flies, and the peer's window is shut --- RTO ---> one packet as a probe

// arm sets the timers after something was sent or acknowledged.
func (s *sender) arm(now time.Duration) {
	if s.sent.empty() {
		s.rtoAt, s.tailAt = 0, 0
		if s.unsent() == 0 {
			s.progress = 0
		} else if s.shut() {
			s.startRTO(now)
		}
		return
	}
	if s.progress == 0 {
		s.progress = now
	}
	s.startRTO(now)
	if s.tailAt == 0 && (s.rack.recovery == 0 || s.sent.losses == 0) && s.backoff <= 1 && s.rack.probe == 0 && s.sent.flights > 0 && s.rtt.smooth > 0 {
		s.tailAt = now + s.tail()
	}
}

func (s *sender) startRTO(now time.Duration) {
	if s.rtoAt == 0 {
		s.rtoAt = now + s.repeatAfter()
	}
}

// repeatAfter returns the retransmission timeout with its back-off.
func (s *sender) repeatAfter() time.Duration {
	d := s.rtt.rto()
	for range min(s.backoff, 10) {
		d = min(2*d, max(maxRepeat, s.rtt.rto()))
	}
	return d
}

// timers does what is due.
func (s *sender) timers(now time.Duration) {
	if at := s.rack.check; at != 0 && now >= at && s.detect(now) {
		s.recover(now)
	}
	switch {
	case s.rtoAt != 0 && now >= s.rtoAt:
		s.timeout(now)
	case s.tailAt != 0 && now >= s.tailAt:
		s.tailProbe()
	}
}

// due returns when timers is to be called; 0: never.
func (s *sender) due() time.Duration { return sooner(s.rack.check, sooner(s.rtoAt, s.tailAt)) }

// sooner returns the earlier of two times, of which 0 is never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// tailProbe sends one packet, to learn whether the last ones arrived (RFC 8985, 7.3).
func (s *sender) tailProbe() {
	s.tailAt = 0
	if s.sent.flights == 0 {
		return
	}
	s.force = true
	s.rack.repeated = s.unsent() == 0 || s.shut()
	s.rack.probe = s.sent.next
	if s.rack.repeated {
		s.rack.probe = s.sent.newest
		s.sent.lose(s.sent.newest)
	}
}

// probeArrived judges a loss probe by its acknowledgement: if a packet was sent again and it
// was that which arrived, the first was lost, which costs a reduction (RFC 8985, 7.4).
func (s *sender) probeArrived(now time.Duration, n uint64, p *packet) {
	r := &s.rack
	early := p.state == flying && p.times > 1 && now-p.at < s.rtt.least
	if early {
		r.widen()
	}
	if r.probe == 0 || n < r.probe {
		return
	}
	if n == r.probe && r.repeated && !early && p.state == flying {
		s.recover(now)
	}
	r.probe = 0
}

// timeout gives up all that flies (RFC 6298, 5.4 to 5.6).
func (s *sender) timeout(now time.Duration) {
	first := s.backoff == 0
	s.backoff++
	s.rtoAt, s.tailAt, s.rack.check, s.rack.probe = 0, 0, 0, 0
	s.force = true
	if s.sent.empty() { // the peer's window is shut
		s.probing = true
		s.startRTO(now)
		return
	}
	if first && s.window > 0 && s.rtt.smooth > 0 {
		s.trial.stop()
		s.cc.timeout()
		s.rtoOrder = s.sent.order
	}
	s.sent.loseAll()
	s.rack.recovery = s.sent.next
	s.startRTO(now)
}

// spurious takes a timeout back: what it gave up arrived after all.
func (s *sender) spurious() {
	s.cc.spurious()
	s.rack.recovery = 0
	s.rack.widen()
	for n := s.sent.base; n < s.sent.next && s.sent.losses > 0; n++ {
		if p := s.sent.at(n); p.state == lost && p.times > 0 && p.order <= s.rtoOrder {
			s.sent.resume(n)
		}
	}
	s.rtoOrder, s.backoff = 0, 0
}

// moved sends what is on the way again at once, after the path to the peer changed or came
// back.
func (s *sender) moved(now time.Duration) {
	if s.backoff == 0 {
		return
	}
	s.backoff = 1
	s.rtoAt = now
}
