package stream

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// Numbers wrap in the middle of a transfer, in both directions.
func TestWrap(t *testing.T) {
	for seed := range uint64(3) {
		w := newWorld(t, seed, line{delay: 10 * ms, loss: 0.02, jitter: 3 * ms})
		for _, s := range w.sides {
			s.m.config.Random = func() uint32 { return 0xffffff80 }
		}
		b := &app{salt: 2, wants: 1, write: 1 << 20, half: true}
		w.sides[1].serve = func(*Stream) *app { return b }
		a := w.sides[0].dial(&app{salt: 1, wants: 2, write: 1 << 20, half: true})
		w.run(time.Minute, func() bool { return a.closed && b.closed })
		if a.got != 1<<20 || b.got != 1<<20 {
			t.Errorf("got %d and %d", a.got, b.got)
		}
		w.empty()
	}
}

// Both ends open at once, from ports of origin: that is one stream. Either S_OPEN is lost
// in some of the runs.
func TestOpenAtOnce(t *testing.T) {
	for _, lost := range []int{-1, 0, 1} {
		w := newWorld(t, 1, line{delay: 10 * ms})
		dropped := false
		w.line.drop = func(from int, msg []byte) bool {
			if from == lost && !dropped && wire.Type(msg[0]) == wire.SOpen {
				dropped = true
				return true
			}
			return false
		}
		apps := [2]*app{}
		for i, s := range w.sides {
			s.ports[1000] = Admit // both listen there as well
			a := &app{salt: byte(1 + i), wants: byte(2 - i), write: 100 << 10, half: true, started: w.now}
			x, err := s.m.Open(w.now, 1000, 1000)
			if err != nil {
				t.Fatal(err)
			}
			a.s, x.Owner = x, a
			apps[i] = a
			s.apps = append(s.apps, a)
		}
		w.run(10*time.Second, func() bool { return apps[0].closed && apps[1].closed })
		for i, a := range apps {
			if a.got != 100<<10 || a.err != nil {
				t.Errorf("lost %d: side %d got %d, %v", lost, i, a.got, a.err)
			}
		}
		w.empty()
	}
}

// open makes an open stream, of which neither end does anything unless told.
func (w *world) open() (a, b *app) {
	b = &app{salt: 2, wants: 1, keepOpen: true}
	w.sides[1].serve = func(*Stream) *app { return b }
	a = w.sides[0].dial(&app{salt: 1, wants: 2, keepOpen: true})
	w.run(10*time.Second, func() bool { return b.s != nil })
	return a, b
}

func TestCloseAtOnce(t *testing.T) {
	for _, half := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 10 * ms, loss: 0.1})
		a, b := w.open()
		for _, x := range []*app{a, b} {
			x.write, x.half, x.keepOpen = 10000, half, false
			if !half {
				x.wants = 0
				x.paused = true
			}
		}
		w.run(20*time.Second, func() bool { return a.closed && b.closed })
		if half && (a.got != 10000 || b.got != 10000) {
			t.Errorf("got %d and %d", a.got, b.got)
		}
		w.empty()
	}
}

// The peer closes both directions: what was written before still arrives, and nothing can be
// written any more.
func TestCloseBoth(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	b.paused = true
	a.write = 50000
	w.run(time.Second, func() bool { return a.wrote == 50000 })
	a.closed = true
	a.s.Close(w.now)
	w.run(time.Second, nil)
	if _, err := b.s.Write([]byte("x")); !errors.Is(err, ErrPeerClosed) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v", err)
	}
	b.paused = false
	w.run(time.Second, nil)
	if b.got != 50000 || !b.eof {
		t.Errorf("got %d, end of file %v", b.got, b.eof)
	}
	w.empty()
}

// Toward a peer that does not read a half-close, CloseWrite waits for the peer's S_CLOSE.
func TestHalfCloseHeldBack(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	w.sides[0].m.SetPeer(Capabilities{})
	a, b := w.open()
	_ = a.s.CloseWrite(w.now)
	w.run(5*time.Second, nil)
	if b.eof || w.sides[0].sent[wire.SClose] != 0 {
		t.Fatal("S_CLOSE was sent")
	}
	b.write, b.half, b.keepOpen = 1000, true, false
	w.run(5*time.Second, func() bool { return a.eof && b.eof })
	if a.got != 1000 {
		t.Errorf("got %d", a.got)
	}
	a.s.Close(w.now)
	w.empty()
}

// A peer that does not read a half-close opened the stream, has all and is silent: it gets
// the S_CLOSE after 2 s, and not while anything moves. What it sent meanwhile arrives.
func TestHalfCloseNotHeldBackForEver(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	w.sides[1].m.SetPeer(Capabilities{})
	a, b := w.open()
	a.paused = true
	b.write, b.half, b.keepOpen = 200_000, true, false
	quiet := func(why string, d time.Duration) {
		t.Helper()
		w.run(d, nil)
		if w.sides[1].sent[wire.SClose] != 0 {
			t.Fatalf("S_CLOSE was sent %s", why)
		}
	}
	quiet("before all arrived", time.Minute)
	if b.wrote < b.write {
		t.Fatal("the program has not ended its direction")
	}
	b.keepOpen = true // it does nothing more about that
	a.paused = false
	w.run(10*time.Second, func() bool { return a.got == b.write })
	for range 5 {
		quiet("while the peer sends", 1800*ms)
		a.write += 100
	}
	b.paused = true
	quiet("while data waits to be read", time.Minute)
	b.paused = false
	quiet("right after that", 1900*ms)
	w.run(300*ms, func() bool { return w.sides[1].sent[wire.SClose] > 0 })
	a.write += 1000 // before it has the S_CLOSE
	a.run(w)
	w.run(time.Second, nil)
	if !a.eof || b.got != a.write {
		t.Errorf("the peer read its end: %v; %d bytes of %d came", a.eof, b.got, a.write)
	}
	a.s.Close(w.now)
	w.run(time.Second, func() bool { return b.eof })
	b.s.Close(w.now)
	w.empty()
}

// A program whose stream ended in both directions resets it: what it wrote arrives all the
// same, and so does its end.
func TestAbortAfterTheEnd(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(t, seed, line{delay: 10 * ms})
		a, b := w.open()
		w.line.loss = 0.3
		b.half, b.keepOpen = true, false
		a.write = 20_000
		w.run(time.Minute, func() bool { return a.eof && a.wrote == a.write })
		_ = a.s.CloseWrite(w.now)
		a.closed = true
		a.s.Abort(w.now)
		w.run(time.Minute, func() bool { return b.eof || b.err != nil })
		if b.got != a.write || b.err != nil {
			t.Errorf("seed %d: got %d, %v", seed, b.got, b.err)
		}
		w.empty()
	}
}

// The peer closes both directions, and hears nothing for a while: our end arrives after that.
func TestSilenceAtTheEnd(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	b.half, b.keepOpen = true, false
	w.line.drop = func(from int, _ []byte) bool { return from == 1 }
	a.closed = true
	a.s.Close(w.now)
	w.run(15*time.Second, nil)
	w.line.drop = nil
	w.run(30*time.Second, nil)
	if !b.closed || !a.s.recv.ended {
		t.Errorf("the peer closed: %v; its end came: %v", b.closed, a.s.recv.ended)
	}
	w.empty()
}

// What the program has not read, or not ended, it can reset.
func TestAbortBeforeTheEnd(t *testing.T) {
	for _, unread := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 10 * ms})
		a, b := w.open()
		a.paused = unread
		b.write, b.half, b.keepOpen = 1000, true, false
		w.run(time.Second, nil)
		if unread {
			_ = a.s.CloseWrite(w.now)
		}
		a.closed = true
		a.s.Abort(w.now)
		w.run(time.Minute, func() bool { return b.err != nil })
		if !errors.Is(b.err, ErrReset) {
			t.Errorf("got %v", b.err)
		}
		w.empty()
	}
}

// Nothing passes for 20 s; afterwards it goes on within some seconds, or at once if the
// path says that it is back.
func TestBlackout(t *testing.T) {
	for _, told := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 20 * ms, rate: 1 << 20, backlog: 100 * ms})
		b := &app{salt: 2, wants: 1, half: true}
		w.sides[1].serve = func(*Stream) *app { return b }
		a := w.sides[0].dial(&app{salt: 1, wants: 2, write: 5 << 20, half: true})
		w.run(time.Second, nil)
		w.line.down = func(time.Duration) bool { return true }
		w.run(20*time.Second, nil)
		w.line.down = nil
		within := 12 * time.Second
		if told {
			w.sides[0].m.Moved(w.now)
			within = 200 * ms
		}
		before := b.got
		w.run(within, func() bool { return b.got > before })
		w.run(15*time.Second, func() bool { return a.closed && b.closed })
		w.empty()
	}
}

// Nothing passes any more: both ends give up, and say why.
func TestSilence(t *testing.T) {
	w := newWorld(t, 1, line{delay: 20 * ms})
	a, b := w.open()
	w.line.down = func(time.Duration) bool { return true }
	a.write = 100000
	b.s.KeepAlive(w.now, time.Minute)
	start := w.now
	w.run(3*time.Minute, func() bool { return a.err != nil && b.err != nil })
	for _, x := range []*app{a, b} {
		if !errors.Is(x.err, ErrTimedOut) || !errors.Is(x.err, syscall.ETIMEDOUT) {
			t.Errorf("got %v", x.err)
		}
	}
	if d := w.now - start; d < giveUp {
		t.Errorf("given up after %v", d)
	}
	w.empty()
}

// Keep-alive is answered, and does not end a stream.
func TestKeepAlive(t *testing.T) {
	w := newWorld(t, 1, line{delay: 20 * ms, loss: 0.2})
	a, b := w.open()
	a.s.KeepAlive(w.now, 10*time.Second)
	w.run(30*time.Minute, nil)
	if a.err != nil || b.err != nil {
		t.Fatal(a.err, b.err)
	}
	if n := w.sides[0].sent[wire.SData]; n < 150 || n > 400 {
		t.Errorf("%d probes", n)
	}
	if w.sides[1].sent[wire.SData] != 0 {
		t.Error("probes of the side that did not ask for them")
	}
}

// An idle stream sends nothing, and keeps no buffers.
func TestIdle(t *testing.T) {
	w := newWorld(t, 1, line{delay: 20 * ms})
	a, b := w.open()
	a.write, b.write = 3<<20, 3<<20
	w.run(time.Minute, func() bool { return a.got == 3<<20 && b.got == 3<<20 })
	w.run(time.Second, nil)
	for i, s := range w.sides {
		if s.m.Due() != 0 || len(w.queue) != 0 {
			t.Errorf("side %d: due %v", i, s.m.Due())
		}
	}
	for _, x := range []*Stream{a.s, b.s} {
		if x.send.queue.list != nil || x.recv.queue.list != nil || len(x.send.sent.ring) > firstRing || x.recv.early != nil {
			t.Error("buffers are kept")
		}
	}
}

// A program that does not read stops the other side by the window; each timeout probes it.
// It goes on when the program reads, even if all that said so was lost.
func TestZeroWindow(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 10 * ms})
		a, b := w.open()
		b.paused = true
		a.write = 1 << 20
		w.run(10*time.Minute, nil)
		if a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		if n := b.s.Buffered(); n > firstCapacity || n < firstCapacity-2000 {
			t.Errorf("%d bytes wait", n)
		}
		sent := w.sides[0].sent[wire.SData]
		w.run(10*time.Minute, nil)
		if n := w.sides[0].sent[wire.SData] - sent; n < 30 || n > 300 {
			t.Errorf("%d probes in 10 min", n)
		}
		if lossy {
			w.line.drop = func(from int, msg []byte) bool { return from == 1 }
		}
		b.paused = false
		w.run(time.Second, nil)
		w.line.drop = nil
		w.run(15*time.Second, func() bool { return b.got == 1<<20 })
	}
}

// A slow reader gets all, in time, and the window does not become silly.
func TestSlowReader(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	b.slowReader = 700
	a.write = 1 << 20
	w.run(10*time.Minute, func() bool { return b.got == 1<<20 })
	if n := w.sides[0].sent[wire.SData]; n > 1<<20/600 {
		t.Errorf("%d packets", n)
	}
}

func TestRefused(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	w.sides[1].ports[80] = Refuse
	a := w.sides[0].dial(&app{keepOpen: true})
	w.run(time.Second, func() bool { return a.err != nil })
	if !errors.Is(a.err, ErrRefused) || !errors.Is(a.err, syscall.ECONNREFUSED) || errors.Is(a.err, ErrReset) {
		t.Errorf("got %v", a.err)
	}
	w.empty()
}

func TestOpenTimesOut(t *testing.T) {
	w := newWorld(t, 1, line{loss: 1})
	a := w.sides[0].dial(&app{keepOpen: true})
	w.run(time.Minute, func() bool { return a.err != nil })
	if !errors.Is(a.err, ErrTimedOut) {
		t.Errorf("got %v", a.err)
	}
	if n := w.sides[0].sent[wire.SOpen]; n < 4 || n > 7 {
		t.Errorf("%d S_OPEN", n)
	}
	w.empty()
}

func TestUnreachable(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	c := w.sides[0].dial(&app{keepOpen: true})
	w.sides[0].m.Unreachable(w.now)
	c.run(w)
	if !errors.Is(c.err, ErrUnreachable) || !errors.Is(c.err, syscall.EHOSTUNREACH) {
		t.Errorf("got %v", c.err)
	}
	a.write = 1000
	w.run(time.Second, func() bool { return b.got == 1000 })
}

func TestAbort(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms, loss: 0.3})
	a, b := w.open()
	a.closed = true
	a.s.Abort(w.now)
	w.run(20*time.Second, func() bool { return b.err != nil })
	if !errors.Is(b.err, ErrReset) || !errors.Is(b.err, syscall.ECONNRESET) {
		t.Errorf("got %v", b.err)
	}
	w.empty()
}

// The peer restarts, and knows nothing of the stream: data is answered by a reset.
func TestRestart(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, _ := w.open()
	s := w.sides[1]
	s.m, s.apps = NewMachine(Config{Random: w.rand.Uint32}, s), nil
	a.write = 1000
	w.run(time.Second, func() bool { return a.err != nil })
	if !errors.Is(a.err, ErrReset) {
		t.Errorf("got %v", a.err)
	}
}

// A peer that restarted opens with the same link ID: the stream of before ends, but only
// after it was silent for a while.
func TestOpenAgain(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	_, b := w.open()
	own, port := w.sides[0].apps[0].s.Ports()
	open := wire.OpenMsg{Link: wire.Link{ID: own, Port: port}, ISN: 77, Window: 64}.Append([]byte{byte(wire.SOpen)})
	m := w.sides[1].m
	m.Receive(w.now, open)
	if b.s.Err() != nil || m.Len() != 1 || m.Counters().Strange != 1 {
		t.Errorf("got %v, %d streams, %+v", b.s.Err(), m.Len(), m.Counters())
	}
	m.Receive(w.now+silentFor+ms, open)
	if !errors.Is(b.s.Err(), ErrReset) || m.Len() != 1 || m.half != 1 {
		t.Errorf("got %v, %d streams, %d half open", b.s.Err(), m.Len(), m.half)
	}
}

// The path changes its length: what is on the way keeps its own.
func TestPathLength(t *testing.T) {
	w := newWorld(t, 1, line{delay: 20 * ms, loss: 0.02, rate: 2 << 20, backlog: 50 * ms})
	b := &app{salt: 2, wants: 1, half: true}
	w.sides[1].serve = func(*Stream) *app { return b }
	a := w.sides[0].dial(&app{salt: 1, wants: 2, write: 4 << 20, half: true})
	for _, most := range []int{1400, 600, 8900, 128, 1232} {
		w.sides[0].m.SetMost(most)
		w.sides[1].m.SetMost(most)
		w.run(300*ms, nil)
	}
	w.run(30*time.Second, func() bool { return a.closed && b.closed })
	if b.got != 4<<20 {
		t.Errorf("got %d", b.got)
	}
	w.empty()
}

// Data leaves as trains of 40 messages.
func TestTrains(t *testing.T) {
	w, _, _ := exchange(t, 1, line{delay: 5 * ms}, 8<<20, 0, time.Minute)
	s := w.sides[0]
	if n := s.sent[wire.SData]; s.longest != maxSegments || s.trains > n/15 {
		t.Errorf("%d messages in %d trains, the longest of %d", n, s.trains, s.longest)
	}
	if acks, data := w.sides[1].sent[wire.SAck], s.sent[wire.SData]; acks > data/2+50 {
		t.Errorf("%d S_ACK for %d S_DATA", acks, data)
	}
}

// Without S_DACK all goes by S_DATA and S_ACK; with it, acknowledgements ride on data.
func TestDAck(t *testing.T) {
	for _, can := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 10 * ms, loss: 0.01, rate: 4 << 20, backlog: 20 * ms})
		for _, s := range w.sides {
			s.m.SetPeer(Capabilities{DAck: can, HalfClose: true})
		}
		b := &app{salt: 2, wants: 1, write: 2 << 20, half: true}
		w.sides[1].serve = func(*Stream) *app { return b }
		a := w.sides[0].dial(&app{salt: 1, wants: 2, write: 2 << 20, half: true})
		w.run(20*time.Second, func() bool { return a.closed && b.closed })
		if n := w.sides[0].sent[wire.SDAck]; can != (n > 10) {
			t.Errorf("%v: %d S_DACK", can, n)
		}
		w.empty()
	}
}

// Of an S_DACK of a peer that may mean it in the draft's letter, only the acknowledgements count.
func TestDAckOfTheDraft(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	w.sides[1].m.SetPeer(Capabilities{})
	w.line.down = func(time.Duration) bool { return true }
	_, _ = b.s.Write([]byte("data"))
	w.run(20*ms, nil)
	if b.s.send.sent.unacked != 4 {
		t.Fatal("not sent")
	}
	own, peer := a.s.Ports()
	w.sides[1].m.Receive(w.now, wire.DAckMsg{Link: wire.Link{ID: own, Port: peer}, Window: 64,
		Acks: wire.Acks{}.AppendAck(uint32(b.s.send.first+1), 1), Seq: uint32(b.s.recv.next), Payload: []byte("payload")}.Append([]byte{byte(wire.SDAck)}))
	if b.s.send.sent.unacked != 0 || b.s.Buffered() != 0 {
		t.Errorf("%d not acknowledged, %d received", b.s.send.sent.unacked, b.s.Buffered())
	}
}

// All acknowledgements of a long flight are lost, and the packets were received in
// sequence: what is sent again is acknowledged again, however far back it lies.
func TestAcksLost(t *testing.T) {
	w := newWorld(t, 1, line{delay: 50 * ms})
	a, b := w.open()
	a.write = 16 << 20
	w.run(time.Minute, func() bool { return b.got > 6<<20 })
	w.line.drop = func(from int, msg []byte) bool { return from == 1 }
	w.run(time.Second, nil)
	if n := a.s.send.sent.next - a.s.send.sent.base; n < 3000 {
		t.Fatalf("a flight of %d packets", n)
	}
	w.line.drop = nil
	w.run(10*time.Second, func() bool { return b.got == 16<<20 && a.s.send.sent.empty() })
}
