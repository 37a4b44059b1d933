package dns

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
)

// record is what a reply says of the name that was asked for.
type record struct {
	kind dnsmessage.Type
	body dnsmessage.ResourceBody
}

// found is what there is at a name.
type found struct {
	zone    string // name of the domain that it is in, without a dot at the end; empty: none of ours
	exists  bool
	records []record
	named   anode.Address // that the name consists of, if packets can go there; zero: none
}

// look finds a name, which is in small letters and has no dot at its end.
func (s *Snapshot) look(name string) found {
	if labels, under := names.Under(name, s.suffix); under {
		f := s.forward(labels)
		f.zone = s.suffix
		return f
	}
	if labels := strings.Split(name, "."); len(labels) >= arpaLabels {
		zone := strings.Join(labels[len(labels)-arpaLabels:], ".")
		if s.reverse[zone] {
			records, exists := s.backward(labels, zone)
			return found{zone: zone, exists: exists, records: records}
		}
	}
	return found{}
}

// forward finds what is below the suffix.
func (s *Snapshot) forward(labels []string) found {
	if n := len(labels); n > 0 && strings.HasPrefix(labels[n-1], "_") {
		list, exists := s.browsing(labels)
		return found{exists: exists, records: list}
	}
	h, ok := names.ReadHost(labels)
	at := s.byName[h.Name]
	switch {
	case !ok:
		return found{}
	case h.Kind == names.HostSuffix:
		return found{exists: true, records: s.apex(s.suffix)}
	case h.Kind == names.HostIDs:
		return found{exists: true}
	case h.Kind == names.HostAddress:
		return s.computed(h.Address)
	case h.Kind == names.HostSelf:
		at = s.self
	case h.Kind == names.HostID:
		at = s.byID[h.ID]
	}
	if at == nil {
		return found{}
	}
	return found{exists: true, records: s.below(at, h.Front)}
}

// computed answers for an address itself. What is in a zone without a route has no AAAA: a
// look-up adds no routes.
func (s *Snapshot) computed(a anode.Address) found {
	switch {
	case s.blocked[a.X()]:
		return found{}
	case !s.zones[a.Zone()]:
		return found{exists: true, records: []record{txt(a.TXT())}}
	}
	return found{exists: true, records: []record{aaaa(a.ULA()), txt(a.TXT())}, named: a}
}

// ip4Label in front of a machine asks for its IPv4 alias. A name with both families would go two
// ways, depending on the program's library.
const ip4Label = "v4"

// below finds labels in front of a machine. They all exist: an NXDOMAIN would hide names that
// are below them.
func (s *Snapshot) below(h *host, front []string) []record {
	switch {
	case slices.ContainsFunc(front, func(l string) bool { return strings.HasPrefix(l, "_") }):
		return s.services(h, front)
	case len(front) > 0 && front[len(front)-1] == ip4Label:
		return s.ip4(h.address.ULA())
	}
	return []record{aaaa(h.address.ULA()), txt(h.address.TXT())}
}

// ip4 returns the IPv4 alias of a machine, if it has one.
func (s *Snapshot) ip4(u anode.ULA) []record {
	if s.alias == nil {
		return nil
	}
	a, ok := s.alias(u)
	if !ok || !a.Is4() {
		return nil
	}
	return []record{{dnsmessage.TypeA, &dnsmessage.AResource{A: a.As4()}}}
}

// browsing finds the lists for browsing.
func (s *Snapshot) browsing(labels []string) (list []record, exists bool) {
	switch name := strings.Join(labels, "."); name {
	case "_tcp", "_udp", "_dns-sd._udp":
		return nil, true
	case allTypes:
		return s.pointers(s.types(), ""), true
	default:
		services, ok := s.browse[name]
		return s.pointers(services, ""), ok
	}
}

const allTypes = "_services._dns-sd._udp"

// services finds services of one machine: all of a type, or one by its name, which stands
// before the type or behind it.
func (s *Snapshot) services(h *host, front []string) (list []record) {
	name := strings.Join(front, ".")
	if name == allTypes {
		var types []string
		for _, x := range h.services {
			types = append(types, x.kind())
		}
		slices.Sort(types)
		return s.pointers(slices.Compact(types), h.name)
	}
	var instances []string
	for _, x := range h.services {
		if name == x.kind() {
			instances = append(instances, x.instance())
		}
		if name == x.kind() || name == x.instance() || name == x.kind()+"."+x.label() {
			list = append(list, s.serviceOf(h, x)...)
		}
	}
	slices.SortStableFunc(list, func(a, b record) int { return int(b.kind) - int(a.kind) }) // SRV before TXT
	return append(list, s.pointers(instances, h.name)...)
}

func (s *Snapshot) serviceOf(h *host, x Service) []record {
	target, err := s.full(h.name)
	if err != nil {
		return nil
	}
	texts := x.TXT
	if len(texts) == 0 {
		texts = []string{""} // RFC 6763, 6.1
	}
	return []record{{dnsmessage.TypeSRV, &dnsmessage.SRVResource{Port: x.Port, Target: target}}, txt(texts...)}
}

// pointers returns PTRs to names in front of a machine's, or of the suffix. What is too long for
// a name is left out.
func (s *Snapshot) pointers(fronts []string, machine string) (list []record) {
	for _, front := range fronts {
		if machine != "" {
			front += "." + machine
		}
		if name, err := s.full(front); err == nil {
			list = append(list, record{dnsmessage.TypePTR, &dnsmessage.PTRResource{PTR: name}})
		}
	}
	return list
}

// full returns a name with the suffix.
func (s *Snapshot) full(front string) (dnsmessage.Name, error) {
	return dnsmessage.NewName(front + "." + s.suffix + ".")
}

func aaaa(u anode.ULA) record {
	return record{dnsmessage.TypeAAAA, &dnsmessage.AAAAResource{AAAA: u}}
}

func txt(texts ...string) record {
	return record{dnsmessage.TypeTXT, &dnsmessage.TXTResource{TXT: texts}}
}

// arpaLabels is how many labels the domain for the ULAs of a zone has: ten digits, ip6, arpa.
const arpaLabels = 10 + 2

// ulaLabels is how many the name of a ULA has.
const ulaLabels = 32 + 2

// backward finds what is in a domain for ULAs.
func (s *Snapshot) backward(labels []string, zone string) (list []record, exists bool) {
	digits, ok := unNibble(labels)
	switch {
	case len(labels) == arpaLabels:
		return s.apex(zone), true
	case !ok:
		return nil, false
	case len(labels) < ulaLabels:
		return nil, s.begins(digits, len(labels)-2)
	}
	u := anode.ULA(digits)
	name, ok := s.nameOf(u)
	if !ok {
		return nil, false
	}
	return s.pointers([]string{name}, ""), true
}

// nameOf returns the name of a machine by its ULA. That of a stranger is its address.
func (s *Snapshot) nameOf(u anode.ULA) (string, bool) {
	if h := s.byULA[u]; h != nil {
		return h.name, true
	}
	if s.stranger != nil {
		if a, ok := s.stranger(u); ok && a.ULA() == u && !s.blocked[a.X()] {
			return names.Labels(a), true
		}
	}
	return "", false
}

// begins reports whether the ULA of a machine begins with n digits.
func (s *Snapshot) begins(digits [16]byte, n int) bool {
	p := netip.PrefixFrom(netip.AddrFrom16(digits), 4*n)
	i, _ := slices.BinarySearchFunc(s.sorted, anode.ULA(digits), func(a, b anode.ULA) int { return slices.Compare(a[:], b[:]) })
	return i < len(s.sorted) && p.Contains(s.sorted[i].Addr())
}

// unNibble reads the digits of a name in ip6.arpa, which may be fewer than an address has.
func unNibble(labels []string) (b [16]byte, ok bool) {
	n := len(labels) - 2
	if n > 32 {
		return b, false
	}
	for i := range n {
		l := labels[n-1-i]
		k := -1
		if len(l) == 1 {
			k = strings.IndexByte("0123456789abcdef", l[0])
		}
		if k < 0 {
			return b, false
		}
		b[i/2] |= byte(k) << (4 * (1 - i%2))
	}
	return b, true
}

// Times in seconds.
const (
	ttl      = 30 // of what there is: a peer that was renamed is somebody else's then
	negative = 5  // of what there is not
	refresh  = 3600
	expire   = 86400
)

// apex returns the records of a domain itself.
func (s *Snapshot) apex(zone string) (list []record) {
	soa, err := s.soa()
	self, nameErr := s.full(names.Self)
	if err != nil || nameErr != nil {
		return nil
	}
	return []record{{dnsmessage.TypeSOA, soa}, {dnsmessage.TypeNS, &dnsmessage.NSResource{NS: self}}}
}

// soa returns the record that says how long an absence lasts.
func (s *Snapshot) soa() (*dnsmessage.SOAResource, error) {
	self, err := s.full(names.Self)
	if err != nil {
		return nil, err
	}
	nobody, err := s.full("nobody")
	return &dnsmessage.SOAResource{NS: self, MBox: nobody, Serial: s.serial, Refresh: refresh, Retry: refresh, Expire: expire, MinTTL: negative}, err
}
