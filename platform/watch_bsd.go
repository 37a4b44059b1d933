//go:build darwin || freebsd || openbsd

package platform

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls changed when it has begun to watch, and after links, addresses or routes
// may have changed: once for each burst of changes, and at least once a second in a long
// one. It returns nil when ctx has ended, or an error when it cannot watch.
func Watch(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_ROUTE, unix.SOCK_RAW, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("watching links: %w", err)
	}
	return watch(ctx, os.NewFile(uintptr(fd), "route"), source{
		news:   func([]byte) bool { return true },
		passes: func(error) bool { return false }, patience: patient,
	}, changed)
}
