package link

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// deadAfter is after how long without an acknowledgement a connection ends, in milliseconds.
	deadAfter = 10_000
	// notSent is how many bytes the kernel takes beyond what the network takes: the rest waits
	// with us, who can drop it.
	notSent = 64 << 10
)

// setStream prepares a TCP socket. Connections inherit what their listener has. Options
// that the kernel does not have are skipped.
func setStream(c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, deadAfter)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
	})
}
