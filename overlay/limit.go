package overlay

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// bucket is a token bucket: burst at once, rate a second after. Times are the
// node's, in nanoseconds.
type bucket struct {
	tokens float64
	last   int64
}

func (b *bucket) allow(now int64, rate, burst float64) bool {
	if b.last == 0 {
		b.tokens = burst
	} else {
		b.tokens = min(burst, b.tokens+float64(now-b.last)*rate/float64(time.Second))
	}
	b.last = max(now, 1)
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// limiter is a bucket that several goroutines share.
type limiter struct {
	rate, burst float64

	mu sync.Mutex
	b  bucket
}

func (l *limiter) allow(now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.allow(now, l.rate, l.burst)
}

// Unsealed packets a source (an IPv4 address, an IPv6 /64) may send.
const (
	sourceRate  = 200 // a second
	sourceBurst = 100
	sourceSlots = 1024
)

// sourceLimit holds a bucket per source in a table of fixed size. Sources that
// collide share one, which a seed that nobody knows makes hard to arrange.
type sourceLimit struct {
	slots [sourceSlots]bucket
	seed  maphash.Seed
	set   bool
}

func (s *sourceLimit) allow(a netip.Addr, now int64) bool {
	if !s.set {
		s.seed, s.set = maphash.MakeSeed(), true
	}
	return s.slots[maphash.Comparable(s.seed, network(a))%sourceSlots].allow(now, sourceRate, sourceBurst)
}

// network is whom a budget is kept for: one IPv4 address, or an IPv6 /64.
func network(a netip.Addr) [8]byte {
	if a.Is4() {
		b := a.As4()
		return [8]byte{b[0], b[1], b[2], b[3]}
	}
	b := a.As16()
	return [8]byte(b[:8])
}

// prefixLimit is a bucket per /24 and /56, and one over all, for work that
// strangers cause. It is bounded: while it is full, strangers of new networks wait.
type prefixLimit struct {
	rate, burst float64 // of each network; over all it is ten times that
	total       bucket
	nets        map[netip.Prefix]*bucket
}

const prefixMax = 4096

func (p *prefixLimit) allow(a netip.Addr, now int64) bool {
	bits := 24
	if a.Is6() {
		bits = 56
	}
	net, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return false
	}
	b := p.nets[net]
	if b == nil {
		if len(p.nets) >= prefixMax {
			p.sweep(now)
		}
		if len(p.nets) >= prefixMax {
			return false
		}
		if p.nets == nil {
			p.nets = map[netip.Prefix]*bucket{}
		}
		b = &bucket{}
		p.nets[net] = b
	}
	return b.allow(now, p.rate, p.burst) && p.total.allow(now, 10*p.rate, 10*p.burst)
}

// sweep forgets the networks whose buckets are full again.
func (p *prefixLimit) sweep(now int64) {
	for net, b := range p.nets {
		if float64(now-b.last)*p.rate/float64(time.Second) >= p.burst {
			delete(p.nets, net)
		}
	}
}
