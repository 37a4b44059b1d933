package info2

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// links are all connections, from the dial or accept to their removal.
type links struct {
	fx   *effects
	list []*link // by id
	last linkID
}

func (s *links) add(now time.Time, addr netip.Addr, d direction, p purpose, state linkState, wait time.Duration) *link {
	s.last++
	l := &link{
		id: s.last, addr: addr, direction: d, purpose: p,
		in: parser{hello: true}, out: newSender(),
	}
	l.set(now, state, now.Add(wait))
	s.list = append(s.list, l)
	return l
}

// find returns nil if the connection is gone.
func (s *links) find(id linkID) *link {
	i, ok := slices.BinarySearchFunc(s.list, id, func(l *link, id linkID) int { return cmp.Compare(l.id, id) })
	if !ok {
		return nil
	}
	return s.list[i]
}

// has reports whether a connection is not gone.
func (s *links) has(l *link) bool { return s.find(l.id) == l }

// close ends a connection from our side.
func (s *links) close(l *link) {
	s.fx.do(action{op: opClose, id: l.id})
	s.remove(l)
}

// remove forgets a connection that the shell does not have, or no longer.
func (s *links) remove(l *link) {
	if i := slices.Index(s.list, l); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
		s.fx.add(DroppedClosed, l.out.box.messages())
	}
}

// count returns how many connections are as which says.
func (s *links) count(which func(*link) bool) (n int) {
	for _, l := range s.list {
		if which(l) {
			n++
		}
	}
	return n
}

// underWay counts the dials that have not come to an end.
func (s *links) underWay() int {
	return s.count(func(l *link) bool { return l.state == dialing || l.state == awaitOK })
}

// kept counts the links, with those being dialled or greeted.
func (s *links) kept() int {
	return s.count(func(l *link) bool { return l.purpose == keep && l.state != awaitHello && l.state != hearing })
}

// any reports whether some connection with the host is as which says.
func (s *links) any(a netip.Addr, which func(*link) bool) bool {
	return slices.ContainsFunc(s.list, func(l *link) bool { return l.addr == a && which(l) })
}

// connected reports whether there is a connection with the host, or will be.
func (s *links) connected(a netip.Addr) bool { return s.any(a, func(*link) bool { return true }) }

// delivering reports whether a message is on its way to a per-message host.
func (s *links) delivering(a netip.Addr) bool {
	return s.any(a, func(l *link) bool { return l.purpose == deliver })
}

// lasting reports whether a link to the host has outlived what a per-message
// servent would keep.
func (s *links) lasting(now time.Time, a netip.Addr) bool {
	return s.any(a, func(l *link) bool { return l.counts() && now.Sub(l.opened) > perMessage })
}

// settled lists the links that count towards the seven, oldest first.
func (s *links) settled() (list []*link) {
	for _, l := range s.list {
		if l.counts() {
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b *link) int { return a.opened.Compare(b.opened) })
	return list
}

// queue hands a message to a link.
func (s *links) queue(l *link, m outgoing) { s.fx.add(DroppedQueue, l.out.push(m)) }

// push queues a frame between the two ends of a link.
func (s *links) push(now time.Time, l *link, f frame) {
	s.queue(l, outgoing{from: protocol, due: now, data: f.append(nil), bare: f.bare()})
}

// ask sends a friend request.
func (s *links) ask(now time.Time, l *link) {
	l.request = request{at: now, owed: true}
	s.push(now, l, frame{kind: kindFriendRequest})
}

// doubt asks the links to a host that is said to have left for a sign of life.
func (s *links) doubt(now time.Time, by *link, a netip.Addr) {
	for _, l := range s.list {
		if l != by && l.addr == a && l.receives() && !l.said.suspect {
			l.said.suspect = true
			if now.Sub(l.request.at) >= replyWait {
				s.ask(now, l)
			}
		}
	}
}

// write hands bytes to the shell; the link is busy until they are sent.
func (s *links) write(now time.Time, l *link, what op, data []byte, gap time.Duration) {
	l.out.begin(now, gap)
	s.fx.do(action{op: what, id: l.id, data: data})
}

// pump writes what is due on every link. What a delivery carries is the last
// thing that is written there: the host expects us to close.
func (s *links) pump(now time.Time) {
	for _, l := range s.list {
		at, ok := l.sendable(now)
		if !ok || at.After(now) {
			continue
		}
		m, ok := l.out.pop(now)
		if !ok {
			continue
		}
		what, gap := opWrite, sendGap
		if m.bare {
			gap = bareGap
		}
		if m.from == protocol {
			s.fx.inc(ProtocolOut)
		} else {
			s.fx.inc(MessagesOut)
		}
		if l.purpose == deliver {
			what, l.deadline = opWriteLast, now.Add(lingerWait)
		}
		s.write(now, l, what, m.data, gap)
	}
}

// next returns when something is due on a link; zero: never.
func (s *links) next(now time.Time) (at time.Time) {
	for _, l := range s.list {
		at = sooner(at, l.in.deadline(), l.deadline, l.out.stalled())
		if t, ok := l.sendable(now); ok {
			at = sooner(at, t)
		}
		if !l.backconnect.IsZero() {
			at = sooner(at, l.backconnect.Add(perMessage))
		}
	}
	return at
}

// sooner returns the earliest of the times that are not zero; zero if all are.
func sooner(times ...time.Time) (at time.Time) {
	for _, t := range times {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}
