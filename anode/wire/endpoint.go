package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// EndpointKind is an endpoint's type (draft 2.10).
type EndpointKind uint8

// The endpoint types:
//
//	0 unspecified
//	1 Ethernet     mac[6]
//	2 UDP/IPv4     ip[4] port[2]
//	3 TCP/IPv4     ip[4] port[2]
//	4 UDP/IPv6     ip[16] port[2]
//	5 TCP/IPv6     ip[16] port[2]
//	6 HTTP         URI, NUL
const (
	Unspecified EndpointKind = iota
	Ethernet
	UDP4
	TCP4
	UDP6
	TCP6
	HTTP
)

// maxURI bounds an HTTP endpoint's URI, which is more than one packet carries.
const maxURI = 1024

// String returns "udp", "tcp", "eth", "http" or "unspecified".
func (k EndpointKind) String() string {
	switch k {
	case Unspecified:
		return "unspecified"
	case Ethernet:
		return "eth"
	case UDP4, UDP6:
		return "udp"
	case TCP4, TCP6:
		return "tcp"
	case HTTP:
		return "http"
	}
	return fmt.Sprintf("0x%02x", uint8(k))
}

// Endpoint is where packets may be sent. The zero value is the unspecified one,
// which stands for the source of the message that it is in. It is comparable.
type Endpoint struct {
	Kind EndpointKind
	Addr netip.AddrPort // UDP and TCP; IPv4 unmapped, IPv6 without a zone name
	MAC  [6]byte        // Ethernet
	URI  string         // HTTP
}

// UDP returns the endpoint of a UDP address.
func UDP(addr netip.AddrPort) Endpoint { return ipEndpoint(UDP4, addr) }

// TCP returns the endpoint of a TCP address.
func TCP(addr netip.AddrPort) Endpoint { return ipEndpoint(TCP4, addr) }

// ipEndpoint takes the IPv4 kind, and makes it the IPv6 kind as needed. IPv4-mapped
// addresses are unmapped, wherever they come from: one place has one endpoint, so
// that nothing can pass a check of ranges in disguise, and a peer that reports what
// its dual-stack socket told it is still understood.
func ipEndpoint(kind EndpointKind, addr netip.AddrPort) Endpoint {
	ip := addr.Addr().Unmap().WithZone("")
	if !ip.Is4() {
		kind += UDP6 - UDP4
	}
	return Endpoint{Kind: kind, Addr: netip.AddrPortFrom(ip, addr.Port())}
}

// ParseEndpoint reads the endpoint that b begins with, and returns what follows.
func ParseEndpoint(b []byte) (e Endpoint, rest []byte, err error) {
	if len(b) == 0 {
		return Endpoint{}, nil, ErrShort
	}
	kind, b := EndpointKind(b[0]), b[1:]
	n := 0
	switch kind {
	case Unspecified:
		return Endpoint{}, b, nil
	case Ethernet:
		n = 6
	case UDP4, TCP4:
		n = 4 + 2
	case UDP6, TCP6:
		n = 16 + 2
	case HTTP:
		uri, rest, err := cutURI(b)
		return Endpoint{Kind: HTTP, URI: uri}, rest, err
	default:
		return Endpoint{}, nil, ErrEndpoint // of a length that nobody knows
	}
	if len(b) < n {
		return Endpoint{}, nil, ErrShort
	}
	b, rest = b[:n], b[n:]
	if kind == Ethernet {
		return Endpoint{Kind: kind, MAC: [6]byte(b)}, rest, nil
	}
	ip, _ := netip.AddrFromSlice(b[:n-2]) // 4 or 16 bytes are always right
	if kind == UDP6 || kind == TCP6 {
		kind -= UDP6 - UDP4
	}
	return ipEndpoint(kind, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[n-2:]))), rest, nil
}

func cutURI(b []byte) (uri string, rest []byte, err error) {
	for i, c := range b[:min(len(b), maxURI+1)] {
		if c != 0 {
			continue
		}
		uri, rest = string(b[:i]), b[i+1:]
		if !validURI(uri) {
			return "", nil, ErrEndpoint
		}
		return uri, rest, nil
	}
	if len(b) > maxURI {
		return "", nil, ErrEndpoint
	}
	return "", nil, ErrShort
}

// validURI accepts http or https, a host, and printable ASCII, since URIs are shown.
func validURI(s string) bool {
	if len(s) > maxURI {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	u, err := url.Parse(s)
	return err == nil && (strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://")) && u.Hostname() != ""
}

// Append writes e in its binary form. What e has beside its kind is ignored, and an
// IP address goes out under the kind that it is of.
func (e Endpoint) Append(dst []byte) []byte {
	switch e.Kind {
	case Ethernet:
		return append(append(dst, byte(Ethernet)), e.MAC[:]...)
	case UDP4, UDP6:
		return e.appendIP(dst, UDP4)
	case TCP4, TCP6:
		return e.appendIP(dst, TCP4)
	case HTTP:
		uri, _, _ := strings.Cut(e.URI, "\x00")
		return append(append(append(dst, byte(HTTP)), uri...), 0)
	}
	return append(dst, byte(Unspecified))
}

func (e Endpoint) appendIP(dst []byte, kind EndpointKind) []byte {
	e = ipEndpoint(kind, e.Addr)
	dst = append(dst, byte(e.Kind))
	if ip := e.Addr.Addr(); ip.Is4() {
		b := ip.As4()
		dst = append(dst, b[:]...)
	} else {
		b := ip.As16() // of no address: zeros
		dst = append(dst, b[:]...)
	}
	return binary.BigEndian.AppendUint16(dst, e.Addr.Port())
}

// String returns "udp:10.0.0.1:8737", "tcp:[2001:db8::1]:8737", the URI,
// "eth:02:00:00:00:00:01" or "unspecified".
func (e Endpoint) String() string {
	switch e.Kind {
	case Ethernet:
		return "eth:" + net.HardwareAddr(e.MAC[:]).String()
	case UDP4, UDP6, TCP4, TCP6:
		return e.Kind.String() + ":" + e.Addr.String()
	case HTTP:
		return e.URI
	}
	return e.Kind.String()
}

// EndpointFromText reads what String returns, and the same with a blank for the first
// colon, as older versions wrote it: udp:10.0.0.1:8737, udp:[2001:db8::1]:8737, tcp:...,
// eth:02:00:00:00:00:01, http://... Its errors wrap ErrEndpoint.
func EndpointFromText(s string) (Endpoint, error) {
	bad := func(why string) (Endpoint, error) {
		return Endpoint{}, fmt.Errorf("%w: %q: %s", ErrEndpoint, s, why)
	}
	if s == Unspecified.String() {
		return Endpoint{}, nil
	}
	if strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") {
		if !validURI(s) {
			return bad("want http://host/path in printable ASCII")
		}
		return Endpoint{Kind: HTTP, URI: s}, nil
	}
	i := strings.IndexAny(s, ": ")
	if i < 0 {
		return bad("want udp:IP:PORT, tcp:IP:PORT, eth:MAC or http://...")
	}
	kind, place := s[:i], s[i+1:]
	switch kind {
	case "udp", "tcp":
		addr, err := netip.ParseAddrPort(place)
		switch {
		case err != nil:
			return bad("want IP:PORT, an IPv6 address in brackets")
		case addr.Addr().Zone() != "":
			return bad("an address with an interface's name means nothing elsewhere")
		case addr.Port() == 0:
			return bad("port 0 is none")
		case kind == "udp":
			return UDP(addr), nil
		}
		return TCP(addr), nil
	case "eth":
		mac, err := net.ParseMAC(place)
		if err != nil || len(mac) != 6 {
			return bad("want six bytes, like 02:00:00:00:00:01")
		}
		return Endpoint{Kind: Ethernet, MAC: [6]byte(mac)}, nil
	}
	return bad("want udp, tcp, eth or http")
}

// MarshalText returns String's form.
func (e Endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads what EndpointFromText reads.
func (e *Endpoint) UnmarshalText(b []byte) (err error) {
	*e, err = EndpointFromText(string(b))
	return err
}
