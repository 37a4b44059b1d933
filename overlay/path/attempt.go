package path

import (
	"slices"
	"time"

	"anodenet/overlay/mono"
)

// maxTargets is how many targets of one origin are remembered.
const maxTargets = 8

// settles is how long the packets of an attempt may be under way.
const settles = 5 * time.Second

// Target is a way that an attempt tries to open.
type Target struct {
	Way    Way
	Origin Origin
	OnLink bool
}

// Punch begins an attempt: a burst of requests to each target, in their order, and most
// requests in all. Answers may come wait after the last one. Targets that are confirmed
// and not silent are checked as usual. It returns how many targets there are.
func (s *Set) Punch(now mono.Time, targets []Target, most int, wait time.Duration) (n int) {
	s.left = most
	for _, t := range targets {
		i := s.target(now, t)
		if i == nil {
			continue
		}
		if i.State == Confirmed && i.Fitness != Stale && !i.silent() {
			if !i.check.pending {
				i.start(now)
			}
			continue
		}
		s.ways = append(slices.DeleteFunc(s.ways, func(x *Info) bool { return x == i }), i)
		i.burst(now, wait)
		n++
	}
	return n
}

// target returns the way of a target; nil if it has no place.
func (s *Set) target(now mono.Time, t Target) *Info {
	i := s.find(t.Way)
	switch {
	case i != nil && i.State != Confirmed && i.Origin < Stored:
		i.named, i.OnLink, i.Punched = now, t.OnLink, true
		return i
	case i != nil:
		i.named = now
		return i
	}
	if n, worst := s.targets(t.Origin, now); n >= maxTargets && worst == nil {
		return nil
	} else if n >= maxTargets {
		s.Remove(func(x *Info) bool { return x == worst })
	}
	i = s.enter(now, t.Way, t.Origin, t.OnLink)
	i.Punched = true
	return i
}

// targets returns how many targets of an origin are not confirmed, and which of them was
// named the longest ago, before now; nil if there is none.
func (s *Set) targets(o Origin, now mono.Time) (n int, first *Info) {
	for _, i := range s.ways {
		if i.Origin != o || !i.Punched || i.State == Confirmed {
			continue
		}
		n++
		if i.named < now && (first == nil || i.named < first.named) {
			first = i
		}
	}
	return n, first
}

// enough ends the checks of ports that were guessed, since one target of the attempt answered:
// of two NATs that can be predicted, each guess may be right.
func (s *Set) enough(now mono.Time) {
	for _, i := range s.ways {
		if i.check.burst && i.check.pending && i.State != Confirmed && i.Origin == Predicted {
			s.fail(now, i)
		}
	}
}

// Settled reports whether another direct way with the same address is confirmed since a short
// while, and w is not, so that it says nothing: an attempt opens several at once.
func (s *Set) Settled(now mono.Time, w Way) bool {
	if i := s.find(w); i != nil && i.State == Confirmed {
		return false
	}
	return slices.ContainsFunc(s.ways, func(i *Info) bool {
		return i.State == Confirmed && i.Punched && i.Way != w && i.Endpoint.Addr.Addr() == w.Endpoint.Addr.Addr() &&
			now.Sub(i.Since) < settles && !i.silent()
	})
}

// Bursting reports whether an attempt still waits for answers.
func (s *Set) Bursting() bool {
	return slices.ContainsFunc(s.ways, func(i *Info) bool { return i.check.pending && i.check.burst })
}

// Left returns how many requests the last attempt did not send.
func (s *Set) Left() int { return s.left }

// Judge sets what each confirmed direct way is good for.
func (s *Set) Judge(fitness func(*Info) Fitness) {
	for _, i := range s.ways {
		if i.State == Confirmed && i.Direct() {
			i.Fitness = fitness(i)
		}
	}
}
