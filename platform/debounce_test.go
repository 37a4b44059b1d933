package platform

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestDebounce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		events := make(chan struct{}, 1)
		var told []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			debounce(ctx, patient, events, func() { told = append(told, time.Since(start)) })
		}()

		tell(events) // alone
		tell(events) // the same
		time.Sleep(5 * time.Second)
		for range 40 { // two seconds of them without a pause
			tell(events)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		cancel()
		<-done

		want := []time.Duration{100 * time.Millisecond, 6 * time.Second, 7 * time.Second, 7050 * time.Millisecond}
		if len(told) < 3 || len(told) > 4 {
			t.Fatalf("told at %v, want about %v", told, want)
		}
		for i := range told[:3] {
			if d := told[i] - want[i]; d < 0 || d > 100*time.Millisecond {
				t.Errorf("told at %v, want about %v", told, want)
			}
		}
	})
}
