package seal

import (
	"math/rand/v2"
	"testing"
)

func TestWindowEdges(t *testing.T) {
	if windowSize < 8192 {
		t.Fatalf("the window is %d", windowSize)
	}
	const size = windowSize
	steps := []struct {
		counter uint64
		want    bool
	}{
		{0, true}, {0, false}, {1, true}, {3, true}, {2, true}, {2, false}, {3, false},
		{size, true}, {0, false}, {1, false}, {4, true}, // 4 is the oldest but 3 inside
		{size + 4, true}, {4, false}, {5, true}, {5, false},
		{size + 6, true}, {6, false}, // just outside now
		{7, true},
		{100 * size, true}, {size + 6, false}, {99*size + 1, true}, {99 * size, false}, {99*size + 1, false},
		{100*size + 63, true}, {100*size + 64, true}, {100*size + 62, true}, {100 * size, false},
		{1 << 31, true}, {100*size + 65, false}, {1<<31 - size + 1, true}, {1<<31 - size, false},
	}
	var w window
	for i, s := range steps {
		if got := w.take(s.counter); got != s.want {
			t.Errorf("step %d, counter %d: %v, want %v", i, s.counter, got, s.want)
		}
	}
}

func TestWindowStartsAnywhere(t *testing.T) {
	for _, first := range []uint64{0, 1, 63, 64, windowSize, 1 << 20, 1<<32 - 1} {
		var w window
		if !w.take(first) || w.take(first) {
			t.Errorf("first counter %d", first)
		}
		if first > 0 && (!w.take(first-1) || w.take(first-1)) {
			t.Errorf("the one before %d", first)
		}
	}
}

// After a jump nothing is left of what was there, however far it goes.
func TestWindowJumps(t *testing.T) {
	const top = 2 * windowSize
	for _, jump := range []uint64{1, 63, 64, 65, windowSize - 64, windowSize, windowSize + 64, windowSize + 65,
		windowSize + 128, 3 * windowSize, 1 << 31} {
		for _, offset := range []uint64{0, 1, 31, 62, 63} {
			var w window
			for c := range uint64(top) {
				w.take(c + offset)
			}
			newest := top - 1 + offset + jump
			if !w.take(newest) {
				t.Fatalf("jump %d is not fresh", jump)
			}
			for c := newest - windowSize + 1; c < newest; c++ {
				if want := c >= top+offset; w.fresh(c) != want {
					t.Fatalf("jump %d from %d: %d is fresh: %v, want %v", jump, top-1+offset, c, w.fresh(c), want)
				}
			}
		}
	}
}

// The window against a map, over jumps of all sizes.
func TestWindowAgainstModel(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var w window
		seen := map[uint64]bool{}
		top := uint64(0)
		for range 20000 {
			c := top
			switch r.IntN(10) {
			case 0:
				c += r.Uint64N(4 * windowSize)
			case 1, 2:
				c += r.Uint64N(70)
			default:
				c -= min(c, r.Uint64N(windowSize+200))
			}
			want := !seen[c] && (c > top || top+1-c <= windowSize)
			if got := w.take(c); got != want {
				t.Fatalf("seed %d, counter %d, newest %d: %v, want %v", seed, c, top, got, want)
			}
			seen[c] = true
			top = max(top, c)
		}
	}
}

func BenchmarkWindow(b *testing.B) {
	var w window
	var c uint64
	b.ReportAllocs()
	for b.Loop() {
		w.take(c)
		c++
	}
}
