package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/overlay/vnet"
)

// read returns what waits for a watcher within a second.
func read(t *testing.T, w *Watch) []Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	list, err := w.Next(ctx)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Next: %v", err)
	}
	return list
}

// numbered is one of many addresses, which need not be on the curve.
func numbered(k int) (a anode.Address) {
	a[8], a[9] = byte(k>>8), byte(k)
	return a
}

// A watcher that does not read has what is equal once, and beyond a bound only learns
// that it missed something; the others have all of it.
func TestWatchSlowAndFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		slow, fast := make([]*Watch, 4), make([]*Watch, 4)
		for k := range slow {
			slow[k], fast[k] = n.Watch(), n.Watch()
		}
		for range 3 * watchSize {
			n.events.add(Event{EventPeer, numbered(1)})
		}
		for _, w := range append(slices.Clone(slow), fast...) {
			if got := read(t, w); len(got) != 1 {
				t.Errorf("%d events of one kind wait, want 1", len(got))
			}
		}
		for k := range 2*watchSize + 10 {
			e := Event{EventPeer, numbered(k)}
			n.events.add(e)
			for _, w := range fast {
				if got := read(t, w); !slices.Equal(got, []Event{e}) {
					t.Fatalf("event %d: a watcher that reads has %v", k, got)
				}
			}
		}
		for _, w := range slow {
			got := read(t, w)
			missed := slices.IndexFunc(got, func(e Event) bool { return e.Kind == EventMissed })
			if len(got) > watchSize || missed < 0 {
				t.Errorf("a watcher that did not read has %d events, missed at %d", len(got), missed)
			}
			if last := (Event{EventPeer, numbered(2*watchSize + 9)}); len(got) == 0 || got[len(got)-1] != last {
				t.Error("the newest event is not the last")
			}
			if list := read(t, w); list != nil {
				t.Errorf("more waits: %v", list)
			}
		}
	})
}

// Close ends a wait, now and later, and nothing is kept for whoever is gone.
func TestWatchClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &Node{}
		w := n.Watch()
		ended := make(chan error, 1)
		go func() {
			_, err := w.Next(t.Context())
			ended <- err
		}()
		synctest.Wait()
		w.Close()
		if err := <-ended; !errors.Is(err, ErrClosed) {
			t.Errorf("Next: %v", err)
		}
		w.Close()
		n.events.add(Event{EventPeer, numbered(1)})
		if _, err := w.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Next: %v", err)
		}
		if len(n.events.watchers) != 0 || len(w.list) != 0 {
			t.Error("the watch is still fed")
		}
		x := n.Watch()
		n.events.add(Event{EventPeer, numbered(1)})
		x.Close()
		if _, err := x.Next(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Next with events after Close: %v", err)
		}
	})
}

// What happens to a peer is told, and a watcher that never reads stops nothing.
func TestWatchNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		c := newTestNode(t, w.Host("c"), nil)
		defer a.stop()
		never := a.Watch()
		defer never.Close()
		x := a.Watch()
		defer x.Close()
		settle(time.Second)
		has := func(what string, want Event) {
			t.Helper()
			settle(100 * time.Millisecond)
			if got := read(t, x); !slices.Contains(got, want) {
				t.Errorf("%s: %v", what, got)
			}
		}
		a.say(b, "up")
		has("up", Event{EventPeer, b.address0()})
		for _, v := range []struct {
			name string
			f    func() error
			kind EventKind
		}{
			{"add", func() error { _, err := a.AddPeer(t.Context(), Peer{Address: c.address0()}); return err }, EventDecided},
			{"rename", func() error { _, err := a.RenamePeer(t.Context(), c.address0(), "carol"); return err }, EventDecided},
			{"block", func() error { _, err := a.BlockPeer(t.Context(), c.address0(), true); return err }, EventDecided},
			{"unblock", func() error { _, err := a.BlockPeer(t.Context(), c.address0(), false); return err }, EventDecided},
			{"remove", func() error { _, err := a.RemovePeer(t.Context(), c.address0()); return err }, EventRemoved},
		} {
			if err := v.f(); err != nil {
				t.Fatal(err)
			}
			has(v.name, Event{v.kind, c.address0()})
		}
		for k := range 3 * watchSize {
			a.events.add(Event{EventFound, numbered(k)})
		}
		for k := range 20 {
			a.say(b, fmt.Sprint("n", k))
		}
		settle(time.Second)
		b.heard(a, "n19", 1)
		if n := len(never.list); n > watchSize {
			t.Errorf("%d events wait", n)
		}
		read(t, x)
		b.stop()
		for range 6 {
			a.say(b, "into the void")
			settle(time.Second)
		}
		has("lost", Event{EventPeer, b.address0()})
	})
}
