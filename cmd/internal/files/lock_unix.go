//go:build linux || darwin || freebsd || openbsd

package files

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock reports whether no other process has a file. It ends when the file is closed. File
// systems without locks have none.
func lock(f *os.File) bool {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	return !errors.Is(err, unix.EWOULDBLOCK)
}
