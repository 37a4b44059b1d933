package overlay

import "sync/atomic"

// slots is a hash table of things that bear their key themselves. One goroutine writes
// it, others read it without a lock, and what they look for while something else is
// written, they find. A look-up touches one slot and the thing itself, nothing between
// them: with many clients, it is memory that costs time.
//
//	key -> hash -> slot, and the next ones up to an empty one
//
// Readers take a view, go from slot to slot until nil, and compare the keys. What was
// removed is replaced by gone, which is nobody's.
type slots[T any] struct {
	hash  func(*T) uint64
	gone  *T
	list  atomic.Pointer[view[T]]
	used  int // slots that are not empty, those that are gone too; the writer's
	count int // things; the writer's
}

// view is the slots as they are: a power of two, of which at most half are used.
type view[T any] []atomic.Pointer[T]

const firstSlots = 32

func newSlots[T any](gone *T, hash func(*T) uint64) *slots[T] {
	s := &slots[T]{hash: hash, gone: gone}
	s.list.Store(new(make(view[T], firstSlots)))
	return s
}

// view returns the slots for one look-up. Any goroutine may call it.
func (s *slots[T]) view() view[T] { return *s.list.Load() }

// at returns what is in the k-th slot, counted from a hash's first one; nil ends a look-up.
func (v view[T]) at(k uint64) *T { return v[k&uint64(len(v)-1)].Load() }

// put enters x in the place of old, which has the same key; nil: there is none.
func (s *slots[T]) put(x, old *T) {
	h := s.hash(x)
	if old != nil {
		s.slot(h, old).Store(x)
		return
	}
	free := s.slot(h, s.gone)
	if free.Load() == nil {
		s.used++
	}
	free.Store(x)
	s.count++
	if 2*s.used > len(s.view()) {
		s.renew()
	}
}

// slot returns the first slot for a hash that holds x, or else is empty.
func (s *slots[T]) slot(h uint64, x *T) *atomic.Pointer[T] {
	list := s.view()
	for k := h; ; k++ {
		p := &list[k&uint64(len(list)-1)]
		if y := p.Load(); y == nil || y == x {
			return p
		}
	}
}

// remove takes x out, which must be in the table.
func (s *slots[T]) remove(x *T) {
	list := s.view()
	k, mask := s.hash(x), uint64(len(list)-1)
	for list[k&mask].Load() != x {
		k++
	}
	s.count--
	list[k&mask].Store(s.gone)
	if list[(k+1)&mask].Load() != nil {
		return
	}
	for ; list[k&mask].Load() == s.gone; k-- { // nothing lies behind these
		list[k&mask].Store(nil)
		s.used--
	}
}

// renew makes the table anew: twice as large if it is full, or without what is gone.
func (s *slots[T]) renew() {
	old := s.view()
	size := len(old)
	if 4*s.count > size {
		size *= 2
	}
	list := make(view[T], size)
	for i := range old {
		x := old[i].Load()
		if x == nil || x == s.gone {
			continue
		}
		k := s.hash(x)
		for list[k&uint64(size-1)].Load() != nil {
			k++
		}
		list[k&uint64(size-1)].Store(x)
	}
	s.used = s.count
	s.list.Store(&list)
}
