//go:build !linux

package files

import (
	"errors"
	"os"
)

// syncAll writes files to the disk, and then the one that names them.
func syncAll(f *os.File, root *os.Root, names []string) (failed error) {
	for _, name := range names {
		one, err := root.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // somebody moved it away, or it is read-only
		}
		failed = errors.Join(failed, one.Sync(), one.Close())
	}
	return errors.Join(failed, f.Sync())
}
