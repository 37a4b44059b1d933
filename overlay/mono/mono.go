// Package mono is the time and the budgets of the engine: points on a clock that
// counts sleep, and token buckets. It does no I/O and reads no clock; whoever calls
// passes the time.
package mono

import (
	"math"
	"time"
)

// Time is a point on a monotonic clock that counts sleep (CLOCK_BOOTTIME), in
// nanoseconds. Its zero value means "has not happened": it is infinitely long ago.
type Time int64

// Never is a point that is not reached: the due time of what has no timer.
const Never Time = math.MaxInt64

// Forever is the age of what has not happened.
const Forever time.Duration = math.MaxInt64

// At returns the point d after the clock's origin; 0 and less become the earliest
// point that has happened.
func At(d time.Duration) Time { return max(Time(d), 1) }

// Due returns the point d after the clock's origin, and Never for 0: the convention of
// pure packages below this one, which count their times in time.Duration.
func Due(d time.Duration) Time {
	if d == 0 {
		return Never
	}
	return Time(d)
}

// Duration returns the distance from the clock's origin.
func (t Time) Duration() time.Duration { return time.Duration(t) }

// Add returns the point d after t. Never stays Never.
func (t Time) Add(d time.Duration) Time {
	if t == Never {
		return Never
	}
	return t + Time(d)
}

// Sub returns how long before t the point u was: Forever if u has not happened.
func (t Time) Sub(u Time) time.Duration {
	if u == 0 {
		return Forever
	}
	return time.Duration(t - u)
}

// Happened reports whether t is a point in the past or future, and neither the zero
// value nor Never.
func (t Time) Happened() bool { return t != 0 && t != Never }
