package overlay

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// A client is an address that registered to be relayed for, and that nobody added (draft
// 2.3.1). It is no peer: all that is kept of it is below, some hundred bytes.
//
//	          PING             EPC from there          silence
//	nothing -------> checking ----------------> at a place --------> nothing
//	                  |   ^                       |   ^
//	                  |   '-- from another place -'   |
//	                  v                               |
//	               nothing, if no EPC comes           EPC
//
// A PING can be replayed, so a place counts only after a check by EPC_REQ. Clients whose
// zone is not served are guests: packets go between them and clients of served zones, and
// to nobody else.
type client struct {
	// What lanes read for each packet comes first, to lie together.
	id             anode.ID
	next           atomic.Pointer[client] // another one with the same short ID; the loop writes it
	places         atomic.Pointer[berth]  // where its machines are and were before, the latest first; the loop writes it
	bytes, packets throttle               // of what is forwarded; the lanes write it
	control        peer.Budget            // unsealed packets of it; the lanes write it
	guest          bool                   // its zone is not served; it never changes

	// The loop's alone.
	queued bool  // in clients.checks
	moored bool  // first has been used
	slot   int32 // in clients.list

	// The first of places. It is used once, since lanes may read it later than that.
	first berth

	check *check // that is under way; nil: none; the loop's

	// What never changes.
	site    site // where it came from first
	address anode.Address
	key     [32]byte // of the MAC; expanded for each packet, since that takes ten times the memory
}

// berth is where one machine of a client is, or was before. Of what is in it, lanes write heard, and the
// loop next; the rest never changes.
type berth struct {
	client  *client
	place   place
	machine uint8
	heard   atomic.Int64 // when a packet last came from there
	next    atomic.Pointer[berth]
}

// place is an endpoint in little memory and without pointers.
type place struct {
	ip   [16]byte
	on   uint32 // the connection, or the interface of a link-local address
	port uint16
	kind link.Kind
}

func placeOf(ep link.Endpoint) place {
	p := place{ip: ep.Addr.Addr().As16(), port: ep.Addr.Port(), kind: ep.Kind, on: ep.Conn}
	if ep.Addr.Addr().IsLinkLocalUnicast() {
		p.on = uint32(ep.If)
	}
	return p
}

// hash takes a third of the time of maphash.Comparable.
func (p *place) hash(seed maphash.Seed) uint64 {
	var b [23]byte
	copy(b[:], p.ip[:])
	binary.LittleEndian.PutUint32(b[16:], p.on)
	binary.LittleEndian.PutUint16(b[20:], p.port)
	b[22] = byte(p.kind)
	return maphash.Bytes(seed, b[:])
}

func (p *place) endpoint() link.Endpoint {
	ep := link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom16(p.ip).Unmap(), p.port), Kind: p.kind}
	if p.kind.Connected() {
		ep.Conn = p.on
	} else {
		ep.If = int(p.on)
	}
	return ep
}

// site is mono.Site in one word.
type site uint64

func siteOf(a netip.Addr) site {
	a = mono.Site(a)
	b := a.As16()
	if a.Is4() {
		return site(binary.BigEndian.Uint32(b[12:]))
	}
	return site(1<<63 | binary.BigEndian.Uint64(b[:])>>8)
}

// to returns where packets to a machine go: to the one that was found last if it is 0 or
// unknown (draft 3.4).
func (c *client) to(machine uint8) *berth {
	first := c.places.Load()
	for b := first; b != nil && machine != 0; b = b.next.Load() {
		if b.machine == machine {
			return b
		}
	}
	return first
}

// at returns the berth of a machine, if it is at a place; nil otherwise.
func (c *client) at(machine uint8, at place) *berth {
	if b := c.to(machine); b != nil && b.machine == machine && b.place == at {
		return b
	}
	return nil
}

// knows reports whether a machine is at a place, or was there before.
func (c *client) knows(machine uint8, at place) bool {
	for b := c.places.Load(); b != nil; b = b.next.Load() {
		if b.machine == machine && b.place == at {
			return true
		}
	}
	return false
}

// sent reports whether a packet bears the client as its sender.
func (c *client) sent(p []byte) bool {
	if p[1]&wire.FlagFullSender != 0 {
		h, _, err := wire.Parse(p)
		return err == nil && h.Sender.Address == c.address
	}
	return wire.SealedSender(p) == c.id // the same place in all packets
}

// clientIndex is how the lanes find clients. The loop writes it.
type clientIndex struct {
	seed      maphash.Seed
	ids       *slots[client] // of several with one short ID, the head of a list
	addresses *slots[client]
	places    *slots[berth]

	count int // of clients that are somewhere; the loop's alone
}

func newClientIndex() *clientIndex {
	x := &clientIndex{seed: maphash.MakeSeed()}
	x.ids = newSlots(new(client), func(c *client) uint64 { return x.hashID(c.id) })
	x.addresses = newSlots(new(client), func(c *client) uint64 { return x.hash(&c.address) })
	x.places = newSlots(new(berth), func(b *berth) uint64 { return x.hashPlace(b.place) })
	return x
}

func (x *clientIndex) hash(a *anode.Address) uint64 { return maphash.Bytes(x.seed, a[:]) }

func (x *clientIndex) hashID(id anode.ID) uint64 { return maphash.Bytes(x.seed, id[:]) }

func (x *clientIndex) hashPlace(p place) uint64 { return p.hash(x.seed) }

// at returns who is at a place, or nil.
func (x *clientIndex) at(p place) *berth { return x.atHash(p, x.hashPlace(p)) }

func (x *clientIndex) atHash(p place, hash uint64) *berth {
	v := x.places.view()
	for k := hash; ; k++ {
		if b := v.at(k); b == nil || b.place == p && b != x.places.gone {
			return b
		}
	}
}

// named returns the first client with a short ID, or nil.
func (x *clientIndex) named(id anode.ID) *client {
	v := x.ids.view()
	for k := x.hashID(id); ; k++ {
		if c := v.at(k); c == nil || c.id == id && c != x.ids.gone {
			return c
		}
	}
}

// get returns the client with an address, or nil.
func (x *clientIndex) get(a *anode.Address) *client {
	v := x.addresses.view()
	for k := x.hash(a); ; k++ {
		if c := v.at(k); c == nil || c.address == *a && c != x.addresses.gone {
			return c
		}
	}
}

// byParty returns the first client that a packet may name as its sender, or nil.
func (x *clientIndex) byParty(s *wire.Party) *client {
	if s.Full() {
		return x.get(&s.Address)
	}
	return x.named(s.ID)
}

func (x *clientIndex) add(c *client) {
	head := x.named(c.id)
	c.next.Store(head)
	x.ids.put(c, head)
	x.addresses.put(c, x.get(&c.address))
}

func (x *clientIndex) remove(c *client) {
	for c.places.Load() != nil {
		x.unmoor(c.places.Load())
	}
	if x.get(&c.address) == c {
		x.addresses.remove(c)
	}
	switch head := x.named(c.id); {
	case head == c && c.next.Load() != nil:
		x.ids.put(c.next.Load(), c)
	case head == c:
		x.ids.remove(c)
	default:
		for p := head; p != nil; p = p.next.Load() {
			if p.next.Load() == c {
				p.next.Store(c.next.Load())
			}
		}
	}
}

// moor enters where a machine of a client is. What it sends from where it was before is taken
// still: it may use several ways to us in turn, such as one by each family of addresses. Whoever was
// at the place is there no more. It returns the client that lost its place to this one; nil if none
// did.
func (x *clientIndex) moor(c *client, machine uint8, at place, now mono.Time) (lost *client) {
	if b := c.to(machine); b != nil && b.machine == machine && b.place != at {
		x.unmoorBefore(b)
	}
	if there := x.at(at); there != nil {
		lost = there.client
		x.unmoor(there)
	}
	b := c.berth(machine, at)
	b.heard.Store(int64(now))
	if c.places.Load() == nil {
		x.count++
	}
	b.next.Store(c.places.Load())
	c.places.Store(b)
	x.places.put(b, nil)
	return lost
}

// berth makes one, which nobody knows yet.
func (c *client) berth(machine uint8, at place) *berth {
	if c.moored {
		return &berth{client: c, place: at, machine: machine}
	}
	c.moored = true
	c.first.client, c.first.place, c.first.machine = c, at, machine
	return &c.first
}

// unmoorBefore forgets where a machine was before it was at a berth.
func (x *clientIndex) unmoorBefore(b *berth) {
	for old := b.next.Load(); old != nil; old = old.next.Load() {
		if old.machine == b.machine {
			x.unmoor(old)
		}
	}
}

// unmoor forgets where a machine is.
func (x *clientIndex) unmoor(b *berth) {
	if x.at(b.place) == b {
		x.places.remove(b)
	}
	link := &b.client.places
	for p := link.Load(); p != nil; p = link.Load() {
		if p == b {
			link.Store(b.next.Load())
			if b.client.places.Load() == nil {
				x.count--
			}
			return
		}
		link = &p.next
	}
}

// throttle is a token bucket of any number of goroutines in one word: how far ahead of
// its rate the traffic is, in time. What is taken may be more than a burst.
type throttle struct{ ahead atomic.Int64 }

// throttleBurst is what may pass at once: what the rate allows in this time.
const throttleBurst = int64(100e6)

// rate is a limit as it is computed with: nanoseconds for one unit. 0 is no limit.
type rate float64

func newRate(perSecond uint64) rate {
	if perSecond == 0 {
		return 0
	}
	return rate(1e9 / float64(perSecond))
}

// take reports whether there is room, and takes n units.
func (t *throttle) take(now mono.Time, n int, perSecond rate) bool {
	if perSecond == 0 {
		return true
	}
	cost := int64(float64(n) * float64(perSecond))
	for {
		old := t.ahead.Load()
		at := max(old, int64(now))
		if at > int64(now)+throttleBurst {
			return false
		}
		if t.ahead.CompareAndSwap(old, at+cost) {
			return true
		}
	}
}
