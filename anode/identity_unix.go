//go:build unix

package anode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func checkMode(path string, info fs.FileInfo) error {
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; try: chmod 600 %s", ErrIdentityMode, path, m, path)
	}
	return nil
}

// syncDir writes a directory's entries to the disk, where the file system can.
func syncDir(path string) error {
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
