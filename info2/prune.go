package info2

import (
	"cmp"
	"slices"
	"time"
)

// prune closes the least useful links above seven, and second links between the
// same two hosts. Only links that have lasted 20 s count, which is enough for
// somebody who only asks which hosts we know.
func (t *topology) prune(now time.Time) {
	settled := slices.DeleteFunc(t.links.settled(), func(l *link) bool { return now.Sub(l.opened) < settleTime })
	excess := len(settled) - linksHigh
	rank := t.rank(now, settled)
	slices.SortStableFunc(settled, func(a, b *link) int {
		return cmp.Or(cmp.Compare(rank[a], rank[b]), a.opened.Compare(b.opened))
	})
	for _, l := range settled {
		switch {
		case isTwin(l, settled):
			t.fx.inc(Twins)
		case excess > 0:
			t.fx.inc(Pruned)
			t.hosts.rest(now, l.addr, pauseFirst)
		default:
			continue
		}
		t.links.close(l)
		excess--
	}
}

// nextPrune returns when prune finds something; zero: never.
func (t *topology) nextPrune(now time.Time) (at time.Time) {
	list := t.links.settled()
	for i, l := range list {
		settles := l.opened.Add(settleTime)
		// A twin is seen when the later of the two settles.
		if i >= linksHigh || now.Before(settles) && hasOther(list, l) {
			at = sooner(at, settles)
		}
	}
	return at
}

// rank orders links by what they are worth to us: friends, then the three most
// useful of those that we chose ourselves, so that strangers who come in cannot
// take all our places, then the rest; each by usefulness.
func (t *topology) rank(now time.Time, list []*link) map[*link]float64 {
	const chosen, friendly = 1, 2
	rank := make(map[*link]float64)
	var ours []*link
	for _, l := range list {
		rank[l] = l.usefulness(now)
		if t.hosts.isFriend(l.addr) {
			rank[l] += friendly
		} else if l.direction == outbound {
			ours = append(ours, l)
		}
	}
	slices.SortStableFunc(ours, func(a, b *link) int { return cmp.Compare(rank[b], rank[a]) })
	for _, l := range ours[:min(len(ours), linksLow)] {
		rank[l] += chosen
	}
	return rank
}

// isTwin reports whether two hosts have dialled each other and l is the link to
// go: the one that the higher address dialled, which both ends can see.
func isTwin(l *link, among []*link) bool {
	return l.direction == outbound && l.addr.Less(l.local) && slices.ContainsFunc(among, func(o *link) bool {
		return o.direction == inbound && o.addr == l.addr && o.local == l.local
	})
}

// hasOther reports whether another link goes to the same host.
func hasOther(list []*link, l *link) bool {
	return slices.ContainsFunc(list, func(o *link) bool { return o != l && o.addr == l.addr })
}
