package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/files"
)

// streamConn is a connection to a peer through the daemon, as a net.Conn. A deadline that
// passes ends it.
type streamConn struct {
	*control.Stream
	remote      net.Addr
	read, write deadline
}

func newStreamConn(s *control.Stream, remote net.Addr) *streamConn {
	c := &streamConn{Stream: s, remote: remote}
	c.read.over, c.write.over = c.end, c.end
	return c
}

func (c *streamConn) end() { c.Stream.Close() } // who reads or writes sees it

// Read implements net.Conn.
func (c *streamConn) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	return n, c.read.explain(err)
}

// Write implements net.Conn.
func (c *streamConn) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	return n, c.write.explain(err)
}

// Close implements net.Conn.
func (c *streamConn) Close() error {
	c.read.set(time.Time{})
	c.write.set(time.Time{})
	return c.Stream.Close()
}

// LocalAddr implements net.Conn.
func (c *streamConn) LocalAddr() net.Addr { return &net.TCPAddr{} }

// RemoteAddr implements net.Conn.
func (c *streamConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(t time.Time) error {
	c.read.set(t)
	c.write.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *streamConn) SetReadDeadline(t time.Time) error {
	c.read.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *streamConn) SetWriteDeadline(t time.Time) error {
	c.write.set(t)
	return nil
}

// deadline calls a function when a time has come.
type deadline struct {
	over func()

	mu     sync.Mutex
	timer  *time.Timer
	passed bool
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.timer != nil && t.IsZero():
		d.timer.Stop()
	case d.timer != nil:
		d.timer.Reset(time.Until(t))
	case !t.IsZero():
		d.timer = time.AfterFunc(time.Until(t), d.pass)
	}
}

func (d *deadline) pass() {
	d.mu.Lock()
	d.passed = true
	d.mu.Unlock()
	d.over()
}

// explain returns the error of an operation that a deadline may have ended.
func (d *deadline) explain(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.passed {
		return os.ErrDeadlineExceeded
	}
	return err
}

// streamListener takes connections of peers through the daemon.
type streamListener struct {
	client *control.Client
	ctx    context.Context
	cancel context.CancelFunc
}

func listenStreams(ctx context.Context, client *control.Client) *streamListener {
	ctx, cancel := context.WithCancel(ctx)
	return &streamListener{client, ctx, cancel}
}

// A daemon that was restarted, or has not yet noticed that an earlier receiver has gone, is
// asked again.
const (
	acceptPause = 500 * time.Millisecond
	acceptTries = 8 // while another program uses the port
)

// Accept implements net.Listener.
func (l *streamListener) Accept() (net.Conn, error) {
	for refused := 0; ; {
		s, from, err := l.client.Accept(l.ctx, files.Port)
		if err == nil {
			return newStreamConn(s, net.TCPAddrFromAddrPort(from)), nil
		}
		var remote *control.Error
		if errors.As(err, &remote) {
			refused++
		}
		switch {
		case l.ctx.Err() != nil:
			return nil, net.ErrClosed
		case refused == acceptTries:
			return nil, err
		}
		if wait(l.ctx, acceptPause) != nil {
			return nil, net.ErrClosed
		}
	}
}

// Close implements net.Listener. Connections end with it.
func (l *streamListener) Close() error {
	l.cancel()
	return nil
}

// Addr implements net.Listener.
func (l *streamListener) Addr() net.Addr { return &net.TCPAddr{Port: files.Port} }
