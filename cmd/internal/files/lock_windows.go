package files

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// lock reports whether no other process has a file. It ends when the file is closed. It
// covers one byte far behind the end: Windows lets nobody else read what is locked.
func lock(f *os.File) bool {
	at := windows.Overlapped{OffsetHigh: math.MaxInt32}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	return !errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}
