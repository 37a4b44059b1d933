package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// aliveEvery is how long a connection may be silent until the other end is asked for a sign of
// life.
const aliveEvery = time.Minute

// keepAlive has the end of a peer that vanished noticed. The system does that by itself for
// TCP.
func keepAlive(c net.Conn) {
	if k, ok := c.(interface{ KeepAlive(every time.Duration) }); ok {
		k.KeepAlive(aliveEvery)
	}
}

// abort closes a connection so that the other end sees a reset, and not an end.
func abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ Abort() }:
		c.Abort()
	case interface{ SetLinger(sec int) error }:
		_ = c.SetLinger(0)
	}
	c.Close()
}

// Splice copies between two connections until both directions have ended, and closes both. A
// direction that ends is ended on the other side, while the other one goes on. If one fails,
// or ctx ends, both connections are reset; the error is that of the failure.
func Splice(ctx context.Context, a, b net.Conn) error {
	stop := context.AfterFunc(ctx, func() {
		abort(a)
		abort(b)
	})
	back := make(chan error, 1)
	go func() { back <- pump(a, b) }()
	err := pump(b, a)
	err = errors.Join(err, <-back)
	stop() // ctx may end with the first that is closed, and nothing is to be reset any more
	a.Close()
	b.Close()
	return err
}

// pump copies one direction, and ends it.
func pump(to, from net.Conn) error {
	_, err := io.Copy(to, from)
	if err == nil {
		err = closeWrite(to)
	}
	if err != nil {
		abort(to)
		abort(from)
	}
	return err
}

// closeWrite ends the direction of writing. A connection without such an end is closed.
func closeWrite(c net.Conn) error {
	var err error
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		err = h.CloseWrite()
	} else {
		err = c.Close()
	}
	// It is no failure that the other side has ended everything already.
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
