package info2

import (
	"net/netip"
	"time"
)

// bucket is a token bucket. The zero time means full.
type bucket struct {
	rate  float64 // tokens per second
	burst float64
	level float64
	at    time.Time // when level was right
}

func newBucket(rate, burst float64) bucket { return bucket{rate: rate, burst: burst, level: burst} }

func (b *bucket) refill(now time.Time) {
	if !b.at.IsZero() {
		b.level = min(b.burst, b.level+b.rate*max(0, now.Sub(b.at).Seconds()))
	}
	b.at = now
}

// take takes a token if there is one.
func (b *bucket) take(now time.Time) bool { return b.takeN(now, 1) }

// takeN takes n tokens, all or none.
func (b *bucket) takeN(now time.Time, n float64) bool {
	b.refill(now)
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

// ready returns when the next token can be taken: now or later.
func (b *bucket) ready(now time.Time) time.Time {
	b.refill(now)
	if b.level >= 1 {
		return now
	}
	// A microsecond more, so that rounding never leaves it short.
	return now.Add(time.Duration((1-b.level)/b.rate*float64(time.Second)) + time.Microsecond)
}

// source is what one address has used up, over all its connections: a crude
// client opens one for every message.
type source struct {
	messages, conns bucket
	reads, bytes    bucket
	excess          bucket // tokens left are what it may still overdo
	banned          time.Time
	used            time.Time

	answers      []netip.Addr // friend replies given in this hour
	answersUntil time.Time
}

// sources remembers them, at most sourcesMax.
type sources struct {
	byAddr map[netip.Addr]*source
}

const sourcesMax = 1024

// sourceKey is the address that a budget belongs to: a public IPv6 host has a
// whole /64 at its disposal; a unique local address of the adapter is one peer.
func sourceKey(a netip.Addr) netip.Addr {
	if a.Is6() && !a.IsPrivate() {
		p, err := a.Prefix(64)
		if err == nil {
			return p.Addr()
		}
	}
	return a
}

// get finds or makes the source; the one unused for longest makes room, one that
// is banned only if all are.
func (s *sources) get(now time.Time, a netip.Addr) *source {
	key := sourceKey(a)
	if found := s.byAddr[key]; found != nil {
		found.used = now
		return found
	}
	if len(s.byAddr) >= sourcesMax {
		s.evict(now)
	}
	made := &source{
		messages: newBucket(messageRate, arriveBurst),
		conns:    newBucket(messageRate, arriveBurst),
		reads:    newBucket(readRate, readBurst),
		bytes:    newBucket(messageRate*maxFrame, arriveBurst*maxFrame),
		excess:   newBucket(excessDecay, excessMax),
		used:     now,
	}
	s.byAddr[key] = made
	return made
}

func (s *sources) evict(now time.Time) {
	var victim netip.Addr
	var worst *source
	for a, c := range s.byAddr {
		if worst == nil || c.evictBefore(worst, now) || !worst.evictBefore(c, now) && a.Less(victim) {
			victim, worst = a, c
		}
	}
	delete(s.byAddr, victim)
}

func (c *source) evictBefore(d *source, now time.Time) bool {
	if cb, db := c.isBanned(now), d.isBanned(now); cb != db {
		return db
	}
	return c.used.Before(d.used)
}

func (c *source) isBanned(now time.Time) bool { return now.Before(c.banned) }

// read counts n bytes that came in one piece, and reports whether they are within
// the budget. It counts before anything is parsed: a message of a thousand pieces
// costs as much as a thousand messages.
func (c *source) read(now time.Time, n int) bool {
	reads, bytes := c.reads.take(now), c.bytes.takeN(now, float64(n))
	return reads && bytes
}

// overdo counts one thing over the budget, and reports whether that is the one
// too many: the source is banned then.
func (c *source) overdo(now time.Time) bool {
	if c.excess.take(now) {
		return false
	}
	c.banned = now.Add(banFor)
	c.excess = newBucket(excessDecay, excessMax)
	return true
}
