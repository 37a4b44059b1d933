//go:build unix

package platform

import (
	"context"
	"os"
)

// watchRead is the most that is read of the kernel's messages at once; no message is
// larger.
const watchRead = 1 << 16

// source is a socket on which the kernel announces changes.
type source struct {
	news   func([]byte) bool // reports whether what was read is a change
	passes func(error) bool  // reports whether reading goes on after an error, which is a change
	patience
}

// watch calls changed at first and for each burst of changes that the socket announces,
// until ctx ends.
func watch(ctx context.Context, socket *os.File, from source, changed func()) error {
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	defer socket.Close()

	events := make(chan struct{}, 1)
	tell(events) // what changed before the socket was there
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		buf := make([]byte, watchRead)
		for {
			n, err := socket.Read(buf)
			switch {
			case err != nil && !from.passes(err):
				failed <- err
				return
			case err != nil || from.news(buf[:n]):
				tell(events)
			}
		}
	}()
	debounce(ctx, from.patience, events, changed)
	socket.Close()
	err := <-failed
	if ctx.Err() != nil {
		return nil
	}
	return err
}
