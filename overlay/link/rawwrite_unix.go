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
	n    int
}

// newRawWrite returns nil for what is no socket of the system.
func newRawWrite(c net.Conn) *rawWrite {
	if begun, ok := c.(*begunConn); ok {
		c = begun.Conn
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
		w.n, _ = unix.Write(int(fd), w.b)
		return true
	}
	return w
}

// write returns how many bytes of b the system took. What is wrong with the connection is found
// by whoever writes the rest.
func (w *rawWrite) write(b []byte) int {
	w.b, w.n = b, 0
	if err := w.conn.Write(w.run); err != nil {
		return 0
	}
	w.b = nil
	return max(w.n, 0)
}
