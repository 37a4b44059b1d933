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

// What people may write, for errors.
const (
	such       = "udp:192.0.2.1:8737, udp:[2001:db8::1]:8737 or udp:home.example.org:8737"
	anyForm    = "want udp:IP:PORT, tcp:IP:PORT or a URL, such as udp:192.0.2.1:8737, udp:[2001:db8::1]:8737, tcp:home.example.org:443 or https://home.example.org/"
	onlyKinds  = "only udp, tcp and http are available"
	noEthernet = "the Ethernet transport needs no endpoint; set link.ethernet on both machines instead"
)

// endpointFault says in plain words why people cannot use a text as an endpoint.
func endpointFault(text string) string {
	kind, place, ok := strings.Cut(text, ":")
	if k, p, blank := strings.Cut(text, " "); blank && !strings.Contains(k, ":") {
		kind, place, ok = k, p, true
	}
	switch {
	case strings.ContainsAny(text, "\"',;") || strings.TrimSpace(text) != text:
		return "an endpoint has no quotes, commas or blanks around it; give several one by one"
	case strings.Contains(text, "@"):
		return noUser
	case kind == "http" || kind == "https":
		return "want a URL, such as http://home.example.org/ or https://home.example.org:8443/path"
	case (kind == "udp" || kind == "tcp") && strings.HasPrefix(place, "//"):
		return "write it without //, such as " + kind + ":home.example.org:8737"
	case kind == "ws", kind == "wss", strings.HasPrefix(place, "//"):
		return "only http:// and https:// are available"
	case strings.Contains(text, "/"):
		return "want http:// or https:// in front of a URL"
	case kind == "eth" || kind == "ethernet":
		return noEthernet
	case !ok, net.ParseIP(text) != nil, kind != "udp" && net.ParseIP(kind) != nil, strings.HasPrefix(text, "["):
		return anyForm
	case kind != "udp" && kind != "tcp":
		return anyForm
	}
	return placeFault(kind, place)
}

// placeFault is endpointFault of what follows "udp:" or "tcp:".
func placeFault(kind, place string) string {
	such := strings.ReplaceAll(such, "udp:", kind+":")
	want := "want " + kind + ":IP:PORT, such as " + such
	bare := place
	if strings.HasPrefix(place, "[") && strings.HasSuffix(place, "]") {
		bare = place[1 : len(place)-1]
	}
	if _, err := netip.ParseAddr(bare); err == nil {
		if strings.Contains(place, ":") && !strings.HasPrefix(place, "[") {
			return "want the IPv6 address in brackets and then the port, such as " + kind + ":[2001:db8::1]:8737"
		}
		return "the port is missing, such as " + such
	}
	host, port, err := net.SplitHostPort(place)
	if err != nil {
		return want
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "":
		return "the host is missing, such as " + such
	case strings.ContainsAny(host, " \t"):
		return "a host name has no blanks; give several endpoints one by one"
	case port == "":
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
