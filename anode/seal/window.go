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
// Any goroutine may use it: fresh is a look that may be out of date, take decides.
type window struct {
	mu   sync.Mutex                 // of those who change next and bits
	next atomic.Uint64              // the newest counter + 1; 0: none yet
	bits [windowWords]atomic.Uint64 // atomic for the sake of those who only look
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
	return w.bits[counter/64%windowWords].Load()&(1<<(counter%64)) == 0
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
	word := &w.bits[counter/64%windowWords]
	word.Store(word.Load() | 1<<(counter%64))
	return true
}

// advance moves the window up to a counter, and clears the words it enters.
func (w *window) advance(counter uint64) {
	next := w.next.Load()
	to := counter / 64
	from := to // the last word that is already in use
	if next > 0 {
		from = (next - 1) / 64
	}
	if to-from > windowWords {
		from = to - windowWords
	}
	for i := from + 1; i <= to; i++ {
		w.bits[i%windowWords].Store(0)
	}
	w.next.Store(counter + 1)
}
