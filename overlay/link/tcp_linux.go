package link

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// deadAfter is after how long without an acknowledgement a connection ends, in milliseconds.
const deadAfter = 10_000

// setStream prepares a TCP socket. Connections inherit what their listener has. Options
// that the kernel does not have are skipped.
func setStream(c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, deadAfter)
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
	})
}

// unsent is how many bytes a TCP socket has that were never sent.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQNSD)
	if err != nil {
		return 0
	}
	return n
}
