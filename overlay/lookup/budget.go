package lookup

import (
	"time"

	"anodenet/overlay/mono"
)

// What may be asked on the network.
var (
	total  = mono.Rate{PerSecond: 4, Burst: 4}
	shared = mono.Rate{PerSecond: 4, Burst: 2} // of total, as long as persons have their part
	part   = mono.Rate{PerSecond: 2, Burst: 2} // of shared: programs' lookups, and searches, each
)

// budget is how many questions may be asked. Persons may use all of it. Others leave two
// tokens to them, and neither of the two kinds of others can take what the other has.
type budget struct {
	all, programs, searches mono.Bucket
}

// next returns when a question may be asked; now if it may at once. own is nil for
// persons.
func (b *budget) next(now mono.Time, own *mono.Bucket) mono.Time {
	if own == nil {
		return b.all.Next(now, total)
	}
	return max(b.all.Next(now, shared), own.Next(now, part))
}

// take reports whether a question may be asked now, and counts it.
func (b *budget) take(now mono.Time, own *mono.Bucket) bool {
	if own == nil {
		return b.all.Allow(now, total)
	}
	taken := *own
	if !taken.Allow(now, part) || !b.all.Allow(now, shared) {
		return false
	}
	*own = taken
	return true
}

// The pause between two searches for a known peer doubles from the first to the last.
const (
	firstPause = time.Second
	lastPause  = time.Minute
)

// Interval is how often the LAN is asked for one peer whose address is known. The zero
// value is due at once.
type Interval struct {
	next  mono.Time
	pause time.Duration
}

// Due reports whether the next search may be made.
func (i *Interval) Due(now mono.Time) bool { return now >= i.next }

// Next returns when the next search may be made: the zero time if there was none.
func (i *Interval) Next() mono.Time { return i.next }

// Asked starts the pause until the next search.
func (i *Interval) Asked(now mono.Time) {
	i.pause = min(max(2*i.pause, firstPause), lastPause)
	i.next = now.Add(i.pause)
}

// Reset ends the pauses: the peer was found.
func (i *Interval) Reset() { *i = Interval{} }
