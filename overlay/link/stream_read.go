package link

import "time"

// reading is what was read from a connection, and is not handed over yet.
type reading struct {
	buf   []byte // small, or large
	have  int    // bytes in it: a part of a frame
	small []byte
	large *[largeBuffer]byte // nil: not in use
	batch *delivery

	began   time.Time // the connection
	since   time.Time // when the first of what is in buf came
	bytes   int       // read, of a guest
	packets bool      // some came
	dialled bool      // we opened it
	waits   bool      // for a guest whose frame is too long
	early   bool      // there is such a frame in buf

	few, lean int // reads that brought little, in a row, and how many of those end the use of large
}

// newReading prepares to read. With lean, a connection gives the large buffer back as soon as a read
// brings little. HTTP has bytes between the packets, and readers of its own that have some of them
// ready: a read that brings little says less there.
func newReading(lean bool) reading {
	r := reading{small: make([]byte, smallBuffer), batch: newDelivery(), lean: 8}
	r.buf = r.small
	if lean {
		r.lean = 1
	}
	return r
}

// grow has it use the large buffer.
func (r *reading) grow() {
	r.large = largeBuffers.Get().(*[largeBuffer]byte)
	copy(r.large[:], r.buf[:r.have])
	r.buf = r.large[:]
}

// until is by when something has to come.
func (r *reading) until(kept bool) time.Time {
	switch {
	case !kept:
		return r.began.Add(proveFor)
	case r.have > 0:
		return r.since.Add(frameFor)
	case r.dialled && !r.packets:
		return r.began.Add(frameFor)
	}
	return time.Now().Add(idleFor)
}

// came hands over the frames that are complete now that n more bytes were read. It returns false
// if the connection is to end.
func (r *reading) came(m *Mux, ep Endpoint, n int, kept bool) bool {
	if r.have == 0 {
		r.since = time.Now()
	}
	r.have += n
	if !kept {
		r.bytes += n
	}
	r.batch.guest = !kept
	most := smallBuffer - frameHeader
	if kept {
		most = 1 << 16
	}
	var used int
	var err error
	r.batch.trains, used, err = cutFrames(r.batch.trains[:0], r.buf[:r.have], most, ep)
	switch {
	case err == nil:
	case r.waits && !kept && (r.packets || len(r.batch.trains) > 0):
		// A frame that is too long for a guest follows packets: it may prove who it is by those.
		r.early = true
	default:
		m.c.endedFrame.Add(1)
		return false
	}
	if len(r.batch.trains) > 0 {
		r.packets = true
		if m.deliver(r.batch) != nil {
			return false
		}
	}
	full := r.have == len(r.buf)
	if r.have = copy(r.buf, r.buf[used:r.have]); used > 0 {
		r.since = time.Now()
	}
	if r.few++; n >= len(r.small) {
		r.few = 0
	}
	switch {
	case full && r.large == nil && kept:
		r.grow()
	case r.large != nil && r.few >= r.lean && r.have < len(r.small):
		copy(r.small, r.buf[:r.have])
		r.give()
	}
	return true
}

// give returns the large buffer.
func (r *reading) give() {
	if r.large != nil {
		largeBuffers.Put(r.large)
		r.large, r.buf = nil, r.small
	}
}
