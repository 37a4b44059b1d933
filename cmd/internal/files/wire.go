package files

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// patient is a connection on which neither side may be silent for long.
type patient struct {
	net.Conn
	start time.Time // of an offer; zero: it is past
	read  int64
}

func (p *patient) Read(b []byte) (int, error) {
	limit := time.Now().Add(idleLimit)
	if !p.start.IsZero() { // one who is slow must not keep others waiting
		limit = p.start.Add(offerLimit + time.Duration(p.read/offerRate)*time.Second)
	}
	if err := p.SetReadDeadline(limit); err != nil {
		return 0, err
	}
	n, err := p.Conn.Read(b)
	p.read += int64(n)
	return n, err
}

func (p *patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(idleLimit)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// quietLimit is how long the other side may send nothing else than ALIVE. A connection that
// is sound may do so while a disk is slow.
func quietLimit(patience time.Duration) time.Duration { return max(patience, idleLimit) }

// writer writes frames. Several goroutines may use it.
type writer struct {
	mu      sync.Mutex
	out     *bufio.Writer
	header  []byte
	flushed time.Time // last time that anything was sent
}

func newWriter(w io.Writer) *writer {
	return &writer{out: bufio.NewWriterSize(w, 64<<10), flushed: time.Now()}
}

// put adds a frame to what is to be sent. What lies there for long is sent.
func (w *writer) put(k kind, parts ...[]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	length := 0
	for _, p := range parts {
		length += len(p)
	}
	w.header = appendHeader(w.header[:0], k, length)
	if _, err := w.out.Write(w.header); err != nil {
		return err
	}
	for _, p := range parts {
		if _, err := w.out.Write(p); err != nil {
			return err
		}
	}
	if time.Since(w.flushed) < time.Second {
		return nil
	}
	return w.flush()
}

// send sends a frame, and all before it.
func (w *writer) send(k kind, parts ...[]byte) error {
	if err := w.put(k, parts...); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.flush()
}

func (w *writer) flush() error {
	w.flushed = time.Now()
	return w.out.Flush()
}

// beat sends ALIVE from time to time, until ctx ends or the connection breaks.
func (w *writer) beat(ctx context.Context) {
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if w.send(kindAlive) != nil {
				return
			}
		}
	}
}
