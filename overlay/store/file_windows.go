package store

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

const openFlags = 0

// tryLock locks a byte far beyond the end. bbolt locks another one.
func tryLock(f *os.File, exclusive bool) error {
	var how uint32 = windows.LOCKFILE_FAIL_IMMEDIATELY
	if exclusive {
		how |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), how, 0, 1, 0, farBeyond())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errLocked
	}
	return err
}

func unlock(f *os.File) { windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, farBeyond()) }

func farBeyond() *windows.Overlapped { return &windows.Overlapped{OffsetHigh: 1 << 30} }

func isLink(error) bool { return false }

func isReadOnly(error) bool { return false }
