package platform

import (
	"context"
	"time"
)

// patience is when a burst of events is reported.
type patience struct {
	quiet   time.Duration // without an event, before a burst is reported
	longest time.Duration // the longest time that an event waits to be reported
}

// patient is for what need not be known at once.
var patient = patience{100 * time.Millisecond, time.Second}

// debounce calls changed after each burst of events, until ctx ends or events is closed.
func debounce(ctx context.Context, p patience, events <-chan struct{}, changed func()) {
	timer := time.NewTimer(0)
	<-timer.C
	defer timer.Stop()
	var first time.Time // of the burst, zero outside one
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				return
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(min(p.quiet, p.longest-now.Sub(first)))
		case <-timer.C:
			first = time.Time{}
			changed()
		}
	}
}

// tell notes an event, unless one is waiting already.
func tell(events chan<- struct{}) {
	select {
	case events <- struct{}{}:
	default:
	}
}
