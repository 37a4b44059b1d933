package zone

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Errors about relays.
var (
	ErrNoRelay = errors.New("the zone has no relay for this address")
	ErrRelay   = errors.New("malformed zr entry")
)

const relayPrefix = "zr."

// Relay is a zr entry: <ip>[,<ip>]:<udp port>:<tcp port>:<anode addresses> (draft 2.3.1).
type Relay struct {
	IPs       []netip.Addr // one or more
	UDP, TCP  uint16       // 0: not offered
	Addresses []anode.Address
}

// ParseRelay reads the value of a zr entry. The last three fields are split off from
// the right, so that IPv6 addresses may be bare or in brackets; a port may be empty. Of
// the Anode addresses those of unknown types are left out, but one has to be known.
// Its errors wrap ErrRelay.
func ParseRelay(s string) (Relay, error) {
	r, err := parseRelay(s)
	if err != nil {
		return Relay{}, fmt.Errorf("%w: %.100q: %w", ErrRelay, s, err)
	}
	return r, nil
}

// parseRelay is ParseRelay with errors that only say what is wrong.
func parseRelay(s string) (r Relay, err error) {
	bad := func(what string) (Relay, error) { return Relay{}, errors.New(what) }
	head, addresses, ok1 := cutLast(s)
	head, tcp, ok2 := cutLast(head)
	ips, udp, ok3 := cutLast(head)
	if !ok1 || !ok2 || !ok3 {
		return bad("want IP,IP...:UDP PORT:TCP PORT:ADDRESS")
	}
	for f := range strings.SplitSeq(ips, ",") {
		f = strings.TrimSpace(f)
		if strings.HasPrefix(f, "[") && strings.HasSuffix(f, "]") {
			f = f[1 : len(f)-1]
		}
		ip, err := netip.ParseAddr(f)
		if err != nil || ip.Zone() != "" {
			return bad("not an IP address: " + strconv.Quote(f))
		}
		r.IPs = append(r.IPs, ip.Unmap())
	}
	for _, p := range []struct {
		text string
		port *uint16
	}{{udp, &r.UDP}, {tcp, &r.TCP}} {
		text := strings.TrimSpace(p.text)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return bad("not a port: " + strconv.Quote(text))
		}
		*p.port = uint16(n)
	}
	for f := range strings.SplitSeq(addresses, ",") {
		if a, err := anode.ParseAddress(strings.TrimSpace(f)); err == nil {
			r.Addresses = append(r.Addresses, a)
		}
	}
	if len(r.Addresses) == 0 {
		return bad("no Anode address")
	}
	return r, nil
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// String writes the value of a zr entry, IPv6 addresses in brackets.
func (r Relay) String() string {
	ips := make([]string, len(r.IPs))
	for i, ip := range r.IPs {
		if ips[i] = ip.String(); ip.Is6() {
			ips[i] = "[" + ips[i] + "]"
		}
	}
	addresses := make([]string, len(r.Addresses))
	for i, a := range r.Addresses {
		addresses[i] = a.String()
	}
	return fmt.Sprintf("%s:%d:%d:%s", strings.Join(ips, ","), r.UDP, r.TCP, strings.Join(addresses, ","))
}

// Endpoints has the relay's ways in: all of UDP, which is preferred, then all of TCP.
// Among those of one kind the choice is at random.
func (r Relay) Endpoints() (es []wire.Endpoint) {
	if r.UDP != 0 {
		for _, ip := range r.IPs {
			es = append(es, wire.UDP(netip.AddrPortFrom(ip, r.UDP)))
		}
	}
	if r.TCP != 0 {
		for _, ip := range r.IPs {
			es = append(es, wire.TCP(netip.AddrPortFrom(ip, r.TCP)))
		}
	}
	return es
}

// listed is a zr entry as it was read. That is done once, with the file: a megabyte of
// addresses takes a quarter of a second, and relays are looked up all the time.
type listed struct {
	relay Relay
	err   error
}

func list(value string) listed {
	r, err := ParseRelay(value)
	return listed{r, err}
}

// Relays is the number of zr entries, well-formed or not.
func (f *File) Relays() int { return len(f.relays) }

// Relay is the relay that serves an address by the sum of the address's bytes: its index
// is the sum modulo the number of zr entries, in hexadecimal. An entry that is missing or
// malformed stands for its addresses all the same, so that one mistake does not move
// everybody. It returns ErrNoRelay, or what ParseRelay says. What it returns is not to be
// changed.
func (f *File) Relay(sum uint32) (Relay, error) {
	n := uint32(len(f.relays))
	if n == 0 {
		return Relay{}, ErrNoRelay
	}
	x, ok := f.relays[sum%n]
	if !ok {
		return Relay{}, fmt.Errorf("%w: zr.%x is missing", ErrNoRelay, sum%n)
	}
	return x.relay, x.err
}

// Reachable reports whether an address may be that of another machine, in some network.
func Reachable(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsGlobalUnicast() && (!ip.Is4() || ip.As4()[0] != 0 && ip.As4()[0] < 224)
}

// relayIndex reads the key of a zr entry.
func relayIndex(key string) (uint32, bool) {
	digits, ok := strings.CutPrefix(key, relayPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), err == nil
}

// relayProblems lists what is wrong with the zr entries.
func (f *File) relayProblems() (list []*Problem) {
	for _, key := range f.Keys() {
		if !strings.HasPrefix(key, relayPrefix) {
			continue
		}
		e := f.entries[key]
		bad := func(format string, args ...any) {
			list = append(list, &Problem{e.line, key + ": " + fmt.Sprintf(format, args...)})
		}
		i, ok := relayIndex(key)
		switch {
		case !ok:
			bad("the index is not hexadecimal")
		case i >= uint32(len(f.relays)):
			bad("the file has %d relays, so the last one is zr.%x", len(f.relays), len(f.relays)-1)
		default:
			r, err := parseRelay(e.value)
			if err != nil {
				bad("%v", err)
				break
			}
			if r.UDP == 0 && r.TCP == 0 {
				bad("the relay offers no port")
			}
			for _, ip := range r.IPs {
				if !Reachable(ip) {
					bad("no other machine can reach %v", ip)
				}
			}
		}
	}
	return list
}
