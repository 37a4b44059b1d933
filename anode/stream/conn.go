package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Conn is one stream. It is a net.Conn; any goroutine calls any method.
type Conn struct {
	peer *peer
	s    *Stream
	own  *Addr
	far  *Addr

	// Under the peer's lock, as the Stream.
	changed *sync.Cond
	taken   Taken // by whoever it was admitted for; nil: it is a listener's, or a program has it
	read    deadline
	write   deadline
}

// deadline is a time after which a direction does not wait. Its timer wakes who waits.
type deadline struct {
	timer *time.Timer
	past  bool
	turn  int // of the setting that counts
}

// newConn makes the Conn of a stream; the peer's lock is held.
func newConn(p *peer, s *Stream) *Conn {
	own, far := s.Ports()
	c := &Conn{peer: p, s: s, own: &Addr{p.host.local, own}, far: &Addr{p.remote.Address, far}, changed: sync.NewCond(&p.mu)}
	s.Owner = c
	return c
}

// opError says which operation of which stream failed, as package net does.
func opError(op string, own, far net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "anode", Source: own, Addr: far, Err: err}
}

// Dial opens a stream to a port of a peer, without a port of origin. The errors are
// ErrRefused, ErrTimedOut, ErrUnreachable, ErrReset and ErrBusy, and that of the context, in
// a net.OpError.
func (h *Host) Dial(ctx context.Context, to Remote, port uint16) (*Conn, error) {
	return h.DialFrom(ctx, to, port, 0)
}

// DialFrom is Dial from a port of origin, to which the peer can open streams if there is a
// Listener.
func (h *Host) DialFrom(ctx context.Context, to Remote, port, source uint16) (*Conn, error) {
	far := &Addr{to.Address, port}
	var c *Conn
	err := ctx.Err()
	if err == nil && !h.with(to, func(p *peer, now time.Duration) {
		s, failed := p.m.Open(now, port, source)
		if err = failed; err == nil {
			c = newConn(p, s)
		}
	}) {
		err = net.ErrClosed
	}
	if err != nil {
		return nil, opError("dial", nil, far, err)
	}
	if err := c.opened(ctx); err != nil {
		return nil, opError("dial", c.own, far, err)
	}
	return c, nil
}

// opened waits for the answer to our S_OPEN.
func (c *Conn) opened(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.peer.mu.Lock()
		defer c.peer.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	c.peer.mu.Lock()
	for !c.s.Opened() && ctx.Err() == nil {
		c.changed.Wait()
	}
	opened, err := c.s.Opened(), c.s.Err()
	c.peer.mu.Unlock()
	if !opened {
		c.Abort()
		return ctx.Err()
	}
	return err
}

// Read waits for data. After the peer's S_CLOSE, and all that came before it, it returns
// io.EOF.
func (c *Conn) Read(b []byte) (int, error) {
	c.peer.mu.Lock()
	for {
		if c.read.past {
			c.peer.mu.Unlock()
			return 0, opError("read", c.own, c.far, os.ErrDeadlineExceeded)
		}
		n, err := c.s.Read(c.peer.host.config.Now(), b)
		if n > 0 || err != nil || len(b) == 0 {
			if len(c.peer.m.active) > 0 {
				c.peer.unlock()
			} else {
				c.peer.mu.Unlock()
			}
			return n, c.failed("read", err)
		}
		c.changed.Wait()
	}
}

// Write waits until all of b is in the send buffer.
func (c *Conn) Write(b []byte) (n int, err error) {
	for {
		var done bool
		c.peer.do(func(time.Duration) {
			if done = c.write.past; done {
				err = os.ErrDeadlineExceeded
				return
			}
			var k int
			k, err = c.s.Write(b[n:])
			n += k
			done = err != nil || n == len(b)
		})
		if done {
			return n, c.failed("write", err)
		}
		c.waitToWrite()
	}
}

// waitToWrite waits until there is room in the send buffer, or writing fails.
func (c *Conn) waitToWrite() {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	for !c.write.past && !c.s.Writable() {
		c.changed.Wait()
	}
}

// failed wraps an error of the stream.
func (c *Conn) failed(op string, err error) error {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return err
	case errors.Is(err, ErrClosed):
		err = net.ErrClosed
	}
	return opError(op, c.own, c.far, err)
}

// Close ends both directions, ours after what was written, for which it does not wait.
func (c *Conn) Close() (err error) {
	c.peer.do(func(now time.Duration) {
		if c.s.intent == endBoth && c.s.recv.discarded {
			err = net.ErrClosed
			return
		}
		c.s.Close(now)
		c.read.stop()
		c.write.stop()
		c.changed.Broadcast()
	})
	return c.failed("close", err)
}

// CloseWrite ends our direction after what was written. The peer reads the end of file, if
// it understands that; if not, it does when both directions ended, or, if it opened the
// stream, when it has read all and is silent for 2 s: it can write no more then.
func (c *Conn) CloseWrite() (err error) {
	c.peer.do(func(now time.Duration) { err = c.s.CloseWrite(now) })
	return c.failed("close", err)
}

// Abort ends both directions at once. The peer's program reads ErrReset, unless both
// directions have ended, and all was read: Abort is Close then.
func (c *Conn) Abort() {
	c.peer.do(func(now time.Duration) {
		c.s.Abort(now)
		c.changed.Broadcast()
	})
}

// KeepAlive asks the peer for a sign of life after so long a silence, and ends the stream by
// ErrTimedOut if there is none for about two minutes; 0 turns it off, as it is at first.
func (c *Conn) KeepAlive(every time.Duration) {
	c.peer.do(func(now time.Duration) { c.s.KeepAlive(now, every) })
}

// LocalAddr returns our address, and the port or link ID.
func (c *Conn) LocalAddr() net.Addr { return c.own }

// RemoteAddr returns the peer's address, and the port or link ID.
func (c *Conn) RemoteAddr() net.Addr { return c.far }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read fails by os.ErrDeadlineExceeded; the zero time: never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.read, t) }

// SetWriteDeadline sets when Write fails by os.ErrDeadlineExceeded; the zero time: never.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.write, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if c.s.intent == endBoth && c.s.recv.discarded {
		return c.failed("set", net.ErrClosed)
	}
	d.stop()
	d.past = false
	left := time.Until(t)
	switch turn := d.turn; {
	case t.IsZero():
	case left <= 0:
		d.past = true
	default:
		d.timer = time.AfterFunc(left, func() { c.expire(d, turn) })
	}
	c.changed.Broadcast()
	return nil
}

// expire is called by a deadline's timer.
func (c *Conn) expire(d *deadline, turn int) {
	c.peer.mu.Lock()
	defer c.peer.mu.Unlock()
	if d.turn == turn {
		d.past = true
		c.changed.Broadcast()
	}
}

// stop forgets the deadline's timer.
func (d *deadline) stop() {
	d.turn++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
