package info2

import (
	"net/netip"
	"slices"
	"time"
)

// neighbour is a servent that is dialled for each message: it sent BACKCONNECT
// and closed, or closes what we dial after one message.
type neighbour struct {
	addr       netip.Addr
	registered bool      // by BACKCONNECT
	until      time.Time // forgotten then
	out        outbox
	failed     bool // the last delivery: the next failure ends it
}

// neighbours are the servents that are dialled for each message, at most
// neighboursMax, the one dialled longest ago first.
type neighbours struct {
	fx   *effects
	list []*neighbour
}

// find returns nil if the host is none.
func (s *neighbours) find(a netip.Addr) *neighbour {
	for _, n := range s.list {
		if n.addr == a {
			return n
		}
	}
	return nil
}

// add makes a host one, or renews it.
func (s *neighbours) add(now time.Time, a netip.Addr, registered bool) {
	n := s.find(a)
	if n == nil {
		if len(s.list) >= neighboursMax {
			s.fx.inc(NeighboursFull)
			return
		}
		n = &neighbour{addr: a}
		s.list = append(s.list, n)
	}
	n.until = now.Add(neighbourFor)
	n.registered = n.registered || registered
}

// renew notes a sign of life of a host, if it is one.
func (s *neighbours) renew(now time.Time, a netip.Addr) {
	if n := s.find(a); n != nil {
		n.until = now.Add(neighbourFor)
	}
}

// push queues a message for a neighbour.
func (s *neighbours) push(n *neighbour, m outgoing) { s.fx.add(DroppedQueue, n.out.push(m)) }

// pop takes the message to be delivered next, of a neighbour that is not busy.
// The next time, another neighbour is first.
func (s *neighbours) pop(now time.Time, busy func(netip.Addr) bool) (to netip.Addr, m outgoing, ok bool) {
	for i, n := range s.list {
		if busy(n.addr) {
			continue
		}
		if m, ok = n.out.pop(now); !ok {
			continue
		}
		s.list = append(slices.Delete(s.list, i, i+1), n)
		m.due = now
		return n.addr, m, true
	}
	return to, m, false
}

// next returns when pop has a message; zero: never.
func (s *neighbours) next(busy func(netip.Addr) bool) (at time.Time) {
	for _, n := range s.list {
		if due, ok := n.out.next(); ok && !busy(n.addr) {
			at = sooner(at, due)
		}
	}
	return at
}

// failed gives a message one more try: a servent that takes one connection at a
// time may be busy with another.
func (s *neighbours) failed(now time.Time, a netip.Addr, parcel outgoing) {
	n := s.find(a)
	switch {
	case n == nil:
		return
	case n.failed:
		s.drop(a)
		return
	}
	n.failed = true
	parcel.due = now.Add(retryWait)
	n.out.push(parcel)
}

// expire forgets those that have been silent for too long and are not busy.
func (s *neighbours) expire(now time.Time, busy func(netip.Addr) bool) {
	s.dropThose(func(n *neighbour) bool {
		s.fx.add(DroppedStale, n.out.expire(now))
		return !busy(n.addr) && !now.Before(n.until)
	})
}

// expires returns when expire has something to do; zero: never.
func (s *neighbours) expires(busy func(netip.Addr) bool) (at time.Time) {
	for _, n := range s.list {
		if !busy(n.addr) {
			at = sooner(at, n.until)
		}
	}
	return at
}

func (s *neighbours) drop(a netip.Addr) {
	s.dropThose(func(n *neighbour) bool { return n.addr == a })
}

func (s *neighbours) dropThose(which func(*neighbour) bool) {
	s.list = slices.DeleteFunc(s.list, func(n *neighbour) bool {
		gone := which(n)
		if gone {
			s.fx.add(DroppedClosed, n.out.messages())
		}
		return gone
	})
}
