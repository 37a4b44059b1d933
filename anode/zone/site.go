package zone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Site serves a zone file at /z, where Candidates looks for it, and answers HEAD and
// conditional requests. Any goroutine may call its methods.
type Site struct {
	page    atomic.Pointer[page]
	refused atomic.Uint64
}

// Refused returns how many connections Serve closed because of its limits.
func (s *Site) Refused() uint64 { return s.refused.Load() }

// page is a file with its validators.
type page struct {
	file     *File
	etag     string
	modified time.Time
}

// Set replaces the file. It was last changed at the time modified; zero: not known.
func (s *Site) Set(f *File, modified time.Time) {
	sum := sha256.Sum256(f.raw)
	s.page.Store(&page{f, fmt.Sprintf(`"%x"`, sum[:8]), modified})
}

// Clear has no file served any more.
func (s *Site) Clear() { s.page.Store(nil) }

// ServeHTTP implements http.Handler.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := s.page.Load()
	switch {
	case r.URL.Path != "/z" || p == nil:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", fmt.Sprintf("max-age=%d", int(p.file.TTL().Seconds())))
	h.Set("ETag", p.etag)
	r.Header.Del("Range") // a zone file is only good as a whole
	http.ServeContent(w, r, "", p.modified, bytes.NewReader(p.file.raw))
}

// Limits of a server of zone files. A client makes one small request in some milliseconds, so
// many have a turn.
const (
	serveTimeout  = 5 * time.Second // for a request to come in
	answerTimeout = 30 * time.Second
	endTimeout    = time.Second
	maxHeader     = 8 << 10
	maxConns      = 512
	maxFromOneNet = 64 // of them, from an IPv4 /24 or an IPv6 /56
)

// Serve answers on l until ctx ends, one request a connection, within limits, and closes l.
// Connections beyond the limits are closed at once, and counted.
func (s *Site) Serve(ctx context.Context, l net.Listener, log *slog.Logger) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: serveTimeout,
		ReadTimeout:       serveTimeout,
		WriteTimeout:      answerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	server.SetKeepAlivesEnabled(false)
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(&limited{Listener: l, refused: &s.refused, nets: map[netip.Prefix]int{}})
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if server.Shutdown(last) != nil {
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// limited is a listener that closes connections beyond the limits at once.
type limited struct {
	net.Listener
	refused *atomic.Uint64

	mu    sync.Mutex
	total int
	nets  map[netip.Prefix]int // connections by source network
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := networkOf(c.RemoteAddr())
		if l.admit(from) {
			return &counted{Conn: c, done: func() { l.leave(from) }}, nil
		}
		l.refused.Add(1)
		c.Close()
	}
}

// networkOf returns the network that one party has.
func networkOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 56
	if ip.Is4() {
		bits = 24
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func (l *limited) admit(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxConns || l.nets[from] >= maxFromOneNet {
		return false
	}
	l.total++
	l.nets[from]++
	return true
}

func (l *limited) leave(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.nets[from]--; l.nets[from] == 0 {
		delete(l.nets, from)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	once sync.Once
	done func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(c.done)
	return c.Conn.Close()
}
