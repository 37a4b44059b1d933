package stream

import (
	"encoding/binary"
	"time"

	"anodenet/anode/wire"
)

// outcome says why a stream sends no more.
type outcome uint8

const (
	idle     outcome = iota // nothing more, or not now
	ongoing                 // more, after others had their turn
	overfull                // the batch is full
)

// emit writes what the stream may send now, at most one train of data.
func (s *Stream) emit(now time.Duration, b *Batch) outcome {
	switch s.phase {
	case gone:
		return idle
	case aborting:
		return s.emitAbort(now, b)
	case over:
		return s.emitAck(now, b)
	}
	s.send.wake(now)
	if s.keepNow && !s.emitKeep(b) {
		return overfull
	}
	piggyback := s.m.peer.DAck && s.phase == open && s.recv.ackNow
	if !piggyback && s.emitAck(now, b) == overfull {
		return overfull
	}
	for range maxSegments {
		n, ok := s.pick(now)
		if !ok {
			s.send.arm(now)
			return s.emitAck(now, b)
		}
		if !s.put(now, b, n) {
			return overfull
		}
	}
	s.send.arm(now)
	if s.emitAck(now, b) == overfull {
		return overfull
	}
	return ongoing
}

// pick returns the next packet that may be sent: one that was lost, or new.
func (s *Stream) pick(now time.Duration) (n uint64, ok bool) {
	x := &s.send
	size, k := 0, dataPacket
	if x.sent.losses > 0 {
		n = x.sent.firstLost()
		size = x.sent.at(n).cost()
	} else if size, k, ok = s.newPacket(); !ok {
		return 0, false
	}
	ok, s.paceAt = x.allowed(now, size)
	if !ok || n != 0 {
		return n, ok
	}
	n = x.sent.add(x.mem, k, x.taken, size)
	x.taken += uint64(size)
	if k == closePacket {
		s.closed = n
	}
	return n, true
}

// newPacket returns what a new packet would be.
func (s *Stream) newPacket() (size int, k kind, ok bool) {
	x := &s.send
	switch {
	case s.phase != open || s.closed != 0 || x.sent.next-x.sent.base >= maxFlight:
		return 0, 0, false
	case x.unsent() > 0:
		if size = x.fresh(); size == 0 && x.force && x.sent.empty() {
			size = min(x.packet, x.unsent())
		}
		if s.m.peer.DAck && s.recv.ackNow {
			size = s.besideAcks(size)
		}
		return size, dataPacket, size > 0
	}
	return 0, closePacket, s.mayClose()
}

// besideAcks returns the payload that leaves room for acknowledgements in an S_DACK, such
// that this is as long as the S_DATA that follow it.
func (s *Stream) besideAcks(size int) int {
	acks := s.recv.appendAcks(s.m.acks[:0], maxItems)
	room := s.m.most - 1 - wire.DAckHeader - len(acks)
	if room < s.m.most/2 {
		return size
	}
	return min(size, room)
}

// mayClose reports whether an S_CLOSE is to be sent.
func (s *Stream) mayClose() bool {
	return s.closesBoth() || s.intent == endHalf && (s.m.peer.HalfClose || s.recv.ended)
}

// closesBoth reports whether our S_CLOSE ends both directions: the program closed both, or the
// peer did.
func (s *Stream) closesBoth() bool {
	return s.intent == endBoth || s.recv.ended && s.recv.ends == endBoth
}

// put writes a packet of ours, and reports false if there is no room in the batch.
func (s *Stream) put(now time.Duration, b *Batch, n uint64) bool {
	p := s.send.sent.at(n)
	ok := false
	switch p.kind {
	case openPacket:
		ok = s.m.write(b, wire.SOpen, s.openMsg().Append)
	case closePacket:
		ok = s.m.write(b, wire.SClose, s.closeMsg(n).Append)
	case dataPacket:
		ok = s.putData(now, b, n, p)
	}
	if ok {
		s.send.leaves(now, n)
	}
	return ok
}

// closeMsg is the S_CLOSE of reason 0. Its flag may change from one to the next: the program
// closed the other direction as well.
func (s *Stream) closeMsg(n uint64) wire.CloseMsg {
	c := wire.CloseMsg{Link: s.link(), ISN: uint32(s.send.first), Seq: uint32(n)}
	if !s.closesBoth() && s.m.peer.HalfClose {
		c.Flags = wire.FlagHalfClose
	}
	return c
}

// putData writes S_DATA, or S_DACK if there is something to acknowledge, which the peer
// reads, and which fits.
func (s *Stream) putData(now time.Duration, b *Batch, n uint64, p *packet) bool {
	size, offset := int(p.size), int(p.off-s.send.start)
	if s.m.peer.DAck && s.recv.ackNow {
		if room := (s.m.most - 1 - wire.DAckHeader - size) / wire.AckItem; room >= 1 {
			acks := s.recv.appendAcks(s.m.acks[:0], min(room, maxItems))
			head := wire.DAckMsg{Link: s.link(), Window: s.recv.window(), Acks: acks, Seq: uint32(n)}.Append(s.m.head[:0])
			msg := b.room(1 + len(head) + size)
			if msg == nil {
				return false
			}
			msg[0] = byte(wire.SDAck)
			s.send.queue.copyAt(msg[1+copy(msg[1:], head):], offset)
			s.recv.acknowledged(now, s.send.rtt.rto())
			return true
		}
	}
	msg := b.room(1 + wire.DataHeader + size)
	if msg == nil {
		return false
	}
	msg[0] = byte(wire.SData)
	binary.BigEndian.PutUint16(msg[1:], s.key.own())
	binary.BigEndian.PutUint16(msg[3:], s.key.peer())
	binary.BigEndian.PutUint32(msg[5:], uint32(n))
	s.send.queue.copyAt(msg[1+wire.DataHeader:], offset)
	return true
}

// emitAck writes an S_ACK if one is due.
func (s *Stream) emitAck(now time.Duration, b *Batch) outcome {
	if !s.recv.ackNow || s.recv.first == 0 {
		return idle
	}
	room := min(maxItems, (s.m.most-7)/wire.AckItem)
	acks := s.recv.appendAcks(s.m.acks[:0], room)
	if !s.m.write(b, wire.SAck, wire.AckMsg{Link: s.link(), Window: s.recv.window(), Acks: acks}.Append) {
		return overfull
	}
	s.recv.acknowledged(now, s.send.rtt.rto())
	return idle
}

// emitKeep writes a keep-alive probe: a packet that the peer acknowledged, without payload. It
// is acknowledged again.
func (s *Stream) emitKeep(b *Batch) bool {
	msg := wire.DataMsg{Link: s.link(), Seq: uint32(s.send.sent.base - 1)}
	s.keepNow = !s.m.write(b, wire.SData, msg.Append)
	return !s.keepNow
}

// emitAbort writes an S_CLOSE that ends the stream at once.
func (s *Stream) emitAbort(now time.Duration, b *Batch) outcome {
	if now < s.until || s.tries >= abortTries {
		return idle
	}
	msg := wire.CloseMsg{Link: s.link(), Reason: s.reason, ISN: uint32(s.send.first), Seq: uint32(s.send.sent.next)}
	if !s.m.write(b, wire.SClose, msg.Append) {
		return overfull
	}
	s.until = now + s.send.rtt.rto()<<s.tries
	s.tries++
	return idle
}
