package info2

import (
	"context"
	"time"
)

// Bridge carries every message of each network to the other until ctx ends or
// one of the servents stops. Identifiers stay, so that bridges make no loops; a
// bridge has the budget of one link. What was encrypted on the adapter is clear text on
// the bare network: only on the user's wish.
func Bridge(ctx context.Context, a, b *Servent) error {
	const waiting = 256
	fromA, fromB := a.Subscribe(waiting), b.Subscribe(waiting)
	defer fromA.Close()
	defer fromB.Close()
	for {
		var m Message
		var ok bool
		to := b
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m, ok = <-fromA.Messages():
		case m, ok = <-fromB.Messages():
			to = a
		}
		if !ok {
			return ErrStopped
		}
		if err := to.call(ctx, func(now time.Time) { to.core.inject(now, m.MID, m.Text) }); err != nil {
			return err
		}
	}
}
