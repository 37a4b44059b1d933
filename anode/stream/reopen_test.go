package stream

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// waiter is a peer that follows the draft and never probes a window that is shut: it opens a
// stream, sends what fits the window, repeats what is not acknowledged, and else waits.
type waiter struct {
	w      *world
	side   *side
	app    *app
	link   wire.Link
	packet int // bytes of a packet's payload

	left   int               // bytes to send
	next   uint32            // number of the next packet
	out    map[uint32][]byte // not acknowledged
	sentAt map[uint32]time.Duration
	bytes  int // of these
	window int
	lose   func(wire.Type) bool // messages to the peer

	acks   []time.Duration // when an S_ACK left for the peer, lost or not
	data   int             // packets that the peer sent
	ended  bool            // our S_CLOSE is acknowledged
	closed bool            // theirs came
}

const waiterFirst = 0xffffff00 // number of its S_OPEN

// newWaiter opens a stream to a program that does not read, until its window is shut.
func newWaiter(t *testing.T, packet, left int) *waiter {
	t.Helper()
	w := newWorld(t, 4, line{})
	p := &waiter{w: w, side: w.sides[0], app: &app{salt: 1, wants: 2, paused: true, keepOpen: true}, link: wire.Link{ID: 7, Port: 80},
		packet: packet, left: left, next: waiterFirst + 1, out: map[uint32][]byte{}, sentAt: map[uint32]time.Duration{}}
	p.side.m.SetPeer(Capabilities{})
	p.side.serve = func(*Stream) *app { return p.app }
	p.side.m.Receive(w.now, wire.OpenMsg{Link: p.link, ISN: waiterFirst, Window: 60}.Append([]byte{byte(wire.SOpen)}))
	p.run(2 * time.Second)
	if left > firstCapacity && (p.bytes > 0 || p.window >= packet || p.left == 0) {
		t.Fatalf("the window is %d, with %d bytes on the way and %d left", p.window, p.bytes, p.left)
	}
	p.acks, p.data = nil, 0
	return p
}

// run goes on for so long, in steps.
func (p *waiter) run(d time.Duration) {
	for end := p.w.now + d; p.w.now < end; {
		p.w.now += 5 * ms
		p.side.events()
		for _, a := range p.side.apps {
			a.run(p.w)
		}
		for more := true; more; {
			more = p.side.m.Send(p.w.now, &p.side.batch)
			for _, t := range p.side.batch.Trains {
				for b := range slices.Chunk(t.Buf, t.Size) {
					p.receive(b)
				}
			}
			p.side.batch.Reset()
		}
		p.produce()
	}
}

func (p *waiter) receive(msg []byte) {
	kind := wire.Type(msg[0])
	if kind == wire.SAck {
		p.acks = append(p.acks, p.w.now)
	}
	if p.lose != nil && p.lose(kind) {
		return
	}
	ack := func(n uint32) {
		p.side.m.Receive(p.w.now, wire.AckMsg{Link: p.link, Window: 60, Acks: wire.Acks{}.AppendAck(n, 1)}.Append([]byte{byte(wire.SAck)}))
	}
	switch kind {
	case wire.SOpen:
		o, _ := wire.ParseOpen(msg[1:])
		p.window = int(o.Window) << 10
		ack(o.ISN)
	case wire.SAck:
		a, _ := wire.ParseAck(msg[1:])
		p.window = int(a.Window) << 10
		for i := range a.Acks.Len() {
			first, n := a.Acks.At(i)
			for k := range uint32(n) {
				p.acknowledged(first + k)
			}
		}
	case wire.SClose:
		c, _ := wire.ParseClose(msg[1:])
		p.closed = true
		ack(c.Seq)
	}
}

func (p *waiter) acknowledged(n uint32) {
	if b := p.out[n]; b != nil {
		p.ended = p.ended || wire.Type(b[0]) == wire.SClose
		p.bytes -= max(len(b)-1-wire.DataHeader, 0)
		delete(p.out, n)
	}
}

// produce sends what fits the window, repeats what is not acknowledged for half a second, and
// closes after all that is acknowledged.
func (p *waiter) produce() {
	for p.left > 0 && p.window > 0 && p.bytes+min(p.packet, p.left) <= p.window {
		b := make([]byte, min(p.packet, p.left))
		for i := range b {
			b[i] = pattern(2, int(p.next-waiterFirst-1)*p.packet+i)
		}
		p.send(wire.DataMsg{Link: p.link, Seq: p.next, Payload: b}.Append([]byte{byte(wire.SData)}))
		p.left -= len(b)
		p.bytes += len(b)
	}
	if p.left == 0 && len(p.out) == 0 && !p.ended && p.window > 0 && !p.app.keepOpen {
		p.send(wire.CloseMsg{Link: p.link, ISN: waiterFirst, Seq: p.next}.Append([]byte{byte(wire.SClose)}))
	}
	for n, b := range p.out {
		if p.w.now-p.sentAt[n] >= 500*ms {
			p.transmit(n, b)
		}
	}
}

func (p *waiter) send(msg []byte) {
	p.out[p.next] = msg
	p.transmit(p.next, msg)
	p.next++
}

func (p *waiter) transmit(n uint32, msg []byte) {
	p.sentAt[n] = p.w.now
	p.data++
	p.side.m.Receive(p.w.now, msg)
}

// old is a packet that came long ago.
func (p *waiter) old() []byte {
	return wire.DataMsg{Link: p.link, Seq: waiterFirst + 1, Payload: []byte{1}}.Append([]byte{byte(wire.SData)})
}

// loses has the next n S_ACKs lost.
func (p *waiter) loses(n int) {
	p.lose = func(k wire.Type) bool {
		if k != wire.SAck || n == 0 {
			return false
		}
		n--
		return true
	}
}

// A peer never probes a window that is shut, and the S_ACK is lost that opens it, once or many
// times, for packets of any length: it goes on all the same.
func TestReopened(t *testing.T) {
	for _, packet := range []int{200, 1000, 8900} {
		for _, lost := range []int{0, 1, 4, 9} {
			p := newWaiter(t, packet, 300_000)
			p.loses(lost)
			p.app.paused, p.app.keepOpen, p.app.half = false, false, true
			start := p.w.now
			p.run(20 * ms)
			if lost > 1 { // a copy of an old packet comes late: the peer has not heard of the window by that
				p.side.m.Receive(p.w.now, p.old())
			}
			for p.app.got < 300_000 && p.w.now-start < 2*time.Minute {
				p.run(100 * ms)
			}
			t.Logf("packets of %d, %d S_ACK lost: all came after %v", packet, lost, p.w.now-start)
			if p.app.got != 300_000 || lost == 1 && p.w.now-start > time.Second {
				t.Fatalf("packets of %d, %d S_ACK lost: got %d bytes in %v; the peer knows a window of %d", packet, lost, p.app.got, p.w.now-start, p.window)
			}
			p.run(20 * time.Second)
			if !p.app.eof || !p.ended || !p.closed || p.side.m.Len() != 0 {
				t.Errorf("ends %v, %v, %v; %d streams", p.app.eof, p.ended, p.closed, p.side.m.Len())
			}
		}
	}
}

// A program closes without reading, the S_ACK that opens the window for the rest is lost, and
// the peer does not probe: it can send its rest, and end.
func TestReopenedByClose(t *testing.T) {
	for _, packet := range []int{1000, 8900} {
		p := newWaiter(t, packet, 300_000)
		p.loses(2)
		p.app.closed, p.app.keepOpen = true, false
		p.app.s.Close(p.w.now)
		p.run(20 * time.Second)
		if !p.ended || !p.closed || p.left > 0 || p.side.m.Len() != 0 {
			t.Errorf("ends %v, %v; %d bytes left, %d streams", p.ended, p.closed, p.left, p.side.m.Len())
		}
	}
}

// A window that opens, and a peer that has nothing to send: a few S_ACKs, less and less often,
// and no timer after that. After a change of the path they come anew.
func TestReopenedForNobody(t *testing.T) {
	p := newWaiter(t, 1000, 300_000)
	p.left = 0
	start := p.w.now
	p.app.paused = false
	p.run(10 * time.Minute)
	if len(p.acks) != 1+reopenTries || p.side.m.Due() != 0 {
		t.Errorf("%d S_ACK, due %v", len(p.acks), p.side.m.Due())
	}
	for i, at := range p.acks {
		if i > 1 && at-p.acks[i-1] < 3*(p.acks[i-1]-p.acks[i-2])/2 {
			t.Errorf("S_ACK after %v and %v", p.acks[i-1]-start, at-start)
		}
	}
	if d := p.acks[len(p.acks)-1] - start; d < time.Minute || d > 3*time.Minute {
		t.Errorf("the last one after %v", d)
	}
	p.acks = nil
	p.side.m.Moved(p.w.now)
	p.run(10 * ms)
	if len(p.acks) != 1 {
		t.Errorf("%d S_ACK after the path was back", len(p.acks))
	}
	p.left = 300_000 - p.app.got // the rest
	p.run(10 * time.Minute)
	if p.app.got != 300_000 || p.side.m.Due() != 0 {
		t.Errorf("got %d, due %v", p.app.got, p.side.m.Due())
	}
	sent := len(p.acks)
	p.side.m.Moved(p.w.now)
	if p.run(time.Minute); len(p.acks) != sent {
		t.Errorf("%d S_ACK after all came", len(p.acks)-sent)
	}
}

// A window that was never shut is announced again for nobody.
func TestNotReopened(t *testing.T) {
	p := newWaiter(t, 1000, 100_000)
	p.app.paused = false
	p.run(10 * time.Minute)
	if p.app.got != 100_000 || len(p.acks) > 1 || p.side.m.Due() != 0 {
		t.Errorf("got %d, then %d S_ACK, due %v", p.app.got, len(p.acks), p.side.m.Due())
	}
}

// What a peer can make us send: who lets a program read its bytes in small pieces has the window
// open again and again, and who sends old packets gets them acknowledged, but each S_ACK costs it
// a packet, or several kB, except for the few repeats in the end.
func TestReopenFlood(t *testing.T) {
	p := newWaiter(t, 1000, 2_000_000)
	p.app.paused, p.app.slowReader = false, 300
	olds := 0
	for range 2000 {
		p.run(50 * ms)
		p.side.m.Receive(p.w.now, p.old())
		olds++
	}
	if p.data < 400 {
		t.Fatalf("%d packets came", p.data)
	}
	busy := len(p.acks)
	p.left = 0
	p.app.slowReader = 0
	p.run(10 * time.Minute)
	t.Logf("%d S_ACK for %d packets and %d old ones, and %d after that", busy, p.data, olds, len(p.acks)-busy)
	if most := p.data + olds; busy > most || len(p.acks)-busy > reopenTries+2 {
		t.Errorf("%d S_ACK for %d packets, and %d after that", busy, most, len(p.acks)-busy)
	}
}
