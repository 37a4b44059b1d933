package daemon

import (
	"context"
	"time"

	"anodenet/platform"
)

// followSleep tells the node when the machine has slept. It notices that itself too, but only when
// its next timer is late.
func (d *daemon) followSleep(ctx context.Context) error {
	err := platform.Sleeps(ctx, func(slept time.Duration) {
		d.log.Info("the machine has slept", "for", slept.Round(time.Second))
		d.node.Woke(ctx) // an error is the end of the node
		d.ports.again()
		d.names.mended()
	})
	if err != nil {
		d.log.Warn("sleep is noticed late", "err", err)
	}
	return nil
}
