package path

import (
	"slices"
	"time"

	"anodenet/overlay/mono"
)

// phase is what the search of the size does:
//
//	        first, Recheck,                  twice no answer
//	        or large data flows                                    answered
//	idle ---------------------> verifying ------------------> wide ----------> refining
//	 ^ ^                         | answered                    ^ | nothing       | gap small
//	 | '-------------------------'<-------- back off ----------|-'               v
//	 '--------------------------------------------- no answer -|------------- raising
//	                                                           '--- answered ----'
//
// verifying asks for the size in use. wide asks for all usual sizes, refining for those
// between the largest answered and the smallest that was not, raising for larger ones
// than that in use. Each answer that is larger than all before is used at once.
type phase uint8

const (
	idle phase = iota
	verifying
	wide
	refining
	raising
)

// String returns the phase's name.
func (p phase) String() string {
	return [...]string{"idle", "verifying", "wide", "refining", "raising"}[p]
}

// usualSizes are asked for beside the largest, in falling order: common links and
// tunnels, and what IPv6's least MTU leaves (UDP over IPv6 takes 48).
var usualSizes = [...]int{8900, 4352, 1450, 1424, 1392, 1352, 1312, 1232, 1160, 1024, 548}

// Those of the usual sizes that the first probes of a way ask for.
const (
	common = 1424
	narrow = 1232
	least  = 548
)

const (
	maxGap      = 4  // between the size that is used and one that failed
	refineBy    = 8  // probes of a round
	verifyTries = 2  // of the size in use, before it is doubted
	wideTries   = 3  // of all sizes, before it is no question of the size
	quickTries  = 2  // of a trial, before those
	maxRounds   = 12 // of one search; the next one goes on from its result
)

// sizes is the search of the size.
type sizes struct {
	limit, size int
	phase       phase
	lo, hi      int // largest answered and smallest unanswered in this search; 0: none
	rounds      int // of this phase while verifying, of this search else
	asked       []int
	until       mono.Time // the end of the round
	sent        outstanding

	trial    bool          // the first search begins with several sizes
	proven   bool          // the size was answered
	last     mono.Time     // when it was answered last
	steady   mono.Time     // since when the size has been answered whenever it was asked for; 0: it was not
	verified mono.Time     // when the last verification began; 0: verify now
	raised   mono.Time     // when larger sizes were last asked for; 0: ask now
	every    time.Duration // between two verifications
	silent   mono.Time     // when a search ended during which nothing at all was heard
}

func newSizes(limit int) sizes {
	return sizes{limit: limit, size: limit, every: verifyEvery}
}

func (z *sizes) restart(limit int) {
	old := z.limit
	z.limit = limit
	switch {
	case limit < z.size || !z.proven && z.size == old:
		z.size = limit
	case limit > old:
		z.raised = 0
	}
	if limit != old {
		z.phase, z.hi, z.sent = idle, 0, outstanding{}
	}
	z.recheck()
}

func (z *sizes) recheck() { z.verified, z.every, z.silent = 0, verifyEvery, 0 }

// due returns the sizes to ask for now, and when to call again.
func (z *sizes) due(now mono.Time, wait, quick time.Duration, used Traffic) (ask []int, next mono.Time) {
	if z.phase != idle && now >= z.until {
		ask = z.turn(now, used)
	}
	if z.phase == idle {
		if ask, next = z.begin(now, used); ask == nil {
			return nil, next
		}
	}
	if ask != nil {
		z.asked = ask
		if z.trial && z.phase == wide && z.rounds <= quickTries {
			wait = min(wait, quick<<(z.rounds-1))
		}
		z.until = now.Add(wait)
	}
	return ask, z.until
}

// begin leaves the phase idle if it is time to, or returns when that will be.
func (z *sizes) begin(now mono.Time, used Traffic) (ask []int, next mono.Time) {
	if z.silent != 0 && used.Heard > z.silent {
		z.every, z.silent = verifyEvery, 0 // the peer is back
	}
	flows := now.Sub(used.Large) < flowFor
	verify, raise := mono.Never, mono.Never
	switch {
	case z.verified == 0:
		verify = now
	case flows:
		verify = max(now, z.verified.Add(z.every))
	}
	switch {
	case z.size >= z.limit:
	case z.raised == 0:
		raise = now
	case flows:
		raise = max(now, z.raised.Add(raiseEvery))
	}
	switch now {
	case verify:
		if z.trial && !z.proven {
			z.lo, z.rounds, z.verified = 0, 1, now
			return z.first(), now
		}
		z.phase, z.rounds, z.verified = verifying, 1, now
		return []int{z.size}, now
	case raise:
		z.rounds = 0
		return z.raise(now), now
	}
	return nil, min(verify, raise)
}

// turn ends a round: it returns what to ask for in the next one, or goes idle.
func (z *sizes) turn(now mono.Time, used Traffic) []int {
	z.narrow()
	z.rounds++
	switch {
	case z.phase == verifying && z.rounds <= verifyTries:
		return []int{z.size}
	case z.phase == verifying:
		z.lo, z.hi, z.rounds, z.steady = 0, 0, 1, 0
		return z.wide()
	case z.phase == wide && z.lo == 0 && z.rounds <= quickTries+wideTries-1 && z.trial:
		return append(z.first(), least)
	case z.phase == wide && z.lo == 0 && z.rounds <= wideTries:
		return z.wide()
	case z.phase == wide && z.lo == 0:
		z.giveUp(now, used)
	case z.lo >= z.limit || z.rounds > maxRounds:
		z.phase = idle
	case z.phase == raising && z.lo >= z.asked[len(z.asked)-1]:
		return z.wide()
	case z.phase == raising:
		z.phase = idle
	case z.hi-z.lo > maxGap:
		return z.refine()
	default:
		return z.raise(now)
	}
	return nil
}

// narrow notes the smallest size of the round that was not answered. What is smaller
// than an answered one was merely lost.
func (z *sizes) narrow() {
	if z.phase == verifying {
		return
	}
	if z.hi <= z.lo {
		z.hi = 0
	}
	for _, n := range z.asked {
		if n > z.lo && (z.hi == 0 || n < z.hi) {
			z.hi = n
		}
	}
	if z.hi == 0 {
		z.hi = z.limit + 1
	}
}

// first asks for few sizes: the limit, and what is left of it on common and on narrow links.
func (z *sizes) first() []int {
	z.phase, z.hi = wide, 0
	return falling([]int{z.limit, min(z.limit, common), min(z.limit, narrow)})
}

// wide asks for the limit and all usual sizes above the largest answered.
func (z *sizes) wide() []int {
	z.phase, z.hi = wide, 0
	ask := []int{z.limit}
	for _, n := range usualSizes {
		if n < z.limit && n > z.lo {
			ask = append(ask, n)
		}
	}
	return ask
}

// refine asks for sizes at equal distances between the largest answered and the
// smallest that was not.
func (z *sizes) refine() []int {
	z.phase = refining
	gap := z.hi - z.lo
	n := min(refineBy, gap-1)
	ask := make([]int, 0, n)
	for k := n; k > 0; k-- {
		ask = append(ask, z.lo+gap*k/(n+1))
	}
	return ask
}

// raise asks for larger sizes than that in use: the limit, the next usual one, and the
// smallest that was not answered, which may only have been lost.
func (z *sizes) raise(now mono.Time) []int {
	z.phase, z.raised, z.lo = raising, now, z.size
	ask := []int{z.limit}
	for _, n := range usualSizes {
		if n > z.size && n < z.limit && n < ask[len(ask)-1] {
			ask = append(ask[:1], n)
		}
	}
	if z.hi > z.size && z.hi < z.limit {
		ask = append(ask, z.hi)
	}
	return falling(ask)
}

// giveUp ends a search in which nothing was answered: that is no question of the size,
// which stays. The next one comes later, unless it was the peer who was away.
func (z *sizes) giveUp(now mono.Time, used Traffic) {
	z.phase = idle
	z.every = min(2*z.every, verifyLast)
	if used.Heard <= z.verified {
		z.silent = now
	}
}

// answered takes the answer to an outstanding probe.
func (z *sizes) answered(now mono.Time, n int) {
	z.every = verifyEvery
	if n >= z.size {
		if z.last = now; z.steady == 0 {
			z.steady = now
		}
	}
	if z.phase == idle || z.phase == verifying {
		if n >= z.size {
			z.phase, z.size, z.proven = idle, n, true
		}
		return
	}
	if n > z.lo {
		z.lo, z.size, z.proven = n, n, true
	}
	if len(z.asked) > 0 && z.lo >= z.asked[0] {
		z.until = now // no answer of this round can say more
	}
}

// falling sorts sizes, and drops those that are there twice.
func falling(ns []int) []int {
	slices.Sort(ns)
	ns = slices.Compact(ns)
	slices.Reverse(ns)
	return ns
}
