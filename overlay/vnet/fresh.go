package vnet

import (
	"maps"
	"net/netip"
	"time"
)

// Behaviour is how far a mapping or a filter depends on the remote endpoint (RFC 4787, 4.1
// and 5).
type Behaviour uint8

// The behaviours.
const (
	EndpointIndependent Behaviour = iota
	AddressDependent
	AddressAndPortDependent
)

// String returns the behaviour in the words of RFC 4787.
func (b Behaviour) String() string {
	switch b {
	case EndpointIndependent:
		return "endpoint-independent"
	case AddressDependent:
		return "address-dependent"
	}
	return "address-and-port-dependent"
}

// of returns the part of a remote endpoint that matters.
func (b Behaviour) of(remote netip.AddrPort) netip.AddrPort {
	switch b {
	case EndpointIndependent:
		return netip.AddrPort{}
	case AddressDependent:
		return netip.AddrPortFrom(remote.Addr(), 0)
	}
	return remote
}

// alive reports whether what was used at a time still lives; a lifetime of 0 never ends.
func alive(used, now time.Time, lifetime time.Duration) bool {
	return lifetime == 0 || now.Sub(used) < lifetime
}

// fresh is a set whose elements are forgotten when they were not used for a lifetime.
type fresh[K comparable] struct {
	used map[K]time.Time
	full int // how many there may be before the old ones are looked for
}

func (f *fresh[K]) use(k K, now time.Time, lifetime time.Duration) {
	if f.used == nil {
		f.used, f.full = make(map[K]time.Time), 32
	}
	f.used[k] = now
	if len(f.used) > f.full {
		maps.DeleteFunc(f.used, func(_ K, t time.Time) bool { return !alive(t, now, lifetime) })
		f.full = 2*len(f.used) + 32
	}
}

func (f *fresh[K]) has(k K, now time.Time, lifetime time.Duration) bool {
	t, ok := f.used[k]
	return ok && alive(t, now, lifetime)
}
