package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// patient returns a context that ends when a program closes its connection, so that nobody
// opens a connection for one that has left. r reads from c, and keeps what came meanwhile as
// far as it has room. stop has to be called before anybody else reads from either.
//
// A program that ends only its direction of writing before it is answered counts as one that
// left: SOCKS5 and HTTP CONNECT have an answer that it has to wait for.
func patient(ctx context.Context, c net.Conn, r *bufio.Reader) (waits context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, err := r.Peek(r.Buffered() + 1)
			switch {
			case err == nil:
			case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, bufio.ErrBufferFull):
				return
			default:
				cancel()
				return
			}
		}
	}()
	return ctx, func() {
		_ = c.SetReadDeadline(time.Unix(1, 0)) // wakes it
		<-done
		_ = c.SetReadDeadline(time.Time{})
		cancel()
	}
}
