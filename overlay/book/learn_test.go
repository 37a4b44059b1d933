package book

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

func TestLearn(t *testing.T) {
	m := NewMemory(Entry{Address: north, Added: true}, Entry{Address: south, Blocked: true})
	m.Write(Batch{Learned: map[anode.Address][]wire.Endpoint{north: {ep1}, east: {ep2}}}) // east's was left behind
	b := open(t, m, Entry{Address: northAway})
	if got := b.Learned(north); !slices.Equal(got, []wire.Endpoint{ep1}) {
		t.Errorf("learned %v", got)
	}
	if c, _ := m.Load(); len(c.Learned) != 1 {
		t.Errorf("what nobody owns is still there: %v", c.Learned)
	}
	for _, a := range []anode.Address{south, east, northAway, {}} {
		b.Learn(a, []wire.Endpoint{ep3})
	}
	b.Learn(north, []wire.Endpoint{ep2, ep2}) // as of two runs of one machine
	if err := b.Flush(); err != nil {
		t.Fatal(err)
	}
	if c, _ := m.Load(); len(c.Learned) != 1 || !slices.Equal(c.Learned[north], []wire.Endpoint{ep2}) {
		t.Errorf("written: %v", c.Learned)
	}

	b.Learn(north, []wire.Endpoint{ep3}) // and not flushed before it is removed
	if err := do(b, north, north, "remove"); err != nil {
		t.Fatal(err)
	}
	b.Learn(north, []wire.Endpoint{ep1})
	b.Flush()
	if c, _ := m.Load(); len(c.Learned) != 0 || b.Learned(north) != nil {
		t.Errorf("endpoints outlive their peer: %v", c.Learned)
	}
	if err := do(b, north, north, "add"); err != nil || b.Learned(north) != nil {
		t.Errorf("who is added again has old endpoints: %v", b.Learned(north))
	}
}

// What was learned comes back with the peer when it is unblocked, and goes if it is
// removed while it is blocked.
func TestLearnedAndBlocked(t *testing.T) {
	m := NewMemory(Entry{Address: north, Added: true})
	b := open(t, m)
	b.Learn(north, []wire.Endpoint{ep1})
	b.Flush()
	do(b, north, north, "block")
	b.Learn(north, []wire.Endpoint{ep2})
	do(b, north, north, "unblock")
	if got := b.Learned(north); !slices.Equal(got, []wire.Endpoint{ep1}) {
		t.Errorf("learned %v", got)
	}
	do(b, north, north, "block remove")
	if c, _ := m.Load(); len(c.Learned) != 0 || b.Learned(north) != nil {
		t.Errorf("left: %v", c.Learned)
	}
}

// counted counts the writes of a Store, of which the first few may fail.
type counted struct {
	*Memory
	writes, fail atomic.Int32
}

func (c *counted) Write(b Batch) error {
	c.writes.Add(1)
	if c.fail.Add(-1) >= 0 {
		return errDisk
	}
	return c.Memory.Write(b)
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counted{Memory: NewMemory(Entry{Address: north, Added: true}, Entry{Address: south, Added: true})}
		b := open(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx, slog.New(slog.DiscardHandler))
		}()
		for i := range 1000 { // over ten seconds
			b.Learn([]anode.Address{north, south}[i%2], []wire.Endpoint{[]wire.Endpoint{ep1, ep2, ep3}[i%3]})
			time.Sleep(10 * time.Millisecond)
		}
		if n := s.writes.Load(); n < 9 || n > 11 {
			t.Errorf("%d writes in 10 s", n)
		}
		time.Sleep(time.Minute)
		idle := s.writes.Load()
		time.Sleep(time.Minute)
		if n := s.writes.Load(); n != idle {
			t.Errorf("%d writes of nothing", n-idle)
		}

		s.fail.Store(1) // a disk that is full for a while costs nothing that was learned
		b.Learn(north, []wire.Endpoint{ep1})
		b.Learn(south, []wire.Endpoint{ep1})
		time.Sleep(2 * time.Second)
		b.Learn(north, []wire.Endpoint{ep2})
		cancel()
		<-done
		c, _ := s.Load()
		if !slices.Equal(c.Learned[north], []wire.Endpoint{ep2}) || !slices.Equal(c.Learned[south], []wire.Endpoint{ep1}) {
			t.Errorf("at the end %v", c.Learned)
		}
	})
}

// The engine learns while people remove and add: nothing is left of who is removed.
func TestLearnWhileRemoving(t *testing.T) {
	m := NewMemory()
	b := open(t, m)
	stop := make(chan struct{})
	learned := make(chan struct{})
	go func() {
		defer close(learned)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			b.Learn(north, []wire.Endpoint{[]wire.Endpoint{ep1, ep2}[i%2]})
			b.Flush()
			b.Standing(north)
			b.Entries()
		}
	}()
	for range 300 {
		if err := do(b, north, north, "add remove"); err != nil {
			t.Error(err)
		}
		if c, _ := m.Load(); len(c.Learned) != 0 {
			t.Errorf("endpoints outlive their peer: %v", c.Learned)
			break
		}
	}
	close(stop)
	<-learned
}
