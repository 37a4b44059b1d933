//go:build unix

package platform

import (
	"context"
	"os"
)

// watch tells each read from a socket of the kernel's as an event, until ctx ends. passing
// tells errors from which reading goes on.
func watch(ctx context.Context, socket *os.File, passing func(error) bool, changed func()) error {
	stop := context.AfterFunc(ctx, func() { socket.Close() })
	defer stop()
	defer socket.Close()

	events := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() {
		defer close(events)
		buf := make([]byte, 1<<16)
		for {
			if _, err := socket.Read(buf); err != nil && !passing(err) {
				failed <- err
				return
			}
			tell(events)
		}
	}()
	debounce(ctx, events, changed)
	socket.Close()
	err := <-failed
	if ctx.Err() != nil {
		return nil
	}
	return err
}
