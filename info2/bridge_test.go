package info2

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBridge: two networks are separate, until they are bridged; then a text
// crosses once, under its own identifier.
func TestBridge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newMemNet(), newMemNet()
		link := func(c *Config) { c.Known = []netip.Addr{ip("10.0.0.1")} }
		a1, b1 := one.start(t, "10.0.0.1", nil), one.start(t, "10.0.0.2", link)
		a2, b2 := two.start(t, "10.0.0.1", nil), two.start(t, "10.0.0.2", link)
		all := []*running{a1, b1, a2, b2}
		elapse(10 * time.Second)
		if _, err := b1.Say(t.Context(), "apart"); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		// Two bridges make a loop, and must not circle.
		wg.Go(func() { Bridge(ctx, a1.Servent, a2.Servent) })
		wg.Go(func() { Bridge(ctx, b1.Servent, b2.Servent) })
		synctest.Wait()
		if _, err := b1.Say(t.Context(), "over"); err != nil {
			t.Fatal(err)
		}
		if _, err := a2.Say(t.Context(), "back"); err != nil {
			t.Fatal(err)
		}
		elapse(20 * time.Second)
		cancel()
		wg.Wait()
		want := [][]string{{"apart", "back", "over"}, {"apart", "back", "over"}, {"back", "over"}, {"back", "over"}}
		for i, r := range all {
			got := r.texts()
			slices.Sort(got)
			if !slices.Equal(got, want[i]) {
				t.Errorf("%d heard %q", i, got)
			}
			r.end(t)
		}
	})
}
