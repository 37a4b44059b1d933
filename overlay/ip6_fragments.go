package overlay

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// A peer with an adapter sends UDP that is longer than its MTU as fragments (RFC 8200, 4.5),
// each in an IP6 message. At a node without an adapter no operating system puts them
// together, so the node does:
//
//	next[1] 0[1] offset[13 bits] 0[2 bits] more[1 bit] id[4] part
//
// If fragments overlap, all of their packet is dropped, also what comes later (RFC 5722).
const (
	protoFragment  = 44
	fragmentHeader = 8

	ip6PartCost   = 64              // of memory that a fragment takes besides its bytes
	ip6Parts      = 128             // of one packet
	ip6Packets    = 16              // of one peer that are not complete
	ip6One        = 256 << 10       // bytes of one peer
	ip6Strangers  = 256 << 10       // of all strangers
	ip6All        = 4 << 20         // of all
	ip6For        = 2 * time.Second // that a packet may take to arrive
	ip6Longest    = 1<<16 - 1       // of a packet, without the fixed header
	ip6SweepEvery = time.Second     // between looks at everybody
)

// ip6Fragment is one fragment.
type ip6Fragment struct {
	next byte
	at   int
	more bool
	id   uint32
	part []byte // lies in the message
}

// readFragment reads the bytes behind a fixed header whose next header is protoFragment.
func readFragment(b []byte) (f ip6Fragment, ok bool) {
	if len(b) <= fragmentHeader {
		return f, false
	}
	word := binary.BigEndian.Uint16(b[2:])
	f = ip6Fragment{next: b[0], at: int(word &^ 7), more: word&1 != 0, id: binary.BigEndian.Uint32(b[4:]), part: b[fragmentHeader:]}
	return f, (!f.more || len(f.part)%8 == 0) && f.at+len(f.part) <= ip6Longest
}

// ip6Packet is a packet of which not all fragments are there.
type ip6Packet struct {
	id     uint32
	since  mono.Time
	parts  []ip6Part // by their offsets; they do not overlap
	length int       // of all parts
	total  int       // 0: the last fragment is not there yet
	dead   bool      // its fragments overlapped, or did not fit: nothing more is kept
}

type ip6Part struct {
	at    int
	bytes []byte
}

// cost is the memory that the packet takes.
func (p *ip6Packet) cost() int { return p.length + len(p.parts)*ip6PartCost }

// place returns where a fragment belongs among the parts. repeated says that it is there
// already; ok is false if it contradicts what is there.
func (p *ip6Packet) place(f *ip6Fragment) (i int, repeated, ok bool) {
	end := f.at + len(f.part)
	switch {
	case p.total != 0 && (end > p.total || !f.more && end != p.total), len(p.parts) == ip6Parts:
		return 0, false, false
	case !f.more && len(p.parts) > 0:
		if last := p.parts[len(p.parts)-1]; last.at+len(last.bytes) > end {
			return 0, false, false
		}
	}
	i, same := slices.BinarySearchFunc(p.parts, f.at, func(x ip6Part, at int) int { return x.at - at })
	switch {
	case same && bytes.Equal(p.parts[i].bytes, f.part):
		return i, true, true
	case same, i > 0 && p.parts[i-1].at+len(p.parts[i-1].bytes) > f.at, i < len(p.parts) && end > p.parts[i].at:
		return i, false, false
	}
	return i, false, true
}

// whole returns the packet's payload; nil: something is missing.
func (p *ip6Packet) whole() []byte {
	if p.total == 0 || p.length != p.total {
		return nil
	}
	b := make([]byte, 0, p.total)
	for _, x := range p.parts {
		b = append(b, x.bytes...)
	}
	return b
}

// kill gives a packet up, and remembers that.
func (p *ip6Packet) kill() { p.parts, p.length, p.dead = nil, 0, true }

// ip6Fragments holds the incomplete packets of all peers. Fragments are rare, so that one
// lock for all lanes does.
type ip6Fragments struct {
	mu        sync.Mutex
	of        map[*peer.Contact]*ip6Pile
	all       int // bytes
	strangers int // of these
	swept     mono.Time
}

// ip6Pile is the incomplete packets of one peer, oldest first.
type ip6Pile struct {
	stranger bool
	held     int
	packets  []*ip6Packet
}

// add takes a fragment. It returns the payload of a UDP packet that is complete. ok is false
// if the fragment is dropped.
func (x *ip6Fragments) add(now mono.Time, c *peer.Contact, f *ip6Fragment) (udp []byte, ok bool) {
	if f.at == 0 && f.next != protoUDP {
		return nil, false // of the others no fragment is of use
	}
	if f.at == 0 && !f.more {
		return f.part, true // RFC 6946
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sweep(now)
	pile := x.of[c]
	if pile == nil {
		if x.of == nil {
			x.of = map[*peer.Contact]*ip6Pile{}
		}
		pile = &ip6Pile{stranger: c.Standing() < book.Added}
		x.of[c] = pile
	}
	defer x.count(c, pile)
	return pile.add(now, f, x.room(pile))
}

// room returns how many bytes a pile may hold.
func (x *ip6Fragments) room(p *ip6Pile) int {
	n := min(ip6One, ip6All-x.all+p.held)
	if p.stranger {
		n = min(n, ip6Strangers-x.strangers+p.held)
	}
	return n
}

// count brings the sums up to date with a pile, and forgets it if it is empty.
func (x *ip6Fragments) count(c *peer.Contact, p *ip6Pile) {
	held := 0
	for _, k := range p.packets {
		held += k.cost()
	}
	x.all += held - p.held
	if p.stranger {
		x.strangers += held - p.held
	}
	if p.held = held; len(p.packets) == 0 {
		delete(x.of, c)
	}
}

// sweep drops what is too old, also of peers that send no more.
func (x *ip6Fragments) sweep(now mono.Time) {
	if now.Sub(x.swept) < ip6SweepEvery {
		return
	}
	x.swept = now
	for c, p := range x.of {
		p.expire(now)
		x.count(c, p)
	}
}

func (p *ip6Pile) expire(now mono.Time) {
	p.packets = slices.DeleteFunc(p.packets, func(k *ip6Packet) bool { return now.Sub(k.since) >= ip6For })
}

// packet returns the packet with an ID, which it makes if there is none. The oldest one makes
// room.
func (p *ip6Pile) packet(now mono.Time, id uint32) *ip6Packet {
	for _, k := range p.packets {
		if k.id == id {
			return k
		}
	}
	if len(p.packets) == ip6Packets {
		p.packets = slices.Delete(p.packets, 0, 1)
	}
	k := &ip6Packet{id: id, since: now}
	p.packets = append(p.packets, k)
	return k
}

// add takes a fragment; see ip6Fragments.add. The pile holds at most room bytes.
func (p *ip6Pile) add(now mono.Time, f *ip6Fragment, room int) (udp []byte, ok bool) {
	p.expire(now)
	k := p.packet(now, f.id)
	if k.dead {
		return nil, false
	}
	i, repeated, ok := k.place(f)
	switch {
	case repeated:
		return nil, true
	case !ok || !p.makeRoom(k, len(f.part)+ip6PartCost, room):
		k.kill()
		return nil, false
	}
	k.parts = slices.Insert(k.parts, i, ip6Part{f.at, bytes.Clone(f.part)})
	k.length += len(f.part)
	if !f.more {
		k.total = f.at + len(f.part)
	}
	if udp = k.whole(); udp != nil {
		p.packets = slices.DeleteFunc(p.packets, func(other *ip6Packet) bool { return other == k })
	}
	return udp, true
}

// makeRoom gives up the oldest packets except one until cost bytes more fit, and reports
// whether they do.
func (p *ip6Pile) makeRoom(keep *ip6Packet, cost, room int) bool {
	held := cost
	for _, k := range p.packets {
		held += k.cost()
	}
	for _, k := range p.packets {
		if held <= room {
			break
		}
		if k != keep {
			held -= k.cost()
			k.kill()
		}
	}
	return held <= room
}

// whole returns a message as it is, unless it is a fragment: then it returns the message that
// the fragment completes, or nil.
func (rx *receiver) whole(in *peer.Inbound, msg []byte) []byte {
	if wire.Type(msg[0]) != wire.IP6 || len(msg) < 1+wire.IP6Header || msg[5] != protoFragment {
		return msg
	}
	if !rx.noted.trusted && rx.n.programs.sockets.list.Load() == nil {
		rx.n.counters.count(dNoAdapter)
		return nil
	}
	x, err := wire.ParseIP6(msg[1:])
	f, ok := readFragment(x.Payload)
	var udp []byte
	if err == nil && ok {
		udp, ok = rx.n.ip6Fragments.add(rx.now, in.Contact, &f)
	}
	if err != nil || !ok {
		rx.n.counters.count(dFragment)
		return nil
	}
	if udp == nil {
		return nil
	}
	x.NextHeader, x.Payload = protoUDP, udp
	return x.Append([]byte{byte(wire.IP6)})
}
