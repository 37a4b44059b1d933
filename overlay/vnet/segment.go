package vnet

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// DefaultMTU is a segment's MTU if none is given.
const DefaultMTU = 1500

// Link sets what happens to packets on a segment, or from one interface. The zero value
// is a perfect link.
type Link struct {
	Delay  time.Duration // of every packet
	Jitter time.Duration // up to so much more, without reordering
	// Chances, from 0 to 1, for each packet and receiver.
	Loss      float64
	Duplicate float64
	Reorder   float64 // to come late by Delay, Jitter and a millisecond, and be overtaken
	// MTU silently drops larger IP packets, unlike the segment's own MTU, which
	// senders know; 0 is no such limit.
	MTU int
	// Rate is in bits a second; 0 is no limit. Packets wait in a queue of Queue
	// bytes, 64 KiB if 0; what does not fit is dropped.
	Rate, Queue int
}

// Segment is a broadcast domain: every attached interface receives from every other one.
type Segment struct {
	w    *World
	name string

	// under w.mu
	mtu  int
	link Link
	taps []func(Packet)
	evil func(Packet) []Packet // nil: nobody meddles
	ifs  []*Interface
}

// Segment makes a segment with DefaultMTU.
func (w *World) Segment(name string, l Link) *Segment {
	return &Segment{w: w, name: name, mtu: DefaultMTU, link: l}
}

// SetMTU changes the MTU that interfaces of the segment have.
func (s *Segment) SetMTU(mtu int) {
	s.w.mu.Lock()
	s.mtu = mtu
	var hosts []*Host
	for _, i := range s.ifs {
		hosts = append(hosts, i.host)
	}
	s.w.mu.Unlock()
	for _, h := range hosts {
		h.changed()
	}
}

// SetLink changes what happens to packets from now on.
func (s *Segment) SetLink(l Link) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.link = l
}

// Tap calls f for each UDP packet put onto the segment, from the world's goroutine, in
// order. f must not block.
func (s *Segment) Tap(f func(Packet)) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.taps = append(s.taps, f)
}

// Meddle has f decide what becomes of each UDP packet put onto the segment from now on: it
// arrives as the packets that f returns, each at the host with the address in its To, the sender
// included, and no sooner than its At. Of the link they have only the delay. Nil restores the
// link. f may be called from any goroutine, one call at a time; it must not block, nor call
// methods of what is in the world.
func (s *Segment) Meddle(f func(Packet) []Packet) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.evil = f
}

// Interface joins a host to a segment.
type Interface struct {
	host  *Host
	seg   *Segment
	name  string
	index int

	// under the world's mu
	up       bool
	prefixes []netip.Prefix
	link     *Link // in place of the segment's
	firewall *Firewall
	random   *rand.Rand
	sender   uint64
	number   uint64
	busy     time.Time                // until when its queue is being sent
	latest   map[*Interface]time.Time // when the last packet to each arrives
}

// Index returns the index of the interface, as in link.Endpoint.
func (i *Interface) Index() int { return i.index }

// SetLink changes what happens to packets from this interface, in place of the segment's
// Link; nil restores the segment's.
func (i *Interface) SetLink(l *Link) {
	i.host.w.mu.Lock()
	defer i.host.w.mu.Unlock()
	i.link = l
}

// SetUp takes the interface down or up. What arrives while it is down is lost.
func (i *Interface) SetUp(up bool) {
	i.host.w.mu.Lock()
	i.up = up
	i.host.w.mu.Unlock()
	i.host.changed()
}

// SetAddrs replaces the interface's addresses, each with the length of its on-link
// prefix.
func (i *Interface) SetAddrs(prefixes ...netip.Prefix) {
	i.host.w.mu.Lock()
	i.readdress(prefixes)
	i.host.w.mu.Unlock()
	i.host.changed()
}

// Move moves the interface to another segment with other addresses, like a laptop.
func (i *Interface) Move(s *Segment, prefixes ...netip.Prefix) {
	i.host.w.mu.Lock()
	i.seg.ifs = slices.DeleteFunc(i.seg.ifs, func(x *Interface) bool { return x == i })
	i.seg = s
	s.ifs = append(s.ifs, i)
	i.readdress(prefixes)
	i.host.w.mu.Unlock()
	i.host.changed()
}

func (i *Interface) readdress(prefixes []netip.Prefix) {
	i.prefixes = slices.Clone(prefixes)
	if n := i.host.nat; n != nil && n.outside == i {
		n.readdressed()
	}
}

// has reports whether a is one of the interface's addresses.
func (i *Interface) has(a netip.Addr) bool {
	return slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
}

// onLink reports whether a is reached without a router.
func (i *Interface) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// broadcast reports whether a means all hosts on the segment.
func (i *Interface) broadcast(a netip.Addr) bool {
	return a.IsMulticast() || a == limitedBroadcast || slices.ContainsFunc(i.prefixes, func(p netip.Prefix) bool {
		b, ok := directedBroadcast(p)
		return ok && a == b
	})
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// directedBroadcast is the last address of an IPv4 prefix, if that is one.
func directedBroadcast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() >= 31 {
		return netip.Addr{}, false
	}
	a := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a), true
}

// transmit puts p onto the segment, for the neighbour with the address next, or for
// all others if that is a broadcast.
func (i *Interface) transmit(p packet, next netip.Addr) {
	w, s := i.host.w, i.seg
	if !i.up {
		w.count["drop_interface_down"]++
		return
	}
	if i.firewall != nil && !i.firewall.out(&p) {
		return
	}
	if p.size() > s.mtu {
		w.count["drop_too_big"]++
		i.host.complain(&p, TooBig, s.mtu)
		return
	}
	i.tap(&p)
	if s.evil != nil && p.icmp == nil && p.seg == nil {
		i.meddle(p, next)
		return
	}
	l := s.link
	if i.link != nil {
		l = *i.link
	}
	if l.MTU != 0 && p.size() > l.MTU {
		w.count["drop_link_mtu"]++
		return
	}
	queued, ok := i.enqueue(&l, p.size())
	if !ok {
		w.count["drop_queue"]++
		return
	}
	all, found := i.broadcast(next), false
	for _, to := range s.ifs {
		if to != i && (all || to.has(next)) {
			found = true
			i.deliver(to, p, &l, queued)
		}
	}
	if !found && !all {
		w.count["drop_no_neighbour"]++
		i.host.complain(&p, HostUnreachable, 0)
	}
}

// meddle delivers what the segment's meddler makes of p.
func (i *Interface) meddle(p packet, next netip.Addr) {
	now := time.Now()
	for _, x := range i.seg.evil(i.seg.seen(&p)) {
		next := next
		if x.To != p.to {
			next = x.To.Addr()
		}
		p := packet{from: x.From, to: x.To, data: x.Data, hops: p.hops}
		at, all := now, i.broadcast(next)
		if x.At.After(now) {
			at = x.At
		}
		for _, to := range i.seg.ifs {
			if all && to != i || to.has(next) {
				i.arrive(to, p, at.Add(max(Tick, i.seg.link.Delay)))
			}
		}
	}
}

// seen returns a packet as taps and meddlers get it.
func (s *Segment) seen(p *packet) Packet {
	return Packet{At: time.Now(), Segment: s.name, From: p.from, To: p.to, Data: p.data}
}

// tap shows p to the taps of the segment.
func (i *Interface) tap(p *packet) {
	s := i.seg
	if len(s.taps) == 0 || p.icmp != nil || p.seg != nil {
		return
	}
	seen := s.seen(p)
	for _, f := range s.taps {
		i.host.w.tapped = append(i.host.w.tapped, func() { f(seen) })
	}
}

// enqueue returns how long a packet of n bytes waits and takes to be sent.
func (i *Interface) enqueue(l *Link, n int) (d time.Duration, ok bool) {
	if l.Rate == 0 {
		return 0, true
	}
	limit := l.Queue
	if limit == 0 {
		limit = 64 << 10
	}
	now := time.Now()
	if i.busy.Before(now) {
		i.busy = now
	}
	perByte := float64(8*time.Second) / float64(l.Rate)
	if waiting := float64(i.busy.Sub(now)) / perByte; waiting+float64(n) > float64(limit) {
		return 0, false
	}
	i.busy = i.busy.Add(time.Duration(float64(n) * perByte))
	return i.busy.Sub(now), true
}

// deliver lets p arrive at one neighbour, subject to the link's chances.
func (i *Interface) deliver(to *Interface, p packet, l *Link, queued time.Duration) {
	// The same number of draws for each packet, so that one chance does not
	// change what happens to the packets that follow.
	loss, dup, reorder, jitter := i.random.Float64(), i.random.Float64(), i.random.Float64(), i.random.Float64()
	if loss < l.Loss {
		i.host.w.count["drop_loss"]++
		return
	}
	at := time.Now().Add(max(Tick, queued+l.Delay+time.Duration(jitter*float64(l.Jitter))))
	switch {
	case reorder < l.Reorder:
		i.host.w.count["reordered"]++
		at = at.Add(l.Delay + l.Jitter + time.Millisecond)
	case at.Before(i.latest[to]):
		at = i.latest[to]
		fallthrough
	default:
		i.latest[to] = at
	}
	i.arrive(to, p, at)
	if dup < l.Duplicate {
		i.host.w.count["duplicated"]++
		i.arrive(to, p, at.Add(Tick))
	}
}

func (i *Interface) arrive(to *Interface, p packet, at time.Time) {
	i.number++
	e := i.host.w.event(at, i.sender, i.number)
	e.p, e.to, e.seg = p, to, i.seg
	i.host.w.add(e)
}
