package info2

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// topology decides who is dialled and when, so that there are links enough, and
// (prune) which links go when there are too many.
type topology struct {
	fx         *effects
	reach      *reach
	links      *links
	neighbours *neighbours
	hosts      *hosts
	rng        *rand.Rand
	closed     bool // nobody is looked for beyond the friends

	dials   bucket
	wanted  []netip.Addr // to connect, asked for by the user
	checks  []netip.Addr // to be dialled to learn whether they listen
	filling bool         // fewer than linksLow links, until linksWanted
	explore time.Time    // next look at more of the network
	turn    int          // whose dial comes first
}

// usable reports whether a host can become a link now.
func (t *topology) usable(a netip.Addr) bool {
	return t.reach.dialable(a) && t.neighbours.find(a) == nil && !t.links.connected(a)
}

// want dials an address that the user names, soon and whatever its pause.
func (t *topology) want(now time.Time, a netip.Addr) {
	t.hosts.add(now, a, netip.Addr{})
	t.hosts.forgive(a)
	t.neighbours.drop(a)
	if len(t.wanted) < connsMax && !slices.Contains(t.wanted, a) {
		t.wanted = append(t.wanted, a)
	}
}

// check dials an address to learn whether it listens, so that it can be named to
// others, unless we know. Among friends alone nobody is named.
func (t *topology) check(now time.Time, a netip.Addr) {
	if t.closed || !t.reach.dialable(a) || !t.hosts.add(now, a, sourceKey(a)) {
		return
	}
	if t.hosts.unsure(now, a) && !slices.Contains(t.checks, a) && len(t.checks) < connsMax {
		t.checks = append(t.checks, a)
	}
}

// callBack makes a host one that is dialled for each message.
func (t *topology) callBack(now time.Time, a netip.Addr, registered bool) {
	if t.neighbours.find(a) != nil || t.reach.dialable(a) {
		t.neighbours.add(now, a, registered)
	}
}

// dial starts the dials that are wanted and allowed: one a second, five at
// once after a pause, four under way. The four wishes take turns, so that a
// talkative network does not keep us from finding new links.
func (t *topology) dial(now time.Time) {
	t.refill()
	for t.links.underWay() < dialsAtOnce && !t.dials.ready(now).After(now) {
		wishes := [...]func(time.Time) bool{t.dialWanted, t.dialParcel, t.dialLink, t.dialCheck}
		found := false
		for i := range wishes {
			if wishes[(t.turn+i)%len(wishes)](now) {
				t.turn += i + 1
				found = true
				break
			}
		}
		if !found {
			return
		}
		t.dials.take(now)
	}
}

// refill decides with hysteresis whether more links are wanted.
func (t *topology) refill() {
	switch n := t.links.kept(); {
	case n < linksLow:
		t.filling = true
	case n >= linksWanted:
		t.filling = false
	}
}

// next returns when dial has something to do that it cannot do now; zero: never.
func (t *topology) next(now time.Time) (at time.Time) {
	if t.links.underWay() >= dialsAtOnce {
		return at
	}
	at = t.neighbours.next(t.links.delivering)
	if !t.closed {
		at = sooner(at, t.explore)
	}
	if len(t.wanted)+len(t.checks) > 0 {
		at = sooner(at, now)
	}
	if t.filling {
		at = sooner(at, t.nextFill(now))
	}
	if ready := t.dials.ready(now); !at.IsZero() && at.Before(ready) {
		at = ready
	}
	return at
}

// nextFill returns when there is somebody to dial for a new link, or to ask for
// one; zero: never.
func (t *topology) nextFill(now time.Time) time.Time {
	if t.hosts.hasReady(now, t.usable) {
		return now
	}
	at := t.hosts.nextReady(now, t.usable)
	if !t.closed {
		for _, l := range t.links.settled() {
			at = sooner(at, l.askable())
		}
	}
	return at
}

func (t *topology) start(now time.Time, a netip.Addr, p purpose) *link {
	t.fx.inc(Dials)
	// The shell gives up a dial earlier; this is for one that does not.
	l := t.links.add(now, a, outbound, p, dialing, 2*helloWait)
	t.fx.do(action{op: opDial, id: l.id, addr: a})
	return l
}

func (t *topology) dialWanted(now time.Time) bool {
	for len(t.wanted) > 0 {
		a := t.wanted[0]
		t.wanted = t.wanted[1:]
		if t.usable(a) {
			t.start(now, a, keep)
			return true
		}
	}
	return false
}

// dialParcel starts a delivery to a per-message neighbour.
func (t *topology) dialParcel(now time.Time) bool {
	to, m, ok := t.neighbours.pop(now, t.links.delivering)
	if ok {
		t.start(now, to, deliver).parcel = m
	}
	return ok
}

// dialLink makes a new link, because there are few, or to see more of the network.
func (t *topology) dialLink(now time.Time) bool {
	exploring := !t.closed && !now.Before(t.explore)
	if !t.filling && !exploring {
		return false
	}
	if exploring {
		t.planExplore(now)
	}
	h := t.hosts.pick(now, t.rng, t.usable)
	if h == nil {
		if t.filling && !t.closed {
			t.askAround(now)
		}
		return false
	}
	t.start(now, h.addr, keep)
	return true
}

// askAround asks the links which hosts they know, when we know nobody to dial.
func (t *topology) askAround(now time.Time) {
	for _, l := range t.links.list {
		if l.counts() && !now.Before(l.askable()) {
			t.links.ask(now, l)
		}
	}
}

func (t *topology) dialCheck(now time.Time) bool {
	for len(t.checks) > 0 {
		a := t.checks[0]
		t.checks = t.checks[1:]
		if t.reach.dialable(a) && t.neighbours.find(a) == nil {
			t.start(now, a, check)
			return true
		}
	}
	return false
}

// planExplore draws the time of the next dial that only looks around.
func (t *topology) planExplore(now time.Time) {
	t.explore = now.Add(exploreTime/2 + time.Duration(t.rng.Int64N(int64(exploreTime))))
}
