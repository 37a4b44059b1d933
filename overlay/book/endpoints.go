package book

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"anodenet/anode"
)

// AddEndpoints gives a peer that was added more endpoints. Those that it has stay, also
// those of the configuration.
func (b *Book) AddEndpoints(a anode.Address, places []Place) (Change, error) {
	return b.change(a, func() ([]Entry, error) {
		if _, err := b.shelf.own(a); err != nil {
			return nil, err
		}
		es, hosts := Split(places)
		e := b.shelf.entry(a)
		return b.shelf.setEndpoints(a, slices.Concat(e.Endpoints, es), slices.Concat(e.Hosts, hosts))
	})
}

// endpointFault says in plain words why people cannot use a text as an endpoint.
func endpointFault(text string) string {
	const such = "udp:192.0.2.1:8737, udp:[2001:db8::1]:8737 or udp:home.example.org:8737"
	kind, place, ok := strings.Cut(text, ":")
	if k, p, blank := strings.Cut(text, " "); blank && !strings.Contains(k, ":") {
		kind, place, ok = k, p, true
	}
	switch {
	case !ok, net.ParseIP(text) != nil, kind != "udp" && net.ParseIP(kind) != nil, strings.HasPrefix(text, "["):
		return "want udp:IP:PORT, such as " + such
	case kind == "tcp" || kind == "eth" || kind == "http" || kind == "https":
		return "only udp is available"
	case kind != "udp":
		return "want udp:IP:PORT, such as " + such
	}
	bare := place
	if strings.HasPrefix(place, "[") && strings.HasSuffix(place, "]") {
		bare = place[1 : len(place)-1]
	}
	if _, err := netip.ParseAddr(bare); err == nil {
		if strings.Contains(place, ":") && !strings.HasPrefix(place, "[") {
			return "want the IPv6 address in brackets and then the port, such as udp:[2001:db8::1]:8737"
		}
		return "the port is missing, such as " + such
	}
	host, port, err := net.SplitHostPort(place)
	if err != nil {
		return "want udp:IP:PORT, such as " + such
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host != "" && port == "":
		return "the port is missing, such as " + such
	case err != nil && strings.Trim(host, "0123456789.") != "":
		return "want an IP address"
	case err != nil:
		return "the IP address is not valid"
	case ip.Zone() != "":
		return "an address with the name of an interface is of no use to other programs"
	case port == "0":
		return "the port must not be 0"
	}
	return "the port is not valid: want 1 to 65535"
}
