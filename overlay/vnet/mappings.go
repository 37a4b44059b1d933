package vnet

import (
	"container/list"
	"net/netip"
	"time"
)

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
	pool := n.pool()
	if len(pool) == 0 {
		return netip.Addr{}, false
	}
	if n.config.Pooling == Arbitrary {
		return pool[n.random.IntN(len(pool))], true
	}
	if a, ok := n.paired[inside]; ok && n.outside.has(a) {
		return a, true
	}
	a := pool[len(n.paired)%len(pool)]
	n.paired[inside] = a
	return a, true
}
