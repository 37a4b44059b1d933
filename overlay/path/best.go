package path

import (
	"cmp"
	"slices"
	"time"
)

// Best returns the way to use: a confirmed one, one that answers before one that is
// silent, one that is fit before the rest, by their class unless it is much worse, then the
// quickest. The one in use is left for another of its
// kind only if that is clearly better, or if the one in use is silent.
func (s *Set) Best() (Info, bool) {
	var best *Info
	s.weigh()
	for _, i := range s.ways {
		if i.State == Confirmed && (best == nil || s.order(i, best) < 0) {
			best = i
		}
	}
	if old := s.best; old != nil && best != nil && old.State == Confirmed &&
		s.rank(old) == s.rank(best) && best.RTT > old.RTT*3/4 {
		best = old
	}
	moved := best != s.best
	if s.best = best; moved {
		s.turned = true
		if best != nil && best.Endpoint.Kind.Connected() {
			s.try(s.now)
		}
	}
	if best == nil {
		return Info{}, false
	}
	return *best, true
}

// Turned reports whether another way is used than when it was last asked, or none any more.
func (s *Set) Turned() bool {
	s.Best()
	turned := s.turned
	s.turned = false
	return turned
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
	slices.SortStableFunc(out, func(a, b Info) int { return s.order(&a, &b) })
	return out
}

// rank orders ways: lower is better. Of two connections between the same nodes, both use the one
// that the node with the lower address opened.
func (s *Set) rank(i *Info) int {
	switch {
	case i.State != Confirmed:
		return 2 * 15
	case i.silent():
		return 2 * 14
	case i.Direct() && (i.Fitness != Fit || i.Trial()):
		return 2 * 13
	case i.Direct() && i.worse:
		return 2 * 12
	case i.Direct() && i.Endpoint.Kind.Connected() && (i.Endpoint.Conn == 0) != s.Lower:
		return 2*class(i) + 1
	}
	return 2 * class(i)
}

// weigh compares the direct ways with the best relayed one.
func (s *Set) weigh() {
	var relayed *Info
	for _, i := range s.ways {
		if i.State == Confirmed && !i.Direct() && !i.silent() && (relayed == nil || s.order(i, relayed) < 0) {
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

// order is negative if a is better than b.
func (s *Set) order(a, b *Info) int {
	return cmp.Or(cmp.Compare(s.rank(a), s.rank(b)), cmp.Compare(a.RTT, b.RTT))
}

// count returns how many places of an origin are taken. Confirmed ways have places of
// their own, except those that the user gave, and so have targets of attempts, and those in
// connections.
func (s *Set) count(o Origin, connected bool) (n int) {
	for _, i := range s.ways {
		if i.Origin == o && i.Endpoint.Kind.Connected() == connected && !i.Punched && (i.State != Confirmed || o == Static) {
			n++
		}
	}
	return n
}

// stalest returns the failed way of an origin that was named the longest ago, or nil.
// The user's are never given up.
func (s *Set) stalest(o Origin, connected bool) (worst *Info) {
	for _, i := range s.ways {
		if i.Origin == o && i.Endpoint.Kind.Connected() == connected && o != Static && !i.Punched && i.State == Failed && (worst == nil || i.named < worst.named) {
			worst = i
		}
	}
	return worst
}

// trim drops failed ways while an origin has more than its places.
func (s *Set) trim(o Origin) {
	for _, connected := range []bool{false, true} {
		for s.count(o, connected) > placesOf(o, connected) {
			worst := s.stalest(o, connected)
			if worst == nil {
				break
			}
			s.Remove(func(i *Info) bool { return i == worst })
		}
	}
}

// placesOf is how many places an origin has for ways by UDP, or for those in connections: a relay
// of a zone has two of these for each family of addresses.
func placesOf(o Origin, connected bool) int {
	if connected && o >= Stored {
		return max(places[o], 4)
	}
	return places[o]
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
