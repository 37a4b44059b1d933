package path

import (
	"cmp"
	"slices"
	"time"
)

// Best returns the way to use: a confirmed one, one that answers before one that is
// silent, one that is fit before the rest, direct before relayed unless it is much worse,
// on-link before the rest, then the quickest. The one in use is left for another of its
// kind only if that is clearly better, or if the one in use is silent.
func (s *Set) Best() (Info, bool) {
	var best *Info
	s.weigh()
	for _, i := range s.ways {
		if i.State == Confirmed && (best == nil || compare(i, best) < 0) {
			best = i
		}
	}
	if old := s.best; old != nil && best != nil && old.State == Confirmed &&
		rank(old) == rank(best) && best.RTT > old.RTT*3/4 {
		best = old
	}
	s.best = best
	if best == nil {
		return Info{}, false
	}
	return *best, true
}

// Relayed reports whether there are confirmed ways and all of them are relayed.
func (s *Set) Relayed() bool {
	relayed := false
	for _, i := range s.ways {
		if i.State == Confirmed && i.Direct() {
			return false
		}
		relayed = relayed || i.State == Confirmed
	}
	return relayed
}

// Ways returns everything known, best ways first.
func (s *Set) Ways() []Info {
	out := make([]Info, len(s.ways))
	for k, i := range s.ways {
		out[k] = *i
	}
	slices.SortStableFunc(out, func(a, b Info) int { return compare(&a, &b) })
	return out
}

// rank orders ways by kind: lower is better.
func rank(i *Info) int {
	switch {
	case i.State != Confirmed:
		return 9
	case i.silent():
		return 8
	case !i.Direct():
		return 2 + min(i.Hops, 2)/2
	case i.Fitness != Fit:
		return 7
	case i.worse:
		return 4
	case !i.OnLink:
		return 1
	}
	return 0
}

// weigh compares the direct ways with the best relayed one.
func (s *Set) weigh() {
	var relayed *Info
	for _, i := range s.ways {
		if i.State == Confirmed && !i.Direct() && !i.silent() && (relayed == nil || compare(i, relayed) < 0) {
			relayed = i
		}
	}
	for _, i := range s.ways {
		i.worse = relayed != nil && i.State == Confirmed && i.Direct() && i.muchWorse(relayed)
	}
}

// A direct way is much worse than a relayed one by its round trip, or by losses that the
// relayed one does not have. One that is in use, or was left for that, stays so within a
// margin.
func (i *Info) muchWorse(relayed *Info) bool {
	slow, loss := 3*relayed.RTT+100*time.Millisecond, 0.2
	if i.worse {
		slow, loss = slow*2/3, loss/2
	}
	return i.RTT > slow || i.Loss.Rate() > loss && 2*relayed.Loss.Rate() < i.Loss.Rate()
}

// compare is negative if a is better than b.
func compare(a, b *Info) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.RTT, b.RTT))
}

// count returns how many places of an origin are taken. Confirmed ways have places of
// their own, except those that the user gave, and so have targets of attempts.
func (s *Set) count(o Origin) (n int) {
	for _, i := range s.ways {
		if i.Origin == o && !i.Punched && (i.State != Confirmed || o == Static) {
			n++
		}
	}
	return n
}

// stalest returns the failed way of an origin that was named the longest ago, or nil.
// The user's are never given up.
func (s *Set) stalest(o Origin) (worst *Info) {
	for _, i := range s.ways {
		if i.Origin == o && o != Static && !i.Punched && i.State == Failed && (worst == nil || i.named < worst.named) {
			worst = i
		}
	}
	return worst
}

// trim drops failed ways while an origin has more than its places.
func (s *Set) trim(o Origin) {
	for s.count(o) > places[o] {
		worst := s.stalest(o)
		if worst == nil {
			return
		}
		s.Remove(func(i *Info) bool { return i == worst })
	}
}

// trimConfirmed drops the confirmed way that was silent the longest if there are too
// many: not the one just confirmed, not the one in use, and none of the user's.
func (s *Set) trimConfirmed(fresh *Info) {
	n := 0
	var worst *Info
	for _, i := range s.ways {
		if i.State != Confirmed || i.Origin == Static {
			continue
		}
		n++
		if i != fresh && i != s.best && (worst == nil || i.Heard < worst.Heard) {
			worst = i
		}
	}
	if n > maxConfirmed {
		s.Remove(func(i *Info) bool { return i == worst })
	}
}
