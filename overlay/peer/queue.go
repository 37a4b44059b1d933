package peer

import (
	"time"

	"anodenet/overlay/mono"
)

// The bounds of what waits for one peer.
const (
	queueMessages = 64
	queueBytes    = 128 << 10
	queueCallers  = 4096            // who wait for a machine and send nothing
	patience      = 5 * time.Second // for a way and a session
	patienceLost  = time.Second     // for a machine that just fell silent
)

// Waiting is type | message that nothing can be sent with yet.
type Waiting struct {
	Msg    []byte
	Failed chan error // gets the reason if it cannot be sent; it has room for one. nil: nobody asks
	Ready  chan uint8 // gets the machine as soon as it can be sent to, and nothing is sent; it has room for one
	Sent   chan uint8 // gets the machine when Msg was sent; it has room for one. nil: nobody asks
	// Unasked: a peer that lets only replies in drops it.
	Unasked bool
}

// queue holds messages for a peer without a session and a way.
type queue struct {
	msgs  []Waiting
	bytes int
	calls int // of msgs, those of callers
	since mono.Time
}

// add puts a message into the queue, and returns false if that is full.
func (q *queue) add(now mono.Time, w Waiting) bool {
	switch {
	case w.Ready != nil && q.calls >= queueCallers:
		return false
	case w.Ready != nil:
		q.calls++
	case len(q.msgs)-q.calls >= queueMessages || q.bytes+len(w.Msg) > queueBytes:
		return false
	}
	if len(q.msgs) == 0 {
		q.since = now
	}
	q.msgs = append(q.msgs, w)
	q.bytes += len(w.Msg)
	return true
}

// take empties the queue.
func (q *queue) take() []Waiting {
	msgs := q.msgs
	*q = queue{}
	return msgs
}
