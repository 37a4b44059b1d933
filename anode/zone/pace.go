package zone

import (
	"cmp"
	"time"
)

// The pauses after failures: the first, which doubles with each more, and the longest.
const (
	minPause = time.Minute
	maxPause = time.Hour
)

// Pace says when to look at a zone's file again. The zero value has seen nothing.
type Pace struct {
	First    time.Duration // the first pause after a failure; 0: a minute
	failures int
}

// Found returns the pause after a file was found to be current: its TTL, and up to a tenth
// more, by random, which is in [0, 1). So the members of a zone do not ask all at once.
func (p *Pace) Found(ttl time.Duration, random float64) time.Duration {
	p.failures = 0
	return ttl + time.Duration(random*float64(ttl)/10)
}

// Failed returns the pause after a failure: First, doubled with each more, up to an hour, and
// likewise up to a tenth more.
func (p *Pace) Failed(random float64) time.Duration {
	pause := cmp.Or(p.First, minPause)
	for range p.failures {
		if pause *= 2; pause >= maxPause {
			pause = maxPause
			break
		}
	}
	p.failures++
	return pause + time.Duration(random*float64(pause)/10)
}
