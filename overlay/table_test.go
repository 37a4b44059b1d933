package overlay

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// A table does what a map does, whatever is done to it.
func TestTableIsAMap(t *testing.T) {
	for _, hash := range []func(uint16) uint64{
		func(k uint16) uint64 { return uint64(k) * 0x9e3779b97f4a7c15 >> 32 },
		func(k uint16) uint64 { return uint64(k % 3) }, // nearly all in one list
	} {
		x, want := newTable[uint16, int](hash), map[uint16]int{}
		r := rand.New(rand.NewPCG(1, 2))
		for n := range 20_000 {
			k := uint16(r.IntN(300))
			if r.IntN(3) == 0 {
				x.delete(k)
				delete(want, k)
			} else {
				x.set(k, n+1)
				want[k] = n + 1
			}
			if q := uint16(r.IntN(300)); x.get(q) != want[q] || x.count != len(want) {
				t.Fatalf("after %d steps: %d is %d, want %d; %d entries, want %d", n, q, x.get(q), want[q], x.count, len(want))
			}
		}
	}
}

// Keys that stay are found at any time while others come and go, and the table grows.
func TestTableIsReadWhileItIsWritten(t *testing.T) {
	const stay = 8
	x := newTable[int, int](func(k int) uint64 { return uint64(k) })
	for k := range stay {
		x.set(k, k+1)
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if k := n % stay; x.get(k) != k+1 {
					t.Errorf("%d is %d", k, x.get(k))
					return
				}
			}
		})
	}
	for n := range 5000 {
		x.set(stay+n, n)
		if n%2 == 0 {
			x.delete(stay + n/2)
		}
		x.set(n%stay, n%stay+1) // replaced by the same
	}
	close(done)
	readers.Wait()
}
