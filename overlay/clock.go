package overlay

import "time"

// monotonic is a Clock for systems whose monotonic clock is all there is.
type monotonic struct{ start time.Time }

// SystemClock is the standard library's clock. Its ages may stop while the machine
// sleeps; a daemon injects one that does not.
func SystemClock() Clock { return monotonic{time.Now()} }

func (monotonic) Now() time.Time         { return time.Now() }
func (m monotonic) Since() time.Duration { return time.Since(m.start) }
