package link

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// Of a session, requests that may be in flight; of a guest's.
	maxFlight      = 10
	maxGuestFlight = 4
	bodyFor        = time.Minute // for a body to come in
	turnFor        = 200 * time.Millisecond
	seenFor        = 5 * time.Second
	gatherFor      = time.Millisecond // after the first packet of an answer, for others
	gatherMost     = 16 << 10         // unless there is as much as this
	answerFor      = 2 * time.Second  // for the answer to a request without a session
	quietFor       = 30 * time.Second // without a request, after which a session ends
	// maxBehind bounds the guests that come by a reverse proxy on this host: the others keep
	// their part. Such a proxy should name its clients (X-Forwarded-For), so that one of them
	// cannot have all of it.
	maxBehind = maxGuests / 2
)

// HTTP returns what takes packets that come by POST, for a server of somebody else: on a port
// that it shares with other things, or behind a reverse proxy. Other methods it refuses.
// Connections are bounded by the server that has them.
func (m *Mux) HTTP() http.Handler { return http.HandlerFunc(m.web.post) }

// answer is what is said on the Mux's own ports.
func (w *web) answer(rw http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*webConn); ok {
		c.begun.Store(false)
	}
	rc := http.NewResponseController(rw)
	_ = rc.SetWriteDeadline(time.Now().Add(frameFor))
	switch {
	case r.Method == http.MethodPost:
		w.post(rw, r)
	case w.m.cfg.Web != nil:
		_ = rc.SetReadDeadline(time.Now().Add(frameFor))
		w.m.cfg.Web.ServeHTTP(rw, r)
	default:
		rw.Header().Set("Connection", "close")
		http.NotFound(rw, r)
	}
}

// call is one request.
type call struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	r     *http.Request
	q     query
	conn  *webConn // nil: of another server
	gone  <-chan struct{}
	mux   <-chan struct{}
	guest bool
	apart bool // it goes on elsewhere, and is finished there
}

// refuse answers with an error, and has the connection end.
func (c *call) refuse(code int) {
	c.w.Header().Set("Connection", "close")
	http.Error(c.w, http.StatusText(code), code)
}

// post takes one request.
func (w *web) post(rw http.ResponseWriter, r *http.Request) {
	c := &call{w: rw, rc: http.NewResponseController(rw), r: r, gone: r.Context().Done(), mux: w.m.ctx.Done()}
	c.conn, _ = r.Context().Value(connKey{}).(*webConn)
	w.m.c.web.requests.Add(1)
	if r.Method != http.MethodPost {
		rw.Header().Set("Allow", http.MethodPost)
		c.refuse(http.StatusMethodNotAllowed)
		return
	}
	var err error
	if c.q, err = parseQuery(r.URL.RawQuery); err != nil {
		w.m.c.web.refusedQuery.Add(1)
		c.refuse(http.StatusBadRequest)
		return
	}
	if !w.m.begin() {
		c.refuse(http.StatusServiceUnavailable)
		return
	}
	defer w.m.running.Done()
	// Close waits for us, and we for none of what the network does.
	stop := context.AfterFunc(w.m.ctx, func() {
		_ = c.rc.SetReadDeadline(time.Now())
		_ = c.rc.SetWriteDeadline(time.Now())
	})
	defer stop()
	s := w.session(c)
	if s == nil {
		w.m.c.web.refusedSession.Add(1)
		c.refuse(http.StatusServiceUnavailable)
		return
	}
	if !c.q.named {
		defer w.drop(s)
	}
	if !s.begin(c.conn) {
		w.m.c.web.refusedFlight.Add(1)
		c.refuse(http.StatusTooManyRequests)
		return
	}
	defer func() {
		if !c.apart {
			s.finish(c.conn)
		}
	}()
	s.serve(c)
}

// begin has Close wait for a request, until running.Done. It returns false after Close.
func (m *Mux) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.running.Add(1)
	return true
}

// session returns the session of a request, which may be a new one. It is nil if there is no
// room.
func (w *web) session(c *call) *session {
	if c.q.named {
		w.mu.Lock()
		s := w.sessions[c.q.id]
		w.mu.Unlock()
		if s != nil {
			return s
		}
	}
	from, site, behind := c.client()
	if !from.IsValid() || !w.enter(site, behind) {
		return nil
	}
	s := &session{web: w, id: c.q.id, site: site, behind: behind, born: time.Now(), turn: make(chan struct{})}
	s.outbox.m = w.m
	if _, _, ok := w.m.attach(Endpoint{Kind: HTTP, Addr: from}, func(ep Endpoint) outlet { s.ep = ep; return s }); !ok {
		w.leave(s)
		return nil
	}
	if c.q.named {
		w.mu.Lock()
		other := w.sessions[c.q.id]
		if other == nil {
			w.sessions[c.q.id] = s
		}
		w.mu.Unlock()
		if other != nil {
			w.drop(s)
			return other
		}
	}
	w.m.c.web.sessions.Add(1)
	w.sweep()
	return s
}

// client returns where a request came from, the address that bounds apply to, and whether it
// came by a proxy on this host. What such a proxy says of its client is believed as to bounds
// alone, and the last name alone, since the client can write the others.
func (c *call) client() (from netip.AddrPort, site netip.Addr, behind bool) {
	from, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}, netip.Addr{}, false
	}
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	site, behind = from.Addr(), from.Addr().IsLoopback()
	if said := c.r.Header.Values("X-Forwarded-For"); behind && len(said) > 0 {
		last := said[len(said)-1]
		last = strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
		if a, err := netip.ParseAddr(last); err == nil {
			site = a.Unmap().WithZone("")
		}
	}
	return from, site, behind
}

// enter makes room for a session.
func (w *web) enter(site netip.Addr, behind bool) bool {
	if w.m.full() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	key := siteOf(site)
	if w.guests.count >= maxGuests || w.guests.sites[key] >= siteMost(key) || behind && w.behind >= maxBehind {
		return false
	}
	w.guests.count++
	w.guests.sites[key]++
	if behind {
		w.behind++
	}
	return true
}

// leave gives the room back, once.
func (w *web) leave(s *session) {
	s.left.Do(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		key := siteOf(s.site)
		w.guests.count--
		if w.guests.sites[key]--; w.guests.sites[key] == 0 {
			delete(w.guests.sites, key)
		}
		if s.behind {
			w.behind--
		}
	})
}

// drop ends a session, once.
func (w *web) drop(s *session) {
	if s.gone.Swap(true) {
		return
	}
	s.end()
	w.mu.Lock()
	if w.sessions[s.id] == s {
		delete(w.sessions, s.id)
	}
	w.mu.Unlock()
	w.leave(s)
	w.m.remove(s.ep, s)
}

// serve answers a request of the session.
func (s *session) serve(c *call) {
	c.guest = !s.kept.Load()
	// The rest of the answer goes out once we are done.
	defer func() { _ = c.rc.SetWriteDeadline(time.Now().Add(frameFor)) }()
	h := c.w.Header()
	h.Set("Content-Type", octets)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	if !s.body(c) {
		return
	}
	if c.q.seen != 0 && !s.see(c.q.seen, c.q.down) {
		c.refuse(http.StatusConflict)
		return
	}
	switch {
	case c.q.seen != 0:
		// Often this is the connection's one request, and the next is minutes away.
		h.Set("Connection", "close")
	case c.q.stream:
		s.flow(c)
	case c.q.down != 0:
		s.hold(c, min(c.q.patient, maxHold))
	case !c.q.named:
		s.hold(c, answerFor)
	}
}

// body takes the packets of a request. It returns false if it has answered.
func (s *session) body(c *call) bool {
	if c.r.ContentLength == 0 {
		s.passed(c.q.up)
		return true
	}
	most := int64(maxBody)
	until := time.Now().Add(bodyFor)
	if c.guest {
		most, until = guestBody, s.born.Add(proveFor)
	}
	if c.r.ContentLength > most {
		s.m.c.web.refusedBody.Add(1)
		c.refuse(http.StatusRequestEntityTooLarge)
		return false
	}
	_ = c.rc.SetReadDeadline(until)
	s.await(c.q.up, c)
	_, err := pour(s.m, s.ep, http.MaxBytesReader(c.w, c.r.Body, most), c.r.ContentLength, c.guest, nil)
	s.passed(c.q.up)
	if err == nil {
		_ = c.rc.SetReadDeadline(time.Time{})
		return true
	}
	_, long := errors.AsType[*http.MaxBytesError](err)
	switch {
	case long:
		s.m.c.web.refusedBody.Add(1)
		c.refuse(http.StatusRequestEntityTooLarge)
	case errors.Is(err, errFrame):
		s.m.c.web.noPackets.Add(1)
		c.refuse(http.StatusBadRequest)
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.m.c.web.slowBody.Add(1)
		c.refuse(http.StatusRequestTimeout)
	default:
		c.refuse(http.StatusBadRequest)
	}
	return false
}

// pour hands over the frames that a body has, until its end. Its length is -1 if that is not known.
// After each read, came is told how many bytes that was; nil: nobody.
func pour(m *Mux, ep Endpoint, body io.Reader, length int64, guest bool, came func(n int)) (bytes int, err error) {
	r := newReading(false)
	if !guest && length > smallBuffer {
		r.grow()
	}
	for {
		n, err := body.Read(r.buf[r.have:])
		bytes += n
		if n > 0 && came != nil {
			came(n)
		}
		if n > 0 && !r.came(m, ep, n, !guest) {
			if m.ctx.Err() != nil {
				return bytes, ErrClosed // somebody may be reading what was handed over
			}
			r.give()
			return bytes, errFrame
		}
		if err == nil {
			continue
		}
		r.give()
		switch {
		case err == io.EOF && r.have > 0:
			return bytes, errFrame
		case err == io.EOF:
			return bytes, nil
		}
		return bytes, err
	}
}

// hold answers with what there is, or waits for something.
func (s *session) hold(c *call, patient time.Duration) {
	mine := s.turnTo(c.q.down)
	if mine == nil {
		return
	}
	wait := time.NewTimer(patient)
	defer wait.Stop()
	for {
		select {
		case _, ok := <-mine:
			if !ok {
				return
			}
		case <-wait.C:
			return
		case <-c.gone:
			return
		case <-c.mux:
			return
		}
		if s.size() < gatherMost {
			gather := time.NewTimer(gatherFor)
			select {
			case <-gather.C:
			case <-c.mux:
			}
			gather.Stop()
		}
		b := s.take(mine)
		if b == nil {
			continue
		}
		c.w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_ = c.rc.SetWriteDeadline(time.Now().Add(frameFor))
		_, err := c.w.Write(b)
		s.wrote(len(b))
		recycle(b)
		s.sent(err)
		return
	}
}

var padding = [frameHeader]byte{}

// send implements opened.
func (c *call) send(b []byte) error {
	_ = c.rc.SetWriteDeadline(time.Now().Add(frameFor))
	_, err := c.w.Write(b)
	if err == nil {
		err = c.rc.Flush()
	}
	return err
}

// socket implements opened.
func (c *call) socket() *rawWrite { return nil }

// flow answers with packets as they come, after the client has said that it sees the answer
// before its end.
func (s *session) flow(c *call) {
	seen := s.offer(c.q.down)
	if seen == nil {
		return
	}
	defer s.withdraw(c.q.down, seen)
	c.w.Header().Set("Connection", "close") // see apart
	if c.send(padding[:]) != nil {
		return
	}
	wait := time.NewTimer(seenFor)
	defer wait.Stop()
	var number uint64
	select {
	case number = <-seen:
	case <-wait.C:
		s.m.c.web.swallowed.Add(1)
		return
	case <-c.gone:
		return
	case <-c.mux:
		return
	}
	mine := s.turnTo(number)
	if mine == nil {
		return
	}
	s.m.c.web.streams.Add(1)
	if !s.apart(c, mine) {
		s.stream(c, mine, c.gone)
	}
}

// stream sends packets as they come until the answer has had its time.
func (s *session) stream(to opened, mine chan struct{}, gone <-chan struct{}) {
	last := time.NewTimer(maxStream)
	defer last.Stop()
	idle := time.NewTicker(maxHold)
	defer idle.Stop()
	for sent := 0; sent < maxFlow; {
		select {
		case _, ok := <-mine:
			if !ok {
				return
			}
		case <-idle.C:
			if to.send(padding[:]) != nil {
				return
			}
			continue
		case <-last.C:
			return
		case <-gone:
			return
		case <-s.m.ctx.Done():
			return
		}
		for {
			b := s.take(mine)
			if b == nil {
				break
			}
			sent += len(b)
			if !s.push(to, b, gone) {
				return
			}
		}
	}
}

// push sends what was taken, in pieces, each as soon as the system has nearly sent those before. It
// returns false if that fails.
func (s *session) push(to opened, b []byte, gone <-chan struct{}) bool {
	var err error
	rest := b
	for len(rest) > 0 && err == nil {
		n := min(len(rest), s.ready(to.socket(), gone))
		if err = to.send(rest[:n]); err == nil {
			s.wrote(n)
			rest = rest[n:]
		}
	}
	s.wrote(len(rest))
	recycle(b)
	s.sent(err)
	return err == nil
}

// sent counts why sending failed.
func (s *session) sent(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.m.c.web.slowReader.Add(1)
	}
}

var _ net.Listener = (*web)(nil)
