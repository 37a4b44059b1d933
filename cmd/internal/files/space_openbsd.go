package files

import (
	"math"

	"golang.org/x/sys/unix"
)

// freeSpace returns how many bytes a user may still write to a directory's disk.
func freeSpace(dir string) (bytes int64, known bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.F_bsize == 0 || s.F_bavail < 0 {
		return 0, false
	}
	blocks, size := uint64(s.F_bavail), uint64(s.F_bsize)
	if blocks > math.MaxInt64/size {
		return math.MaxInt64, true
	}
	return int64(blocks * size), true
}
