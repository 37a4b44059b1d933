package info2

import "time"

// origin says whose message it is, for fairness: the link that brought it, or
// one of those below.
type origin uint64

const (
	ownMessage origin = 0          // said here
	bridged    origin = ^origin(1) // from another network
	protocol   origin = ^origin(0) // between the two ends of the link; goes first
)

// outgoing is one message on its way to one receiver.
type outgoing struct {
	key  memoryKey // zero for the link's own protocol
	from origin
	due  time.Time // not before
	data []byte    // shared among receivers, never changed
	bare bool
}

// outbox holds what waits for one receiver, at most queueMax bytes. Among the
// messages that are due, the origin served longest ago goes first, so that
// neither a flooding neighbour nor our own messages take more than their share.
type outbox struct {
	list   []outgoing
	bytes  int
	served map[origin]uint64 // number of the last message sent for it
	count  uint64
}

// push queues a message and returns how many others it displaced. When the
// bound is reached, the origin with the most bytes loses its newest messages
// until half of the queue is free: a full queue does not stay full and lose
// something from everybody.
func (o *outbox) push(m outgoing) (displaced int) {
	o.list = append(o.list, m)
	o.bytes += len(m.data)
	if o.bytes <= queueMax {
		return 0
	}
	for o.bytes > queueLow {
		o.remove(o.newestOf(o.heaviest()))
		displaced++
	}
	return displaced
}

func (o *outbox) heaviest() origin {
	bytes := make(map[origin]int)
	best := ownMessage
	for _, m := range o.list {
		bytes[m.from] += len(m.data)
		if bytes[m.from] > bytes[best] {
			best = m.from
		}
	}
	return best
}

func (o *outbox) newestOf(from origin) int {
	for i := len(o.list) - 1; i >= 0; i-- {
		if o.list[i].from == from {
			return i
		}
	}
	return len(o.list) - 1
}

// drop takes a message out that the receiver turned out to have.
func (o *outbox) drop(key memoryKey) bool {
	for i, m := range o.list {
		if m.key == key && m.from != protocol {
			o.remove(i)
			return true
		}
	}
	return false
}

// expire takes out what has waited too long, and returns how many that were.
func (o *outbox) expire(now time.Time) (n int) {
	for i := len(o.list) - 1; i >= 0; i-- {
		if now.Sub(o.list[i].due) > queueStale {
			o.remove(i)
			n++
		}
	}
	return n
}

// messages counts what waits, without the link's own protocol.
func (o *outbox) messages() (n int) {
	for i := range o.list {
		if o.list[i].from != protocol {
			n++
		}
	}
	return n
}

// next is when the first message is due; ok is false if there is none.
func (o *outbox) next() (due time.Time, ok bool) {
	for i, m := range o.list {
		if i == 0 || m.due.Before(due) {
			due = m.due
		}
	}
	return due, len(o.list) > 0
}

// pop takes the message that goes out now; ok is false if none is due.
func (o *outbox) pop(now time.Time) (m outgoing, ok bool) {
	best := -1
	for i := range o.list {
		if !o.list[i].due.After(now) && (best < 0 || o.before(&o.list[i], &o.list[best])) {
			best = i
		}
	}
	if best < 0 {
		return m, false
	}
	m = o.list[best]
	o.remove(best)
	o.count++
	if o.served == nil || len(o.served) > 2*connsMax {
		o.served = make(map[origin]uint64)
	}
	o.served[m.from] = o.count
	return m, true
}

func (o *outbox) before(a, b *outgoing) bool {
	if (a.from == protocol) != (b.from == protocol) {
		return a.from == protocol
	}
	if a.from != b.from && o.served[a.from] != o.served[b.from] {
		return o.served[a.from] < o.served[b.from]
	}
	return a.due.Before(b.due)
}

// remove keeps the order of arrival.
func (o *outbox) remove(i int) {
	o.bytes -= len(o.list[i].data)
	copy(o.list[i:], o.list[i+1:])
	o.list[len(o.list)-1] = outgoing{}
	o.list = o.list[:len(o.list)-1]
}
