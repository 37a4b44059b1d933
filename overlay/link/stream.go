package link

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Of what waits to be written to a connection, no more than this in bytes and time: more
	// would only delay, since programs send again what is late.
	maxQueued = 256 << 10
	maxDelay  = 100 * time.Millisecond

	smallBuffer = 4 << 10   // of a connection on which nothing much comes, and all that a guest may use
	largeBuffer = 128 << 10 // of one that is busy
	dialFor     = 5 * time.Second
	proveFor    = 10 * time.Second // for a guest to prove who it is
	frameFor    = 15 * time.Second // for a frame to come in full, and for a write
	idleFor     = 10 * time.Minute
)

// stream is one TCP connection, to or from an endpoint.
//
//	dial  ----.                        .--> ended: the Mux forgets it
//	          +--> open, guest --> open -'
//	accept ---'          keep
//
// One that we opened is nobody's guest.
type stream struct {
	m    *Mux
	ep   Endpoint // its Place
	kept atomic.Bool
	wake chan struct{} // takes one: something waits

	mu      sync.Mutex
	conn    net.Conn // nil: not open yet
	ended   bool
	waiting []byte    // frames; nil: none
	writing int       // bytes that are being written
	begun   time.Time // when the oldest of those began to wait
	oldest  time.Time // the same of waiting
}

var (
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
	queueBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 64<<10); return &b }}
)

func newStream(m *Mux, ep Endpoint, conn net.Conn) *stream {
	return &stream{m: m, ep: ep, conn: conn, wake: make(chan struct{}, 1)}
}

// dial opens a connection, and returns before it is open. What is queued meanwhile is sent then.
func (m *Mux) dial(ep Endpoint) *stream {
	s := newStream(m, ep, nil)
	s.kept.Store(true)
	m.running.Go(func() {
		defer m.remove(ep, s)
		ctx, cancel := context.WithTimeout(m.ctx, dialFor)
		conn, err := m.reach(ctx, ep.Addr.String())
		cancel()
		if err != nil {
			m.c.dialFailed.Add(1)
			m.cfg.Log.Debug("no connection", "endpoint", ep, "err", err)
			m.troubles.set(ep, troubleOf(err))
			s.close()
			return
		}
		m.c.dialled.Add(1)
		m.troubles.set(ep, nil)
		if s.open(conn) {
			s.run(nil)
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
	s.conn = conn
	return true
}

// ListenTCP takes connections to a port from now on.
func (m *Mux) ListenTCP(port uint16) error {
	l, err := m.cfg.Streams.ListenTCP(port)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		l.Close()
		return ErrClosed
	}
	m.listeners = append(m.listeners, l)
	m.web.start()
	m.running.Go(func() { m.accept(l) })
	return nil
}

// accept takes connections until the listener is closed.
func (m *Mux) accept(l net.Listener) {
	for wait := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			m.running.Go(func() { m.serve(conn) })
			continue
		case errors.Is(err, net.ErrClosed) || m.ctx.Err() != nil:
			return
		}
		// No more files, for example: others may be closed meanwhile.
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(wait):
		case <-m.ctx.Done():
		}
	}
}

// serve reads from a connection that came in, until it ends.
func (m *Mux) serve(conn net.Conn) {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		conn.Close()
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	if err := m.enter(from.Addr()); err != nil {
		m.cfg.Log.Debug("connection refused", "from", from, "err", err)
		conn.Close()
		return
	}
	var left sync.Once
	leave := func() { left.Do(func() { m.leave(from.Addr()) }) }
	defer leave()
	conn, speaksHTTP := m.sniff(conn)
	switch {
	case conn == nil:
		return
	case speaksHTTP:
		leave()
		m.web.take(conn, from)
		return
	}
	ep, o, ok := m.attach(Endpoint{Addr: from, Kind: TCP}, func(ep Endpoint) outlet { return newStream(m, ep, conn) })
	if !ok {
		conn.Close()
		return
	}
	m.c.accepted.Add(1)
	defer m.remove(ep, o)
	o.(*stream).run(leave)
}

// run moves packets until the connection ends. proved is called when a guest is one no longer.
func (s *stream) run(proved func()) {
	var writer sync.WaitGroup
	writer.Go(s.write)
	s.read(proved)
	s.close()
	writer.Wait()
}

// keep implements outlet.
func (s *stream) keep() { s.kept.Store(true) }

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
	close(s.wake)
}

// queue implements outlet.
func (s *stream) queue(t *Train) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended:
		s.m.c.dropGone.Add(uint64(t.Packets()))
		return false
	case len(s.waiting)+s.writing+framed(t) > maxQueued:
		s.m.c.dropQueue.Add(uint64(t.Packets()))
		return false
	case s.writing > 0 && now.Sub(s.begun) > maxDelay:
		s.m.c.dropDelay.Add(uint64(t.Packets()))
		return false
	}
	if s.waiting == nil {
		s.waiting = (*queueBuffers.Get().(*[]byte))[:0]
	}
	if len(s.waiting) == 0 {
		s.oldest = now
	}
	s.waiting = appendFrames(s.waiting, t)
	if s.writing == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// write sends what waits, until the connection ends.
func (s *stream) write() {
	for range s.wake {
		for {
			b, ok := s.take()
			if !ok {
				break
			}
			s.conn.SetWriteDeadline(time.Now().Add(frameFor))
			_, err := s.conn.Write(b)
			b = b[:0]
			queueBuffers.Put(&b)
			if err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					s.m.c.endedSlow.Add(1)
				}
				s.close()
				return
			}
		}
	}
}

// take returns all that waits.
func (s *stream) take() (b []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || s.ended {
		s.writing = 0
		return nil, false
	}
	b, s.waiting = s.waiting, nil
	s.writing, s.begun = len(b), s.oldest
	return b, true
}

// read hands over what comes, until the connection ends.
func (s *stream) read(proved func()) {
	r := reading{small: make([]byte, smallBuffer), began: time.Now(), batch: newDelivery()}
	r.buf, r.since = r.small, r.began
	for {
		kept := s.kept.Load()
		if kept && proved != nil {
			proved()
			proved = nil
		}
		s.conn.SetReadDeadline(r.patience(kept))
		n, err := s.conn.Read(r.buf[r.have:])
		if n > 0 && !r.came(s.m, s.ep, n, kept) {
			return
		}
		switch {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded) && !kept && s.kept.Load():
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.late(kept, r.have)
			return
		default:
			return
		}
	}
}

// reading is what was read from a connection, and is not handed over yet.
type reading struct {
	buf   []byte // small, or large
	have  int    // bytes in it: a part of a frame
	small []byte
	large *[largeBuffer]byte // nil: not in use
	batch *delivery
	began time.Time // the connection
	since time.Time // when the first of what is in buf came
}

// patience is until when something has to come.
func (r *reading) patience(kept bool) time.Time {
	switch {
	case !kept:
		return r.began.Add(proveFor)
	case r.have > 0:
		return r.since.Add(frameFor)
	}
	return time.Now().Add(idleFor)
}

// came hands over the frames that are complete now that n more bytes were read. It returns false
// if the connection is to end.
func (r *reading) came(m *Mux, ep Endpoint, n int, kept bool) bool {
	if r.have == 0 {
		r.since = time.Now()
	}
	r.have += n
	most := smallBuffer - frameHeader
	if kept {
		most = 1 << 16
	}
	var used int
	var err error
	if r.batch.trains, used, err = cutFrames(r.batch.trains[:0], r.buf[:r.have], most, ep); err != nil {
		m.c.endedFrame.Add(1)
		return false
	}
	if len(r.batch.trains) > 0 && m.deliver(r.batch) != nil {
		return false
	}
	full := r.have == len(r.buf)
	if r.have = copy(r.buf, r.buf[used:r.have]); used > 0 {
		r.since = time.Now()
	}
	switch {
	case full && r.large == nil && kept:
		r.large = largeBuffers.Get().(*[largeBuffer]byte)
		copy(r.large[:], r.buf[:r.have])
		r.buf = r.large[:]
	case r.large != nil && n < len(r.small) && r.have <= len(r.small):
		copy(r.small, r.buf[:r.have])
		r.give()
	}
	return true
}

// give returns the large buffer.
func (r *reading) give() {
	if r.large != nil {
		largeBuffers.Put(r.large)
		r.large, r.buf = nil, r.small
	}
}

// late counts why a connection ended that waited in vain.
func (s *stream) late(kept bool, have int) {
	switch {
	case !kept:
		s.m.c.endedUnproved.Add(1)
	case have > 0:
		s.m.c.endedSlow.Add(1)
	}
}
