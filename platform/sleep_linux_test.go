package platform

import (
	"context"
	"testing"
	"time"
)

// Without a sleep nothing is reported, and the wait ends with its context.
func TestSleepsEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Sleeps(ctx, func(d time.Duration) { t.Errorf("a sleep of %v", d) }) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}

// The two clocks differ by sleep alone.
func TestAsleep(t *testing.T) {
	a := asleep()
	b := asleep()
	if a < -time.Millisecond || b-a > sleptFor {
		t.Errorf("%v, then %v", a, b)
	}
}
