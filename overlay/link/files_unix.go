//go:build unix

package link

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// mostConnections is how many connections fit into the files that the process may have open,
// with a quarter left to all else.
func mostConnections() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || uint64(r.Cur) > 2*maxConnections {
		return maxConnections
	}
	return min(maxConnections, int(r.Cur)/4*3)
}

// noFiles reports whether an error is that no more files can be opened.
func noFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
