package link

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// HTTP connections of which nobody has proved who is there: how many, of one site, and for
	// how long. Behind a reverse proxy on this host, sessions are what is bounded.
	maxStrangers     = 1024
	maxSiteStrangers = 32
	maxLocal         = 768
	strangeFor       = 30 * time.Second
	janitorEvery     = 5 * time.Second
	idleConnFor      = 10 * time.Second // between requests: such a connection costs memory
)

// sniff reads the first bytes of a connection that came in, and returns one on which they are
// read again. A frame of a guest cannot begin with a letter: it would be too long.
// It is nil if none came.
func (m *Mux) sniff(conn net.Conn) (_ net.Conn, speaksHTTP bool) {
	stop := context.AfterFunc(m.ctx, func() { conn.Close() })
	defer stop()
	first := make([]byte, 1)
	conn.SetReadDeadline(time.Now().Add(proveFor))
	n, err := conn.Read(first)
	if n == 0 {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			m.c.endedUnproved.Add(1)
		}
		conn.Close()
		return nil, false
	}
	return &begunConn{Conn: conn, first: first}, 'A' <= first[0] && first[0] <= 'Z'
}

// begunConn is a connection of which some bytes were read.
type begunConn struct {
	net.Conn
	first []byte // one reader at a time
}

// Read implements net.Conn.
func (c *begunConn) Read(b []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.first)
	if c.first = c.first[n:]; len(c.first) == 0 {
		c.first = nil
	}
	return n, nil
}

// webConn is a connection on which somebody speaks HTTP to us.
type webConn struct {
	begunConn
	gate *gate
	from netip.Addr
	came time.Time

	begun  atomic.Bool             // the head of a request has begun, and is not whole
	by     atomic.Pointer[session] // whose it is, as far as it said so; nil: a stranger's
	closed atomic.Bool
}

// Close implements net.Conn.
func (c *webConn) Close() error {
	c.gate.leave(c)
	c.closed.Store(true)
	c.disown()
	return c.Conn.Close()
}

// disown has the connection belong to no session.
func (c *webConn) disown() {
	if s := c.by.Swap(nil); s != nil {
		s.vouched.Add(-1)
	}
}

// gate bounds the HTTP connections of strangers.
type gate struct {
	mu      sync.Mutex
	most    int // connections
	closed  bool
	open    map[*webConn]struct{} // all
	strange map[*webConn]struct{} // that have not proved who is there
	sites   map[netip.Addr]int    // of those
}

// enter makes room for a connection.
func (g *gate) enter(c *webConn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	site, most := siteOf(c.from), maxSiteStrangers
	if c.from.IsLoopback() {
		most = maxLocal
	}
	if g.closed || len(g.strange) >= maxStrangers || g.sites[site] >= most || len(g.open) >= g.most {
		return false
	}
	g.sites[site]++
	g.strange[c] = struct{}{}
	g.open[c] = struct{}{}
	return true
}

// known gives the room of a stranger back: it is one no longer.
func (g *gate) known(c *webConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(c)
}

func (g *gate) drop(c *webConn) {
	if _, ok := g.strange[c]; !ok {
		return
	}
	delete(g.strange, c)
	site := siteOf(c.from)
	if g.sites[site]--; g.sites[site] == 0 {
		delete(g.sites, site)
	}
}

// leave forgets a connection.
func (g *gate) leave(c *webConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(c)
	delete(g.open, c)
}

// end closes the connections for which keep returns false; all: no more are let in either.
func (g *gate) end(all bool, before time.Time) (ended int) {
	g.mu.Lock()
	g.closed = g.closed || all
	var late []*webConn
	if all {
		for c := range g.open {
			late = append(late, c)
		}
	} else {
		for c := range g.strange {
			if c.came.Before(before) {
				late = append(late, c)
			}
		}
	}
	g.mu.Unlock()
	for _, c := range late {
		c.Close()
	}
	return len(late)
}

func (g *gate) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

// web takes what comes by HTTP, and knows the sessions.
type web struct {
	m      *Mux
	server *http.Server // for what comes on the Mux's own ports
	conns  chan net.Conn
	served sync.WaitGroup // connections that the server has
	gate   gate

	mu       sync.Mutex
	started  bool // the server
	sweeping bool // there is a janitor
	sessions map[sessionID]*session
	guests   guests // sessions that have not proved who is there
	behind   int    // of those, the ones that came by a reverse proxy on this host
}

// webCounters count what comes by HTTP.
type webCounters struct {
	requests, sessions                                                        atomic.Uint64
	refusedConns, refusedQuery, refusedBody, refusedFlight, refusedSession    atomic.Uint64
	slowBody, noPackets, outOfTurn, slowReader, endedIdle, streams, swallowed atomic.Uint64
	failed, noRequest, refusedVouch                                           atomic.Uint64
}

func newWeb(m *Mux) *web {
	w := &web{m: m, conns: make(chan net.Conn), sessions: make(map[sessionID]*session)}
	w.guests.sites = make(map[netip.Addr]int)
	w.gate.most = m.most
	w.gate.open, w.gate.strange, w.gate.sites = make(map[*webConn]struct{}), make(map[*webConn]struct{}), make(map[netip.Addr]int)
	w.server = &http.Server{
		Handler:           http.HandlerFunc(w.answer),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       idleConnFor,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          slog.NewLogLogger(m.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:         w.state,
	}
	return w
}

type connKey struct{}

// state follows a connection of the server. One of which a request began, and never was whole, is
// counted: somebody was too slow, has said too much, or speaks something else.
func (w *web) state(conn net.Conn, s http.ConnState) {
	c := conn.(*webConn)
	switch s {
	case http.StateActive:
		c.begun.Store(true)
	case http.StateHijacked:
		w.served.Done()
	case http.StateClosed:
		if c.begun.Load() {
			w.m.c.web.noRequest.Add(1)
		}
		w.served.Done()
	}
}

// start has connections of the Mux's ports served; with the Mux's mu.
func (w *web) start() {
	if w.started {
		return
	}
	w.started = true
	w.m.running.Go(func() {
		_ = w.server.Serve(w) // it ends with Close alone
		w.served.Wait()
	})
}

// close ends the server and its connections.
func (w *web) close() {
	w.server.Close()
	w.gate.end(true, time.Time{})
}

// take has a connection served, and returns at once.
func (w *web) take(conn net.Conn, from netip.AddrPort) {
	begun := conn.(*begunConn)
	c := &webConn{begunConn: *begun, gate: &w.gate, from: from.Addr(), came: time.Now()}
	if !w.gate.enter(c) {
		w.m.c.web.refusedConns.Add(1)
		conn.Close()
		return
	}
	w.sweep()
	select {
	case w.conns <- c:
	case <-w.m.ctx.Done():
		c.Close()
	}
}

// Accept implements net.Listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		w.served.Add(1)
		return c, nil
	case <-w.m.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *web) Close() error { return nil }

// Addr implements net.Listener.
func (w *web) Addr() net.Addr { return &net.TCPAddr{} }

// sweep has the janitor run for as long as there is something to end.
func (w *web) sweep() {
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sweeping || w.m.ctx.Err() != nil {
		return
	}
	w.sweeping = true
	w.m.running.Go(w.janitor)
}

// janitor ends connections and sessions that have had their time.
func (w *web) janitor() {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.m.ctx.Done():
			return
		}
		now := time.Now()
		w.m.c.endedUnproved.Add(uint64(w.gate.end(false, now.Add(-strangeFor))))
		for _, s := range w.late(now) {
			w.drop(s)
		}
		w.mu.Lock()
		if len(w.sessions) == 0 && w.gate.size() == 0 {
			w.sweeping = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// late returns the sessions that are to end.
func (w *web) late(now time.Time) (late []*session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if s.late(now) {
			late = append(late, s)
		}
	}
	return late
}

// into adds the counters.
func (w *web) into(all map[string]uint64) {
	w.mu.Lock()
	sessions, guests := len(w.sessions), w.guests.count
	w.mu.Unlock()
	c := &w.m.c.web
	for name, n := range map[string]uint64{
		"http_sessions": uint64(sessions), "http_sessions_unproved": uint64(guests), "http_connections": uint64(w.gate.size()),
		"http_requests": c.requests.Load(), "http_sessions_begun": c.sessions.Load(), "http_streams": c.streams.Load(), "http_failed": c.failed.Load(),
		"http_refused_connections": c.refusedConns.Load(), "http_refused_query": c.refusedQuery.Load(), "http_refused_body": c.refusedBody.Load(),
		"http_refused_in_flight": c.refusedFlight.Load(), "http_refused_sessions": c.refusedSession.Load(), "http_ended_idle": c.endedIdle.Load(),
		"http_slow_body": c.slowBody.Load(), "http_no_packets": c.noPackets.Load(), "http_out_of_turn": c.outOfTurn.Load(),
		"http_no_request": c.noRequest.Load(), "http_connections_not_owned": c.refusedVouch.Load(),
		"http_slow_reader": c.slowReader.Load(), "http_streams_swallowed": c.swallowed.Load(),
	} {
		all[name] = n
	}
}
