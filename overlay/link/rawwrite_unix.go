//go:build unix

package link

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawWrite writes to a TCP socket without waiting. It is for one goroutine at a time.
type rawWrite struct {
	conn syscall.RawConn
	run  func(fd uintptr) bool // bound once, so that no call allocates
	b    []byte
	most int // bytes that are to be unsent then
	n    int
}

// newRawWrite returns nil for what is no socket of the system.
func newRawWrite(c net.Conn) *rawWrite {
	switch x := c.(type) {
	case *begunConn:
		c = x.Conn
	case *webConn:
		c = x.Conn
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	w := &rawWrite{conn: raw}
	w.run = func(fd uintptr) bool {
		b := w.b
		if w.most < notSent {
			b = b[:min(len(b), max(w.most-unsent(int(fd)), 0))]
		}
		if w.n = 0; len(b) > 0 {
			w.n, _ = unix.Write(int(fd), b)
		}
		return true
	}
	return w
}

// write returns how many bytes of b the system took. It gives it no more than so many that it has
// most bytes unsent, if that is less than notSent. What is wrong with the connection is found by
// whoever writes the rest.
func (w *rawWrite) write(b []byte, most int) int {
	w.b, w.n, w.most = b, 0, most
	if err := w.conn.Write(w.run); err != nil {
		return 0
	}
	w.b = nil
	return max(w.n, 0)
}

// unsent returns how many bytes the system has that were never sent.
func (w *rawWrite) unsent() (n int) {
	_ = w.conn.Control(func(fd uintptr) { n = unsent(int(fd)) })
	return n
}
