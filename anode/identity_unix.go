//go:build unix

package anode

import (
	"fmt"
	"io/fs"
)

func checkMode(path string, info fs.FileInfo) error {
	if m := info.Mode().Perm(); m&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; try: chmod 600 %s", ErrIdentityMode, path, m, path)
	}
	return nil
}
