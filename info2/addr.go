package info2

import "net/netip"

// private are the ranges that exist in many places: an address in them is
// dialled only if somebody inside the same range, or the user, names it (RFC
// 1918, 6598, 3927, 4193, 4291).
var private = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fe80::/10"),
}

// forbidden reports whether an address is never dialled, whoever names it: this
// network and host, multicast, broadcast and reserved (RFC 6890). It does not
// look at loopback.
func forbidden(a netip.Addr) bool {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return true
	}
	if a.Is4() {
		first := a.As4()[0]
		return first == 0 || first >= 240
	}
	return false
}

// mayTell reports whether an address named by teller may be tried: a private one
// only if the teller is inside the same range.
func mayTell(teller, a netip.Addr) bool {
	for _, p := range private {
		if p.Contains(a) {
			return p.Contains(teller)
		}
	}
	return true
}

// netKey is the network that a limit counts by: /24 of IPv4, /48 of IPv6; a
// unique local address stands for itself, with the /64 that makes it one host.
func netKey(a netip.Addr) netip.Prefix {
	bits := 48
	switch {
	case a.Is4():
		bits = 24
	case a.IsPrivate():
		bits = 64
	}
	// Cannot fail: bits fit the family, and a has no scope.
	p, _ := a.Prefix(bits)
	return p
}

// reach decides which addresses may be dialled.
type reach struct {
	allow    func(netip.Addr) bool // who may be a neighbour; nil: anybody
	loopback bool                  // 127/8 and ::1 may be dialled
	self     map[netip.Addr]bool   // our addresses, learned from connections
}

// dialable reports whether an address may ever be dialled.
func (r *reach) dialable(a netip.Addr) bool {
	if r.self[a] || !r.allowed(a) {
		return false
	}
	if a.IsLoopback() {
		return r.loopback
	}
	return !forbidden(a)
}

// allowed reports whether a host may be a neighbour.
func (r *reach) allowed(a netip.Addr) bool { return r.allow == nil || r.allow(a) }

// learn notes an address of ours, never to be dialled.
func (r *reach) learn(local netip.Addr) {
	if !local.IsValid() || local.IsLoopback() {
		return
	}
	if len(r.self) >= connsMax {
		clear(r.self) // old ones: the network has changed often
	}
	r.self[local] = true
}
