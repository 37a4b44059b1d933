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
	crowd

	mu      sync.Mutex
	ended   bool
	taker   chan struct{} // takes one: something waits; closed: another claimed it, or it has ended
	room    chan struct{} // takes one: some of it was written; nil: nobody waited for that yet
	waiting []byte        // frames; nil: none
	oldest  time.Time     // when the first of them began to wait
	writing int           // bytes taken, and not written yet
	begun   time.Time     // when the oldest of those began to wait
	taken   time.Time     // when they were taken
	written time.Time     // when some were last taken or written
	early   bool          // nothing went through yet: what is being written may take longer
	speed   speed
}

// put implements outlet.queue.
func (o *outbox) put(t *Train, patient bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	for ; len(o.waiting)+o.writing+framed(t) > maxQueued && patient && o.moves(now); now = time.Now() {
		o.await(patience - now.Sub(o.written))
	}
	switch {
	case o.ended:
		o.m.c.dropGone.Add(uint64(t.Packets()))
		return false
	case o.late(now):
		o.m.c.dropDelay.Add(uint64(t.Packets()))
		return false
	case len(o.waiting)+o.writing+framed(t) > maxQueued:
		o.m.c.dropQueue.Add(uint64(t.Packets()))
		return false
	}
	if o.waiting == nil {
		o.waiting = (*queueBuffers.Get().(*[]byte))[:0]
	}
	if len(o.waiting) == 0 {
		o.oldest = now
		if o.writing == 0 {
			o.written = now
		}
	}
	o.waiting = appendFrames(o.waiting, t)
	o.age(now)
	o.wake()
	return true
}

// late reports whether what waits is too old for more to be put behind it; with mu.
func (o *outbox) late(now time.Time) bool {
	return !o.early && (o.writing > 0 && now.Sub(o.begun) > maxDelay || len(o.waiting) > 0 && now.Sub(o.oldest) > takeFor)
}

// moves reports whether there is going to be room in no time; with mu.
func (o *outbox) moves(now time.Time) bool {
	return !o.ended && !o.early && !o.late(now) && now.Sub(o.written) < patience
}

// await waits until some of what waits was taken or written, or for d; mu is locked before and
// after.
func (o *outbox) await(d time.Duration) {
	if o.room == nil {
		o.room = make(chan struct{}, 1)
	}
	room := o.room
	o.mu.Unlock()
	timer := time.NewTimer(d)
	select {
	case <-room:
	case <-timer.C:
	case <-o.m.ctx.Done():
	}
	timer.Stop()
	o.mu.Lock()
}

// moved says that some of what waits was taken or written; with mu.
func (o *outbox) moved(now time.Time) {
	o.written = now
	if o.room != nil {
		select {
		case o.room <- struct{}{}:
		default:
		}
	}
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
		o.speed.rests()
		return nil
	}
	if !o.early && now.Sub(o.oldest) > staleAfter {
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
	o.taken = now
	o.speed.works(now)
	o.moved(now)
	return b
}

// wrote says that n bytes that were taken are written, or lost.
func (o *outbox) wrote(n int) {
	if n == 0 {
		return
	}
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	// What was taken began to wait at times between begun and taken, one as likely as the other.
	o.begun = o.begun.Add(time.Duration(float64(o.taken.Sub(o.begun)) * float64(n) / float64(o.writing)))
	o.writing -= n
	o.speed.wrote(n, now)
	o.age(now)
	o.moved(now)
}

// age notes how old the oldest of what waits is; with mu.
func (o *outbox) age(now time.Time) {
	switch {
	case o.writing > 0:
		o.aged(now.Sub(o.begun))
	case len(o.waiting) > 0:
		o.aged(now.Sub(o.oldest))
	default:
		o.aged(0)
	}
}

// ready waits until the system has nearly sent what it took by a connection; nil: that is not
// known. It returns how many bytes to write then.
func (o *outbox) ready(to *rawWrite, done <-chan struct{}) int {
	return o.speed.ready(&o.mu, to, done)
}

// eager has packets that wait for long refused from now on.
func (o *outbox) eager() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.early = false
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
