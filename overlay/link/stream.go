package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Of what waits to be written to a connection, no more than this in bytes and time: more
	// would only delay, since programs send again what is late.
	maxQueued = 256 << 10
	maxDelay  = 100 * time.Millisecond
	// allQueued is how much waits in all connections before each may have poorQueued only.
	allQueued  = 64 << 20
	poorQueued = 8 << 10
	// patience is how long room is waited for: what a fast network needs for a queue.
	patience = 5 * time.Millisecond

	smallBuffer = 4 << 10   // of a connection on which nothing much comes, and all that a guest may use
	largeBuffer = 128 << 10 // of one that is busy
	dialFor     = 5 * time.Second
	proveFor    = 10 * time.Second // for a guest to prove who it is
	frameFor    = 15 * time.Second // for a frame to come in full, and for a write
	idleFor     = 10 * time.Minute
	slowest     = 4 << 10 // bytes that the other side has to take in frameFor
)

// stream is one TCP connection, to or from an endpoint.
//
//	dial  ----.                        .--> ended: the Mux forgets it
//	          +--> open, guest --> open -'
//	accept ---'          keep
//
// One that we opened is nobody's guest.
type stream struct {
	m     *Mux
	ep    Endpoint // its Place
	guest *guest   // nil: nobody's
	kept  atomic.Bool
	wake  chan struct{} // takes one: something waits
	room  chan struct{} // takes one: the writer took what waited
	proof chan struct{} // closed when a guest has proved who it is
	done  chan struct{} // closed when it ended
	crowd

	mu      sync.Mutex
	conn    net.Conn  // nil: not open yet
	raw     *rawWrite // nil: it cannot write without waiting
	ended   bool
	waiting []byte    // frames; nil: none
	writing int       // bytes that the writer has taken, and has to write yet
	written time.Time // when room was last made: the writer took something, or the system
	begun   time.Time // when the oldest of those began to wait
	taken   time.Time // when the writer took them
	oldest  time.Time // the same as begun, of waiting
	speed   speed
}

var (
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	queueBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

func newStream(m *Mux, ep Endpoint, conn net.Conn, g *guest) *stream {
	s := &stream{m: m, ep: ep, conn: conn, guest: g, wake: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{})}
	if g != nil {
		s.proof = make(chan struct{})
	}
	if conn != nil {
		s.raw = newRawWrite(conn)
	}
	return s
}

// dial opens a connection, and returns before it is open. What is queued meanwhile is sent then.
func (m *Mux) dial(ep Endpoint) *stream {
	s := newStream(m, ep, nil, nil)
	s.kept.Store(true)
	m.running.Go(func() {
		defer m.remove(ep, s)
		ctx, cancel := context.WithTimeout(m.ctx, dialFor)
		conn, err := m.reach(ctx, ep.Addr.String())
		cancel()
		if err != nil {
			m.c.dialFailed.Add(1)
			m.cfg.Log.Debug("no connection", "endpoint", ep, "err", err)
			m.wentDial(ep, false)
			m.troubles.set(ep, troubleOf(err))
			s.close()
			return
		}
		m.c.dialled.Add(1)
		m.troubles.set(ep, nil)
		if s.open(conn) {
			m.wentDial(ep, s.run())
		}
	})
	return s
}

// open gives the stream its connection. It returns false if it was closed meanwhile.
func (s *stream) open(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		conn.Close()
		return false
	}
	s.conn, s.raw = conn, newRawWrite(conn)
	return true
}

// ListenTCP takes connections to a port from now on.
func (m *Mux) ListenTCP(port uint16) error {
	l, err := m.cfg.Streams.ListenTCP(port)
	if err != nil {
		return err
	}
	return m.Serve(l)
}

// Serve takes connections from a listener until it is closed, and closes it at the end.
func (m *Mux) Serve(l net.Listener) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		l.Close()
		return ErrClosed
	}
	m.listeners = append(m.listeners, l)
	m.web.start()
	m.running.Go(func() {
		m.accept(l)
		m.mu.Lock()
		defer m.mu.Unlock()
		m.listeners = slices.DeleteFunc(m.listeners, func(x net.Listener) bool { return x == l })
	})
	return nil
}

// accept takes connections until the listener is closed.
func (m *Mux) accept(l net.Listener) {
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			m.welcome(conn)
			continue
		case errors.Is(err, net.ErrClosed) || m.ctx.Err() != nil:
			return
		}
		m.c.acceptFailed.Add(1)
		if noFiles(err) {
			m.places.shed()
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-m.ctx.Done():
		}
	}
}

// welcome gives a connection that came in a place, and has it served.
func (m *Mux) welcome(conn net.Conn) {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		conn.Close()
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	if m.full() {
		m.c.refusedMost.Add(1)
		abort(conn)
		return
	}
	g := m.places.enter(from.Addr(), func() { abort(conn) })
	m.running.Go(func() {
		defer m.places.leave(g)
		m.serve(conn, from, g)
	})
}

// serve reads from a connection that came in, until it ends.
func (m *Mux) serve(conn net.Conn, from netip.AddrPort, g *guest) {
	conn, speaksHTTP := m.sniff(conn)
	switch {
	case conn == nil:
		return
	case speaksHTTP:
		m.places.leave(g)
		m.web.take(conn, from)
		return
	}
	ep, o, ok := m.attach(Endpoint{Addr: from, Kind: TCP}, func(ep Endpoint) outlet { return newStream(m, ep, conn, g) })
	if !ok {
		conn.Close()
		return
	}
	m.c.accepted.Add(1)
	defer m.remove(ep, o)
	o.(*stream).run()
}

// run moves packets until the connection ends, and reports whether any came.
func (s *stream) run() (came bool) {
	var writer sync.WaitGroup
	writer.Go(s.write)
	came = s.read()
	s.close()
	writer.Wait()
	return came
}

// keep implements outlet.
func (s *stream) keep() {
	if s.kept.Swap(true) {
		return
	}
	s.m.places.leave(s.guest)
	close(s.proof)
}

// close implements outlet.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if s.conn != nil {
		s.conn.Close()
	}
	close(s.done)
	s.m.c.dropGone.Add(uint64(frames(s.waiting)))
	s.m.queued.Add(-int64(len(s.waiting)))
	s.waiting = nil
}

// queue implements outlet. Where nothing waits, the packets are written at once.
func (s *stream) queue(t *Train, patient bool) bool {
	now := time.Now()
	s.mu.Lock()
	for need := framed(t); ; now = time.Now() {
		have := len(s.waiting) + s.writing
		full := have > 0 && have+need > s.m.share()
		if full && s.writing == 0 && s.raw != nil && len(s.waiting) > 0 { // the writer is late
			s.writeLate()
			have = len(s.waiting)
			full = have > 0 && have+need > s.m.share()
		}
		switch {
		case s.ended:
			s.mu.Unlock()
			s.m.c.dropGone.Add(uint64(t.Packets()))
			return false
		case s.writing > 0 && now.Sub(s.begun) > maxDelay:
			s.mu.Unlock()
			s.m.c.dropDelay.Add(uint64(t.Packets()))
			return false
		case full && patient && now.Sub(s.written) < patience:
			s.await(patience - now.Sub(s.written))
			continue
		case full:
			s.mu.Unlock()
			s.m.c.dropQueue.Add(uint64(t.Packets()))
			return false
		}
		break
	}
	if s.waiting == nil {
		s.waiting = (*queueBuffers.Get().(*[]byte))[:0]
	}
	if len(s.waiting) == 0 {
		s.oldest = now
		if s.writing == 0 {
			s.written = now
		}
	}
	s.age(now)
	had := len(s.waiting)
	s.waiting = appendFrames(s.waiting, t)
	idle := s.writing == 0
	if idle && s.raw != nil {
		idle = !s.writeNow()
	}
	if n := len(s.waiting) - had; n != 0 {
		s.m.queued.Add(int64(n))
	}
	if idle { // still locked: close closes the channel
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
	return true
}

// share is how many bytes may wait in one connection. They are fewer when very many wait in all.
func (m *Mux) share() int {
	if m.queued.Load() > allQueued {
		return poorQueued
	}
	return maxQueued
}

// await waits until the writer has taken what waits, or for d. The stream is locked before and
// after.
func (s *stream) await(d time.Duration) {
	s.mu.Unlock()
	timer := time.NewTimer(d)
	select {
	case <-s.room:
	case <-timer.C:
	case <-s.m.ctx.Done():
	}
	timer.Stop()
	s.mu.Lock()
}

// writeNow writes what waits as far as the system takes it without waiting, and reports whether
// that was all. The stream is locked.
func (s *stream) writeNow() bool {
	n := s.raw.write(s.waiting, s.speed.ahead())
	if n == len(s.waiting) {
		b := s.waiting
		s.waiting = nil
		queueBuffers.Put(&b)
		return true
	}
	s.waiting = s.waiting[:copy(s.waiting, s.waiting[n:])]
	return false
}

// writeLate writes what waits, in place of the writer, which had no turn yet. The stream is locked.
func (s *stream) writeLate() {
	had := len(s.waiting)
	s.writeNow()
	if len(s.waiting) < had {
		s.m.queued.Add(int64(len(s.waiting) - had))
		s.written = time.Now()
	}
}

// write sends what waits, until the connection ends.
func (s *stream) write() {
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
		for {
			b, ok := s.take()
			if !ok {
				break
			}
			left, err := s.push(b)
			s.m.queued.Add(-int64(left))
			queueBuffers.Put(&b)
			if err != nil {
				s.close()
				return
			}
		}
	}
}

// push writes b, in pieces, and returns how many bytes are left if that fails.
func (s *stream) push(b []byte) (left int, err error) {
	for len(b) > 0 {
		n := min(len(b), s.speed.ready(&s.mu, s.raw, s.done))
		if err := s.pushAll(b[:n]); err != nil {
			return len(b), err
		}
		b = b[n:]
		s.wrote(n)
	}
	return 0, nil
}

// pushAll writes b. The other side has to take some of it again and again, and need not take all in
// one time, since a network may be slow.
func (s *stream) pushAll(b []byte) error {
	for {
		s.conn.SetWriteDeadline(time.Now().Add(frameFor))
		n, err := s.conn.Write(b)
		switch b = b[n:]; {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case n < slowest && len(b) > 0:
			s.m.c.endedSlow.Add(1)
			return err
		}
	}
}

// wrote notes that the writer has written n bytes more of what it took.
func (s *stream) wrote(n int) {
	now := time.Now()
	s.m.queued.Add(-int64(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	// What it took began to wait at times between begun and taken, one as likely as the other.
	s.begun = s.begun.Add(time.Duration(float64(s.taken.Sub(s.begun)) * float64(n) / float64(s.writing)))
	s.writing -= n
	s.written = now
	s.speed.wrote(n, now)
	s.age(now)
	s.hasRoom()
}

// age notes how old the oldest of what waits is; with mu.
func (s *stream) age(now time.Time) {
	switch {
	case s.writing > 0:
		s.aged(now.Sub(s.begun))
	case len(s.waiting) > 0:
		s.aged(now.Sub(s.oldest))
	default:
		s.aged(0)
	}
}

// hasRoom tells who waits for room; with mu.
func (s *stream) hasRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// take returns all that waits.
func (s *stream) take() (b []byte, ok bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasRoom()
	if len(s.waiting) == 0 || s.ended {
		s.writing = 0
		s.speed.rests()
		return nil, false
	}
	b, s.waiting = s.waiting, nil
	s.writing, s.begun, s.taken, s.written = len(b), s.oldest, now, now
	s.speed.works(now)
	return b, true
}

// read hands over what comes, until the connection ends, and reports whether any packets came.
func (s *stream) read() (came bool) {
	r := newReading(true)
	r.began, r.dialled, r.waits = time.Now(), s.guest == nil, true
	r.since = r.began
	for {
		kept := s.kept.Load()
		switch {
		case kept && r.early:
			r.early = false
			if !r.came(s.m, s.ep, 0, true) {
				return r.packets
			}
		case !kept && (r.early || r.bytes >= guestMost):
			if !s.proved(r.began) {
				return r.packets
			}
			continue
		}
		s.conn.SetReadDeadline(r.until(kept))
		n, err := s.conn.Read(r.buf[r.have:])
		if n > 0 && !r.came(s.m, s.ep, n, s.kept.Load()) {
			return r.packets
		}
		switch {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded) && !kept && s.kept.Load():
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.late(kept, &r)
			r.give()
			return r.packets
		default:
			r.give()
			return r.packets
		}
	}
}

// proved waits until a guest that has sent enough has proved who it is. It returns false if it does
// not in time.
func (s *stream) proved(began time.Time) bool {
	timer := time.NewTimer(time.Until(began.Add(proveFor)))
	defer timer.Stop()
	select {
	case <-s.proof:
		return true
	case <-timer.C:
		s.m.c.endedUnproved.Add(1)
	case <-s.done:
	}
	return false
}

// late counts why a connection ended that waited in vain.
func (s *stream) late(kept bool, r *reading) {
	switch {
	case !kept:
		s.m.c.endedUnproved.Add(1)
	case r.have > 0:
		s.m.c.endedSlow.Add(1)
	case !r.packets:
		s.m.c.endedSilent.Add(1)
	}
}
