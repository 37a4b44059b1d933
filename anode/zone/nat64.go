package zone

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// ErrNoNAT64 means that a network without IPv4 does not lead to IPv4 addresses either.
var ErrNoNAT64 = errors.New("the network has no NAT64, which leads to IPv4 addresses by IPv6")

// wellKnown is the prefix of NAT64 that needs no configuration (RFC 6052).
func wellKnown() netip.Prefix { return netip.MustParsePrefix("64:ff9b::/96") }

// lookup64 returns the addresses of a name, of the network "ip6".
type lookup64 func(ctx context.Context, network, name string) ([]netip.Addr, error)

// nat64 returns the prefix of the network's NAT64. DNS64 tells it: it makes addresses for a
// name that has only the IPv4 addresses 192.0.0.170 and 192.0.0.171 (RFC 7050). DNS can be
// forged, so a prefix only counts if what begins with it is not in somebody's LAN.
func nat64(ctx context.Context, lookup lookup64) (netip.Prefix, error) {
	list, err := lookup(ctx, "ip6", "ipv4only.arpa.")
	if err != nil {
		return netip.Prefix{}, ErrNoNAT64
	}
	for _, ip := range list {
		for _, bits := range [...]int{96, 64, 56, 48, 40, 32} {
			p := netip.PrefixFrom(ip, bits).Masked()
			if !ip.Is4In6() && p.IsValid() && offLAN(p) &&
				(ip == within(p, netip.AddrFrom4([4]byte{192, 0, 0, 170})) || ip == within(p, netip.AddrFrom4([4]byte{192, 0, 0, 171}))) {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, ErrNoNAT64
}

// offLAN reports whether a prefix may be one of NAT64: the well-known one, those for the
// operator of a network (RFC 8215), and public ones.
func offLAN(p netip.Prefix) bool {
	return p == wellKnown() || netip.MustParsePrefix("64:ff9b:1::/48").Contains(p.Addr()) || Public(p.Addr())
}

// within returns the IPv6 address for an IPv4 address behind a prefix (RFC 6052, 2.2): its
// four bytes follow the prefix, except that the byte with bits 64 to 71 is zero.
func within(p netip.Prefix, ip netip.Addr) netip.Addr {
	b, at := p.Addr().As16(), p.Bits()/8
	for _, c := range ip.As4() {
		if at == 8 {
			at++
		}
		b[at] = c
		at++
	}
	return netip.AddrFrom16(b)
}

// dial64 connects to an IPv4 address by NAT64. Only public addresses are behind it.
func dial64(ctx context.Context, lookup lookup64, ip netip.Addr, port string) (net.Conn, error) {
	if !Public(ip) {
		return nil, &notPublic{ip}
	}
	p, err := nat64(ctx, lookup)
	if err != nil {
		return nil, err
	}
	d := &net.Dialer{Timeout: attemptTimeout}
	return d.DialContext(ctx, "tcp6", net.JoinHostPort(within(p, ip).String(), port))
}
