package zone

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"anodenet/anode"
)

const (
	maxRedirects = 3
	nameTimeout  = 4 * time.Second // to find the addresses of a name, and to connect to one
)

// NewClient makes a client that connects only to addresses for which allow returns true;
// nil stands for Public. It asks before every connection, after names were resolved and for
// each redirection: a zone ID, a name or a web server cannot make us talk to what is behind
// our own firewall. It uses no proxy, since nobody could ask the proxy.
func NewClient(allow func(netip.Addr) bool) *http.Client {
	if allow == nil {
		allow = Public
	}
	control := func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if !allow(a.Addr().Unmap()) {
			return &notPublic{a.Addr().Unmap()}
		}
		return nil
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if ip, port, ok := mappedHost(address); ok {
					return dial64(ctx, net.DefaultResolver.LookupNetIP, ip, port)
				}
				address = dialed(address)
				dialer := &net.Dialer{Timeout: attemptTimeout, Control: control}
				if _, err := netip.ParseAddrPort(address); err != nil {
					dialer.Timeout = nameTimeout
				}
				return dialer.DialContext(ctx, network, address)
			},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSHandshakeTimeout:    attemptTimeout,
			ResponseHeaderTimeout:  attemptTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errRedirects
			}
			return nil
		},
	}
}

// dialed returns what to dial for the host of a URI. A name is complete: with a search
// domain behind it, it would be another one.
func dialed(address string) string {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if _, err := netip.ParseAddr(name); err != nil && name != "" && name[len(name)-1] != '.' {
		name += "."
	}
	return net.JoinHostPort(name, port)
}

// mappedHost returns the IPv4 address of a host that is one mapped to IPv6. No network
// carries that; hosts with IPv6 alone reach it by NAT64.
func mappedHost(address string) (ip netip.Addr, port string, ok bool) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return ip, "", false
	}
	ip, err = netip.ParseAddr(name)
	return ip.Unmap(), port, err == nil && ip.Is4In6()
}

// notPublic is an address that must not be connected to.
type notPublic struct{ ip netip.Addr }

func (e *notPublic) Error() string { return ErrNotPublic.Error() + ": " + e.ip.String() }

func (e *notPublic) Unwrap() error { return ErrNotPublic }

// Named returns what NewClient may connect to for a zone that a person named: what is
// public, and the very address that the zone ID is. That one may be anywhere, such as in an
// office or a laboratory, since the person chose it. No other address that is not public
// counts, and none at all for a zone that comes from somewhere else, such as from a peer's
// address: nobody else can make this machine fetch from its own LAN. The ranges for
// documentation and benchmarks are no exception: where a machine can reach them at all, they
// are part of somebody's own network.
func Named(z anode.Zone) func(netip.Addr) bool {
	own, usable := IP(z)
	return func(ip netip.Addr) bool { return usable && ip == own || Public(ip) }
}

// Public reports whether ip is a host's on the public internet.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.Is4() {
		return publicIPv4(ip)
	}
	if wellKnown().Contains(ip) {
		b := ip.As16() // the IPv4 address is the rest
		return publicIPv4(netip.AddrFrom4([4]byte(b[12:])))
	}
	for _, p := range [...]string{
		"2001::/23",     // protocol assignments, Teredo
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4, with an IPv4 address within
		"3fff::/20",     // documentation
	} {
		if netip.MustParsePrefix(p).Contains(ip) {
			return false
		}
	}
	return netip.MustParsePrefix("2000::/3").Contains(ip)
}

// publicIPv4 goes by the IANA special-purpose address registry (RFC 6890).
func publicIPv4(ip netip.Addr) bool {
	for _, p := range [...]string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
	} {
		if netip.MustParsePrefix(p).Contains(ip) {
			return false
		}
	}
	return true
}
