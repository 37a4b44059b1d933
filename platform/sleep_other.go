//go:build !linux

package platform

import (
	"context"
	"time"
)

// Sleeps calls woke each time that the machine has slept, until ctx ends. This system does not say
// so: the node itself notices that its timers are late, and links that come back.
func Sleeps(ctx context.Context, _ func(time.Duration)) error {
	<-ctx.Done()
	return nil
}
