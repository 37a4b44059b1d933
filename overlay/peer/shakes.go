package peer

import (
	"time"

	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// shakes are the times at which one HELLO was sent. Beside the times that package seal
// chooses, it is sent again as soon as its answer is overdue by what is known of the round
// trip: where packets get lost, most handshakes end that much earlier.
type shakes struct {
	began mono.Time // of the handshake
	at    [16]mono.Time
	sent  int // of at; later ones are not noted
	again int
}

const (
	againMost   = 8                     // HELLOs that are sent again early
	againProved = 4                     // of them, after the peer answered something else
	againLeast  = 50 * time.Millisecond // after the one before
)

// note notes that the HELLO of a handshake that began at some time is sent now.
func (s *shakes) note(now, began mono.Time) {
	if s.began != began {
		*s = shakes{began: began}
	}
	if s.sent < len(s.at) && (s.sent == 0 || s.at[s.sent-1] != now) {
		s.at[s.sent] = now
		s.sent++
	}
}

// renew allows a few more early ones: the peer was heard, so a handshake can end now.
func (s *shakes) renew() {
	s.again = min(s.again, againMost-againProved)
	if s.sent == len(s.at) { // all that is needed of the older ones is when it began
		s.sent = copy(s.at[1:], s.at[s.sent-1:]) + 1
	}
}

// answered returns when the HELLO was sent that is answered now: the last one that is at
// least so old, or else the first one.
func (s *shakes) answered(now mono.Time, least time.Duration) mono.Time {
	for k := s.sent - 1; k > 0; k-- {
		if now.Sub(s.at[k]) >= least {
			return s.at[k]
		}
	}
	return s.at[0]
}

// due returns when to send the HELLO again, with a round trip of rtt. The times between
// double with every second one.
func (s *shakes) due(rtt time.Duration) mono.Time {
	if s.sent == 0 || s.sent == len(s.at) || s.again >= againMost || rtt == 0 {
		return mono.Never
	}
	return s.at[s.sent-1].Add(max(rtt+rtt/4, againLeast) << (s.again / 2))
}

// shakeAgain sends the HELLO again if its answer is overdue, and returns when it will be.
func (m *Machine) shakeAgain(now mono.Time) (next mono.Time) {
	if m.hello == nil || m.set.Unanswered(now.Duration()) == 0 {
		return mono.Never
	}
	rtt := m.shortest()
	if m.shakes.due(rtt) <= now {
		m.shakes.again++
		m.everyWay(now)
	}
	return m.shakes.due(rtt)
}

// expected returns the round trip of a way as far as it is known; 0: not at all. One that
// leads through a relay takes about twice as long as to the relay.
func (m *Machine) expected(w path.Way) time.Duration {
	if w.Direct() {
		return 0
	}
	return 2 * m.peer.env.Shell.RoundTrip(w.Via)
}

// shortest returns the shortest round trip that is known, or expected, of the ways along which
// the HELLO goes; 0: none is.
func (m *Machine) shortest() (least time.Duration) {
	for _, w := range m.ways.Ways() {
		rtt := w.RTT
		switch {
		case w.State == path.Failed:
			continue
		case rtt == 0:
			rtt = m.expected(w.Way)
		}
		if rtt != 0 && (least == 0 || rtt < least) {
			least = rtt
		}
	}
	return least
}
