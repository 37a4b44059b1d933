package link

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// The rungs, as in Conn.Rung and System.Rung.
const (
	RungAuto  = "auto" // the highest that passes its self-test
	RungGSO   = "gso"
	RungBatch = "batch"
	RungPlain = "plain"
)

// socketBuffer is the size in bytes asked for a socket's receive and send buffers. The
// kernel's own default holds three full trains; it may grant less than requested.
const socketBuffer = 7 << 20

// System is the operating system's Network. The zero value is ready for use; do not
// change its fields after the first call of a method.
type System struct {
	// Rung is the highest rung to use; empty is RungAuto. A rung that is named is
	// used without a self-test. Systems other than Linux have RungPlain alone.
	Rung string
	// Log receives what is worth knowing about sockets; nil: nothing is logged.
	Log *slog.Logger
	// Notify calls changed when it has begun to watch, and whenever links, addresses or
	// routes may have changed, until ctx ends. Package platform has one. With nil, Watch
	// sees no change.
	Notify func(ctx context.Context, changed func()) error

	sendBuffer int // bytes, in place of socketBuffer if it is not 0

	mu       sync.Mutex
	excluded map[string]bool
}

var (
	_ Network = (*System)(nil)
	_ Grouper = (*System)(nil)
)

// Exclude takes the named interfaces out of what Interfaces returns from now on;
// our own TUN devices, for example. Any goroutine may call it at any time.
func (s *System) Exclude(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.excluded == nil {
		s.excluded = make(map[string]bool)
	}
	for _, name := range names {
		s.excluded[name] = true
	}
}

func (s *System) isExcluded(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.excluded[name]
}

// Listen opens a UDP socket for IPv4 and IPv6 on all addresses; for IPv4 alone
// where the system has no IPv6 (or, as OpenBSD, no sockets for both).
func (s *System) Listen(port uint16) (Conn, error) {
	switch s.Rung {
	case "", RungAuto, RungGSO, RungBatch, RungPlain:
	default:
		return nil, fmt.Errorf("rung %q: want %s, %s, %s or %s", s.Rung, RungAuto, RungGSO, RungBatch, RungPlain)
	}
	return s.listen(port)
}

// Watch implements Network. It looks at the state whenever Notify says that it may be
// another, and calls changed from the same goroutine.
func (s *System) Watch(ctx context.Context, known State, changed func(State)) error {
	if s.Notify == nil {
		<-ctx.Done()
		return nil
	}
	return s.Notify(ctx, func() {
		now, err := s.State()
		if err != nil {
			s.log().Warn("interfaces cannot be listed; the last list stays", "err", err)
			return
		}
		if !now.Same(known) {
			known = now
			changed(now)
		}
	})
}

func (s *System) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}

// portError is the error of a port that another program or node has.
type portError struct {
	port    uint16
	by      string // empty: unknown
	another bool   // it is another user's, who is not root
	err     error
}

func (e *portError) Error() string {
	by := e.by
	if by == "" {
		by = "another program or node"
	}
	return fmt.Sprintf("UDP port %d: used by %s", e.port, by)
}

func (e *portError) Unwrap() error { return e.err }
