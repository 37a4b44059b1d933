// Package dns answers for the names of peers, to programs of this machine alone. What each name
// means comes from the names that the user gave; nobody is asked, and nothing is forwarded.
//
//	north                        AAAA ULA, TXT anode:ADDRESS
//	git.north, a.b.north         the same
//	v4.north                     A its IPv4 alias, where the virtual LAN has one
//	self                         this machine, the same
//	aeaa….….                     AAAA ULA, TXT: an address in labels, split anywhere
//	055b413c40ef750d.id          AAAA ULA, TXT of a peer
//	_http._tcp.north             SRV, TXT, PTR of the services that north offers its friends
//	web._http._tcp.north         SRV, TXT of the one that is named web;
//	  or _http._tcp.web.north    web.north has the ULA as well
//	_http._tcp                   PTR to those of all friends (DNS-SD, RFC 6763)
//	_services._dns-sd._udp       PTR to their types
//	(nothing)                    SOA, NS
//
// all below the suffix, such as anode.internal. PTR of a ULA is in ip6.arpa, for the zones that
// have a route. A Snapshot is all that at one time, and Answer is the whole of the protocol:
//
//	            control loop              resolver
//	                  | New                  | query
//	                  v                      v
//	Publish -> Snapshot (immutable) -> Answer (pure) -> reply
//
// What a reply says (RFC 1034, 2308, 6891, 8020, 8482):
//
//	another domain                   REFUSED
//	name exists, type does not       NOERROR, SOA
//	name does not exist              NXDOMAIN, SOA for 5 s
//	ANY                              the first kind of record that there is
//	class is not IN, zone transfer   REFUSED
//	opcode is not QUERY              NOTIMP
//	EDNS version is not 0            BADVERS
//	not one question, malformed      FORMERR
//	response, or no whole header     nothing
//	longer than UDP or EDNS allow    TC, without records
package dns

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
)

// Service is a service that a machine offers to its friends.
type Service struct {
	Port  uint16   `json:"port"`
	Proto string   `json:"proto"` // tcp or udp
	Type  string   `json:"type"`  // such as http (RFC 6335, 5.1), without _
	Name  string   `json:"name"`  // a label, or empty
	TXT   []string `json:"txt"`   // key=value (RFC 6763, 6)
}

// Peer is a peer that has names.
type Peer struct {
	Address anode.Address
	Name    string // empty: none
}

// Contents are what a Snapshot is made of.
type Contents struct {
	Suffix   string
	Serial   uint32 // another one for each snapshot
	Self     anode.Address
	Peers    []Peer // added and not blocked
	Blocked  []anode.Address
	Zones    []anode.Zone // that have a route
	Services map[anode.Address][]Service
	// Alias returns the IPv4 alias that a machine has now, and Stranger the address of a stranger
	// by its ULA, if there is one. Either may be nil, and is called from any goroutine.
	Alias    func(anode.ULA) (netip.Addr, bool)
	Stranger func(anode.ULA) (anode.Address, bool)
}

// Snapshot is what all names mean at one time. It never changes.
type Snapshot struct {
	suffix   string // in small letters, without dots around it
	serial   uint32
	self     *host
	byName   map[string]*host
	byID     map[anode.ID]*host
	byULA    map[anode.ULA]*host
	blocked  map[[32]byte]bool // by X coordinate
	zones    map[anode.Zone]bool
	reverse  map[string]bool // names of the zones for ULAs, without a dot at the end
	sorted   []anode.ULA
	browse   map[string][]string // _http._tcp -> names of services, of friends
	alias    func(anode.ULA) (netip.Addr, bool)
	stranger func(anode.ULA) (anode.Address, bool)
}

// host is one machine that has names.
type host struct {
	address  anode.Address
	name     string // in front of the suffix
	services []Service
}

// New makes a snapshot. Services that cannot be names are left out.
func New(c Contents) *Snapshot {
	s := &Snapshot{
		suffix: strings.ToLower(strings.Trim(c.Suffix, ".")), serial: c.Serial,
		byName: make(map[string]*host, len(c.Peers)), byID: make(map[anode.ID]*host, len(c.Peers)+1), byULA: make(map[anode.ULA]*host, len(c.Peers)+1),
		blocked: make(map[[32]byte]bool, len(c.Blocked)), zones: make(map[anode.Zone]bool, len(c.Zones)), reverse: make(map[string]bool, len(c.Zones)),
		browse: map[string][]string{}, alias: c.Alias, stranger: c.Stranger,
	}
	for _, a := range c.Blocked {
		s.blocked[a.X()] = true
	}
	for _, z := range c.Zones {
		s.zones[z], s.reverse[ReverseZone(z)] = true, true
	}
	for _, p := range c.Peers {
		s.add(s.hostOf(p, c.Services))
	}
	s.self = s.hostOf(Peer{Address: c.Self}, c.Services)
	s.self.name = names.Self
	s.add(s.self)
	slices.SortFunc(s.sorted, func(a, b anode.ULA) int { return slices.Compare(a[:], b[:]) })
	s.listServices(c)
	return s
}

// hostOf returns a host for a peer. One without a name, or with one that means something else
// here, is known by its address.
func (s *Snapshot) hostOf(p Peer, services map[anode.Address][]Service) *host {
	h := &host{address: p.Address, name: names.Labels(p.Address)}
	if read, ok := names.ReadHost([]string{p.Name}); ok && read.Kind == names.HostNamed {
		h.name = p.Name
	}
	for _, x := range services[p.Address] {
		if len(h.services) < MaxServices && x.Check() == nil {
			h.services = append(h.services, x)
		}
	}
	return h
}

func (s *Snapshot) add(h *host) {
	s.byID[h.address.ID()], s.byULA[h.address.ULA()] = h, h
	s.sorted = append(s.sorted, h.address.ULA())
	if !strings.Contains(h.name, ".") {
		s.byName[h.name] = h
	}
}

// maxBrowsed is how many services one list has, so that it fits into a message by TCP.
const maxBrowsed = 256

// listServices makes the lists for browsing, in the order of the peers.
func (s *Snapshot) listServices(c Contents) {
	for _, p := range c.Peers {
		h := s.byULA[p.Address.ULA()]
		for _, x := range h.services {
			if list := s.browse[x.kind()]; len(list) < maxBrowsed {
				s.browse[x.kind()] = append(list, x.instance()+"."+h.name)
			}
		}
	}
}

// types lists the types of services of friends.
func (s *Snapshot) types() []string {
	list := slices.Sorted(maps.Keys(s.browse))
	return list[:min(len(list), maxBrowsed)]
}

// Names returns the names that peers have, in front of the suffix, and their ULAs.
func (s *Snapshot) Names() map[string]anode.ULA {
	list := make(map[string]anode.ULA, len(s.byName))
	for name, h := range s.byName {
		list[name] = h.address.ULA()
	}
	return list
}

// Suffix returns the suffix, without dots around it.
func (s *Snapshot) Suffix() string { return s.suffix }

// ReverseZone returns the name of the domain for the ULAs of a zone: a.d.d.r.e.s.s.ip6.arpa
// of its /40.
func ReverseZone(z anode.Zone) string {
	p := z.Prefix()
	return nibbles(p.Addr().As16(), p.Bits()/4)
}

// nibbles returns the name in ip6.arpa for the first n digits of an address.
func nibbles(b [16]byte, n int) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 0, 2*n+len(arpa))
	for i := n - 1; i >= 0; i-- {
		text = append(text, digits[b[i/2]>>(4*(1-i%2))&15], '.')
	}
	return string(append(text, arpa...))
}

const arpa = "ip6.arpa"
