//go:build unix

package whole

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir writes a directory's entries to the disk, where the file system can.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
