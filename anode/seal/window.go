package seal

import (
	"sync"
	"sync/atomic"
)

// windowWords is the length of the ring; a power of two.
const windowWords = 256

// windowSize is how many counters back from the newest a packet may come in. The
// ring is longer by one word, which is the one being moved into.
const windowSize = (windowWords - 1) * 64

// window remembers which counters were seen: a ring of bits, cleared a word at a
// time as it moves (the method of RFC 6479).
//
//	bits   ..0110 1111 1111 0111 1111|      counter mod the ring's length
//	          `----- windowSize -----' next
//
// The ring is made for the first counter above 63: most sessions of strangers end before, and the rings of their lanes
// would be most of their memory.
//
// Any goroutine may use it: fresh is a look that may be out of date, take decides. It has a cache line of its own.
type window struct {
	mu    sync.Mutex           // of those who change what follows
	next  atomic.Uint64        // the newest counter + 1; 0: none yet
	first atomic.Uint64        // the ring's first word while there is no ring
	ring  atomic.Pointer[ring] // nil: no counter was above 63
	_     [32]byte
}

// ring is atomic for the sake of those who only look.
type ring [windowWords]atomic.Uint64

// word is where a counter's bit is.
func (w *window) word(counter uint64) *atomic.Uint64 {
	if r := w.ring.Load(); r != nil {
		return &r[counter/64%windowWords]
	}
	return &w.first
}

// fresh reports whether a counter was not seen and is not too old to tell.
func (w *window) fresh(counter uint64) bool {
	next := w.next.Load()
	if counter >= next {
		return true
	}
	if next-counter > windowSize {
		return false
	}
	return w.word(counter).Load()&(1<<(counter%64)) == 0
}

// take notes a counter, and reports whether it was fresh. If several goroutines take the same
// counter, it is fresh for one of them.
func (w *window) take(counter uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.fresh(counter) {
		return false
	}
	if counter >= w.next.Load() {
		w.advance(counter)
	}
	word := w.word(counter)
	word.Store(word.Load() | 1<<(counter%64))
	return true
}

// advance moves the window up to a counter, and clears the words it enters.
func (w *window) advance(counter uint64) {
	next, bits := w.next.Load(), w.ring.Load()
	if bits == nil && counter > 63 {
		bits = new(ring)
		bits[0].Store(w.first.Load())
		w.ring.Store(bits)
	}
	to := counter / 64
	from := to // the last word that is already in use
	if next > 0 {
		from = (next - 1) / 64
	}
	if to-from > windowWords {
		from = to - windowWords
	}
	for i := from + 1; i <= to; i++ {
		bits[i%windowWords].Store(0)
	}
	w.next.Store(counter + 1)
}
