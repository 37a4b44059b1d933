package stream

import "time"

// kind says which message carries a number.
type kind uint8

const (
	openPacket kind = iota
	dataPacket
	closePacket
)

// flight says what became of a packet.
type flight uint8

const (
	flying flight = iota
	lost          // to be sent again
	arrived
)

// packet is one number that was sent.
type packet struct {
	at    time.Duration // of the last transmission
	order uint64        // of the last transmission, among all of the stream
	off   uint64        // of its payload in the stream
	// The neighbours in the order of transmission, while it is flying; 0: none.
	before, after uint64
	size          uint32 // of its payload
	times         uint32 // that it was sent
	kind          kind
	state         flight
}

// cost is what a packet counts for in windows of bytes.
func (p *packet) cost() int { return int(p.size) }

const firstRing = 8 // packets

// sent is all packets that were sent and may be sent again: base <= number < next.
type sent struct {
	base, next uint64
	ring       []packet // a power of two

	oldest, newest uint64 // in the order of transmission; 0: none flies
	order          uint64 // of the newest transmission

	flying   int    // bytes
	unacked  int    // bytes: flying or lost
	flights  int    // packets
	losses   int    // packets
	lostFrom uint64 // no packet before it is lost
}

func newSent(first uint64) sent {
	return sent{base: first, next: first, lostFrom: first}
}

// at returns a packet, base <= n < next.
func (s *sent) at(n uint64) *packet { return &s.ring[n&uint64(len(s.ring)-1)] }

func (s *sent) empty() bool { return s.base == s.next }

// add makes the next packet. It is lost, in that it is to be sent.
func (s *sent) add(p *pool, k kind, off uint64, size int) uint64 {
	if int(s.next-s.base) == len(s.ring) {
		s.grow(p)
	}
	n := s.next
	*s.at(n) = packet{off: off, size: uint32(size), kind: k, state: lost}
	s.next++
	s.unacked += size
	s.losses++
	s.lostFrom = min(s.lostFrom, n)
	return n
}

func (s *sent) grow(p *pool) {
	ring := p.ring(max(2*len(s.ring), firstRing))
	for n := s.base; n < s.next; n++ {
		ring[n&uint64(len(ring)-1)] = *s.at(n)
	}
	s.ring = ring
}

// fly notes that a lost packet is sent now.
func (s *sent) fly(now time.Duration, n uint64) {
	p := s.at(n)
	s.order++
	p.at, p.order, p.state, p.before, p.after = now, s.order, flying, s.newest, 0
	p.times++
	if s.newest != 0 {
		s.at(s.newest).after = n
	} else {
		s.oldest = n
	}
	s.newest = n
	s.losses--
	s.flights++
	s.flying += p.cost()
}

// resume notes that a lost packet flies after all, since its last transmission.
func (s *sent) resume(n uint64) {
	p := s.at(n)
	at, order := p.at, p.order
	s.fly(at, n)
	s.order--
	p.order = order
	p.times--
}

// land takes a flying packet out of the order of transmission.
func (s *sent) land(p *packet) {
	if p.before != 0 {
		s.at(p.before).after = p.after
	} else {
		s.oldest = p.after
	}
	if p.after != 0 {
		s.at(p.after).before = p.before
	} else {
		s.newest = p.before
	}
	s.flights--
	s.flying -= p.cost()
}

// lose marks a flying packet as lost.
func (s *sent) lose(n uint64) {
	p := s.at(n)
	s.land(p)
	p.state = lost
	s.losses++
	s.lostFrom = min(s.lostFrom, n)
}

// loseAll marks all that fly as lost.
func (s *sent) loseAll() {
	for s.oldest != 0 {
		s.lose(s.oldest)
	}
}

// arrive marks a packet as acknowledged.
func (s *sent) arrive(n uint64) {
	p := s.at(n)
	if p.state == flying {
		s.land(p)
	} else {
		s.losses--
	}
	p.state = arrived
	s.unacked -= p.cost()
}

// beyond returns how many packets arrived of those after the first that is missing.
func (s *sent) beyond() int { return int(s.next-s.base) - s.flights - s.losses }

// firstLost returns the first packet that is lost; there is one.
func (s *sent) firstLost() uint64 {
	for s.lostFrom = max(s.lostFrom, s.base); s.at(s.lostFrom).state != lost; s.lostFrom++ {
	}
	return s.lostFrom
}

// advance forgets the packets in front that were acknowledged. A fast stream is without any a hundred times a second: its
// ring goes to the pool, so that neither is made anew each time nor kept by streams that are idle.
func (s *sent) advance(p *pool) {
	for s.base < s.next && s.at(s.base).state == arrived {
		s.base++
	}
	if s.empty() && len(s.ring) > firstRing {
		ring := s.ring
		s.ring = nil
		p.rings.Put(&ring)
	}
}
