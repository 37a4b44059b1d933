package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Kind is a kind of door.
type Kind string

// The kinds of doors.
const (
	SOCKS   Kind = "socks"
	HTTP    Kind = "http"
	Forward Kind = "forward"
	Expose  Kind = "expose"
)

// Spec is what a door is to be: a Proxy, a Forwarding or an Exposure.
type Spec interface {
	fmt.Stringer // as the configuration has it
	Kind() Kind
	verb() string    // "forwarded"
	place() string   // where it listens, for errors
	peers() []string // that it names
	open(s *Service) (*Door, error)
}

// Place is where programs of this machine connect: a TCP or UDP port of an address, or a unix
// socket.
type Place struct {
	Addr netip.AddrPort
	Unix string // path; empty: Addr counts
}

const unixPrefix = "unix:"

var errPlace = errors.New("want PORT, IP:PORT or unix:/PATH")

// ParsePlace reads PORT (of 127.0.0.1), IP:PORT, localhost:PORT or unix:/PATH. Port 0 lets the
// system choose.
func ParsePlace(text string) (Place, error) {
	if path, ok := strings.CutPrefix(text, unixPrefix); ok {
		if !filepath.IsAbs(path) || strings.ContainsFunc(path, unfit) {
			return Place{}, errPlace
		}
		return Place{Unix: filepath.Clean(path)}, nil
	}
	host, number, err := net.SplitHostPort(text)
	if err != nil {
		host, number = "127.0.0.1", text
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	port, ok := parsePort(number, 0)
	if err != nil || !ok || addr.Zone() != "" {
		return Place{}, errPlace
	}
	return Place{Addr: netip.AddrPortFrom(addr.Unmap(), port)}, nil
}

// String returns what ParsePlace reads.
func (p Place) String() string {
	if p.Unix != "" {
		return unixPrefix + p.Unix
	}
	return p.Addr.String()
}

// Private reports whether other machines cannot connect to it.
func (p Place) Private() bool { return p.Unix != "" || p.Addr.Addr().IsLoopback() }

// parsePort reads a port number of at least least.
func parsePort(text string, least uint64) (port uint16, ok bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), err == nil && n >= least && text[0] != '+'
}

// Proxy is a SOCKS5 or HTTP proxy for programs of this machine.
type Proxy struct {
	Type     Kind
	At       Place
	Anywhere bool // At may be an address that other machines reach
}

// Kind implements Spec.
func (p Proxy) Kind() Kind { return p.Type }

// String implements Spec.
func (p Proxy) String() string { return p.At.String() }

func (p Proxy) verb() string { return "a proxy" }

func (p Proxy) place() string { return p.At.String() }

func (p Proxy) peers() []string { return nil }

// Forwarding is a local port that leads to a port of a peer.
type Forwarding struct {
	UDP      bool
	At       Place
	Peer     string // as Directory.Find takes it
	Port     uint16 // of the peer
	Anywhere bool   // At may be an address that other machines reach
}

// Kind implements Spec.
func (f Forwarding) Kind() Kind { return Forward }

func (f Forwarding) verb() string { return "forwarded" }

func (f Forwarding) place() string { return udpWord(f.UDP) + f.At.String() }

func (f Forwarding) peers() []string { return []string{f.Peer} }

const udpPrefix = "udp:"

var errForward = errors.New("want [udp:]LOCAL=PEER:PORT, LOCAL being PORT, IP:PORT or unix:/PATH")

// ParseForwarding reads [udp:]LOCAL=PEER:PORT.
func ParseForwarding(text string) (Forwarding, error) {
	rest, udp := strings.CutPrefix(text, udpPrefix)
	i := strings.LastIndexByte(rest, '=')
	if i < 0 {
		return Forwarding{}, errForward
	}
	at, err := ParsePlace(rest[:i])
	if err != nil {
		return Forwarding{}, errForward
	}
	peer, port, err := ParseTarget(rest[i+1:])
	if err != nil || udp && at.Unix != "" {
		return Forwarding{}, errForward
	}
	return Forwarding{UDP: udp, At: at, Peer: peer, Port: port}, nil
}

// String returns what ParseForwarding reads.
func (f Forwarding) String() string {
	return udpWord(f.UDP) + f.At.String() + "=" + joinTarget(f.Peer, f.Port)
}

func udpWord(udp bool) string {
	if udp {
		return udpPrefix
	}
	return ""
}

// ParseTarget reads PEER:PORT. A PEER with colons may stand in brackets.
func ParseTarget(text string) (peer string, port uint16, err error) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return "", 0, fmt.Errorf("want PEER:PORT, not %q", text)
	}
	peer = strings.TrimSuffix(strings.TrimPrefix(text[:i], "["), "]")
	port, ok := parsePort(text[i+1:], 1)
	if !ok {
		return "", 0, fmt.Errorf("want PEER:PORT with a port from 1 to 65535, not %q", text)
	}
	if peer == "" || strings.ContainsFunc(peer, unfit) {
		return "", 0, fmt.Errorf("want PEER:PORT, not %q", text)
	}
	return peer, port, nil
}

// unfit reports whether a character has no place in a spec: it has a meaning there, or none
// that a terminal may be sent.
func unfit(r rune) bool {
	return r <= ' ' || r == utf8.RuneError || !unicode.IsPrint(r) || strings.ContainsRune("@+=[],\"", r)
}

func joinTarget(peer string, port uint16) string {
	return net.JoinHostPort(peer, strconv.Itoa(int(port)))
}

// Exposure is a port of this node that leads to a local service.
type Exposure struct {
	UDP  bool
	Port uint16
	To   string   // HOST:PORT
	Only []string // the peers that may use it, as Directory.Find takes them; none: every added peer
}

// Kind implements Spec.
func (e Exposure) Kind() Kind { return Expose }

func (e Exposure) verb() string { return "exposed" }

func (e Exposure) place() string { return "port " + udpWord(e.UDP) + strconv.Itoa(int(e.Port)) }

func (e Exposure) peers() []string { return e.Only }

var errExpose = errors.New("want [udp:]PORT[=HOST:PORT][@PEER[+PEER]...]")

// ParseExposure reads [udp:]PORT[=HOST:PORT][@PEER[+PEER]...].
func ParseExposure(text string) (Exposure, error) {
	rest, udp := strings.CutPrefix(text, udpPrefix)
	rest, only, some := strings.Cut(rest, "@")
	number, to, given := strings.Cut(rest, "=")
	port, ok := parsePort(number, 1)
	if !given {
		to = net.JoinHostPort("127.0.0.1", number)
	}
	if !ok || CheckService(to) != nil {
		return Exposure{}, errExpose
	}
	e := Exposure{UDP: udp, Port: port, To: to}
	if some {
		e.Only = strings.Split(only, "+")
	}
	for _, peer := range e.Only {
		if peer == "" || strings.ContainsFunc(peer, unfit) {
			return Exposure{}, errExpose
		}
	}
	return e, nil
}

// CheckService reports why a text is not the HOST:PORT of a service.
func CheckService(text string) error {
	host, number, err := net.SplitHostPort(text)
	_, ok := parsePort(number, 1)
	if err != nil || !ok || host == "" || strings.ContainsFunc(host, unfit) {
		return fmt.Errorf("want HOST:PORT, not %q", text)
	}
	return nil
}

// String returns what ParseExposure reads.
func (e Exposure) String() string {
	text := udpWord(e.UDP) + strconv.Itoa(int(e.Port)) + "=" + e.To
	if len(e.Only) > 0 {
		text += "@" + strings.Join(e.Only, "+")
	}
	return text
}
