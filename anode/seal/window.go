package seal

// windowWords is the length of the ring; a power of two.
const windowWords = 256

// windowSize is how many counters back from the newest a packet may come in. The
// ring is longer by one word, which is the one being moved into.
const windowSize = (windowWords - 1) * 64

// window remembers which counters were seen: a ring of bits, cleared a word at a
// time as it moves (the method of RFC 6479). It is for one goroutine.
//
//	bits   ..0110 1111 1111 0111 1111|      counter mod the ring's length
//	          `----- windowSize -----' next
type window struct {
	next uint64 // the newest counter + 1; 0: none yet
	bits [windowWords]uint64
}

// fresh tells whether a counter was not seen and is not too old to tell.
func (w *window) fresh(counter uint64) bool {
	if counter >= w.next {
		return true
	}
	if w.next-counter > windowSize {
		return false
	}
	return w.bits[counter/64%windowWords]&(1<<(counter%64)) == 0
}

// mark notes a fresh counter.
func (w *window) mark(counter uint64) {
	if counter >= w.next {
		w.advance(counter)
	}
	w.bits[counter/64%windowWords] |= 1 << (counter % 64)
}

// advance moves the window up to a counter, and clears the words it enters.
func (w *window) advance(counter uint64) {
	to := counter / 64
	from := to // the last word that is already in use
	if w.next > 0 {
		from = (w.next - 1) / 64
	}
	if to-from > windowWords {
		from = to - windowWords
	}
	for i := from + 1; i <= to; i++ {
		w.bits[i%windowWords] = 0
	}
	w.next = counter + 1
}
