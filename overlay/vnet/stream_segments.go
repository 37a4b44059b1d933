package vnet

import (
	"net"
	"syscall"
	"time"
)

// outgoing is what one side of a connection has to send.
type outgoing struct {
	unsent []byte
	fin    bool // the end follows
	ended  bool // it was sent
	next   uint64
	away   []*sent // by seq
	flying int     // bytes of those

	order     uint64 // of the last transmission
	window    int    // bytes that may be on the way
	threshold int    // above which it grows slowly; 0: nothing was lost yet
	most      int
	room      int    // that the other side has
	halved    uint64 // order at the last loss; the window halves once for a round trip
	rto       time.Duration
	waits     time.Duration // of the timer, which doubles while nothing comes
	greet     time.Duration
}

// sent is a segment on its way.
type sent struct {
	segment
	at time.Time
}

// incoming is what one side of a connection got.
type incoming struct {
	data  []byte // to be read
	next  uint64
	early map[uint64]*segment // that came before what is in front of them, by seq
	ended bool
	tests int // that were sent since the other side was heard
}

func (in *incoming) room() int { return max(0, streamBuffer-len(in.data)) }

// alarm is the one timer of a connection. Events cannot be taken back, so one that comes too
// early looks again.
type alarm struct {
	due     time.Time // zero: none
	pending time.Time // of the next event; zero: none
}

// wakeAt has c.late called at a time, in place of one that was set before.
func (c *Stream) wakeAt(at time.Time) {
	c.alarm.due = at
	if p := c.alarm.pending; !p.IsZero() && !at.Before(p) {
		return
	}
	c.alarm.pending = at
	c.number++
	c.host.w.later(at, c.sender, c.number, func() {
		if !at.Equal(c.alarm.pending) {
			return
		}
		c.alarm.pending = time.Time{}
		switch {
		case c.err != nil:
		case time.Now().Before(c.alarm.due):
			c.wakeAt(c.alarm.due)
		default:
			c.late()
		}
	})
}

// emit sends a segment, with what there is to acknowledge.
func (c *Stream) emit(s *segment) {
	s.id, s.ack, s.room = c.id, c.in.next, c.in.room()
	c.number++
	c.host.segment(c.sender, c.number, c.key, c.foreign, s)
}

// greet sends what opens the connection.
func (c *Stream) greet() {
	kind := segSYN
	if c.state == answering {
		kind = segSYNACK
	}
	c.emit(&segment{kind: kind})
	c.wakeAt(time.Now().Add(c.out.greet))
	c.out.greet *= 2
}

// pump sends what the window allows.
func (c *Stream) pump() {
	o := &c.out
	for c.state != dialling && c.err == nil && !o.ended {
		n := min(segmentSize, len(o.unsent))
		if n == 0 && !o.fin || n > 0 && !o.fits(n) {
			break
		}
		if len(o.away) == 0 {
			c.alive = time.Now()
		}
		s := &sent{segment: segment{kind: segData, seq: o.next, data: o.unsent[:n:n], fin: o.fin && n == len(o.unsent)}}
		o.unsent = o.unsent[n:]
		o.ended = s.fin
		o.next += s.bytes()
		o.flying += int(s.bytes())
		o.away = append(o.away, s)
		c.transmit(s)
	}
	c.rest()
}

// fits reports whether n more bytes may be on the way. Where the other side has no room, the
// timer asks it again.
func (o *outgoing) fits(n int) bool {
	return o.flying+n <= o.room && (o.flying == 0 || o.flying+n <= o.window)
}

// transmit sends a segment for the first time, or again.
func (c *Stream) transmit(s *sent) {
	c.out.order++
	s.order, s.at = c.out.order, time.Now()
	x := s.segment
	c.emit(&x)
}

// rest sets the timer for what is next if nothing comes.
func (c *Stream) rest() {
	o, now := &c.out, time.Now()
	switch {
	case c.err != nil || c.state != open:
	case len(o.away) > 0:
		at := now.Add(max(o.rto, o.waits))
		if end := c.alive.Add(DeadAfter); at.After(end) {
			at = end
		}
		c.wakeAt(at)
	case len(o.unsent) > 0:
		c.wakeAt(now.Add(testAgain))
	default:
		c.wakeAt(now.Add(testAfter))
	}
}

// late is called when nothing came for too long.
func (c *Stream) late() {
	o, now := &c.out, time.Now()
	if c.state != open {
		if now.Sub(c.alive) >= 4*DeadAfter {
			c.end(syscall.ETIMEDOUT)
			return
		}
		c.greet()
		return
	}
	if len(o.away) > 0 {
		if now.Sub(c.alive) >= DeadAfter {
			c.end(syscall.ETIMEDOUT)
			return
		}
		o.threshold, o.window = max(o.window/2, 2*segmentSize), 2*segmentSize
		o.halved = o.order
		o.waits = min(2*max(o.rto, o.waits), mostRTO)
		c.transmit(o.away[0])
		c.rest()
		return
	}
	if c.in.tests == tests {
		c.end(syscall.ETIMEDOUT)
		return
	}
	c.in.tests++
	c.emit(&segment{kind: segTest})
	c.wakeAt(now.Add(testAgain))
}

// take handles a segment of this connection.
func (c *Stream) take(s *segment) {
	if s.kind == segRST {
		err := error(syscall.ECONNRESET)
		if c.state == dialling {
			err = syscall.ECONNREFUSED
		}
		c.end(err)
		return
	}
	switch {
	case s.kind == segSYN:
		c.emit(&segment{kind: segSYNACK}) // the first was lost
		return
	case s.kind == segSYNACK && c.state != dialling:
		c.emit(&segment{kind: segACK})
		return
	case c.state != open:
		c.opened()
	}
	c.alive, c.in.tests, c.out.waits = time.Now(), 0, 0
	c.acknowledged(s)
	switch s.kind {
	case segData:
		c.arrived(s)
	case segTest:
		c.emit(&segment{kind: segACK})
	}
	if c.err == nil {
		c.pump()
		c.ready.Broadcast()
	}
}

// opened notes that both sides know of the connection.
func (c *Stream) opened() {
	was := c.state
	c.state = open
	if was == dialling {
		c.emit(&segment{kind: segACK})
	} else if c.listener.closed {
		c.reset()
	} else {
		c.listener.established(c)
	}
}

// acknowledged takes what has arrived at the other side off the list, and sends again what was
// lost.
func (c *Stream) acknowledged(s *segment) {
	o, now := &c.out, time.Now()
	o.room = s.room
	kept := o.away[:0]
	var lost []*sent
	for _, x := range o.away {
		n := x.bytes()
		if x.seq+n <= s.ack || x.order == s.echo && s.echo != 0 {
			if x.order == s.echo {
				o.rto = max(leastRTO, 2*now.Sub(x.at))
			}
			o.flying -= int(n)
			o.grow(int(n))
			continue
		}
		kept = append(kept, x)
		if x.order+3 <= s.echo {
			lost = append(lost, x)
		}
	}
	clear(o.away[len(kept):])
	o.away = kept
	for _, x := range lost {
		if x.order > o.halved {
			o.halved = o.order
			o.window = max(o.window/2, 2*segmentSize)
			o.threshold = o.window
		}
		c.host.w.count["segments_again"]++
		c.transmit(x)
	}
	if c.closed && o.ended && len(o.away) == 0 && c.err == nil {
		c.end(net.ErrClosed) // all of it has arrived
	}
}

// grow opens the window by what has arrived: twice as much after each round trip, or a segment
// more once something was lost.
func (o *outgoing) grow(n int) {
	if o.threshold > 0 && o.window >= o.threshold {
		n = max(1, segmentSize*n/o.window)
	}
	o.window = min(o.window+n, o.most)
}

// arrived takes data.
func (c *Stream) arrived(s *segment) {
	in := &c.in
	switch {
	case c.closed && len(s.data) > 0:
		c.reset() // nobody reads it any more
		return
	case s.seq+s.bytes() > in.next+uint64(in.room()) && len(s.data) > 0:
		c.host.w.count["drop_stream_full"]++
		c.emit(&segment{kind: segACK})
		return
	case s.seq >= in.next:
		in.early[s.seq] = s
	}
	for x := in.early[in.next]; x != nil; x = in.early[in.next] {
		delete(in.early, in.next)
		in.next += x.bytes()
		in.data = append(in.data, x.data...)
		in.ended = in.ended || x.fin
	}
	c.emit(&segment{kind: segACK, echo: s.order})
}
