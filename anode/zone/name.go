package zone

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"anodenet/anode"
)

// Errors of ParseName.
var (
	ErrName   = errors.New("want an IPv4 address, up to 8 hex digits, or a name such as a--c0000201.net")
	ErrNoHost = errors.New("no other machine can reach this address, so it is none of a zone; try: the public IPv4 address of the machine that relays, or 0 for the local network")
)

// ParseName reads a zone as people write it, in any of these forms:
//
//	192.0.2.1          the IPv4 address of its machine
//	c0000201           up to 8 hex digits
//	a--c0000201.net    the name of its zone file's host (draft 2.1.1)
//
// Its error wraps ErrName, or, for an IPv4 address that no host can have, ErrNoHost.
func ParseName(s string) (anode.Zone, error) {
	text := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), ".")
	if name, ok := strings.CutSuffix(text, nameSuffix); ok {
		digits, ok := strings.CutPrefix(name, namePrefix)
		if z, err := anode.ParseZone(digits); ok && err == nil && z.String() == digits {
			return z, nil
		}
		return 0, badName(s)
	}
	if ip, err := netip.ParseAddr(text); err == nil && ip.Is4() {
		z := ofIP(ip)
		if _, usable := IP(z); !usable {
			return 0, fmt.Errorf("%q: %w", s, ErrNoHost)
		}
		return z, nil
	}
	z, err := anode.ParseZone(text)
	if err != nil {
		return 0, badName(s)
	}
	return z, nil
}

func badName(s string) error { return fmt.Errorf("%q: %w", s, ErrName) }

// What surrounds the 8 hex digits in the name of a zone file's host.
const (
	namePrefix = "a--"
	nameSuffix = ".net"
)

// host is the name of the host with the zone's file (draft 2.1.1).
func host(z anode.Zone) string { return namePrefix + z.String() + nameSuffix }

// ofIP returns the zone of the machine with an IPv4 address.
func ofIP(ip netip.Addr) anode.Zone {
	b := ip.As4()
	return anode.Zone(uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]))
}

// IP returns the IPv4 address that a zone ID is, and whether a host can have it.
func IP(z anode.Zone) (ip netip.Addr, usable bool) {
	ip = netip.AddrFrom4([4]byte{byte(z >> 24), byte(z >> 16), byte(z >> 8), byte(z)})
	first := byte(z >> 24)
	return ip, first != 0 && first != 127 && first < 224
}

// Label names a zone for people: by its IPv4 address, if a host can have that, 0 for the
// local zone, and else by its 8 hex digits.
func Label(z anode.Zone) string {
	if z == 0 {
		return "0"
	}
	if ip, usable := IP(z); usable {
		return ip.String()
	}
	return z.String()
}

// Caveat says who cannot use a zone because of its ID; "" if everybody can.
func Caveat(z anode.Zone) string {
	ip, usable := IP(z)
	switch {
	case z == 0 || Public(ip):
		return ""
	case !usable:
		return fmt.Sprintf("no machine has the address %v, so the zone file can only be at http://%s/z", ip, host(z))
	case ip.IsPrivate() || ip.IsLinkLocalUnicast() || shared().Contains(ip):
		return fmt.Sprintf("%v is a private address: only machines in the same network find the zone's file and relay", ip)
	}
	return fmt.Sprintf("%v is reserved for manuals and tests: no machine on the internet has it", ip)
}

// shared is where the customers of carriers with NAT are (RFC 6598).
func shared() netip.Prefix { return netip.MustParsePrefix("100.64.0.0/10") }
