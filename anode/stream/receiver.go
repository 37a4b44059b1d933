package stream

import (
	"time"

	"anodenet/anode/wire"
)

const (
	firstCapacity = 128 << 10
	// MaxWindow is the most that a receive buffer holds: what a window of 16 bits can say.
	MaxWindow = 0xffff << 10

	earlyBytes = 512 // of capacity for each packet out of sequence, however small
	earlyLeast = 64  // packets out of sequence

	ackEvery = 2 // packets, after which an acknowledgement is not held back

	shutBelow   = 4 << 10 // a window that holds the packets of most paths
	reopenTries = 9       // repeats of an S_ACK that opened the window
)

// ending says which directions an S_CLOSE ends.
type ending uint8

const (
	endNone ending = iota
	endHalf        // the sender's
	endBoth
)

// receiver is the receiving half of a stream. Its memory is at most twice the capacity: a
// packet in sequence is taken whatever waits out of sequence, so that nothing ever blocks.
type receiver struct {
	mem   *pool
	first uint64 // the number of the peer's S_OPEN; 0: not known yet
	next  uint64 // the first number that is missing
	queue chunks // in sequence, not read yet

	early      map[uint64][]byte // out of sequence
	earlyBytes int
	heard      heard

	again uint64 // the first number that came again since the last acknowledgement; 0: none

	capacity int
	limit    int // of capacity

	end       uint64 // the number of the S_CLOSE; 0: none came
	ends      ending
	ended     bool // all before it was received
	discarded bool // the program reads no more: data is acknowledged and dropped

	acks      int           // packets to acknowledge
	ackNow    bool          // without delay
	ackAt     time.Duration // at the latest; 0: nothing to acknowledge
	announced int           // the window that the peer knows, less what came since
	largest   int           // bytes of the largest packet that came
	reopen    reopening

	readSince time.Duration // of the capacity's measurement
	read      int           // since then
}

// reopening is an S_ACK that opened the window after it was shut, and that no new packet has
// answered yet. A peer need not probe a window that is shut: the draft does not say whose duty
// it is. So we repeat the S_ACK, less and less often and a few times: a peer that has nothing to
// send does not answer either.
type reopening struct {
	at    time.Duration // of the next repeat; 0: none
	tries int           // 0: nothing is to be repeated
}

func (o *reopening) begin(now, rto time.Duration) { *o = reopening{now + rto, 1} }

// due reports whether the S_ACK is to be repeated now.
func (o *reopening) due(now, rto time.Duration) bool {
	if o.at == 0 || now < o.at {
		return false
	}
	o.at = now + min(rto<<o.tries, max(maxRTO, rto))
	if o.tries++; o.tries > reopenTries {
		o.at = 0
	}
	return true
}

// again begins anew with the repeats, after the path changed or came back, and reports whether
// there is anything to repeat.
func (o *reopening) again(now, rto time.Duration) bool {
	waits := o.tries > 0
	if waits {
		o.begin(now, rto)
	}
	return waits
}

// begin takes the number of the peer's S_OPEN.
func (r *receiver) begin(first uint64) {
	r.first, r.next = first, first+1
	r.heard = heard{{first, first + 1}}
}

// free returns the room in the buffer.
func (r *receiver) free() int { return max(r.capacity-r.queue.size-r.earlyBytes, 0) }

// window returns the free room as it is announced.
func (r *receiver) window() uint16 { return uint16(min(r.free()>>10, 0xffff)) }

// verdict says what became of a packet.
type verdict uint8

const (
	taken verdict = iota
	twice
	noRoom
	beyondEnd
)

// data takes a packet.
func (r *receiver) data(now time.Duration, n uint64, b []byte) verdict {
	if n < r.next || r.early[n] != nil {
		r.twice(n)
		return twice
	}
	if r.end != 0 && n >= r.end {
		return beyondEnd
	}
	if !r.fits(n, len(b)) {
		r.ackNow = true
		return noRoom
	}
	r.heard.add(n)
	r.announced -= len(b)
	r.largest = max(r.largest, len(b))
	r.reopen = reopening{}
	if n != r.next {
		r.keepEarly(n, b)
		r.ackNow = true
		return taken
	}
	r.ackNow = r.ackNow || len(r.early) > 0
	r.ackLater(now)
	r.append(b)
	r.drain()
	return taken
}

// twice has a number acknowledged again.
func (r *receiver) twice(n uint64) {
	r.heard.add(n)
	r.ackNow = true
	if r.again == 0 || n < r.again {
		r.again = n
	}
}

// appendAcks writes what is to be acknowledged, as at most room items.
func (r *receiver) appendAcks(acks wire.Acks, room int) wire.Acks {
	if r.again != 0 {
		acks = r.heard.appendAgain(acks, r.again, room)
	}
	return r.heard.appendAcks(acks, r.next, room)
}

// ackLater holds the acknowledgement of a packet in sequence back.
func (r *receiver) ackLater(now time.Duration) {
	r.acks++
	r.ackNow = r.ackNow || r.acks >= ackEvery
	if r.ackAt == 0 {
		r.ackAt = now + ackDelay
	}
}

func (r *receiver) fits(n uint64, size int) bool {
	if r.discarded {
		return n == r.next || len(r.early) < earlyLeast
	}
	if n == r.next {
		return r.queue.size+size <= r.capacity
	}
	return size <= r.free() && len(r.early) < earlyLeast+r.capacity/earlyBytes
}

func (r *receiver) keepEarly(n uint64, b []byte) {
	if r.early == nil {
		r.early = make(map[uint64][]byte)
	}
	if r.discarded {
		b = nil
	}
	r.early[n] = append(make([]byte, 0, len(b)), b...)
	r.earlyBytes += len(b)
}

func (r *receiver) append(b []byte) {
	r.next++
	if !r.discarded {
		r.queue.write(r.mem, b)
	}
}

// drain moves what is now in sequence to the queue.
func (r *receiver) drain() {
	for len(r.early) > 0 {
		b, ok := r.early[r.next]
		if !ok {
			break
		}
		delete(r.early, r.next)
		r.earlyBytes -= len(b)
		r.append(b)
	}
	if len(r.early) == 0 {
		r.early = nil
	}
	if r.end != 0 && r.next == r.end {
		r.next++
		r.ended = true
	}
}

// close takes an S_CLOSE of reason 0.
func (r *receiver) close(n uint64, ends ending) verdict {
	r.ackNow = true
	switch {
	case n == r.end || n < r.next:
		r.ends = max(r.ends, ends)
		r.twice(n)
		return twice
	case r.end != 0:
		return beyondEnd
	}
	r.heard.add(n)
	r.end, r.ends = n, ends
	r.reopen = reopening{}
	for k, b := range r.early {
		if k >= n {
			r.earlyBytes -= len(b)
			delete(r.early, k)
		}
	}
	r.drain()
	return taken
}

// take moves data to b, for the program. The round trip is that of the sending half.
func (r *receiver) take(now time.Duration, b []byte, rtt time.Duration) int {
	n := r.queue.read(r.mem, b)
	r.read += n
	r.tune(now, rtt)
	free := r.free()
	if !r.ended && free >= 2<<10 && (free-r.announced >= r.capacity/4 || r.shut() && free-r.announced >= min(r.capacity/2, r.narrow())) {
		r.ackNow = true
	}
	return n
}

// narrow returns a window that holds a packet of the peer's.
func (r *receiver) narrow() int { return max(shutBelow, r.largest) }

// shut reports whether the window that the peer knows may be too small for its next packet.
func (r *receiver) shut() bool { return r.announced < r.narrow() }

// acknowledged notes that an S_ACK, or an S_DACK, leaves with all that came and the window. If
// that opens the window, and acknowledges nothing that the peer would repeat, only we can know
// that it was lost: it is repeated.
func (r *receiver) acknowledged(now, rto time.Duration) {
	was, alone := r.shut(), r.acks == 0
	r.ackNow, r.ackAt, r.acks, r.again = false, 0, 0, 0
	r.announced = int(r.window()) << 10
	if was && alone && !r.shut() && r.end == 0 {
		r.reopen.begin(now, rto)
	}
}

// tune doubles the capacity if the program reads more than half of it in a round trip.
func (r *receiver) tune(now, rtt time.Duration) {
	elapsed := now - r.readSince
	switch {
	case r.readSince == 0 || elapsed > 4*rtt+ackDelay:
		r.readSince, r.read = now, 0
	case r.read >= r.capacity/2 && r.capacity < r.limit:
		r.capacity = min(2*r.capacity, r.limit)
		r.readSince, r.read = now, 0
	case elapsed >= rtt+ackDelay:
		r.readSince, r.read = now, 0
	}
}

// discard drops what was received: the program reads no more.
func (r *receiver) discard() {
	r.discarded = true
	r.queue.drop(r.mem, r.queue.size)
	for k := range r.early {
		r.early[k] = []byte{}
	}
	r.earlyBytes = 0
}
