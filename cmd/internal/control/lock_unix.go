//go:build unix

package control

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockDir locks a directory against others that do the same. It leaves nothing in it.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}
