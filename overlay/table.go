package overlay

import "sync/atomic"

// table is a hash table that one goroutine writes and others read without a lock. A write
// costs the same however much the table holds, except where it doubles. Who reads while
// something else is written finds all that is in the table before and after.
type table[K comparable, V any] struct {
	hash    func(K) uint64
	buckets atomic.Pointer[buckets[K, V]]
	count   int
}

// buckets are the heads of lists; their number is a power of two.
type buckets[K comparable, V any] []atomic.Pointer[entry[K, V]]

// entry is one key and its value, which never change.
type entry[K comparable, V any] struct {
	key   K
	value V
	next  atomic.Pointer[entry[K, V]]
}

const firstBuckets = 16

func newTable[K comparable, V any](hash func(K) uint64) *table[K, V] {
	t := &table[K, V]{hash: hash}
	t.buckets.Store(new(make(buckets[K, V], firstBuckets)))
	return t
}

// head is where the list begins that has a key.
func (t *table[K, V]) head(k K) *atomic.Pointer[entry[K, V]] {
	b := *t.buckets.Load()
	return &b[t.hash(k)&uint64(len(b)-1)]
}

// get returns the value of a key, or the zero value. Any goroutine may call it.
func (t *table[K, V]) get(k K) (v V) {
	for e := t.head(k).Load(); e != nil; e = e.next.Load() {
		if e.key == k {
			return e.value
		}
	}
	return v
}

// set enters a key, or replaces its value.
func (t *table[K, V]) set(k K, v V) {
	link := t.find(k)
	old := link.Load()
	e := &entry[K, V]{key: k, value: v}
	if old != nil {
		e.next.Store(old.next.Load())
	}
	link.Store(e)
	if old != nil {
		return
	}
	t.count++
	if t.count > len(*t.buckets.Load()) {
		t.grow()
	}
}

// delete takes a key out.
func (t *table[K, V]) delete(k K) {
	link := t.find(k)
	if old := link.Load(); old != nil {
		link.Store(old.next.Load())
		t.count--
	}
}

// find returns what points to the entry of a key, or to nil where there is none.
func (t *table[K, V]) find(k K) *atomic.Pointer[entry[K, V]] {
	link := t.head(k)
	for e := link.Load(); e != nil && e.key != k; e = link.Load() {
		link = &e.next
	}
	return link
}

// grow doubles the buckets. All entries are made anew, since the old ones are being read.
func (t *table[K, V]) grow() {
	old := *t.buckets.Load()
	next := make(buckets[K, V], 2*len(old))
	for i := range old {
		for e := old[i].Load(); e != nil; e = e.next.Load() {
			head := &next[t.hash(e.key)&uint64(len(next)-1)]
			x := &entry[K, V]{key: e.key, value: e.value}
			x.next.Store(head.Load())
			head.Store(x)
		}
	}
	t.buckets.Store(&next)
}
