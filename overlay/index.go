package overlay

import (
	"hash/maphash"
	"maps"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// index is how the lanes find contacts: by the short ID that a ULA ends in and every
// packet bears, and by the endpoint of a peer that may have packets forwarded. The loop
// writes it, the lanes read it without a lock. A handshake changes pointers in a
// contact and nothing here.
type index struct {
	ids     shards[anode.ID, *peer.Contact] // of several with one short ID, the head of a list
	sources shards[link.Endpoint, *peer.Contact]
}

func newIndex() *index {
	return &index{
		ids:     newShards[anode.ID, *peer.Contact](func(id anode.ID) byte { return id[0] }),
		sources: newShards[link.Endpoint, *peer.Contact](hashEndpoint(maphash.MakeSeed())),
	}
}

func hashEndpoint(seed maphash.Seed) func(link.Endpoint) byte {
	return func(ep link.Endpoint) byte { return byte(maphash.Comparable(seed, ep.Addr)) }
}

// byULA returns the contact with a ULA, or nil.
func (x *index) byULA(u anode.ULA) *peer.Contact {
	c := x.ids.get(u.ID())
	for c != nil && c.ULA != u {
		c = c.Next.Load()
	}
	return c
}

// byID returns the first contact with a short ID, or nil.
func (x *index) byID(id anode.ID) *peer.Contact { return x.ids.get(id) }

// bySender returns the first contact that a packet may be from, or nil.
func (x *index) bySender(s *wire.Party) *peer.Contact {
	c := x.ids.get(s.ShortID())
	for s.Full() && c != nil && c.Address != s.Address {
		c = c.Next.Load()
	}
	return c
}

// source returns the contact of which an endpoint is a confirmed one, or nil.
func (x *index) source(ep link.Endpoint) *peer.Contact { return x.sources.get(at(ep)) }

// add enters a contact.
func (x *index) add(c *peer.Contact) {
	c.Next.Store(x.ids.get(c.ID))
	x.ids.set(c.ID, c)
}

// remove takes a contact out.
func (x *index) remove(c *peer.Contact) {
	head := x.ids.get(c.ID)
	if head == c {
		if next := c.Next.Load(); next != nil {
			x.ids.set(c.ID, next)
		} else {
			x.ids.delete(c.ID)
		}
		return
	}
	for p := head; p != nil; p = p.Next.Load() {
		if p.Next.Load() == c {
			p.Next.Store(c.Next.Load())
		}
	}
}

// shards is a map that one goroutine writes and others read without a lock: each shard
// is an immutable map behind a pointer, and what a write copies is one of 256.
type shards[K comparable, V any] struct {
	of   func(K) byte
	maps *[256]atomic.Pointer[map[K]V]
}

func newShards[K comparable, V any](of func(K) byte) shards[K, V] {
	return shards[K, V]{of, new([256]atomic.Pointer[map[K]V])}
}

func (s *shards[K, V]) get(k K) (v V) {
	if m := s.maps[s.of(k)].Load(); m != nil {
		v = (*m)[k]
	}
	return v
}

func (s *shards[K, V]) set(k K, v V) { s.change(k, func(m map[K]V) { m[k] = v }) }

func (s *shards[K, V]) delete(k K) { s.change(k, func(m map[K]V) { delete(m, k) }) }

func (s *shards[K, V]) change(k K, f func(map[K]V)) {
	p := &s.maps[s.of(k)]
	next := map[K]V{}
	if old := p.Load(); old != nil {
		next = maps.Clone(*old)
	}
	f(next)
	p.Store(&next)
}

// at strips an endpoint to what identifies the other side.
func at(e link.Endpoint) link.Endpoint {
	x := link.Endpoint{Addr: e.Addr}
	if e.Addr.Addr().IsLinkLocalUnicast() {
		x.If = e.If
	}
	return x
}
