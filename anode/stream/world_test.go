package stream

import (
	"container/heap"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/anode/wire"
)

const ms = time.Millisecond

// world is two machines, the line between them, and the time.
type world struct {
	t     testing.TB
	rand  *rand.Rand
	now   time.Duration
	sides [2]*side
	queue parcels
	order int
	line  line
}

// line is what happens to messages, in both directions.
type line struct {
	loss, twice float64
	delay       time.Duration
	jitter      time.Duration // in addition, drawn for each message: reordering
	rate        int           // bytes a second; 0: unlimited
	backlog     time.Duration // of the queue in front of the rate
	down        func(now time.Duration) bool
	drop        func(from int, msg []byte) bool
}

// parcel is a message under way.
type parcel struct {
	at    time.Duration
	order int
	to    *side
	msg   []byte
}

type parcels []parcel

func (q parcels) Len() int { return len(q) }
func (q parcels) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q parcels) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *parcels) Push(x any)   { *q = append(*q, x.(parcel)) }
func (q *parcels) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}

// side is one machine and its programs.
type side struct {
	w       *world
	index   int
	m       *Machine
	ports   map[uint16]Admission
	held    int // places in backlogs
	batch   Batch
	busy    time.Duration // until when the line's rate is used up
	sent    map[wire.Type]int
	trains  int
	longest int // messages in a train
	apps    []*app
	serve   func(s *Stream) *app // makes a program for an incoming stream
}

func (s *side) Reserve(port uint16) Admission {
	if s.ports[port] == Admit {
		s.held++
	}
	return s.ports[port]
}
func (s *side) Release(uint16)           { s.held-- }
func (s *side) Listens(port uint16) bool { return s.ports[port] != Refuse }

func newWorld(t testing.TB, seed uint64, l line) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 11)), now: time.Second, line: l}
	for i := range w.sides {
		s := &side{w: w, index: i, ports: map[uint16]Admission{80: Admit}, sent: make(map[wire.Type]int)}
		s.m = NewMachine(Config{Random: w.rand.Uint32}, s)
		s.m.SetPeer(Capabilities{DAck: true, HalfClose: true})
		w.sides[i] = s
	}
	return w
}

// app is the program at one end of a stream: it writes so many bytes of the pattern, closes
// its direction, and checks what it reads.
type app struct {
	s          *Stream
	salt       byte // of the pattern that it writes
	wants      byte // of the pattern that it reads
	write      int
	wrote      int
	half       bool // closes its direction when all is written, and both when all is read
	keepOpen   bool
	paused     bool // does not read
	closed     bool
	got        int
	eof        bool
	err        error
	wErr       error
	started    time.Duration
	done       time.Duration // when it read the end of file
	slowReader int           // bytes at most each time; 0: all
}

func pattern(salt byte, at int) byte {
	return salt ^ byte(at) ^ byte(at>>8)*31 ^ byte(at>>16)*17
}

var buffer [32 << 10]byte

// run lets the program do what it can.
func (a *app) run(w *world) {
	if a.err != nil {
		return
	}
	for a.wrote < a.write && a.wErr == nil {
		b := buffer[:min(len(buffer), a.write-a.wrote, a.s.space()+1)]
		for i := range b {
			b[i] = pattern(a.salt, a.wrote+i)
		}
		n, err := a.s.Write(b)
		a.wrote += n
		a.wErr = err
		if n < len(b) {
			break
		}
	}
	a.readAll(w)
	switch {
	case a.closed || a.wErr != nil || a.keepOpen || a.wrote < a.write:
	case a.half && !a.eof:
		_ = a.s.CloseWrite(w.now)
	case a.eof || a.wants == 0:
		a.closed = true
		a.s.Close(w.now)
	}
}

func (a *app) readAll(w *world) {
	for !a.paused && !a.eof && !a.closed {
		b := buffer[:]
		if a.slowReader > 0 {
			b = b[:a.slowReader]
		}
		n, err := a.s.Read(w.now, b)
		for i, x := range b[:n] {
			if want := pattern(a.wants, a.got+i); x != want {
				w.t.Fatalf("%v: %+v: byte %d is %x, want %x", w.now, a.s.key, a.got+i, x, want)
			}
		}
		a.got += n
		switch {
		case errors.Is(err, io.EOF):
			a.eof, a.done = true, w.now
		case err != nil:
			a.err = err
			return
		case n == 0 || a.slowReader > 0:
			return
		}
	}
}

// dial opens a stream from a side to port 80 of the other.
func (s *side) dial(a *app) *app {
	x, err := s.m.Open(s.w.now, 80, 0)
	if err != nil {
		s.w.t.Fatal(err)
	}
	a.s, x.Owner, a.started = x, a, s.w.now
	s.apps = append(s.apps, a)
	return a
}

// events gives incoming streams to programs.
func (s *side) events() {
	s.m.Events(func(x *Stream) {
		if !x.Fresh() {
			return
		}
		s.m.Accepted()
		s.held--
		a := s.serve(x)
		a.s, x.Owner, a.started = x, a, s.w.now
		s.apps = append(s.apps, a)
	})
}

// flush sends what is to be sent.
func (s *side) flush() {
	for more := true; more; {
		more = s.m.Send(s.w.now, &s.batch)
		for _, t := range s.batch.Trains {
			s.trains++
			s.longest = max(s.longest, (len(t.Buf)+t.Size-1)/t.Size)
			for b := t.Buf; len(b) > 0; {
				n := min(t.Size, len(b))
				s.transmit(b[:n])
				b = b[n:]
			}
		}
		s.batch.Reset()
	}
}

func (s *side) transmit(msg []byte) {
	w, l := s.w, &s.w.line
	s.sent[wire.Type(msg[0])]++
	if l.drop != nil && l.drop(s.index, msg) || l.down != nil && l.down(w.now) || w.rand.Float64() < l.loss {
		return
	}
	at := w.now
	if l.rate > 0 {
		s.busy = max(s.busy, w.now)
		if s.busy-w.now > l.backlog {
			return
		}
		s.busy += time.Duration(len(msg)+60) * time.Second / time.Duration(l.rate)
		at = s.busy
	}
	copies := 1
	if w.rand.Float64() < l.twice {
		copies = 2
	}
	for range copies {
		late := time.Duration(0)
		if l.jitter > 0 {
			late = time.Duration(w.rand.Int64N(int64(l.jitter)))
		}
		w.order++
		heap.Push(&w.queue, parcel{at + l.delay + late, w.order, w.sides[1-s.index], append([]byte(nil), msg...)})
	}
}

// run goes on until done returns true, and fails after so much virtual time.
func (w *world) run(limit time.Duration, done func() bool) {
	w.t.Helper()
	end := w.now + limit
	for still := 0; ; {
		for _, s := range w.sides {
			s.events()
			for _, a := range s.apps {
				a.run(w)
			}
			s.flush()
		}
		if done != nil && done() {
			return
		}
		next := time.Duration(0)
		if len(w.queue) > 0 {
			next = w.queue[0].at
		}
		for _, s := range w.sides {
			next = sooner(next, s.m.Due())
			if len(s.m.events) > 0 {
				next = w.now
			}
			for _, a := range s.apps {
				if a.slowReader > 0 && a.s.Buffered() > 0 {
					next = sooner(next, w.now+ms)
				}
			}
		}
		if next == 0 || next > end {
			if done != nil {
				w.t.Fatalf("%v: not done after %v, next is %v", w.now, limit, next)
			}
			w.now = end
			return
		}
		if still++; next > w.now {
			still = 0
		} else if still > 1_000_000 {
			w.t.Fatalf("%v: time stands still", w.now)
		}
		w.now = max(w.now, next)
		for len(w.queue) > 0 && w.queue[0].at <= w.now {
			p := heap.Pop(&w.queue).(parcel)
			p.to.m.Receive(w.now, p.msg)
		}
	}
}

// empty checks that nothing is left of any stream.
func (w *world) empty() {
	w.t.Helper()
	w.run(10*time.Minute, func() bool { return w.sides[0].m.Len()+w.sides[1].m.Len() == 0 })
	for _, s := range w.sides {
		m := s.m
		if m.half != 0 || m.waiting != 0 || m.memory != 0 || len(m.ids) != 0 || len(m.opening) != 0 || len(m.timers) != 0 || s.held != 0 {
			w.t.Errorf("side %d keeps: half %d, waiting %d, memory %d, ids %d, opening %d, timers %d, held %d",
				s.index, m.half, m.waiting, m.memory, len(m.ids), len(m.opening), len(m.timers), s.held)
		}
	}
}
