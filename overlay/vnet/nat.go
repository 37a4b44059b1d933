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

// NAT is the address and port translation of a router, over IPv4. IPv6 passes as it is. Its
// configuration is about UDP: connections leave from any endpoint, and come in only by ForwardTCP.
type NAT struct {
	host    *Host
	outside *Interface
	random  *rand.Rand
	tcp     *NAT // that of connections; nil: this is it

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
	n := newNAT(h, outside, 1<<30, c)
	n.tcp = newNAT(h, outside, 1<<29, c.connections())
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.nat = n
	return n
}

func newNAT(h *Host, outside *Interface, source uint64, c NATConfig) *NAT {
	n := &NAT{host: h, outside: outside, random: h.w.source(h.number<<32 | source), config: c}
	n.explicit = make(map[netip.AddrPort]*mapping)
	n.reset()
	return n
}

// connectionLifetime is how long a NAT or firewall remembers an idle connection (RFC 5382, REQ-5).
const connectionLifetime = 124 * time.Minute

// connections returns how the NAT treats TCP: it follows connections, whatever it does with UDP.
func (c NATConfig) connections() NATConfig {
	x := NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Shared: true, InboundRefresh: true,
		Lifetime: connectionLifetime, Hairpin: c.Hairpin, Pooling: c.Pooling, Isolated: c.Isolated}
	x.Ports.Fallback = Random
	return x
}

// of returns what translates a packet.
func (n *NAT) of(p *packet) *NAT {
	if p.seg != nil && n.tcp != nil {
		return n.tcp
	}
	return n
}

// listens reports whether the router itself takes a packet.
func (n *NAT) listens(p *packet) bool {
	if p.seg != nil {
		return n.host.streams.takes(p)
	}
	return n.host.conns[p.to.Port()] != nil
}

// reset forgets everything that is not configured.
func (n *NAT) reset() {
	if n.tcp != nil {
		n.tcp.reset()
	}
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

// SetConfig changes how the NAT behaves. Its mappings stay. Connections are not concerned.
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
	if n.tcp != nil {
		n.tcp.readdressed()
	}
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

// ForwardTCP does for connections what Forward does.
func (n *NAT) ForwardTCP(inside netip.AddrPort, port uint16) bool { return n.tcp.Forward(inside, port) }

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
