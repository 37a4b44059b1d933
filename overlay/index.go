package overlay

import (
	"hash/maphash"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// index is how the lanes find contacts: by the short ID that a ULA ends in and every
// packet bears, by the full address that handshakes bear, and by the endpoint of a peer
// that may have packets forwarded. The loop writes it, the lanes read it without a lock.
// A handshake changes pointers in a contact and nothing here.
//
// The short ID of a full address would do, and costs a microsecond and three allocations.
// Anybody can make us pay that with packets of no more than a header.
type index struct {
	seed      maphash.Seed
	ids       *table[anode.ID, *peer.Contact] // of several with one short ID, the head of a list
	addresses *table[uint64, *peer.Contact]   // by hash; of two with one hash, which nobody can find, the later
	sources   *table[link.Endpoint, *peer.Contact]
}

func newIndex() *index {
	seed := maphash.MakeSeed()
	return &index{
		seed:      seed,
		ids:       newTable[anode.ID, *peer.Contact](func(id anode.ID) uint64 { return maphash.Bytes(seed, id[:]) }),
		addresses: newTable[uint64, *peer.Contact](func(h uint64) uint64 { return h }),
		sources:   newTable[link.Endpoint, *peer.Contact](func(ep link.Endpoint) uint64 { return new(placeOf(ep)).hash(seed) }),
	}
}

func (x *index) hash(a anode.Address) uint64 { return maphash.Bytes(x.seed, a[:]) }

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

// byParty returns the first contact that a packet may name as its sender or recipient, or
// nil.
func (x *index) byParty(s *wire.Party) *peer.Contact {
	if !s.Full() {
		return x.ids.get(s.ID)
	}
	c := x.addresses.get(x.hash(s.Address))
	if c != nil && c.Address != s.Address {
		return nil
	}
	return c
}

// source returns the contact of which an endpoint is a confirmed one, or nil.
func (x *index) source(ep link.Endpoint) *peer.Contact { return x.sources.get(ep.Place()) }

// add enters a contact.
func (x *index) add(c *peer.Contact) {
	c.Next.Store(x.ids.get(c.ID))
	x.ids.set(c.ID, c)
	x.addresses.set(x.hash(c.Address), c)
}

// remove takes a contact out.
func (x *index) remove(c *peer.Contact) {
	if h := x.hash(c.Address); x.addresses.get(h) == c {
		x.addresses.delete(h)
	}
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
