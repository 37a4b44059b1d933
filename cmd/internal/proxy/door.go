package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// OwnerConfig is the owner of the doors of the configuration.
const OwnerConfig = "configuration"

// Door is something that listens, and what came through it.
type Door struct {
	spec   Spec
	owner  string
	listen string        // where it listens
	gone   chan struct{} // closed when it is removed
	close  func()        // ends listening; it may be called again
	run    func(ctx context.Context)

	// Connections, or senders of datagrams: now, all, and those that came to nothing. Of
	// datagrams, those that are not let in.
	open, total, refused atomic.Uint64
}

// Status is what is known of a door.
type Status struct {
	Kind    Kind   `json:"kind"`
	Spec    string `json:"spec"`   // as the configuration has it
	Listen  string `json:"listen"` // where it listens: IP:PORT, unix:PATH, or :PORT for peers
	UDP     bool   `json:"udp"`
	Owner   string `json:"owner"`   // "configuration", or who asked for it
	Open    uint64 `json:"open"`    // connections now; with UDP, senders
	Total   uint64 `json:"total"`   // since it was opened
	Refused uint64 `json:"refused"` // those of them that came to nothing; with UDP, datagrams
}

func (d *Door) status() Status {
	s := Status{Kind: d.spec.Kind(), Spec: d.spec.String(), Listen: d.listen, Owner: d.owner,
		Open: d.open.Load(), Total: d.total.Load(), Refused: d.refused.Load()}
	switch spec := d.spec.(type) {
	case Forwarding:
		s.UDP = spec.UDP
	case Exposure:
		s.UDP = spec.UDP
	}
	return s
}

// is reports whether a door is what spec says.
func (d *Door) is(spec Spec) bool {
	return d.spec.Kind() == spec.Kind() && d.spec.String() == spec.String()
}

// Limits of connections of one door.
const (
	maxConns   = 1024 // of all
	maxPerPeer = 256  // of one peer, to an exposed port
)

// crowd counts connections by who made them, and bounds them.
type crowd struct {
	mu    sync.Mutex
	most  int // of one
	total int
	of    map[string]int
}

func newCrowd(most int) *crowd { return &crowd{most: most, of: make(map[string]int)} }

// enter reports whether there is room for one more.
func (c *crowd) enter(who string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConns || c.of[who] >= c.most {
		return false
	}
	c.total++
	c.of[who]++
	return true
}

func (c *crowd) leave(who string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.of[who]--; c.of[who] == 0 {
		delete(c.of, who)
	}
}

// guard decides about a new connection: who counts for it, and whether it is let in.
type guard func(remote net.Addr) (who string, ok bool)

// everybody lets in all, as one.
func everybody(net.Addr) (string, bool) { return "", true }

// handler serves a connection, and returns whether it came to something. It need not close it.
type handler func(ctx context.Context, c net.Conn) bool

// serveListener takes connections until l is closed, and returns when all have ended. When ctx
// ends they are closed.
func (s *Service) serveListener(ctx context.Context, d *Door, l net.Listener, g guard, most int, h handler) {
	var running sync.WaitGroup
	defer running.Wait()
	in := newCrowd(most)
	for {
		c, err := accept(ctx, l)
		if err != nil {
			return
		}
		d.total.Add(1)
		who, ok := g(c.RemoteAddr())
		switch {
		case !ok:
			s.counts.notAllowed.Add(1)
		case !in.enter(who):
			s.counts.full.Add(1)
			ok = false
		}
		if !ok {
			d.refused.Add(1)
			abort(c)
			continue
		}
		d.open.Add(1)
		keepAlive(c)
		running.Go(func() {
			defer in.leave(who)
			defer d.open.Add(^uint64(0))
			defer c.Close()
			stop := context.AfterFunc(ctx, func() { abort(c) })
			defer stop()
			if !h(ctx, c) {
				d.refused.Add(1)
			}
		})
	}
}

// Pauses after a failure to accept, as when there are no file descriptors left.
const (
	leastPause = 10 * time.Millisecond
	mostPause  = time.Second
)

// accept accepts the next connection. Its error means that there will be no more.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		c, err := l.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return c, err
		}
		var failed net.Error
		if !errors.As(err, &failed) {
			return nil, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
