package config

import (
	"encoding/json"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Serve sets where the zone file is served.
type Serve struct {
	On bool           // at all
	At netip.AddrPort // not valid: port 80 of the zone's address
}

// Text returns "true", "false" or "IP:PORT".
func (s Serve) Text() string {
	if s.On && s.At.IsValid() {
		return s.At.String()
	}
	return strconv.FormatBool(s.On)
}

// serving is true, false or an IP address with a port.
type serving struct{ p *Serve }

func (v serving) want() string { return "true, false or \"IP:PORT\"" }
func (v serving) set(x any) bool {
	switch x := x.(type) {
	case bool:
		*v.p = Serve{On: x}
		return true
	case string:
		at, err := netip.ParseAddrPort(x)
		if err != nil || at.Port() == 0 || at.Addr().Zone() != "" {
			return false
		}
		*v.p = Serve{On: true, At: at}
		return true
	}
	return false
}
func (v serving) parse(s string) bool {
	if b, err := strconv.ParseBool(s); err == nil {
		return v.set(b)
	}
	return v.set(s)
}
func (v serving) format() string {
	if v.p.On && v.p.At.IsValid() {
		return quote(v.p.Text())
	}
	return v.p.Text()
}
func (v serving) plain() any {
	if v.p.On && v.p.At.IsValid() {
		return v.p.Text()
	}
	return v.p.On
}
func (v serving) quoted() bool { return false }

// Rate is how much may pass in a second.
type Rate struct{ Bytes uint64 } // 0: no limit

// units are the units of a Rate in bytes, the largest first. A bit is 1/8 of one.
var units = []struct {
	name        string
	bytes, bits uint64
}{
	{"Gbit", 0, 1e9}, {"Mbit", 0, 1e6}, {"kbit", 0, 1e3}, {"bit", 0, 1},
	{"GB", 1e9, 0}, {"MB", 1e6, 0}, {"kB", 1e3, 0}, {"B", 1, 0}, {"", 1, 0},
}

// leastRate is the lowest limit, in bytes: a bare "5" was hardly meant as five bytes a second.
const leastRate = 1000

// parseRate reads a whole number with a unit: "100Mbit", "12 MB/s", "4096". "Mb" and "Mbps"
// are no units, since people mean bits by them, and others bytes.
func parseRate(s string) (Rate, bool) {
	s = strings.TrimSuffix(strings.TrimSpace(s), "/s")
	digits := strings.TrimRightFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return Rate{}, false
	}
	name := strings.TrimSpace(s[len(digits):])
	for _, u := range units {
		factor := max(u.bytes, u.bits)
		same := u.name == name || u.bits > 0 && strings.EqualFold(u.name, name)
		if !same || n > math.MaxUint64/factor {
			continue
		}
		bytes := n * factor
		if u.bits > 0 {
			bytes /= 8
		}
		return Rate{bytes}, n == 0 || bytes >= leastRate
	}
	return Rate{}, false
}

// String returns the rate in the largest unit of bits that it is a whole number of, or in
// bytes.
func (r Rate) String() string {
	if r.Bytes == 0 || r.Bytes > math.MaxUint64/8 {
		return strconv.FormatUint(r.Bytes, 10)
	}
	for _, u := range units {
		if u.bits >= 1e3 && r.Bytes*8%u.bits == 0 {
			return strconv.FormatUint(r.Bytes*8/u.bits, 10) + u.name
		}
	}
	return strconv.FormatUint(r.Bytes, 10) + "B"
}

// MarshalJSON writes the number of bytes.
func (r Rate) MarshalJSON() ([]byte, error) { return json.Marshal(r.Bytes) }

// rate is a Rate: a text, or bytes as a number.
type rate struct{ p *Rate }

func (v rate) want() string {
	return "a rate of at least 1kB a second, such as \"100Mbit\" or \"12MB\", or 0"
}
func (v rate) set(x any) bool {
	switch x := x.(type) {
	case int64:
		if x < 0 {
			return false
		}
		v.p.Bytes = uint64(x)
		return true
	case string:
		return v.parse(x)
	}
	return false
}
func (v rate) parse(s string) bool {
	r, ok := parseRate(s)
	if ok {
		*v.p = r
	}
	return ok
}
func (v rate) format() string {
	if v.p.Bytes == 0 {
		return "0"
	}
	return quote(v.p.String())
}
func (v rate) plain() any   { return v.p.Bytes }
func (v rate) quoted() bool { return false }
