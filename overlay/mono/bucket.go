package mono

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Rate is what a budget allows: PerSecond on average, Burst at once.
type Rate struct{ PerSecond, Burst float64 }

// Bucket is a token bucket; the zero value is full. It is for one goroutine, and for
// one kind of event: two kinds in one bucket starve each other.
type Bucket struct {
	used float64 // tokens that are missing from a full bucket
	last Time
}

// Allow takes one token, and reports whether there was one.
func (b *Bucket) Allow(now Time, r Rate) bool { return b.Take(now, 1, r) }

// Take takes n tokens, all or none, and reports whether there were as many.
func (b *Bucket) Take(now Time, n float64, r Rate) bool {
	b.refill(now, r)
	if b.used+n > r.Burst {
		return false
	}
	b.used += n
	return true
}

// Next returns when the bucket has a token again; now if it has one.
func (b *Bucket) Next(now Time, r Rate) Time {
	b.refill(now, r)
	if b.used+1 <= r.Burst {
		return now
	}
	wait := (b.used + 1 - r.Burst) / r.PerSecond * float64(time.Second)
	return now.Add(time.Duration(wait) + 1) // rounded up, or a caller would come too early again and again
}

func (b *Bucket) refill(now Time, r Rate) {
	if b.last != 0 && now > b.last {
		b.used = max(0, b.used-float64(now-b.last)*r.PerSecond/float64(time.Second))
	}
	b.last = max(now, b.last)
}

// Limiter is a bucket with its rate that any goroutine may use.
type Limiter struct {
	Rate Rate

	mu sync.Mutex
	b  Bucket
}

// Allow takes one token, and reports whether there was one.
func (l *Limiter) Allow(now Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Allow(now, l.Rate)
}

// slots is the size of a Networks table.
const slots = 1024

// Networks is a budget for each source network and one for all of them together, in a
// table of fixed size: what it costs does not depend on how many networks there are.
// Networks that fall into one slot share a budget, which a seed that nobody knows makes
// hard to arrange. It is for one goroutine; the zero value needs Each, Total and Prefix.
type Networks struct {
	Each, Total Rate
	Prefix      func(netip.Addr) netip.Addr // the network of an address

	total Bucket
	slots *[slots]Bucket // nil until it is needed: a node has many tables, and few are used
	seed  maphash.Seed
}

// Allow takes a token of the network of a and one of all, and reports whether there
// were both.
func (n *Networks) Allow(now Time, a netip.Addr) bool { return n.Take(now, a, 1) }

// Take takes k tokens of each, and reports whether there were as many of both. Whoever needs several
// takes them at once: under load, what is left of a budget is hardly ever more than one.
func (n *Networks) Take(now Time, a netip.Addr, k float64) bool {
	if n.slots == nil {
		n.seed, n.slots = maphash.MakeSeed(), new([slots]Bucket)
	}
	slot := &n.slots[maphash.Comparable(n.seed, n.Prefix(a))%slots]
	return slot.Take(now, k, n.Each) && n.total.Take(now, k, n.Total)
}

// Spent reports whether there are fewer than k tokens of all networks together.
func (n *Networks) Spent(now Time, k float64) bool {
	n.total.refill(now, n.Total)
	return n.total.used+k > n.Total.Burst
}

// Host is the network that one host has as a rule: its IPv4 address, or its IPv6 /64.
func Host(a netip.Addr) netip.Addr { return masked(a, 32, 64) }

// Site is the network that one party has as a rule: an IPv4 /24, or an IPv6 /56.
func Site(a netip.Addr) netip.Addr { return masked(a, 24, 56) }

// Region is the network that one provider has as a rule: an IPv4 /16, or an IPv6 /32.
func Region(a netip.Addr) netip.Addr { return masked(a, 16, 32) }

func masked(a netip.Addr, four, six int) netip.Addr {
	bits := six
	if a = a.Unmap().WithZone(""); a.Is4() {
		bits = four
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}
