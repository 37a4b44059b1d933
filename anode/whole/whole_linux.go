package whole

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

var places = []placer{rename, link, claim}

// rename is renameat2(2) with RENAME_NOREPLACE.
func rename(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EEXIST):
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	// EINVAL, ENOSYS, or what a filter of system calls says instead. The last way shows
	// the error if it is another one.
	return errUnable
}
