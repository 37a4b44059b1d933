package info2

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// standing is why we know a host.
type standing uint8

const (
	hearsay  standing = iota // somebody named it, or it was given as a start
	verified                 // it has answered our hello
	friend                   // the user's own choice; never forgotten
)

func (s standing) String() string {
	switch s {
	case verified:
		return "verified"
	case friend:
		return "friend"
	}
	return "hearsay"
}

// host is one entry of the host cache.
type host struct {
	addr     netip.Addr
	toldBy   netip.Addr // source key of who named it; zero: the user
	standing standing
	verified time.Time // last OK that we got from it
	failures int       // in a row
	next     time.Time // no dial before

	// perMessage: it has asked to be dialled for each message, so it is not dialled
	// to make a link: more than one message may be too much for it.
	perMessage bool
}

const (
	hearsayMax    = 256 // hosts
	verifiedMax   = 128
	hearsayTeller = 8  // per who told us
	hearsayNet    = 16 // per network
	givenUpAfter  = 6  // failures in a row of a host that once was good
)

// hosts is the host cache. What forged friend replies can do with it is bounded
// by who told, by network, and by three attempts a day for an address that has
// never answered: a failed one stays in the cache so that hearing of it again
// changes nothing.
type hosts struct {
	byAddr map[netip.Addr]*host
}

// add takes an address that somebody named. It reports false if a bound says no.
func (h *hosts) add(now time.Time, addr, toldBy netip.Addr) bool {
	if h.byAddr[addr] != nil {
		return true
	}
	h.expire(now)
	total, teller, network := 0, 0, 0
	for _, e := range h.byAddr {
		if e.standing != hearsay {
			continue
		}
		total++
		if e.toldBy == toldBy {
			teller++
		}
		if netKey(e.addr) == netKey(addr) {
			network++
		}
	}
	byUser := !toldBy.IsValid()
	if total >= hearsayMax || !byUser && (teller >= hearsayTeller || network >= hearsayNet) {
		return false
	}
	h.byAddr[addr] = &host{addr: addr, toldBy: toldBy}
	return true
}

// setFriends makes exactly these addresses friends. Those that were friends before
// keep their pauses, and one that has never answered is forgotten: its address may have
// been a mistake.
func (h *hosts) setFriends(addrs []netip.Addr) {
	for _, e := range h.byAddr {
		if e.standing != friend || slices.Contains(addrs, e.addr) {
			continue
		}
		e.standing = verified
		if e.verified.IsZero() {
			delete(h.byAddr, e.addr)
		}
	}
	for _, a := range addrs {
		e := h.byAddr[a]
		if e == nil {
			e = &host{addr: a}
			h.byAddr[a] = e
		}
		if e.standing != friend {
			e.standing = friend
			e.forgive()
		}
	}
}

// keep forgets the hosts that may no longer be neighbours.
func (h *hosts) keep(allowed func(netip.Addr) bool) {
	for a := range h.byAddr {
		if !allowed(a) {
			delete(h.byAddr, a)
		}
	}
}

// good notes that the host has answered our hello.
func (h *hosts) good(now time.Time, addr netip.Addr) {
	e := h.byAddr[addr]
	if e == nil {
		e = &host{addr: addr}
		h.byAddr[addr] = e
	}
	if e.standing == hearsay {
		e.standing, e.failures = verified, 0
		h.trim()
	}
	e.verified = now
}

// nameable reports whether others may learn of the host from us: it has answered
// our hello, and takes links.
func (h *hosts) nameable(addr netip.Addr) bool {
	e := h.byAddr[addr]
	return e != nil && !e.verified.IsZero() && !e.perMessage
}

// unsure reports whether it is time to learn whether a known host still answers.
func (h *hosts) unsure(now time.Time, addr netip.Addr) bool {
	e := h.byAddr[addr]
	return e != nil && now.Sub(e.verified) >= verifiedFor && !now.Before(e.next)
}

func (h *hosts) isFriend(addr netip.Addr) bool {
	e := h.byAddr[addr]
	return e != nil && e.standing == friend
}

// setPerMessage notes how a known host wants to be dialled.
func (h *hosts) setPerMessage(addr netip.Addr, yes bool) {
	if e := h.byAddr[addr]; e != nil {
		e.perMessage = yes
	}
}

// forgive lets a known host be dialled at once, as a link.
func (h *hosts) forgive(addr netip.Addr) {
	if e := h.byAddr[addr]; e != nil {
		e.forgive()
	}
}

func (e *host) forgive() { e.failures, e.next, e.perMessage = 0, time.Time{}, false }

// lasting notes that a connection with the host has been of use.
func (h *hosts) lasting(addr netip.Addr) {
	if e := h.byAddr[addr]; e != nil {
		e.failures, e.next = 0, time.Time{}
	}
}

// counts returns how many hosts of each kind there are.
func (h *hosts) counts(now time.Time) (n HostCounts) {
	for _, e := range h.byAddr {
		switch e.standing {
		case friend:
			n.Friends++
		case verified:
			n.Verified++
		default:
			n.Hearsay++
		}
		if now.Before(e.next) {
			n.Paused++
		}
	}
	return n
}

// status lists the host cache by address.
func (h *hosts) status() []HostStatus {
	list := []HostStatus{}
	for _, e := range h.sorted(func(*host) bool { return true }) {
		list = append(list, HostStatus{
			Addr: e.addr, Standing: e.standing.String(), Verified: e.verified,
			Failures: e.failures, Next: e.next, ToldBy: e.toldBy, PerMessage: e.perMessage,
		})
	}
	return list
}

// trim forgets the verified host that has been silent for longest, if there are
// too many.
func (h *hosts) trim() {
	var oldest *host
	n := 0
	for _, e := range h.byAddr {
		if e.standing != verified {
			continue
		}
		n++
		if !e.verified.IsZero() && (oldest == nil || older(e, oldest)) {
			oldest = e
		}
	}
	if n > verifiedMax && oldest != nil {
		delete(h.byAddr, oldest.addr)
	}
}

func older(a, b *host) bool {
	return a.verified.Before(b.verified) || a.verified.Equal(b.verified) && a.addr.Less(b.addr)
}

// bad notes a failure: a pause, doubled by each that follows, 15 minutes after a
// failed dial or handshake. An address that never answered gets three attempts
// a day.
func (h *hosts) bad(now time.Time, addr netip.Addr, pause time.Duration) {
	e := h.byAddr[addr]
	if e == nil {
		return
	}
	e.failures++
	pause = min(pause<<min(e.failures-1, 8), pauseMax)
	switch {
	case e.standing == hearsay && e.failures >= hearsayTries:
		pause = hearsayForget
	case e.standing == verified && e.failures >= givenUpAfter:
		delete(h.byAddr, addr)
		return
	}
	e.next = now.Add(pause)
}

// rest keeps the host from being dialled for a while, without blame.
func (h *hosts) rest(now time.Time, addr netip.Addr, d time.Duration) {
	if e := h.byAddr[addr]; e != nil && e.next.Before(now.Add(d)) {
		e.next = now.Add(d)
	}
}

// wake forgets the pauses of hosts that have been good or are friends: the
// network has changed.
func (h *hosts) wake() {
	for _, e := range h.byAddr {
		if e.standing != hearsay {
			e.failures, e.next = 0, time.Time{}
		}
	}
}

// expire forgets addresses whose day is over.
func (h *hosts) expire(now time.Time) {
	for a, e := range h.byAddr {
		if e.standing == hearsay && e.failures >= hearsayTries && !now.Before(e.next) {
			delete(h.byAddr, a)
		}
	}
}

// pick chooses a host to dial: friends first, then those that have answered
// before, then hearsay; at random within each. Nil if none is ready.
func (h *hosts) pick(now time.Time, rng *rand.Rand, usable func(netip.Addr) bool) *host {
	h.expire(now)
	ready := h.sorted(func(e *host) bool { return !e.perMessage && !now.Before(e.next) && usable(e.addr) })
	if len(ready) == 0 {
		return nil
	}
	best := slices.MaxFunc(ready, func(a, b *host) int { return cmp.Compare(a.standing, b.standing) }).standing
	// One in four looks past the best, else nobody new would ever be met.
	if best == verified && rng.IntN(4) == 0 {
		return ready[rng.IntN(len(ready))]
	}
	ready = slices.DeleteFunc(ready, func(e *host) bool { return e.standing != best })
	return ready[rng.IntN(len(ready))]
}

// hasReady reports whether pick would find one.
func (h *hosts) hasReady(now time.Time, usable func(netip.Addr) bool) bool {
	for _, e := range h.byAddr {
		if !e.perMessage && !now.Before(e.next) && usable(e.addr) {
			return true
		}
	}
	return false
}

// nextReady returns when pick has a host that it does not have now; zero: never.
func (h *hosts) nextReady(now time.Time, usable func(netip.Addr) bool) (at time.Time) {
	for _, e := range h.byAddr {
		if !e.perMessage && e.next.After(now) && (at.IsZero() || e.next.Before(at)) && usable(e.addr) {
			at = e.next
		}
	}
	return at
}

// untried counts the hearsay that could still be dialled.
func (h *hosts) untried() (n int) {
	for _, e := range h.byAddr {
		if e.standing == hearsay && e.failures < hearsayTries {
			n++
		}
	}
	return n
}

// sorted returns the hosts that keep selects, by address: maps have no order, and
// the same seed must produce the same run.
func (h *hosts) sorted(keep func(*host) bool) []*host {
	var list []*host
	for _, e := range h.byAddr {
		if keep(e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *host) int { return a.addr.Compare(b.addr) })
	return list
}
