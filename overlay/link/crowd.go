package link

import (
	"sync/atomic"
	"time"
)

// crowdedAfter is how old the oldest of what waits is in a queue of which programs are to be told, so
// that they send less before packets are dropped: see maxDelay.
const crowdedAfter = 30 * time.Millisecond

// Crowd is a Writer that knows how long packets wait behind it.
type Crowd interface {
	// Crowded reports whether packets to an endpoint wait for so long that whoever sends them should
	// send less. It never waits, locks or allocates, and is for the goroutine that writes. Only
	// endpoints of connections have such queues.
	Crowded(ep *Endpoint) bool
}

// crowd is whether a queue is crowded. Whoever has the queue's lock sets it.
type crowd struct{ is atomic.Bool }

// aged says how old the oldest of what waits is.
func (c *crowd) aged(age time.Duration) {
	if is := age > crowdedAfter; c.is.Load() != is {
		c.is.Store(is)
	}
}

// crowded implements outlet.
func (c *crowd) crowded() bool { return c.is.Load() }

var _ Crowd = (*joined)(nil)

// Crowded implements Crowd. It knows of the endpoint that packets went to last.
func (j *joined) Crowded(ep *Endpoint) bool {
	w := j.mux
	return w.last != nil && w.to.Same(ep) && w.last.crowded()
}
