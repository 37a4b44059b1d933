package link

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// staleAfter is how long packets may wait for somebody to take them.
	staleAfter = 2 * time.Second
	// takeFor is after how long more are refused: the next request may be a long way off.
	takeFor = 500 * time.Millisecond
)

// outbox is what waits to be sent by HTTP. One goroutine at a time takes from it, the last one
// that claimed it.
type outbox struct {
	m *Mux

	mu      sync.Mutex
	ended   bool
	taker   chan struct{} // takes one: something waits; closed: another claimed it, or it has ended
	waiting []byte        // frames; nil: none
	oldest  time.Time     // when the first of them began to wait
	writing int           // bytes taken, and not written yet
	begun   time.Time     // when the oldest of those began to wait
	patient bool          // nothing went through yet: what is being written may take longer
}

// put implements outlet.queue.
func (o *outbox) put(t *Train) bool {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.ended:
		o.m.c.dropGone.Add(uint64(t.Packets()))
		return false
	case len(o.waiting)+o.writing+framed(t) > maxQueued:
		o.m.c.dropQueue.Add(uint64(t.Packets()))
		return false
	case o.writing > 0 && !o.patient && now.Sub(o.begun) > maxDelay, len(o.waiting) > 0 && !o.patient && now.Sub(o.oldest) > takeFor:
		o.m.c.dropDelay.Add(uint64(t.Packets()))
		return false
	}
	if o.waiting == nil {
		o.waiting = (*queueBuffers.Get().(*[]byte))[:0]
	}
	if len(o.waiting) == 0 {
		o.oldest = now
	}
	o.waiting = appendFrames(o.waiting, t)
	o.wake()
	return true
}

// wake tells who takes; with mu.
func (o *outbox) wake() {
	if o.taker != nil && !o.ended {
		select {
		case o.taker <- struct{}{}:
		default:
		}
	}
}

// claim makes the caller the one who takes. The channel says when there is something, and is
// closed when it is its turn no more.
func (o *outbox) claim() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	mine := make(chan struct{}, 1)
	if o.ended {
		close(mine)
		return mine
	}
	if o.taker != nil {
		close(o.taker)
	}
	o.taker = mine
	if len(o.waiting) > 0 {
		o.wake()
	}
	return mine
}

// size returns how many bytes wait.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.waiting)
}

// take returns all that waits, for who claimed it last. It is given back by wrote.
func (o *outbox) take(mine chan struct{}) []byte {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.taker != mine || len(o.waiting) == 0 {
		return nil
	}
	if !o.patient && now.Sub(o.oldest) > staleAfter {
		o.m.c.dropDelay.Add(uint64(frames(o.waiting)))
		o.waiting = o.waiting[:0]
		return nil
	}
	b := o.waiting
	o.waiting = nil
	if o.writing == 0 {
		o.begun = o.oldest
	}
	o.writing += len(b)
	return b
}

// wrote says that n bytes that were taken are written, or lost.
func (o *outbox) wrote(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing -= n
	o.begun = o.oldest
}

// eager has packets that wait for long refused from now on.
func (o *outbox) eager() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.patient = false
}

// end has nothing taken or put any more. It returns false if that was so before.
func (o *outbox) end() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return false
	}
	o.ended = true
	if o.taker != nil {
		close(o.taker)
	}
	return true
}

// recycle gives the memory of what was taken back.
func recycle(b []byte) {
	if cap(b) > 0 {
		b = b[:0]
		queueBuffers.Put(&b)
	}
}

// frames counts the packets in whole frames.
func frames(b []byte) (n int) {
	for len(b) >= frameHeader {
		k := frameHeader + int(binary.BigEndian.Uint16(b))
		b = b[min(k, len(b)):]
		n++
	}
	return n
}
