package proxy

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

// MostDatagram is the longest datagram that a peer takes.
const MostDatagram = 65535 - 8

const (
	maxDatagram = 65535
	// flowIdle is how long a flow stays without a datagram in either direction (RFC 4787, 4.3).
	flowIdle = 2 * time.Minute
	// flowQueue is how many datagrams of a flow may wait, flowBytes how long they may be together.
	flowQueue = 64
	flowBytes = 128 << 10
)

// flowKey is who sends datagrams, and where to.
type flowKey struct {
	from netip.AddrPort
	to   socksTarget // of SOCKS alone
}

// flow is the datagrams between one sender and one destination. Its goroutine opens the
// connection; the sender does not wait.
type flow struct {
	remote net.Addr // of the sender
	queue  chan []byte
	bytes  atomic.Int64  // in the queue
	used   atomic.Int64  // when, since the flows were made
	end    chan struct{} // closed when it has to end
}

// flows are the flows of a port.
type flows struct {
	service *Service
	door    *Door // counts them
	began   time.Time
	most    int // of all
	mostOf  int // of one address
	dial    func(ctx context.Context, k flowKey) (net.Conn, error)
	back    func(to, from net.Addr, data []byte)
	running sync.WaitGroup

	mu sync.Mutex
	m  map[flowKey]*flow
}

func (s *Service) newFlows(d *Door, most, mostOf int) *flows {
	return &flows{service: s, door: d, began: time.Now(), most: most, mostOf: mostOf, m: make(map[flowKey]*flow)}
}

// send sends a datagram, and opens the flow if there is none.
func (f *flows) send(ctx context.Context, k flowKey, remote net.Addr, data []byte) {
	w := f.flow(ctx, k, remote)
	if w == nil {
		f.service.counts.full.Add(1)
		return
	}
	w.used.Store(int64(time.Since(f.began)))
	if w.bytes.Add(int64(len(data))) <= flowBytes {
		select {
		case w.queue <- append([]byte(nil), data...):
			return
		default:
		}
	}
	w.bytes.Add(-int64(len(data)))
	f.service.counts.datagrams.Add(1)
}

// flow returns the flow of a key; nil if there is no room. An address with too many flows
// loses that which it used longest ago.
func (f *flows) flow(ctx context.Context, k flowKey, remote net.Addr) *flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := f.m[k]; w != nil {
		return w
	}
	var oldest flowKey
	n := 0
	for other, w := range f.m {
		if other.from.Addr() != k.from.Addr() {
			continue
		}
		if n++; n == 1 || w.used.Load() < f.m[oldest].used.Load() {
			oldest = other
		}
	}
	switch {
	case n >= f.mostOf:
		close(f.m[oldest].end)
		delete(f.m, oldest)
	case len(f.m) >= f.most:
		return nil
	}
	w := &flow{remote: remote, queue: make(chan []byte, flowQueue), end: make(chan struct{})}
	f.m[k] = w
	f.door.total.Add(1)
	f.door.open.Add(1)
	f.running.Go(func() {
		f.run(ctx, k, w)
		f.door.open.Add(^uint64(0))
		f.forget(k, w)
	})
	return w
}

// forget removes a flow that ended.
func (f *flows) forget(k flowKey, w *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.m[k] == w {
		delete(f.m, k)
	}
}

// count returns how many flows there are.
func (f *flows) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.m)
}

// wait waits until all flows have ended, which they do with their context.
func (f *flows) wait() { f.running.Wait() }

// run opens the connection of a flow, and copies both ways until it is idle.
func (f *flows) run(ctx context.Context, k flowKey, w *flow) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := f.dial(ctx, k)
	if err != nil {
		return
	}
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		f.receive(w, c)
	}()
	for {
		select {
		case data := <-w.queue:
			w.bytes.Add(-int64(len(data)))
			if _, err := c.Write(data); err != nil && errors.Is(err, net.ErrClosed) {
				f.service.counts.datagrams.Add(1)
			}
			continue
		case <-ctx.Done():
		case <-w.end:
		}
		c.Close()
		<-done
		return
	}
}

// receive copies what comes back, until the flow is idle or its connection closed.
func (f *flows) receive(w *flow, c net.Conn) {
	b := make([]byte, maxDatagram)
	for {
		rest := flowIdle - (time.Since(f.began) - time.Duration(w.used.Load()))
		if rest <= 0 || c.SetReadDeadline(time.Now().Add(rest)) != nil {
			return
		}
		n, err := c.Read(b)
		switch {
		case err == nil:
			w.used.Store(int64(time.Since(f.began)))
			f.back(w.remote, c.RemoteAddr(), b[:n])
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
		default: // such as an ICMP error: the next one may get through
			if !f.pause(w) {
				return
			}
		}
	}
}

// errorPause is how long a flow rests after an error, so that errors do not keep it busy.
const errorPause = 50 * time.Millisecond

// pause waits a moment; false: the flow ends.
func (f *flows) pause(w *flow) bool {
	select {
	case <-time.After(errorPause):
		return true
	case <-w.end:
		return false
	}
}
