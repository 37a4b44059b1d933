package vnet

import (
	"container/list"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Hairpinning is what a NAT does with a packet from the inside to one of its own outside
// endpoints (RFC 4787, 6).
type Hairpinning uint8

// The ways of hairpinning.
const (
	NoHairpin       Hairpinning = iota // it drops the packet
	HairpinInternal                    // the packet arrives from the sender's inside endpoint
	HairpinExternal                    // the packet arrives from the sender's outside endpoint
)

// Pooling is how a NAT with several outside addresses chooses among them (RFC 4787, 4.1).
type Pooling uint8

// The ways of pooling.
const (
	Paired    Pooling = iota // all mappings of an inside address have one outside address
	Arbitrary                // each mapping has a random one
)

// NATConfig describes a NAT by RFC 4787. The zero value is a full cone that preserves
// ports, does not hairpin and never forgets.
type NATConfig struct {
	Mapping   Behaviour
	Filtering Behaviour
	Ports     PortChoice
	Hairpin   Hairpinning
	Pooling   Pooling

	// Shared lets mappings to different remotes have the same outside port, as Linux does
	// when it masquerades. It needs a dependent mapping, and implies as much filtering.
	Shared bool
	// Lifetime is how long a mapping lives after its last packet, and the right of a
	// remote to answer after the last packet to it; 0 is for ever.
	Lifetime time.Duration
	// InboundRefresh has packets from the outside renew both; otherwise only those from
	// the inside do.
	InboundRefresh bool
	// Limit is the most mappings, without those of Forward and Map; 0 is no limit. For a
	// new one, the one that was not used for longest goes.
	Limit int
	// NoICMP drops ICMP errors in place of translating them.
	NoICMP bool
	// Isolated keeps inside interfaces from reaching each other, except by hairpinning.
	Isolated bool
}

// mapping joins an inside endpoint to an outside one.
type mapping struct {
	inside, outside netip.AddrPort

	// of a dynamic mapping; the others are explicit (RFC 6887, 2.3)
	place         *list.Element // in NAT.recent; nil: explicit
	inKey, outKey mapKey
	used          time.Time
	permits       fresh[netip.AddrPort] // remotes that may send, as far as filtering depends on them

	// of an explicit mapping
	ends  time.Time // zero: never
	fixed bool      // by Forward
}

// mapKey is one end of a mapping, and the remote as far as the mapping depends on it.
type mapKey struct{ local, remote netip.AddrPort }

// NAT is the address and port translation of a router, of UDP over IPv4. IPv6 passes as
// it is.
type NAT struct {
	host    *Host
	outside *Interface
	random  *rand.Rand

	// under w.mu
	config   NATConfig
	ports    ports
	in, out  map[mapKey]*mapping         // by outside and inside endpoint
	explicit map[netip.AddrPort]*mapping // of Forward and Map, by inside endpoint
	recent   *list.List                  // of *mapping without explicit ones; the last is the latest used
	paired   map[netip.Addr]netip.Addr   // outside addresses by inside address
}

// NAT makes the router translate what leaves by the interface outside. Its outside
// addresses are the IPv4 addresses of that interface, at any time.
func (h *Host) NAT(outside *Interface, c NATConfig) *NAT {
	n := &NAT{host: h, outside: outside, random: h.w.source(h.number<<32 | 1<<30), config: c}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	n.explicit = make(map[netip.AddrPort]*mapping)
	n.reset()
	h.nat = n
	return n
}

// reset forgets everything that is not configured.
func (n *NAT) reset() {
	n.in, n.out = make(map[mapKey]*mapping), make(map[mapKey]*mapping)
	n.paired = make(map[netip.Addr]netip.Addr)
	n.recent = list.New()
	n.ports = ports{last: make(map[netip.Addr]int)}
	for k, m := range n.explicit {
		if m.fixed {
			n.in[mapKey{local: m.outside}] = m
		} else {
			delete(n.explicit, k)
		}
	}
}

// SetConfig changes how the NAT behaves. Its mappings stay.
func (n *NAT) SetConfig(change func(*NATConfig)) {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	change(&n.config)
}

// Reboot forgets all mappings except those of Forward. With addresses, the outside
// interface has these afterwards; the router's routes stay, so the gateway has to be
// on-link still.
func (n *NAT) Reboot(addrs ...netip.Prefix) {
	n.host.w.mu.Lock()
	n.reset()
	if len(addrs) > 0 {
		n.outside.readdress(addrs)
	}
	n.host.w.mu.Unlock()
	n.host.changed()
}

// readdressed moves the explicit mappings to the first outside address if theirs is gone.
func (n *NAT) readdressed() {
	pool := n.pool()
	for _, m := range n.explicit {
		if len(pool) > 0 && !n.outside.has(m.outside.Addr()) {
			delete(n.in, mapKey{local: m.outside})
			m.outside = netip.AddrPortFrom(pool[0], m.outside.Port())
			n.in[mapKey{local: m.outside}] = m
		}
	}
}

// Forward sends what arrives at an outside port to the inside endpoint, from any remote
// and for ever, as if the NAT's owner had configured it. It reports whether the port was
// free.
func (n *NAT) Forward(inside netip.AddrPort, port uint16) bool {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	a, ok := n.address(inside.Addr())
	if !ok || !n.free(netip.AddrPortFrom(a, port), netip.AddrPort{}) {
		return false
	}
	n.declare(&mapping{inside: inside, outside: netip.AddrPortFrom(a, port), fixed: true})
	return true
}

// Map does what a PCP or UPnP server does when asked for the outside port for an inside
// endpoint: it lets everyone in, and gives the endpoint's own packets that port. Another
// port is chosen if that one is taken or 0. An endpoint that has a mapping keeps its port,
// whatever it asks for: an explicit mapping is renewed, and a dynamic one that does not
// depend on the remote becomes explicit. lifetime 0 is for ever. It returns false if no
// port is free.
func (n *NAT) Map(inside netip.AddrPort, port uint16, lifetime time.Duration) (netip.AddrPort, bool) {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	now := time.Now()
	var ends time.Time
	if lifetime > 0 {
		ends = now.Add(lifetime)
	}
	if m := n.declared(inside, now); m != nil {
		if !m.fixed {
			m.ends = ends
		}
		return m.outside, true
	}
	outside, ok := n.portToMap(inside, port)
	if ok {
		n.declare(&mapping{inside: inside, outside: outside, ends: ends})
	}
	return outside, ok
}

// portToMap chooses the outside endpoint for Map.
func (n *NAT) portToMap(inside netip.AddrPort, port uint16) (netip.AddrPort, bool) {
	n.expire(time.Now())
	if m := n.out[mapKey{local: inside}]; m != nil && n.outside.has(m.outside.Addr()) {
		return m.outside, true
	}
	a, ok := n.address(inside.Addr())
	if !ok {
		return netip.AddrPort{}, false
	}
	if want := netip.AddrPortFrom(a, port); n.free(want, netip.AddrPort{}) {
		return want, true
	}
	chosen, ok := n.choose(inside, a, netip.AddrPort{})
	return netip.AddrPortFrom(a, chosen), ok
}

// declare adds an explicit mapping, in place of a dynamic one of the same endpoints.
func (n *NAT) declare(m *mapping) {
	if old := n.out[mapKey{local: m.inside}]; old != nil {
		n.remove(old)
	}
	n.explicit[m.inside] = m
	n.in[mapKey{local: m.outside}] = m
}

// Unmap ends the mapping of Forward or Map for an inside endpoint.
func (n *NAT) Unmap(inside netip.AddrPort) {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	if m := n.explicit[inside]; m != nil {
		n.remove(m)
	}
}

// Mappings returns how many mappings live, including those of Forward and Map.
func (n *NAT) Mappings() int {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	now, count := time.Now(), 0
	n.expire(now)
	for inside := range n.explicit {
		if n.declared(inside, now) != nil {
			count++
		}
	}
	return count + n.recent.Len()
}

// Addr returns the first outside address.
func (n *NAT) Addr() netip.Addr {
	n.host.w.mu.Lock()
	defer n.host.w.mu.Unlock()
	if pool := n.pool(); len(pool) > 0 {
		return pool[0]
	}
	return netip.Addr{}
}

// declared returns the living explicit mapping of an inside endpoint.
func (n *NAT) declared(inside netip.AddrPort, now time.Time) *mapping {
	m := n.explicit[inside]
	if m == nil || !m.ends.IsZero() && !now.Before(m.ends) {
		if m != nil {
			n.remove(m)
		}
		return nil
	}
	return m
}

// remove forgets a mapping.
func (n *NAT) remove(m *mapping) {
	if m.place == nil {
		delete(n.explicit, m.inside)
		delete(n.in, mapKey{local: m.outside})
		return
	}
	delete(n.out, m.outKey)
	delete(n.in, m.inKey)
	n.recent.Remove(m.place)
}

// expire forgets the dynamic mappings that are too old.
func (n *NAT) expire(now time.Time) {
	for e := n.recent.Front(); e != nil; e = n.recent.Front() {
		m := e.Value.(*mapping)
		if alive(m.used, now, n.config.Lifetime) {
			return
		}
		n.remove(m)
	}
}

// inKey is the key of an outside endpoint. remote matters only if ports are shared.
func (n *NAT) inKey(outside, remote netip.AddrPort) mapKey {
	if !n.config.Shared {
		return mapKey{local: outside}
	}
	return mapKey{outside, n.config.Mapping.of(remote)}
}

// from returns the mapping for a packet from an inside endpoint, and makes one if needed.
// It returns nil if there is no port for it.
func (n *NAT) from(inside, remote netip.AddrPort, now time.Time) *mapping {
	n.expire(now)
	if m := n.declared(inside, now); m != nil {
		return m
	}
	remote = n.config.Mapping.of(remote)
	m := n.out[mapKey{inside, remote}]
	if m != nil && n.outside.has(m.outside.Addr()) {
		return m
	}
	if m != nil {
		n.remove(m) // the outside address is gone
	}
	return n.add(inside, remote, now)
}

// add makes a dynamic mapping.
func (n *NAT) add(inside, remote netip.AddrPort, now time.Time) *mapping {
	a, ok := n.address(inside.Addr())
	if !ok {
		return nil
	}
	if c := n.config.Limit; c > 0 && n.recent.Len() >= c {
		n.remove(n.recent.Front().Value.(*mapping))
	}
	port, ok := n.choose(inside, a, remote)
	if !ok {
		return nil
	}
	m := &mapping{inside: inside, outside: netip.AddrPortFrom(a, port), outKey: mapKey{inside, remote}, used: now}
	m.inKey = n.inKey(m.outside, remote)
	m.place = n.recent.PushBack(m)
	n.out[m.outKey], n.in[m.inKey] = m, m
	return m
}

// at returns the mapping for a packet to an outside endpoint; nil if there is none.
func (n *NAT) at(outside, remote netip.AddrPort, now time.Time) *mapping {
	n.expire(now)
	if m := n.in[n.inKey(outside, remote)]; m != nil && m.place != nil {
		return m
	}
	if m := n.in[mapKey{local: outside}]; m != nil && m.place == nil {
		return n.declared(m.inside, now)
	}
	return nil
}

// use notes a packet to or from a remote that keeps the mapping alive.
func (n *NAT) use(m *mapping, remote netip.AddrPort, now time.Time) {
	m.used = now
	if m.place != nil {
		n.recent.MoveToBack(m.place)
	}
	if n.config.Filtering != EndpointIndependent {
		m.permits.use(n.config.Filtering.of(remote), now, n.config.Lifetime)
	}
}

// admits reports whether the remote may send to the mapping.
func (n *NAT) admits(m *mapping, remote netip.AddrPort, now time.Time) bool {
	return m.place == nil || n.config.Filtering == EndpointIndependent ||
		m.permits.has(n.config.Filtering.of(remote), now, n.config.Lifetime)
}

// pool returns the outside addresses.
func (n *NAT) pool() (list []netip.Addr) {
	for _, p := range n.outside.prefixes {
		if p.Addr().Is4() {
			list = append(list, p.Addr())
		}
	}
	return list
}

// address chooses an outside address for a mapping of an inside address.
func (n *NAT) address(inside netip.Addr) (netip.Addr, bool) {
	if a, ok := n.paired[inside]; ok && n.config.Pooling == Paired && n.outside.has(a) {
		return a, true
	}
	pool := n.pool()
	if len(pool) == 0 {
		return netip.Addr{}, false
	}
	if n.config.Pooling == Arbitrary {
		return pool[n.random.IntN(len(pool))], true
	}
	a := pool[len(n.paired)%len(pool)]
	n.paired[inside] = a
	return a, true
}

// separates reports whether the NAT keeps packets from going from one interface to the
// other: from the outside in without a mapping, or between isolated inside interfaces.
func (n *NAT) separates(from, to *Interface) bool {
	return n.config.Isolated && from != nil && from != n.outside && to != n.outside && from != to
}

// receive handles a packet that arrives at the router, if it is one that concerns the
// NAT otherwise than by leaving: one to an outside address, or from the outside.
func (n *NAT) receive(in *Interface, p *packet) (done bool) {
	to := p.to.Addr()
	if !to.Is4() || in.broadcast(to) {
		return false
	}
	switch {
	case n.outside.has(to) && in == n.outside:
		return n.inbound(in, p)
	case n.outside.has(to):
		return n.hairpin(in, p)
	case in == n.outside && n.host.forward && !n.host.owns(to):
		n.host.w.count["drop_nat_unmapped"]++ // an inside address means nothing outside
		return true
	}
	return false
}

// outbound translates a packet that leaves by the outside interface. It returns false
// after dropping it.
func (n *NAT) outbound(p *packet) bool {
	if !p.from.Addr().Is4() {
		return true
	}
	if p.icmp != nil {
		return n.errorOut(p)
	}
	now := time.Now()
	m := n.from(p.from, p.to, now)
	if m == nil {
		n.host.w.count["drop_nat_no_port"]++
		return false
	}
	n.use(m, p.to, now)
	p.from = m.outside
	return true
}

// inbound translates a packet from the outside and sends it on. It returns false if the
// packet is for the router itself.
func (n *NAT) inbound(in *Interface, p *packet) (done bool) {
	if p.icmp != nil {
		if n.errorIn(p) {
			n.host.route(in, *p)
			return true
		}
		return false
	}
	now := time.Now()
	m := n.at(p.to, p.from, now)
	switch {
	case m == nil && n.host.conns[p.to.Port()] != nil:
		return false
	case m == nil:
		n.host.w.count["drop_nat_unmapped"]++
		return true
	case !n.admits(m, p.from, now):
		n.host.w.count["drop_nat_filtered"]++
		return true
	}
	if n.config.InboundRefresh {
		n.use(m, p.from, now)
	}
	p.to = m.inside
	n.host.route(in, *p)
	return true
}

// hairpin handles a packet from the inside to an outside address. It returns false if the
// packet is for the router itself.
func (n *NAT) hairpin(in *Interface, p *packet) (done bool) {
	w := n.host.w
	if p.icmp != nil {
		return n.inbound(in, p)
	}
	now := time.Now()
	switch {
	case n.at(p.to, p.from, now) == nil && n.host.conns[p.to.Port()] != nil:
		return false
	case n.config.Hairpin == NoHairpin:
		w.count["drop_nat_hairpin"]++
		return true
	}
	sender := n.from(p.from, p.to, now)
	if sender == nil {
		w.count["drop_nat_no_port"]++
		return true
	}
	n.use(sender, p.to, now)
	m := n.at(p.to, sender.outside, now)
	switch {
	case m == nil:
		w.count["drop_nat_unmapped"]++
	case !n.admits(m, sender.outside, now):
		w.count["drop_nat_filtered"]++
	default:
		n.turn(p, sender, m, now)
	}
	return true
}

// turn sends a packet back to the inside.
func (n *NAT) turn(p *packet, from, to *mapping, now time.Time) {
	if n.config.InboundRefresh {
		n.use(to, from.outside, now)
	}
	if n.config.Hairpin == HairpinExternal {
		p.from = from.outside
	}
	p.to = to.inside
	n.host.route(nil, *p) // by no interface: isolation does not count
}

// errorIn translates an ICMP error about a packet that was translated outbound. It
// returns false if there is no mapping, and then the error is the router's own.
func (n *NAT) errorIn(p *packet) bool {
	m := n.at(p.icmp.From, p.icmp.To, time.Now())
	if m == nil || n.config.NoICMP {
		return false
	}
	e := *p.icmp
	e.From = m.inside
	p.to, p.icmp = m.inside, &e
	return true
}

// errorOut translates an ICMP error from the inside about a packet that was translated
// inbound. It returns false after dropping it.
func (n *NAT) errorOut(p *packet) bool {
	m := n.known(p.icmp.To, p.icmp.From)
	if m == nil || n.config.NoICMP {
		n.host.w.count["drop_nat_icmp"]++
		return false
	}
	e := *p.icmp
	e.To = m.outside
	p.from = netip.AddrPortFrom(m.outside.Addr(), 0)
	p.icmp = &e
	return true
}

// known returns the mapping of an inside endpoint if there is one.
func (n *NAT) known(inside, remote netip.AddrPort) *mapping {
	now := time.Now()
	n.expire(now)
	if m := n.declared(inside, now); m != nil {
		return m
	}
	return n.out[mapKey{inside, n.config.Mapping.of(remote)}]
}
