package stream

import (
	"time"

	"anodenet/anode/wire"
)

const (
	// giveUp ends a stream of which nothing is acknowledged for so long.
	giveUp = 2 * time.Minute

	// most items of one message that are looked at: twice what we send.
	mostItems = 2 * maxItems

	maxFlight = 1 << 16 // packets

	leastBuffer = 64 << 10 // what a program may write ahead
)

// sender is the sending half of a stream: what the program wrote, what of it is on the way,
// and how fast it goes.
type sender struct {
	mem   *pool
	first uint64 // the number of our S_OPEN
	queue chunks // from the first packet that is not acknowledged on
	start uint64 // the place of the queue's first byte in the stream
	taken uint64 // the place behind the last byte that has a number
	wrote uint64 // the place behind the last byte that the program wrote

	sent   sent
	rtt    rtt
	rack   rack
	cc     cubic
	pace   pacer
	rounds rounds
	trial  trial
	packet int // the largest payload

	window   int    // bytes that may be on the way, as the peer says
	windowBy uint64 // the greatest number that was acknowledged when it said so

	backoff  int
	rtoOrder uint64        // the newest transmission before the last timeout; 0: none to judge
	rtoAt    time.Duration // 0: nothing is on the way
	tailAt   time.Duration // 0: no loss probe is due
	force    bool          // one packet goes out whatever the windows say
	probing  bool          // a packet that the peer's window did not allow is out
	progress time.Duration // since when nothing moves, while something is on the way
	orphan   bool          // the program closed: a window of 0 is not waited for without end
	lastSent time.Duration
}

func newSender(mem *pool, first uint64, packet int) sender {
	return sender{mem: mem, first: first, sent: newSent(first), cc: newCubic(packet), packet: packet}
}

// resize takes another largest payload, for packets that have no number yet.
func (s *sender) resize(packet int) {
	if packet != s.packet {
		s.packet = packet
		s.cc.resize(packet)
	}
}

// unsent returns how many bytes have no number.
func (s *sender) unsent() int { return int(s.wrote - s.taken) }

// fresh returns the payload of the next packet with new data that the peer's window allows;
// 0: none. A window that is nearly used up is not filled with small packets.
func (s *sender) fresh() int {
	n := min(s.packet, s.unsent())
	room := s.window - s.sent.unacked
	switch {
	case n <= room:
		return n
	case room >= s.packet/2:
		return room
	}
	return 0
}

// shut reports whether the peer's window holds new data back.
func (s *sender) shut() bool { return s.unsent() > 0 && s.fresh() == 0 }

// allowed reports whether a packet may be sent now, and if the pace alone forbids it, when.
func (s *sender) allowed(now time.Duration, size int) (ok bool, when time.Duration) {
	if s.force {
		return true, 0
	}
	if s.sent.flying > 0 && float64(s.sent.flying+size) > s.cc.window {
		return false, 0
	}
	return s.paced(now)
}

// leaves notes that a packet is sent.
func (s *sender) leaves(now time.Duration, n uint64) {
	if s.sent.flights == 0 {
		s.rtoAt = 0
	}
	s.sent.fly(now, n)
	s.tailAt = 0
	s.force = false
	s.pace.credit -= float64(s.sent.at(n).cost())
	s.lastSent = now
}

// wake prepares for sending after nothing was on the way.
func (s *sender) wake(now time.Duration) {
	if !s.sent.empty() || s.lastSent == 0 {
		return
	}
	s.cc.idle(now - s.lastSent)
	if now-s.lastSent > s.rtt.rto() {
		s.trial.stop()
		s.cc.restart()
	}
}

// limit returns how many bytes the program may have written that are not acknowledged: two
// windows, and while a lost packet in front holds them, what is sent until it arrives.
func (s *sender) limit(most int) int {
	n := 2 * int(s.cc.window)
	if s.rack.recovery != 0 {
		n *= 2
	}
	return min(max(n, leastBuffer), most)
}

// acks takes acknowledgements and the peer's window, and reports whether anything was new.
func (s *sender) acks(now time.Duration, acks wire.Acks, window int) (news bool) {
	before, flew := s.sent.unacked, s.sent.flying
	a := ackResult{}
	for i := range min(acks.Len(), mostItems) {
		first, n := acks.At(i)
		from := near(s.sent.base, first)
		a.top = max(a.top, from+uint64(n)-1)
		to := min(from+uint64(n), s.sent.next)
		for k := max(from, s.sent.base); k < to; k++ {
			if p := s.sent.at(k); p.state != arrived && p.times > 0 {
				a.note(k, p, s.rtoOrder)
				s.trial.passed++
				s.rounds.bytes += p.cost()
				s.delivered(now, k, p)
				s.probeArrived(now, k, p)
				s.sent.arrive(k)
			}
		}
	}
	a.top = min(a.top, s.sent.next-1)
	s.setWindow(now, &a, window)
	if !a.news {
		s.arm(now)
		return false
	}
	s.progress = now
	if a.spurious {
		s.spurious()
	}
	s.measure(now, &a)
	s.sent.advance(s.mem)
	s.release()
	s.rack.recovered(s.sent.base)
	if s.rack.recovery == 0 {
		s.rtoOrder, s.cc.undo = 0, nil
	}
	if s.detect(now) {
		s.recover(now)
	}
	if bytes := before - s.sent.unacked; s.growing(flew) {
		s.cc.acked(now, bytes, s.rtt.smooth)
	}
	s.rtoAt, s.tailAt = 0, 0
	s.arm(now)
	return true
}

// ackResult is what one message acknowledged.
type ackResult struct {
	news     bool
	spurious bool   // a packet arrived that was given up by a timeout and not sent again
	top      uint64 // the greatest number, whether new or not

	// Of the newest transmission, which is the one that caused the message: what else is
	// new in it may have come long before, if messages were lost.
	order uint64
	at    time.Duration
	once  bool // it is the packet's first
}

func (a *ackResult) note(n uint64, p *packet, rto uint64) {
	a.news = true
	if rto != 0 && p.state == lost && p.order <= rto {
		a.spurious = true
	}
	if p.order > a.order {
		a.order, a.at, a.once = p.order, p.at, p.times == 1
	}
}

// setWindow takes the window, unless the message is older than one that came before.
func (s *sender) setWindow(now time.Duration, a *ackResult, window int) {
	if !a.news && a.top < s.windowBy {
		return
	}
	s.windowBy = max(s.windowBy, a.top)
	if window == 0 && !s.orphan && s.progress != 0 {
		s.progress = now
	}
	opened := window > s.window
	s.window = window
	if opened && s.probing {
		s.probing, s.backoff = false, 0
		s.sent.loseAll()
		s.rtoAt, s.tailAt = 0, 0
	}
}

// measure takes the round trip of a packet that was sent once. Without one the
// back-off stays, as far as Karn's rule has it: the round trip may have become longer. Only
// most of it goes, since at high loss there may be no such packet for a while.
func (s *sender) measure(now time.Duration, a *ackResult) {
	if !a.once || a.order < s.rack.order {
		if s.rtt.smooth > 0 {
			s.backoff = min(s.backoff, 1)
		}
		return
	}
	s.backoff = 0
	s.rtt.sample(now, now-a.at)
	s.cc.measured(now-a.at, s.rack.top, s.sent.next)
	s.observe(now, now-a.at)
}

// growing reports whether the window was in use, so that it may grow.
func (s *sender) growing(flew int) bool {
	if s.trial.cause == lossTrial || s.trial.cause == queueTrial {
		return false
	}
	if s.cc.slowStart() {
		return 2*float64(flew) >= s.cc.window
	}
	return (s.rack.recovery == 0 || s.trial.cause == lossFree) && float64(flew) >= s.cc.window-max(4*s.cc.packet, s.cc.window/8)
}

// release frees what was acknowledged.
func (s *sender) release() {
	to := s.taken
	if !s.sent.empty() {
		to = s.sent.at(s.sent.base).off
	}
	s.queue.drop(s.mem, int(to-s.start))
	s.start = to
}
