package info2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// friends answers FRIEND REQUEST, and takes the answers to ours.
type friends struct {
	fx         *effects
	reach      *reach
	links      *links
	neighbours *neighbours
	hosts      *hosts
	sources    *sources
	rng        *rand.Rand
}

// onRequest answers on a link; a connection that carries one message of ours
// carries nothing else.
func (f *friends) onRequest(now time.Time, l *link) {
	if l.purpose != keep {
		f.fx.inc(FriendUnanswered)
		return
	}
	f.links.push(now, l, frame{kind: kindFriend, addr: f.answer(now, l.addr)})
}

// onReply takes an address into the host cache, and reports whether we asked for
// one.
func (f *friends) onReply(now time.Time, l *link, addr netip.Addr) bool {
	if !l.request.owed || now.Sub(l.request.at) > replyWait {
		f.fx.inc(FriendUnasked)
		return false
	}
	l.request.owed = false
	switch {
	case addr.IsUnspecified():
	case !f.reach.dialable(addr) || !mayTell(l.addr, addr):
		f.fx.inc(FriendForbidden)
	case !f.hosts.add(now, addr, sourceKey(l.addr)):
		f.fx.inc(FriendFull)
	}
	return true
}

// answer is what we tell somebody who asks for a friend: a host linked to us whose
// handshake we have completed ourselves; few different ones per hour. A host that has
// asked us, and nobody else, to dial it for each message is not named.
func (f *friends) answer(now time.Time, asker netip.Addr) netip.Addr {
	s := f.sources.get(now, asker)
	if !now.Before(s.answersUntil) {
		s.answers, s.answersUntil = nil, now.Add(answersFor)
	}
	fit := f.candidates(asker)
	known := slices.DeleteFunc(slices.Clone(s.answers), func(a netip.Addr) bool { return !slices.Contains(fit, a) })
	fresh := slices.DeleteFunc(fit, func(a netip.Addr) bool { return slices.Contains(s.answers, a) })
	switch {
	case len(fresh) > 0 && len(s.answers) < answersMax:
		a := fresh[f.rng.IntN(len(fresh))]
		s.answers = append(s.answers, a)
		return a
	case len(known) > 0:
		return known[f.rng.IntN(len(known))]
	}
	return netip.IPv4Unspecified()
}

// candidates lists the hosts that may be named to an asker.
func (f *friends) candidates(asker netip.Addr) (list []netip.Addr) {
	consider := func(a netip.Addr) {
		if a != asker && f.hosts.nameable(a) && mayTell(asker, a) {
			list = append(list, a)
		}
	}
	for _, l := range f.links.list {
		if l.receives() {
			consider(l.addr)
		}
	}
	for _, n := range f.neighbours.list {
		consider(n.addr)
	}
	return list
}
