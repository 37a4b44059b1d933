package stream

import "time"

const (
	maxReorder     = 20 // of reorder steps of a quarter of the round trip
	reorderPersist = 16 // recoveries that a wider reordering window stays
)

// rack detects losses by time (RFC 8985).
type rack struct {
	order uint64        // of the newest transmission that was acknowledged
	at    time.Duration // of that transmission
	rtt   time.Duration // of that transmission
	top   uint64        // the greatest number acknowledged

	reordering bool
	steps      int // width of the reordering window
	persist    int // recoveries until steps is 1 again

	recovery uint64        // recovery lasts until this number is acknowledged; 0: none
	check    time.Duration // when a packet becomes lost; 0: none waits

	probe    uint64 // the number of the loss probe that is out; 0: none
	repeated bool   // it was sent before
}

// window returns how much later than others a packet may arrive (RFC 8985, 6.2.4).
// beyond is how many arrived of those that were sent later than the first that is missing.
func (r *rack) window(t *rtt, beyond int) time.Duration {
	if !r.reordering && (r.recovery != 0 || beyond >= 3) {
		return 0
	}
	return min(time.Duration(max(r.steps, 1))*t.least/4, t.smooth)
}

// delivered takes the acknowledgement of a packet that is marked as such only now.
func (s *sender) delivered(now time.Duration, n uint64, p *packet) {
	r := &s.rack
	if p.times == 1 && n < r.top && p.state != arrived {
		r.reordering = true
	}
	r.top = max(r.top, n)
	if p.state != flying || p.order <= r.order {
		return
	}
	if d := now - p.at; p.times == 1 || d >= s.rtt.least {
		r.order, r.at, r.rtt = p.order, p.at, d
	}
}

// detect marks packets as lost that were sent before one that arrived, by more than the
// reordering window, and reports whether there were any.
func (s *sender) detect(now time.Duration) (found bool) {
	r := &s.rack
	r.check = 0
	wait := r.rtt + r.window(&s.rtt, s.sent.beyond())
	for n := s.sent.oldest; n != 0; {
		p := s.sent.at(n)
		if p.order >= r.order {
			break
		}
		if p.at+wait > now {
			r.check = p.at + wait
			break
		}
		next := p.after
		s.sent.lose(n)
		s.trial.lost++
		found = true
		n = next
	}
	return found
}

// widen notes that a retransmission was not needed.
func (r *rack) widen() {
	r.reordering = true
	r.steps = min(max(r.steps, 1)+1, maxReorder)
	r.persist = reorderPersist
}

// recover begins recovery after a loss, unless it has begun.
func (s *sender) recover(now time.Duration) {
	r := &s.rack
	if r.recovery != 0 {
		return
	}
	r.recovery = s.sent.next
	if r.persist--; r.persist <= 0 {
		r.steps, r.persist = 1, 0
	}
	s.congested(now)
}

// recovered ends recovery when all that was sent before it was acknowledged.
func (r *rack) recovered(base uint64) {
	if r.recovery != 0 && base >= r.recovery {
		r.recovery = 0
	}
}

// tail returns how long after the last transmission or acknowledgement a loss probe is due
// (RFC 8985, 7.2).
func (s *sender) tail() time.Duration {
	if s.rtt.smooth == 0 {
		return firstRTO
	}
	d := 2 * s.rtt.smooth
	if s.sent.flights == 1 {
		d += ackDelay
	}
	return min(max(d, 2*time.Millisecond), s.rtt.rto())
}
