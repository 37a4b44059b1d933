package overlay

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"anodenet/anode"
)

type keyed struct{ key, hash uint64 }

func newNumbers() *slots[keyed] {
	return newSlots(new(keyed), func(x *keyed) uint64 { return x.hash })
}

func (s *slots[T]) find(h uint64, same func(*T) bool) *T {
	v := s.view()
	for k := h; ; k++ {
		if x := v.at(k); x == nil || x != s.gone && same(x) {
			return x
		}
	}
}

func keyedBy(s *slots[keyed], key, hash uint64) *keyed {
	return s.find(hash, func(x *keyed) bool { return x.key == key })
}

// Whatever is entered, replaced and removed, also where all have the same hash: what is
// there is found, and what is not is not.
func TestSlots(t *testing.T) {
	for _, spread := range []uint64{1, 3, 1 << 40} {
		s, want := newNumbers(), map[uint64]*keyed{}
		for range 20000 {
			key := rand.Uint64N(300)
			hash := key * 0x9e3779b97f4a7c15 % spread
			old := want[key]
			if got := keyedBy(s, key, hash); got != old {
				t.Fatalf("key %d: %v, want %v", key, got, old)
			}
			if old != nil && rand.IntN(2) == 0 {
				s.remove(old)
				delete(want, key)
				continue
			}
			x := &keyed{key, hash}
			s.put(x, old)
			want[key] = x
		}
		if s.count != len(want) || s.used < s.count || 2*s.used > len(s.view()) || len(s.view()) > 4*300 {
			t.Errorf("%d of %d things are counted, %d of %d slots used", s.count, len(want), s.used, len(s.view()))
		}
	}
}

// What stays in the table is found at any moment while others come and go.
func TestSlotsAreReadWhileWritten(t *testing.T) {
	s := newNumbers()
	const stay, all = 50, 2000
	for key := range uint64(stay) {
		s.put(&keyed{key, key * 7}, nil)
	}
	var done atomic.Bool
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for !done.Load() {
				for key := range uint64(stay) {
					if keyedBy(s, key, key*7) == nil {
						t.Errorf("%d was not found", key)
						return
					}
				}
			}
		})
	}
	for range 20 {
		var come []*keyed
		for key := range uint64(all) {
			x := &keyed{stay + key, key * 3}
			s.put(x, nil)
			come = append(come, x)
			k := rand.Uint64N(stay)
			s.put(&keyed{k, k * 7}, keyedBy(s, k, k*7))
		}
		rand.Shuffle(len(come), func(i, j int) { come[i], come[j] = come[j], come[i] })
		for _, x := range come {
			s.remove(x)
		}
	}
	done.Store(true)
	readers.Wait()
}

// The marks of what was removed are nobody: not even a packet that names the zero ID or
// comes from the zero place finds them, and who is behind them is found.
func TestNobodyIsNotFound(t *testing.T) {
	for range 100 { // of hashes
		x := newClientIndex()
		var list []*client
		for k := range byte(15) {
			c := &client{id: anode.ID{1 + k}, address: anode.Address{1 + k}}
			x.add(c)
			x.moor(c, 1, place{port: 1 + uint16(k)}, 1)
			list = append(list, c)
		}
		for _, c := range list[:8] {
			x.remove(c)
		}
		if x.named(anode.ID{}) != nil || x.at(place{}) != nil || x.get(&anode.Address{}) != nil {
			t.Fatal("nobody was found")
		}
		for _, c := range list[8:] {
			if x.named(c.id) != c || x.at(c.first.place) != &c.first || x.get(&c.address) != c {
				t.Fatal("who is there is not found")
			}
		}
	}
}
