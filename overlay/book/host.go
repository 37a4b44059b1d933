package book

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"anodenet/anode/wire"
)

// MaxHosts is how many host names people may give for one peer.
const MaxHosts = 4

// DefaultPort is the port of a host name that was given without one.
const DefaultPort = 8737

// Host is an endpoint that people gave by the name of a machine. A Book only keeps it:
// whoever resolves the name passes the addresses to the node. It is comparable, since
// ParseHost writes names in small letters. A URL is no Host: it is used as it is.
type Host struct {
	Name string // RFC 1123; with a dot at the end if it was given so
	Port uint16
	TCP  bool // not UDP
}

// String returns "udp:home.example.org:8737" or "tcp:home.example.org:8737".
func (h Host) String() string {
	return h.kind() + ":" + h.Name + ":" + strconv.Itoa(int(h.Port))
}

func (h Host) kind() string {
	if h.TCP {
		return "tcp"
	}
	return "udp"
}

// At returns the endpoint of the machine at one of its addresses.
func (h Host) At(ip netip.Addr) wire.Endpoint {
	if h.TCP {
		return wire.TCP(netip.AddrPortFrom(ip, h.Port))
	}
	return wire.UDP(netip.AddrPortFrom(ip, h.Port))
}

// MarshalText returns String's form.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what ParseHost reads.
func (h *Host) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHost(string(text))
	return err
}

// ParseHost reads udp:NAME:PORT or tcp:NAME:PORT; "udp:" and the port may be left out. Its
// errors wrap ErrEndpoint.
func ParseHost(text string) (Host, error) {
	bad := func(why string) (Host, error) {
		return Host{}, fmt.Errorf("%w: %q: %s", ErrEndpoint, shown(text), why)
	}
	name, port, tcp, ok := splitHost(text)
	if !ok {
		return bad(endpointFault(text))
	}
	h := Host{strings.ToLower(name), DefaultPort, tcp}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		switch {
		case err != nil:
			return bad("the port is not valid: want 1 to 65535")
		case n == 0:
			return bad("the port must not be 0")
		}
		h.Port = uint16(n)
	}
	if fault := hostFault(h.Name); fault != "" {
		return bad(fault)
	}
	return h, nil
}

// splitHost cuts a text into the name of a machine and a port, which may be empty. ok is
// false for what people would not write as a name. One that no port follows must have a
// dot: a single word is more likely a mistake.
func splitHost(text string) (name, port string, tcp, ok bool) {
	place, marked := strings.CutPrefix(text, "udp:")
	if !marked {
		place, tcp = strings.CutPrefix(text, "tcp:")
		marked = tcp
	}
	name, port, ported := strings.Cut(place, ":")
	switch {
	case name == "" || ported && port == "" || strings.ContainsAny(place, "[]%/@ ") || strings.Contains(port, ":"):
		return "", "", false, false
	case !marked && ported && slices.Contains([]string{"tcp", "eth", "ethernet", "http", "https", "udp"}, name):
		return "", "", false, false
	case !ported && !strings.Contains(name, "."):
		return "", "", false, false
	case strings.Trim(name, "0123456789") == "": // a port without a machine
		return "", "", false, false
	}
	_, err := netip.ParseAddr(name)
	return name, port, tcp, err != nil
}

// The bounds of a host name (RFC 1035, 2.3.4), without a dot at the end.
const (
	maxHostName = 253
	maxLabel    = 63
)

// hostFault says in plain words why a text cannot be the name of a machine; "" if it can.
// What looks like an IP address is never one: a mistyped address must not be looked up.
func hostFault(name string) string {
	bare := strings.TrimSuffix(name, ".")
	if len(bare) > maxHostName {
		return fmt.Sprintf("the host name is too long: want at most %d characters", maxHostName)
	}
	labels := strings.Split(bare, ".")
	if likeIP(labels) {
		return "the IP address is not valid"
	}
	for _, l := range labels {
		if fault := labelFault(l); fault != "" {
			return fault
		}
	}
	if last := labels[len(labels)-1]; last[0] < 'a' || last[0] > 'z' {
		return "the last part of a host name must begin with a letter"
	}
	return ""
}

func labelFault(l string) string {
	switch {
	case l == "":
		return "the host name has an empty part"
	case len(l) > maxLabel:
		return fmt.Sprintf("a part of the host name is too long: want at most %d characters between dots", maxLabel)
	case l[0] == '-' || l[len(l)-1] == '-':
		return "a part of the host name begins or ends with -"
	}
	for i := range len(l) {
		switch c := l[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-':
		case c >= 0x80:
			return "write the host name in ASCII, as DNS has it (xn--...)"
		default:
			return "a host name has only letters, digits and - between its dots"
		}
	}
	return ""
}

// likeIP reports whether labels were meant as an IPv4 address: the last is a number, or
// all but the last of four are.
func likeIP(labels []string) bool {
	numbers := 0
	for _, l := range labels[:len(labels)-1] {
		if isNumber(l) {
			numbers++
		}
	}
	return isNumber(labels[len(labels)-1]) || len(labels) == 4 && numbers == 3
}

// isNumber reports whether some systems read a label as a part of an IPv4 address.
func isNumber(l string) bool {
	hex, isHex := strings.CutPrefix(l, "0x")
	if isHex {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return l != "" && strings.Trim(l, "0123456789") == ""
}

// checkHosts checks a list, and returns it without repetitions.
func checkHosts(hosts []Host) ([]Host, error) {
	var list []Host
	for _, h := range hosts {
		fault := hostFault(h.Name)
		if h.Port == 0 {
			fault = "the port must not be 0"
		}
		if fault != "" {
			return nil, fmt.Errorf("%w: %s: %s", ErrEndpoint, h, fault)
		}
		if !slices.Contains(list, h) {
			list = append(list, h)
		}
		if len(list) > MaxHosts {
			return nil, fmt.Errorf("%w: more than %d host names for one peer", ErrEndpoint, MaxHosts)
		}
	}
	return list, nil
}

// checkPlaces checks both lists of an entry, and returns them without repetitions.
func checkPlaces(es []wire.Endpoint, hosts []Host) ([]wire.Endpoint, []Host, error) {
	es, err := checkEndpoints(es)
	if err != nil {
		return nil, nil, err
	}
	hosts, err = checkHosts(hosts)
	return es, hosts, err
}

// Place is an endpoint as people give it: an IP address, a URL, or the name of a machine. Exactly
// one of its fields is set. It is comparable.
type Place struct {
	Endpoint wire.Endpoint
	Host     Host
}

// ParsePlace reads an endpoint as people write it: udp:IP:PORT, tcp:IP:PORT, a URL, or what
// ParseHost reads; "udp" and "tcp" may have capital letters. Its errors wrap ErrEndpoint.
func ParsePlace(text string) (Place, error) {
	if isURL(text) {
		e, err := parseURL(text)
		return Place{Endpoint: e}, err
	}
	if kind, place, ok := strings.Cut(text, ":"); ok && (strings.EqualFold(kind, "udp") || strings.EqualFold(kind, "tcp")) {
		text = strings.ToLower(kind) + ":" + place
	}
	if e, err := wire.EndpointFromText(text); err == nil {
		return Place{Endpoint: e}, checkEndpoint(e)
	}
	h, err := ParseHost(text)
	return Place{Host: h}, err
}

// ParsePlaces reads endpoints of which each but the first follows an @, as people write them
// behind an address. An @ in a URL belongs to it, unless udp:, tcp: or another URL follows.
func ParsePlaces(text string) ([]Place, error) {
	var words []string
	for _, word := range strings.Split(text, "@") {
		if last := len(words) - 1; last >= 0 && isURL(words[last]) && !beginsPlace(word) {
			words[last] += "@" + word
		} else {
			words = append(words, word)
		}
	}
	list := make([]Place, len(words))
	for i, word := range words {
		var err error
		if list[i], err = ParsePlace(word); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// beginsPlace reports whether a text names the kind of endpoint that it is.
func beginsPlace(text string) bool {
	kind, _, ok := strings.Cut(text, ":")
	return isURL(text) || ok && (strings.EqualFold(kind, "udp") || strings.EqualFold(kind, "tcp"))
}

// String returns the form of the field that is set.
func (p Place) String() string {
	if p.Host != (Host{}) {
		return p.Host.String()
	}
	return p.Endpoint.String()
}

// MarshalText returns String's form.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what ParsePlace reads.
func (p *Place) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePlace(string(text))
	return err
}

// Split sorts places into those by address and those by name, each in their order.
func Split(places []Place) (endpoints []wire.Endpoint, hosts []Host) {
	for _, p := range places {
		if p.Host != (Host{}) {
			hosts = append(hosts, p.Host)
		} else {
			endpoints = append(endpoints, p.Endpoint)
		}
	}
	return endpoints, hosts
}

// Places returns the endpoints and the host names of an entry as one list.
func (e Entry) Places() []Place {
	list := make([]Place, 0, len(e.Endpoints)+len(e.Hosts))
	for _, ep := range e.Endpoints {
		list = append(list, Place{Endpoint: ep})
	}
	for _, h := range e.Hosts {
		list = append(list, Place{Host: h})
	}
	return list
}
