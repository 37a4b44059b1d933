package stream

import (
	"io"
	"runtime"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// plain is a peer that follows the draft and knows nothing of our ways: it acknowledges
// each packet alone and once, sends one packet at a time, and closes without flags.
type plain struct {
	t      *testing.T
	link   wire.Link
	first  uint32 // of ours
	next   uint32 // that we want
	got    []byte
	early  map[uint32][]byte
	closed bool // we were told
	send   []byte
	seq    uint32 // of the packet that is out
	out    []byte // the packet that is out; nil: none
	ended  bool   // our S_CLOSE is acknowledged
}

func (p *plain) open() []byte {
	return wire.OpenMsg{Link: p.link, Window: 60, ISN: p.first}.Append([]byte{byte(wire.SOpen)})
}

// receive takes a message and returns the answers.
func (p *plain) receive(msg []byte) (out [][]byte) {
	ack := func(n uint32) {
		out = append(out, wire.AckMsg{Link: p.link, Window: 60, Acks: wire.Acks{}.AppendAck(n, 1)}.Append([]byte{byte(wire.SAck)}))
	}
	switch b := msg[1:]; wire.Type(msg[0]) {
	case wire.SOpen:
		o, _ := wire.ParseOpen(b)
		if p.next == 0 {
			p.next = o.ISN + 1
		}
		ack(o.ISN)
	case wire.SData:
		d, _ := wire.ParseData(b)
		p.early[d.Seq] = append([]byte{}, d.Payload...)
		ack(d.Seq)
	case wire.SClose:
		c, _ := wire.ParseClose(b)
		if c.Flags != 0 || c.Reason != wire.CloseNormal {
			p.t.Errorf("got %+v", c)
		}
		p.early[c.Seq] = nil
		ack(c.Seq)
	case wire.SAck:
		a, _ := wire.ParseAck(b)
		for i := range a.Acks.Len() {
			first, n := a.Acks.At(i)
			if p.out != nil && p.seq-first < uint32(n) {
				p.ended = wire.Type(p.out[0]) == wire.SClose
				p.out = nil
			}
		}
	default:
		p.t.Errorf("got %v", wire.Type(msg[0]))
	}
	for {
		b, ok := p.early[p.next]
		if !ok {
			return out
		}
		delete(p.early, p.next)
		p.closed = p.closed || b == nil
		p.got = append(p.got, b...)
		p.next++
	}
}

// produce returns the packet to be sent, which may have been sent before.
func (p *plain) produce() []byte {
	switch {
	case p.out != nil || p.ended:
	case len(p.send) > 0:
		n := min(1000, len(p.send))
		p.seq++
		p.out = wire.DataMsg{Link: p.link, Seq: p.seq, Payload: p.send[:n]}.Append([]byte{byte(wire.SData)})
		p.send = p.send[n:]
	default:
		p.seq++
		p.out = wire.CloseMsg{Link: p.link, ISN: p.first, Seq: p.seq}.Append([]byte{byte(wire.SClose)})
	}
	return p.out
}

// A peer that follows the draft opens, data flows both ways with losses, and both close.
func TestPeerOfTheDraft(t *testing.T) {
	w := newWorld(t, 4, line{})
	s := w.sides[0]
	s.m.SetPeer(Capabilities{})
	const size = 300000
	s.serve = func(*Stream) *app { return &app{salt: 1, wants: 2, write: size, half: true} }
	p := &plain{t: t, link: wire.Link{ID: 7, Port: 80}, first: 0xffffff00, seq: 0xffffff00, early: make(map[uint32][]byte)}
	for i := range size {
		p.send = append(p.send, pattern(2, i))
	}
	for tick := 0; tick < 30000 && !(p.ended && p.closed && s.m.Len() == 0); tick++ {
		w.now += 10 * ms
		to := [][]byte{}
		if p.next == 0 && tick%50 == 0 {
			to = append(to, p.open())
		}
		s.events()
		for _, a := range s.apps {
			a.run(w)
		}
		for more := true; more; {
			more = s.m.Send(w.now, &s.batch)
			for _, t := range s.batch.Trains {
				for b := t.Buf; len(b) > 0; b = b[min(t.Size, len(b)):] {
					if w.rand.Float64() > 0.05 {
						to = append(to, p.receive(b[:min(t.Size, len(b))])...)
					}
				}
			}
			s.batch.Reset()
		}
		if b := p.produce(); p.next != 0 && b != nil {
			to = append(to, b)
		}
		for _, msg := range to {
			if w.rand.Float64() > 0.05 {
				s.m.Receive(w.now, msg)
			}
		}
	}
	if a := s.apps[0]; a.got != size || !a.eof || len(p.got) != size || !p.ended || !p.closed || s.m.Len() != 0 {
		t.Fatalf("got %d and %d bytes, ends %v, %v, %v, %d streams", a.got, len(p.got), a.eof, p.ended, p.closed, s.m.Len())
	}
	for i, x := range p.got {
		if x != pattern(1, i) {
			t.Fatalf("byte %d is %x", i, x)
		}
	}
}

// A peer accepts under a link ID of its own, and its S_OPEN is lost: data and S_CLOSE that come
// before it are not answered, since the peer would never repeat an S_CLOSE that was
// acknowledged, nor go on with a stream that was denied.
func TestBeforeTheAnswer(t *testing.T) {
	w := newWorld(t, 1, line{})
	m := w.sides[0].m
	s, err := m.Open(w.now, 80, 0)
	if err != nil {
		t.Fatal(err)
	}
	send := func() (sent []wire.Type) {
		var b Batch
		m.Send(w.now, &b)
		for _, train := range b.Trains {
			sent = append(sent, wire.Type(train.Buf[0]))
		}
		return sent
	}
	send() // the S_OPEN
	own, _ := s.Ports()
	l := wire.Link{ID: 9, Port: own}
	data := wire.DataMsg{Link: l, Seq: 101, Payload: []byte("data")}.Append([]byte{byte(wire.SData)})
	end := wire.CloseMsg{Link: l, ISN: 100, Seq: 102}.Append([]byte{byte(wire.SClose)})
	m.Receive(w.now, data)
	m.Receive(w.now, end)
	if sent := send(); len(sent) != 0 {
		t.Errorf("before the S_OPEN, data and S_CLOSE are answered by %v", sent)
	}
	m.Receive(w.now, wire.OpenMsg{Link: l, Window: 60, ISN: 100}.Append([]byte{byte(wire.SOpen)}))
	m.Receive(w.now, data)
	m.Receive(w.now, end)
	b := make([]byte, 10)
	if n, err := s.Read(w.now, b); string(b[:n]) != "data" || err != nil {
		t.Errorf("read %q, %v", b[:n], err)
	}
	if n, err := s.Read(w.now, b); n != 0 || err != io.EOF {
		t.Errorf("instead of the end: %q, %v", b[:n], err)
	}
}

// A flood of S_OPEN takes no more than its share, and leaves streams that exist alone.
func TestOpenFlood(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	m := w.sides[1].m
	w.sides[0].ports = nil
	a.write = 1 << 20
	for i := range 5000 {
		m.Receive(w.now, wire.OpenMsg{Link: wire.Link{ID: uint16(i), Port: uint16(80 + i%2)}, Window: 1, ISN: w.rand.Uint32()}.Append([]byte{byte(wire.SOpen)}))
		if i%100 == 0 {
			w.run(ms, nil)
			check(t, m)
		}
	}
	if m.Counters().Waiting < 2000 || m.Counters().Refused < 2400 || m.half != m.config.HalfOpen {
		t.Errorf("half open %d, %+v", m.half, m.Counters())
	}
	w.run(5*time.Second, func() bool { return b.got == 1<<20 })
	w.run(time.Minute, nil)
	if m.half != 0 || m.waiting != 0 || w.sides[1].held != 0 {
		t.Errorf("half open %d, waiting %d, held %d", m.half, m.waiting, w.sides[1].held)
	}
}

// A peer that acknowledges what was not sent, and shrinks its window to 0 and back, holds up no other
// stream, and its own goes on.
func TestForgedAcks(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms})
	a, b := w.open()
	c, d := w.open()
	a.write, c.write = 1<<20, 1<<20
	m := w.sides[0].m
	for i := range 2000 {
		if a.s.phase != open {
			break
		}
		next := uint32(a.s.send.sent.next)
		for _, acks := range []wire.Acks{wire.Acks{}.AppendAck(next+uint32(i%50), 255), wire.Acks{}.AppendAck(next+1<<31, 255), wire.Acks{}.AppendAck(next, 0)} {
			window := uint16(i%2) * 64
			m.Receive(w.now, wire.AckMsg{Link: wire.Link{ID: a.s.key.peer(), Port: a.s.key.own()}, Window: window, Acks: acks}.Append([]byte{byte(wire.SAck)}))
		}
		w.run(ms, nil)
		check(t, m)
	}
	w.run(time.Minute, func() bool { return b.got == 1<<20 && d.got == 1<<20 })
	if b.got != 1<<20 || d.got != 1<<20 {
		t.Errorf("got %d and %d bytes", b.got, d.got)
	}
}

// An S_OPEN that nobody sent has both sides answer each other, since both listen on the
// ports: that ends, with one stream.
func TestAnswerTakenForOpen(t *testing.T) {
	w := newWorld(t, 1, line{delay: 10 * ms, loss: 0.1})
	var apps []*app
	for i, s := range w.sides {
		s.serve = func(*Stream) *app {
			a := &app{salt: byte(1 + i), wants: byte(2 - i), write: 5000, half: true}
			apps = append(apps, a)
			return a
		}
	}
	w.sides[1].m.Receive(w.now, wire.OpenMsg{Link: wire.Link{ID: 80, Port: 80}, Window: 64, ISN: 5}.Append([]byte{byte(wire.SOpen)}))
	w.run(10*time.Second, func() bool { return len(apps) == 2 && apps[0].closed && apps[1].closed })
	if apps[0].got != 5000 || apps[1].got != 5000 {
		t.Errorf("got %d and %d", apps[0].got, apps[1].got)
	}
	w.empty()
}

// The program closes, and the peer neither reads nor closes: the stream ends all the same.
func TestOrphan(t *testing.T) {
	for _, half := range []bool{false, true} {
		w := newWorld(t, 1, line{delay: 10 * ms})
		a, b := w.open()
		b.paused = true
		if half {
			_ = a.s.CloseWrite(w.now)
		} else {
			_, _ = a.s.Write(make([]byte, 1<<20))
			a.write, a.wrote = 1<<20, 1<<20
			w.run(time.Second, nil)
			_, _ = a.s.Write(make([]byte, 200<<10)) // more than the peer's buffer holds
		}
		w.run(time.Minute, nil)
		a.closed = true
		a.s.Close(w.now)
		w.run(5*time.Minute, func() bool { return w.sides[0].m.Len() == 0 })
		_ = b
	}
}

// 10,000 idle streams, with both of their ends, take less than 100 MB.
func TestManyIdle(t *testing.T) {
	w := newWorld(t, 1, line{delay: ms})
	w.sides[1].serve = func(*Stream) *app { return &app{keepOpen: true} }
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 10000
	for w.sides[0].m.Len() < n {
		for range 50 {
			a := w.sides[0].dial(&app{keepOpen: true, wants: 1})
			_, _ = a.s.Write([]byte{pattern(0, 0), pattern(0, 1)})
		}
		w.run(50*ms, nil)
		w.sides[0].apps, w.sides[1].apps = nil, nil // idle from now on
	}
	w.run(time.Second, nil)
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d bytes for each stream with both ends", used/n)
	if used > 100e6 || w.sides[1].m.Len() != n {
		t.Errorf("%d streams take %d bytes", w.sides[1].m.Len(), used)
	}
	runtime.KeepAlive(w)
}
