//go:build unix

package config

import (
	"fmt"
	"io/fs"
)

func checkMode(path string, info fs.FileInfo) error {
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%w: others can read %s (mode %04o)", ErrInvalid, path, m)
	}
	return nil
}
