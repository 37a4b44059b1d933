package stream

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// FuzzBothEnds plays programs at both ends of some streams over a bad line, as a seed and a
// list of events has it, and checks that what arrives is exactly what was sent, that it all
// arrives once the line is good, and that nothing is left in the end.
func FuzzBothEnds(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add(uint64(2), []byte("many streams, opened and closed"))
	f.Add(uint64(3), []byte{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200})
	f.Fuzz(func(t *testing.T, seed uint64, script []byte) {
		if len(script) > 100 {
			return
		}
		playBothEnds(t, seed, script)
	})
}

func playBothEnds(t *testing.T, seed uint64, script []byte) {
	r := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(t, seed, line{delay: time.Duration(r.IntN(100)) * ms, loss: r.Float64() * 0.3,
		twice: r.Float64() * 0.3, jitter: time.Duration(r.IntN(100)) * ms})
	if r.IntN(4) == 0 {
		w.line.delay = 2 * time.Second
	}
	for _, s := range w.sides {
		s.m.config.Random = func() uint32 { return -uint32(w.rand.IntN(300)) }
		s.m.SetPeer(Capabilities{DAck: r.IntN(2) == 0, HalfClose: true})
		s.serve = func(x *Stream) *app {
			own, peer := x.Ports()
			return &app{salt: byte(own), wants: byte(peer), write: w.rand.IntN(60000), half: true}
		}
	}
	// Both ends read S_DACK alike, or neither does.
	w.sides[0].m.peer.DAck = w.sides[1].m.peer.DAck
	for _, b := range script {
		w.event(int(b))
		w.run(time.Duration(b)*4*ms, nil)
	}
	w.line = line{delay: 10 * ms}
	for _, s := range w.sides {
		s.m.Moved(w.now)
		for _, a := range s.apps {
			a.paused, a.slowReader = false, 0
		}
	}
	w.run(10*time.Minute, w.settled)
	w.compare()
	w.empty()
}

// event is something that programs, or the path, do.
func (w *world) event(b int) {
	s := w.sides[b&1]
	pick := func() *app {
		if len(s.apps) == 0 {
			return &app{err: ErrClosed}
		}
		return s.apps[b%len(s.apps)]
	}
	switch b / 2 % 10 {
	case 0, 1, 2:
		a := s.dial(&app{write: w.rand.IntN(100000), half: true})
		own, peer := a.s.Ports()
		a.salt, a.wants = byte(own), byte(peer)
	case 3:
		pick().paused = true
	case 4:
		pick().paused = false
	case 5:
		pick().slowReader = 1 + b*3
	case 6:
		s.m.SetMost(200 + b*20)
	case 7:
		s.m.Moved(w.now)
	case 8:
		w.line.loss = float64(b%4) * 0.1
	case 9:
		if a := pick(); b%3 == 0 && a.s != nil {
			a.closed = true
			a.s.Abort(w.now)
		}
	}
}

// settled reports whether all programs have ended.
func (w *world) settled() bool {
	for _, s := range w.sides {
		for _, a := range s.apps {
			if !a.closed && a.err == nil && a.wErr == nil {
				return false
			}
		}
	}
	return true
}

// compare checks the two ends of each stream against each other.
func (w *world) compare() {
	ends := make(map[key][]*app)
	for i, s := range w.sides {
		for _, a := range s.apps {
			own, peer := a.s.Ports()
			if i == 1 {
				own, peer = peer, own
			}
			ends[keyOf(own, peer)] = append(ends[keyOf(own, peer)], a)
		}
	}
	for k, pair := range ends {
		if len(pair) != 2 {
			continue // aborted or given up before it was opened, or a link ID came twice
		}
		a, b := pair[0], pair[1]
		whole := a.eof && b.eof
		if whole && (a.got != b.wrote || b.got != a.wrote) || a.got > b.wrote || b.got > a.wrote {
			w.t.Errorf("%v: %d of %d and %d of %d, ends %v, %v", k, a.got, b.wrote, b.got, a.wrote, a.eof, b.eof)
		}
	}
}

func TestBothEnds(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 6))
		script := make([]byte, r.IntN(40))
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		t.Logf("seed %d", seed)
		playBothEnds(t, seed, script)
		if t.Failed() {
			return
		}
	}
}

// FuzzHostile has a peer send anything: the machine stays within its bounds, time goes on,
// and a stream of another machine is not touched.
func FuzzHostile(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Add([]byte("acknowledges what was never sent, closes twice, and shrinks its window to nothing"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 400 {
			return
		}
		playHostile(t, in)
	})
}

func playHostile(t *testing.T, in []byte) {
	w := newWorld(t, 1, line{delay: ms})
	w.sides[1].serve = func(*Stream) *app { return &app{write: 5000, half: true} }
	a := w.sides[0].dial(&app{write: 20000, keepOpen: true})
	w.run(20*ms, nil)
	s := w.sides[0]
	s.serve = func(*Stream) *app { return &app{write: 3000, half: true, salt: 9} }
	own, peer := a.s.Ports()
	w.line.drop = func(from int, msg []byte) bool { return true }
	for len(in) >= 8 {
		msg := hostile(a.s, wire.Link{ID: peer, Port: own}, in)
		s.m.Receive(w.now, msg)
		s.m.Receive(w.now, in)
		s.events()
		for range 3 {
			s.flush()
			w.now += time.Duration(in[7]) * time.Duration(in[7]) * ms / 4
		}
		in = in[8:]
		check(t, s.m)
	}
	w.now += 20 * time.Minute
	for range 20 { // all timers run off
		s.flush()
		w.now += time.Minute
		check(t, s.m)
	}
}

// hostile makes a message that nearly fits the stream.
func hostile(s *Stream, l wire.Link, in []byte) []byte {
	if in[1]&7 == 7 {
		l.ID += uint16(in[2])
	}
	if in[1]&0x38 == 0x38 {
		l.Port = 80
	}
	low := binary.BigEndian.Uint16(in[2:])
	window := uint16(in[4]) << (in[5] & 8)
	ours := uint32(s.send.sent.base) + uint32(low)&0x1f - 8
	theirs := uint32(s.recv.next) + uint32(low)&0x1f - 8
	if in[0]&0x80 != 0 {
		ours, theirs = ours+uint32(low)<<16, theirs+uint32(low)<<16
	}
	data := in[6 : 7+int(in[6])%(len(in)-6)]
	acks := wire.Acks{}.AppendAck(ours, in[5]).AppendAck(uint32(low), in[6])
	switch t := in[0] % 6; t {
	case 0:
		return wire.OpenMsg{Link: l, Window: window, ISN: theirs, Flags: in[6]}.Append([]byte{byte(wire.SOpen)})
	case 1:
		isn := uint32(s.recv.first)
		if in[5]&1 == 0 {
			isn = theirs
		}
		return wire.CloseMsg{Link: l, Flags: in[6] & 1, Reason: wire.CloseReason(in[4] % 5), ISN: isn, Seq: theirs}.Append([]byte{byte(wire.SClose)})
	case 2:
		return wire.DataMsg{Link: l, Seq: theirs, Payload: data}.Append([]byte{byte(wire.SData)})
	case 3:
		return wire.AckMsg{Link: l, Window: window, Acks: acks}.Append([]byte{byte(wire.SAck)})
	case 4:
		return wire.DAckMsg{Link: l, Window: window, Acks: acks, Seq: theirs, Payload: data}.Append([]byte{byte(wire.SDAck)})
	}
	return wire.CloseMsg{Link: l, Reason: wire.CloseReason(1 + in[4]%3), ISN: ours, Seq: ours}.Append([]byte{byte(wire.SClose)})
}

// check checks a machine's bounds, and what its streams count.
func check(t testing.TB, m *Machine) {
	t.Helper()
	if m.half < 0 || m.half > m.config.HalfOpen || m.waiting < 0 || m.waiting > m.config.Waiting || m.memory < 0 || len(m.waits) > maxControl {
		t.Fatalf("half %d, waiting %d, memory %d, %d messages wait", m.half, m.waiting, m.memory, len(m.waits))
	}
	for k, s := range m.streams {
		if s.key != k || s.phase == gone {
			t.Fatalf("%v is under %v, phase %d", s.key, k, s.phase)
		}
		flights, losses, unacked, inFlight := 0, 0, 0, 0
		for n := s.send.sent.base; n < s.send.sent.next; n++ {
			p := s.send.sent.at(n)
			switch p.state {
			case flying:
				flights++
				inFlight += p.cost()
			case lost:
				losses++
			}
			if p.state != arrived {
				unacked += p.cost()
			}
		}
		x := &s.send.sent
		if flights != x.flights || losses != x.losses || unacked != x.unacked || inFlight != x.flying {
			t.Fatalf("%v: counts %+v, found %d, %d, %d, %d", k, x, flights, losses, unacked, inFlight)
		}
		if s.recv.queue.size > s.recv.capacity || s.recv.earlyBytes > s.recv.capacity || len(s.recv.heard) > maxItems {
			t.Fatalf("%v: %d and %d bytes of %d, %d spans", k, s.recv.queue.size, s.recv.earlyBytes, s.recv.capacity, len(s.recv.heard))
		}
		if s.recv.queue.size == 0 && s.recv.queue.list != nil {
			t.Fatalf("%v keeps chunks", k)
		}
	}
}

func TestHostile(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 7))
		in := make([]byte, r.IntN(400))
		for i := range in {
			in[i] = byte(r.Uint32())
		}
		playHostile(t, in)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
