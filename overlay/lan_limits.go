package overlay

import (
	"sync"

	"anodenet/overlay/mono"
)

// lanRates are the limits of the virtual LAN, as many share them.
type lanRates struct {
	out, peer   lanRate
	share, pool lanRate // halves of what comes in: that of one member, and what all may draw on
}

// lanRate is how many packets and bytes pass.
type lanRate struct{ packets, bytes mono.Rate }

const (
	lanLongest = 1 << 16 // bytes of a packet, which a burst must take
	lanLeast   = 16      // packets of a burst
)

// newLANRate returns a rate; what a second brings may come in a part of it.
func newLANRate(packets, bytes, part float64) lanRate {
	return lanRate{
		packets: mono.Rate{PerSecond: packets, Burst: max(packets*part, lanLeast)},
		bytes:   mono.Rate{PerSecond: bytes, Burst: max(bytes*part, 2*lanLongest)},
	}
}

// filled returns limits in which defaults stand in for zeros.
func (l LANLimits) filled() LANLimits {
	d := DefaultLANLimits()
	for _, x := range []struct {
		have *int
		want int
	}{{&l.OutPackets, d.OutPackets}, {&l.OutBytes, d.OutBytes}, {&l.PeerPackets, d.PeerPackets}, {&l.PeerBytes, d.PeerBytes}, {&l.InPackets, d.InPackets}, {&l.InBytes, d.InBytes}} {
		if *x.have <= 0 {
			*x.have = x.want
		}
	}
	return l
}

// rates returns the rates for a number of peers.
func (l LANLimits) rates(peers int) lanRates {
	share := float64(2 * max(peers, 1))
	return lanRates{
		out:   newLANRate(float64(l.OutPackets), float64(l.OutBytes), 0.25),
		peer:  newLANRate(float64(l.PeerPackets), float64(l.PeerBytes), 0.25),
		share: newLANRate(float64(l.InPackets)/share, float64(l.InBytes)/share, 1),
		pool:  newLANRate(float64(l.InPackets)/2, float64(l.InBytes)/2, 0.25),
	}
}

// lanBuckets bound packets and bytes. Any goroutine may use them.
type lanBuckets struct {
	mu             sync.Mutex
	packets, bytes mono.Bucket
}

// allow reports whether one more packet is within a rate.
func (b *lanBuckets) allow(now mono.Time, size int, r *lanRate) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.packets.Allow(now, r.packets) && b.bytes.Take(now, float64(size), r.bytes)
}

// lanBudget bounds what comes in from one peer: its own limit, and its share of what all may send. A share
// is nobody else's, so that peers that flood, be they many, only compete with each other for the rest.
type lanBudget struct{ own, share lanBuckets }

// take takes one packet, and returns 0 or why there is no room for it.
func (b *lanBudget) take(now mono.Time, size int, r *lanRates, pool *lanBuckets) (why counter) {
	switch {
	case !b.own.allow(now, size, &r.peer):
		return dLANPeer
	case b.share.allow(now, size, &r.share), pool.allow(now, size, &r.pool):
		return 0
	}
	return dLANIn
}
