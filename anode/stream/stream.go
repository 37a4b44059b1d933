package stream

import (
	"io"
	"math"
	"time"

	"anodenet/anode/wire"
)

// phase is the life of a stream:
//
//	opening ---- S_OPEN -----> open --- both S_CLOSE acknowledged ---> over ---> gone
//	answering -- its number    |                                         ^
//	             acknowledged  '--- ended at once ----> aborting --------'
//	             -> open
type phase uint8

const (
	opening   phase = iota // our S_OPEN waits for an answer
	answering              // we answered an S_OPEN, which is to be acknowledged
	open
	aborting // our S_CLOSE of reason 2 or 3 waits to be acknowledged
	over     // what the peer repeats is acknowledged
	gone
)

const (
	openFor   = 30 * time.Second // an S_OPEN is repeated
	answerFor = 15 * time.Second // the answer to one is
	lingerFor = 10 * time.Second // a stream that is over is known
	closeFor  = 30 * time.Second // we wait for the peer's S_CLOSE after both directions ended
	drainFor  = 30 * time.Second // without progress, after the peer closed both directions
	heldFor   = 2 * time.Second  // of silence, until an S_CLOSE is not held back any longer
	silentFor = 5 * time.Second  // until another S_OPEN replaces a stream

	abortTries = 5
	keepTries  = 8
	keepEvery  = 15 * time.Second // at most, between probes that are not answered
)

// key is the pair of link IDs of a stream. As one number it is looked up while the message that it is
// read from is still on its way from memory; two stores and one load would have to wait for it.
type key uint32

func keyOf(own, peer uint16) key { return key(own)<<16 | key(peer) }

func (k key) own() uint16  { return uint16(k >> 16) }
func (k key) peer() uint16 { return uint16(k) }

// Stream is one connection. It belongs to its Machine; whoever drives that calls all
// methods, one at a time.
type Stream struct {
	// Owner belongs to the driver.
	Owner any

	m      *Machine
	key    key
	origin bool // our link ID is a port of origin
	theirs bool // the peer opened it

	phase     phase
	until     time.Duration // the end of the phase; 0: none
	err       error         // why it ended; nil: by S_CLOSE on both sides, or it did not
	confirmed bool          // the peer acknowledged our S_OPEN itself

	fresh bool // no program has it yet

	send   sender
	recv   receiver
	intent ending // how the program closed it
	closed uint64 // the number of our S_CLOSE; 0: none yet
	reason wire.CloseReason
	tries  int // of S_CLOSE while aborting, or of keep-alive probes

	heardAt time.Duration
	newsAt  time.Duration // when something moved: data came, was read, or arrived there
	keep    time.Duration // of silence until a probe; 0: no keep-alive
	keepAt  time.Duration
	keepNow bool
	paceAt  time.Duration

	due      time.Duration // when tick is called; 0: never
	place    int           // in the Machine's heap; -1: in none
	dirty    bool          // in the Machine's list of those that may send
	signaled bool          // in the Machine's list of events
}

// Ports returns our link ID or port, and the peer's.
func (s *Stream) Ports() (own, peer uint16) { return s.key.own(), s.key.peer() }

// Fresh reports, once, that the peer opened the stream and it is for a program to take. The
// driver calls Accepted when that has happened, or will not.
func (s *Stream) Fresh() bool {
	fresh := s.fresh
	s.fresh = false
	return fresh
}

// Opened reports whether the opening has ended: by an answer, or as Err says.
func (s *Stream) Opened() bool { return s.phase >= open }

// Err returns why the stream ended. It is nil while it has not, and after S_CLOSE in both
// directions.
func (s *Stream) Err() error { return s.err }

// Buffered returns how many bytes wait to be read.
func (s *Stream) Buffered() int { return s.recv.queue.size }

// RTT returns the smoothed round-trip time; 0: not measured.
func (s *Stream) RTT() time.Duration { return s.send.rtt.smooth }

// Read moves received data to b. It returns 0 and nil if there is nothing yet, io.EOF after
// all that came before the peer's S_CLOSE, and what Err says after data that came before
// that.
func (s *Stream) Read(now time.Duration, b []byte) (int, error) {
	r := &s.recv
	if r.queue.size > 0 && len(b) > 0 {
		before := r.capacity
		r.limit = before
		if s.phase == open {
			r.limit = min(s.m.config.Window, before+max(s.m.config.Memory-s.m.memory, 0))
		}
		n := r.take(now, b, s.send.rtt.smooth)
		s.m.memory += r.capacity - before
		s.newsAt = now
		if r.ackNow || s.intent == endHalf {
			s.m.touch(s)
		}
		return n, nil
	}
	switch {
	case len(b) == 0:
		return 0, nil
	case s.intent == endBoth && r.discarded:
		return 0, ErrClosed
	case r.ended:
		return 0, io.EOF
	}
	return 0, s.err
}

// Write takes as much of b as there is room for; 0 and nil: none now.
func (s *Stream) Write(b []byte) (int, error) {
	switch {
	case s.err != nil:
		return 0, s.err
	case s.recv.ends == endBoth && s.recv.ended:
		return 0, ErrPeerClosed
	case s.intent != endNone || s.phase > open:
		return 0, ErrClosed
	}
	x := &s.send
	n := min(len(b), s.space())
	x.queue.write(x.mem, b[:n])
	x.wrote += uint64(n)
	s.m.touch(s)
	return n, nil
}

// space returns how many bytes Write would take.
func (s *Stream) space() int {
	return max(s.send.limit(s.m.config.Buffer)-int(s.send.wrote-s.send.start), 0)
}

// Writable reports whether Write would take something, or fail.
func (s *Stream) Writable() bool {
	return s.err != nil || s.intent != endNone || s.phase > open || s.recv.ended && s.recv.ends == endBoth || s.space() > 0
}

// CloseWrite ends our direction after what was written. Toward a peer that does not read it
// so it has no effect until the peer closes, or Close is called, or the peer, if it opened the
// stream, has all and is silent for 2 s.
func (s *Stream) CloseWrite(now time.Duration) error {
	if s.err != nil {
		return s.err
	}
	if s.intent == endNone {
		s.intent, s.newsAt = endHalf, now
	}
	s.m.touch(s)
	return nil
}

// Close ends both directions, ours after what was written. What the peer sent and still
// sends is dropped.
func (s *Stream) Close(now time.Duration) {
	if s.phase == open && s.closed != 0 && !s.recv.ended && s.intent == endHalf {
		s.intent = endBoth
		s.m.control(wire.SClose, s.closeMsg(s.closed).Append)
	}
	s.intent = endBoth
	s.send.orphan = true
	s.recv.discard()
	s.recv.ackNow = s.recv.ackNow || s.phase == open && !s.recv.ended && s.recv.shut()
	if s.phase < open {
		s.abort(now, wire.CloseProtocol, ErrClosed)
	}
	s.advance(now)
	s.m.touch(s)
}

// Abort ends both directions at once, and tells the peer. If the program has ended its
// direction, and read all up to the peer's end, it is Close: what is on the way still arrives.
func (s *Stream) Abort(now time.Duration) {
	if s.phase == open && s.intent != endNone && s.recv.ended && s.recv.queue.size == 0 {
		s.Close(now)
		return
	}
	s.reset(now)
}

// reset ends both directions at once, whatever is on the way.
func (s *Stream) reset(now time.Duration) {
	s.intent = endBoth
	s.recv.discard()
	s.abort(now, wire.CloseProtocol, ErrClosed)
}

// KeepAlive has the peer asked for a sign of life after so long a silence; 0: never.
func (s *Stream) KeepAlive(now, every time.Duration) {
	s.keep, s.tries, s.keepAt = every, 0, 0
	if every > 0 {
		s.keepAt = now + every
	}
	s.m.touch(s)
}

// abort ends the stream for a reason of ours.
func (s *Stream) abort(now time.Duration, why wire.CloseReason, err error) {
	if s.phase >= aborting {
		return
	}
	known := s.recv.first != 0 || s.phase == opening
	s.end(now, err)
	if known {
		s.phase, s.reason, s.tries, s.until = aborting, why, 0, now
		s.m.touch(s)
	}
}

// end ends the stream at once.
func (s *Stream) end(now time.Duration, err error) {
	if s.phase == answering {
		s.m.ports.Release(s.key.own())
		s.m.half--
		s.m.waiting--
	}
	if s.err == nil {
		s.err = err
	}
	s.release()
	s.phase, s.until = over, now+lingerFor
	s.m.signal(s)
	s.m.touch(s)
}

// release frees what the sending half holds, and the timers.
func (s *Stream) release() {
	x := &s.send
	x.queue.drop(x.mem, x.queue.size)
	x.sent.ring, x.sent.oldest, x.sent.newest, x.sent.losses, x.sent.flights, x.sent.flying, x.sent.unacked = nil, 0, 0, 0, 0, 0, 0
	x.sent.base = x.sent.next
	x.start, x.taken = x.wrote, x.wrote
	x.rtoAt, x.tailAt, x.rack.check, x.progress = 0, 0, 0, 0
	s.recv.early, s.recv.earlyBytes = nil, 0
	s.keepAt, s.paceAt, s.recv.ackAt, s.recv.reopen = 0, 0, 0, reopening{}
	s.m.memory -= s.recv.capacity - min(s.recv.capacity, firstCapacity)
	s.recv.capacity = min(s.recv.capacity, firstCapacity)
}

// advance takes the steps that follow from what was closed and acknowledged.
func (s *Stream) advance(now time.Duration) {
	if s.phase != open {
		return
	}
	done := s.closed != 0 && s.send.sent.base > s.closed
	switch {
	case done && s.recv.ended:
		s.release()
		s.phase, s.until = over, now+lingerFor
		s.m.signal(s)
	case done && s.recv.discarded && s.until == 0:
		s.until = now + closeFor
	}
	s.m.touch(s)
}

// established begins the flow of data.
func (s *Stream) established(now time.Duration) {
	if s.phase == answering {
		s.m.half--
		s.fresh = true
	}
	s.phase, s.until = open, 0
	if s.keep > 0 {
		s.keepAt = now + s.keep
	}
	s.m.signal(s)
	s.advance(now)
}

// moved repeats now what waits for an answer: the path changed, or is back.
func (s *Stream) moved(now time.Duration) {
	s.send.moved(now)
	s.recv.ackNow = s.recv.reopen.again(now, s.send.rtt.rto()) || s.recv.ackNow
	s.m.touch(s)
}

// tick does what is due.
func (s *Stream) tick(now time.Duration) {
	if s.until != 0 && now >= s.until {
		s.expire(now)
	}
	if s.phase == gone {
		return
	}
	s.send.timers(now)
	if at := s.recv.ackAt; at != 0 && now >= at || s.recv.reopen.due(now, s.send.rtt.rto()) {
		s.recv.ackNow = true
	}
	if s.paceAt != 0 && now >= s.paceAt {
		s.paceAt = 0
	}
	if at := s.heldUntil(); at != 0 && now >= at {
		s.intent = endBoth // the program goes on reading
	}
	if s.phase == open {
		s.judge(now)
	}
}

// heldUntil returns when an S_CLOSE that is held back, because the peer takes it for the end
// of both directions, is sent all the same; 0: not before something moves. A peer that opened
// the stream, has all and says nothing waits for the end. One that we opened it to may take its
// time for the answer.
func (s *Stream) heldUntil() time.Duration {
	if !s.theirs || s.phase != open || s.intent != endHalf || s.closed != 0 || s.mayClose() {
		return 0
	}
	x, r := &s.send, &s.recv
	if !x.sent.empty() || x.unsent() > 0 || r.queue.size > 0 || len(r.early) > 0 || r.end != 0 {
		return 0
	}
	return s.newsAt + heldFor
}

// expire ends a phase that took too long.
func (s *Stream) expire(now time.Duration) {
	switch s.phase {
	case opening:
		s.end(now, ErrTimedOut)
		s.m.remove(s)
	case answering:
		s.end(now, ErrTimedOut)
		s.m.remove(s)
	case aborting:
		if s.tries >= abortTries {
			s.m.remove(s)
		}
	case open: // our S_CLOSE was acknowledged, and the peer's does not come
		s.release()
		s.m.remove(s)
	case over:
		s.m.remove(s)
	}
}

// judge ends a stream whose peer is silent, and sends keep-alive probes.
func (s *Stream) judge(now time.Duration) {
	if at := s.giveUpAt(); at != 0 && now >= at {
		if s.recv.ends == endBoth && s.recv.ended {
			s.release()
			s.m.remove(s)
			return
		}
		s.abort(now, wire.CloseTimeout, ErrTimedOut)
		return
	}
	if s.keepAt == 0 || now < s.keepAt {
		return
	}
	if s.tries >= keepTries {
		s.abort(now, wire.CloseTimeout, ErrTimedOut)
		return
	}
	s.tries++
	s.keepNow, s.keepAt = true, now+min(s.keep, keepEvery)
}

func (s *Stream) giveUpAt() time.Duration {
	switch {
	case s.send.progress == 0:
		return 0
	case s.recv.ends == endBoth && s.recv.ended:
		return s.send.progress + drainFor
	}
	return s.send.progress + giveUp
}

// next returns when tick is due; 0: never.
func (s *Stream) next() time.Duration {
	if s.phase == gone {
		return 0
	}
	at := s.until
	if s.phase != aborting {
		at = sooner(at, s.recv.ackAt)
	}
	if s.phase == open {
		at = sooner(at, sooner(s.paceAt, sooner(s.keepAt, s.giveUpAt())))
		at = sooner(at, sooner(s.heldUntil(), s.recv.reopen.at))
	}
	if s.phase <= open {
		at = sooner(at, s.send.due())
	}
	return at
}

// heard notes a message of the peer.
func (s *Stream) heard(now time.Duration) {
	s.heardAt = now
	if s.phase == open {
		s.tries = 0
		if s.keep > 0 {
			s.keepAt = now + s.keep
		}
	}
}

// onOpen takes an S_OPEN with the stream's link IDs. It reports false if the peer opens
// another stream with them.
func (s *Stream) onOpen(now time.Duration, o wire.OpenMsg) bool {
	first := firstNumber(o.ISN)
	switch {
	case s.phase == opening:
		s.answered(now, o)
	case s.recv.first == first:
		s.onOpenAgain(now)
	case s.phase == answering:
		s.openedAnew(o)
	case s.phase >= aborting || now-s.heardAt >= silentFor:
		s.end(now, ErrReset)
		s.m.remove(s)
		return false
	default:
		s.m.counters.Strange++
	}
	return true
}

// openedAnew takes an S_OPEN with another number than the one that we answered: the peer
// began anew, or took our answer for an S_OPEN to a port of its own, and answered that.
// Either way its newest number counts, and ours stays.
func (s *Stream) openedAnew(o wire.OpenMsg) {
	s.recv.begin(firstNumber(o.ISN))
	s.send.window = int(o.Window) << 10
	s.send.sent.loseAll()
	s.send.force = true
	s.recv.ackNow = true
	s.m.touch(s)
}

// answered takes the answer to our S_OPEN.
func (s *Stream) answered(now time.Duration, o wire.OpenMsg) {
	s.m.unlist(s)
	s.recv.begin(firstNumber(o.ISN))
	s.recv.ackNow = true
	s.heard(now)
	s.send.acks(now, wire.Acks{}.AppendAck(uint32(s.send.first), 1), int(o.Window)<<10)
	s.established(now)
}

// onOpenAgain takes a repeated S_OPEN: our answer, or its acknowledgement, was lost.
func (s *Stream) onOpenAgain(now time.Duration) {
	s.recv.ackNow = s.phase != answering
	if s.phase == answering && s.send.sent.flights > 0 {
		s.send.sent.loseAll()
		s.send.force = true
	}
	if s.phase == open && !s.confirmed {
		s.m.control(wire.SOpen, s.openMsg().Append)
	}
	s.m.touch(s)
}

// onAck takes acknowledgements.
func (s *Stream) onAck(now time.Duration, acks wire.Acks, window uint16) {
	switch s.phase {
	case opening, over, gone:
		return
	case aborting:
		if s.acksNumber(acks, s.send.sent.next) {
			s.phase, s.until = over, now+lingerFor
			s.m.touch(s)
		}
		return
	}
	s.heard(now)
	news := s.send.acks(now, acks, int(window)<<10)
	s.confirmed = s.confirmed || s.acksNumber(acks, s.send.first) || s.send.sent.base > s.send.first+1
	if s.phase == answering && s.send.sent.base > s.send.first {
		s.established(now)
	}
	if news {
		s.newsAt = now
		s.advance(now)
		s.m.signal(s)
	}
	s.m.touch(s)
}

// acksNumber reports whether the acknowledgements have a number of ours.
func (s *Stream) acksNumber(acks wire.Acks, n uint64) bool {
	for i := range min(acks.Len(), mostItems) {
		first, count := acks.At(i)
		if from := near(n, first); from <= n && n < from+uint64(count) {
			return true
		}
	}
	return false
}

// onData takes a packet of data.
func (s *Stream) onData(now time.Duration, seq uint32, b []byte) {
	s.heard(now)
	switch s.phase {
	case opening, gone:
		return
	case aborting:
		s.until = min(s.until, now+s.send.rtt.rto())
		s.m.touch(s)
		return
	case over:
		if !s.recv.ended {
			return
		}
	case answering: // data in sequence acknowledges our S_OPEN (it has its sender's)
		s.send.acks(now, wire.Acks{}.AppendAck(uint32(s.send.first), 1), s.send.window)
		s.established(now)
	}
	before := s.recv.next
	switch s.recv.data(now, near(s.recv.next, seq), b) {
	case taken:
		s.newsAt = now
	case twice:
		s.m.counters.Twice++
	case noRoom:
		s.m.counters.NoRoom++
	case beyondEnd:
		s.m.counters.Strange++
	}
	if s.recv.next != before {
		s.m.signal(s)
		s.advance(now)
	}
	s.m.touch(s)
}

// onClose takes an S_CLOSE with the stream's link IDs.
func (s *Stream) onClose(now time.Duration, c wire.CloseMsg) {
	switch {
	case s.refusedBy(c):
		s.end(now, reasonError(c.Reason))
		s.m.remove(s)
	case s.recv.first == 0 || firstNumber(c.ISN) != s.recv.first:
		s.m.counters.Strange++
	case c.Reason != wire.CloseNormal:
		s.m.acknowledge(s.key, c.Seq)
		if s.phase <= open {
			s.end(now, reasonError(c.Reason))
		}
	default:
		s.onEnd(now, c)
	}
}

// onEnd takes an S_CLOSE of reason 0.
func (s *Stream) onEnd(now time.Duration, c wire.CloseMsg) {
	if s.phase == aborting {
		return
	}
	s.heard(now)
	ends := endBoth
	if c.Flags&wire.FlagHalfClose != 0 {
		ends = endHalf
	}
	if s.phase == answering {
		s.send.acks(now, wire.Acks{}.AppendAck(uint32(s.send.first), 1), s.send.window)
		s.established(now)
	}
	if s.recv.close(near(s.recv.next, c.Seq), ends) == beyondEnd {
		s.m.counters.Strange++
	}
	s.m.signal(s)
	s.m.touch(s)
	s.advance(now)
}

// refusedBy reports whether an S_CLOSE has a number of ours twice: it refuses our S_OPEN,
// or says that the peer does not know the stream.
func (s *Stream) refusedBy(c wire.CloseMsg) bool {
	if c.ISN != c.Seq || c.Reason == wire.CloseNormal {
		return false
	}
	if s.phase == opening || s.phase == answering {
		return c.ISN == uint32(s.send.first)
	}
	n := near(s.send.sent.next, c.Seq)
	return s.phase == open && c.Reason == wire.CloseProtocol && n > s.send.first && n < s.send.sent.next
}

func reasonError(r wire.CloseReason) error {
	switch r {
	case wire.CloseRefused:
		return ErrRefused
	case wire.CloseTimeout:
		return ErrTimedOut
	}
	return ErrReset
}

func (s *Stream) openMsg() wire.OpenMsg {
	o := wire.OpenMsg{Link: s.link(), Window: s.recv.window(), ISN: uint32(s.send.first)}
	if s.origin {
		o.Flags = wire.FlagSourcePort
	}
	s.recv.announced = int(o.Window) << 10
	return o
}

func (s *Stream) link() wire.Link { return wire.Link{ID: s.key.own(), Port: s.key.peer()} }

// resize follows the path: payloads of messages of so many bytes.
func (s *Stream) resize(most int) {
	s.send.resize(min(max(most-1-wire.DataHeader, 64), math.MaxUint16))
}
