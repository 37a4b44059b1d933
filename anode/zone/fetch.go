package zone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"anodenet/anode"
)

// Errors of fetching.
var (
	ErrLocal     = errors.New("zone 0 is the local zone and has no zone file")
	ErrOlder     = errors.New("an older revision than the one that is known")
	ErrNotPublic = errors.New("not a public address")
)

const (
	attemptTimeout = 10 * time.Second // for one of the candidates
	maxRedirects   = 3
)

// dnsURI is the preferred place of a zone file (draft 2.1.1).
func dnsURI(z anode.Zone) string { return "http://a--" + z.String() + ".net/z" }

// ipURI is the place of a zone file whose zone ID is an IPv4 address.
func ipURI(z anode.Zone) string { return "http://" + zoneIP(z).String() + "/z" }

// mappedURI is the same, mapped to IPv6.
func mappedURI(z anode.Zone) string { return "http://[::ffff:" + zoneIP(z).String() + "]/z" }

func zoneIP(z anode.Zone) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(z >> 24), byte(z >> 16), byte(z >> 8), byte(z)})
}

// Candidates are the places where the zone's file may be, to be tried in this order.
// Those by IP address are left out where the zone ID is no address that a host can
// have. Zone 0 has none.
func Candidates(z anode.Zone) []string {
	if z == 0 {
		return nil
	}
	uris := []string{dnsURI(z)}
	if first := byte(z >> 24); first != 0 && first != 127 && first < 224 {
		uris = append(uris, ipURI(z), mappedURI(z))
	}
	return uris
}

// Fetch gets the zone's file from the first of Candidates that has one, and that is not
// older than cached, which may be nil. If there is none, it returns cached, however old,
// with the reasons: the file is good whenever it is not nil.
//
// Where the client may connect to is the client's affair; see NewClient.
func Fetch(ctx context.Context, client *http.Client, z anode.Zone, cached *File) (*File, error) {
	if z == 0 {
		return nil, ErrLocal
	}
	var errs []error
	for _, uri := range Candidates(z) {
		f, err := get(ctx, client, uri)
		if err == nil && cached != nil && f.Revision() < cached.Revision() {
			err = fmt.Errorf("%s: %w: %d after %d", uri, ErrOlder, f.Revision(), cached.Revision())
		}
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return cached, fmt.Errorf("zone %v: %w", z, errors.Join(errs...))
}

func get(ctx context.Context, client *http.Client, uri string) (*File, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err // names the URI itself
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", uri, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", uri, err)
	}
	if !f.plausible() {
		return nil, fmt.Errorf("%s: %w: none of its entries is there", uri, ErrInvalid)
	}
	return f, nil
}

// NewClient makes a client that connects only to addresses that allow lets pass; nil
// stands for Public. It asks for every connection, after names were resolved and for
// each redirection: a zone ID, a name or a web server does not get us to talk to
// what is behind our own firewall. It uses no proxy, since nobody could ask the proxy.
func NewClient(allow func(netip.Addr) bool) *http.Client {
	if allow == nil {
		allow = Public
	}
	dialer := &net.Dialer{
		Timeout: attemptTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if !allow(a.Addr().Unmap()) {
				return fmt.Errorf("%w: %s", ErrNotPublic, a.Addr())
			}
			return nil
		},
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableKeepAlives:      true,
			TLSHandshakeTimeout:    attemptTimeout,
			ResponseHeaderTimeout:  attemptTimeout,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirections", maxRedirects)
			}
			return nil
		},
	}
}

// Public reports whether ip is a host's on the public internet.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if ip.Is4() {
		return publicIPv4(ip)
	}
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(ip) {
		b := ip.As16() // RFC 6052: the IPv4 address is the rest
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

// Handler serves f at /z, where Candidates looks for it.
func Handler(f *File) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /z", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", fmt.Sprintf("max-age=%d", int(f.TTL().Seconds())))
		_, _ = w.Write(f.raw) // who hangs up does not want it
	})
	return mux
}
