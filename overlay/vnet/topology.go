package vnet

import (
	"fmt"
	"net/netip"
	"time"
)

// Kind names how a site is joined to the internet. The names are stable.
type Kind string

// The kinds of sites. All but IPv6Firewall have IPv4 only.
const (
	// Open is a host with a public address.
	Open Kind = "open"
	// Home is what most routers do: endpoint-independent mapping that preserves ports,
	// and address-and-port-dependent filtering ("port-restricted cone").
	Home Kind = "home"
	// FullCone is Home without filtering.
	FullCone Kind = "full-cone"
	// Restricted is Home with address-dependent filtering.
	Restricted Kind = "restricted"
	// Masquerade is Linux's: like Home, except that the mapping depends on the remote, so
	// two hosts with one port get outside ports that are hard to foresee.
	Masquerade Kind = "masquerade"
	// SymmetricRandom has another, random port for each remote endpoint.
	SymmetricRandom Kind = "symmetric-random"
	// SymmetricSequential has the next port for each remote endpoint.
	SymmetricSequential Kind = "symmetric-sequential"
	// Carrier is a host behind a carrier's NAT: endpoint-independent mapping to random
	// ports, port-restricted, forgotten after 10 s without a packet from the inside.
	Carrier Kind = "carrier"
	// Double is Home behind Carrier.
	Double Kind = "double"
	// Twins are two hosts behind one Home, which cannot reach each other by a LAN.
	Twins Kind = "twins"
	// TwinsHairpin are Twins whose NAT hairpins, with the external source.
	TwinsHairpin Kind = "twins-hairpin"
	// IPv6Firewall is a host with IPv6 only, behind a router with a stateful firewall.
	IPv6Firewall Kind = "ipv6-firewall"
	// UDPBlocked is Home behind a firewall that drops all UDP.
	UDPBlocked Kind = "udp-blocked"
)

// Kinds returns all kinds, always in the same order.
func Kinds() []Kind {
	return []Kind{Open, Home, FullCone, Restricted, Masquerade, SymmetricRandom, SymmetricSequential,
		Carrier, Double, Twins, TwinsHairpin, IPv6Firewall, UDPBlocked}
}

const (
	homeLifetime    = 2 * time.Minute  // the least that RFC 4787 allows (REQ-5)
	carrierLifetime = 10 * time.Second // seen in the wild
)

// NATConfig returns how the NAT of a kind behaves: of Double, the home's. ok is false for
// kinds without a NAT.
func (k Kind) NATConfig() (c NATConfig, ok bool) {
	c = NATConfig{Filtering: AddressAndPortDependent, Lifetime: homeLifetime, InboundRefresh: true, Isolated: true}
	symmetric := func(p PortOrder) { c.Mapping, c.Ports.Order = AddressAndPortDependent, p }
	switch k {
	case Home, Double, Twins, UDPBlocked:
	case FullCone:
		c.Filtering = EndpointIndependent
	case Restricted:
		c.Filtering = AddressDependent
	case Masquerade:
		symmetric(Preserving)
		c.Ports.Fallback, c.Shared = Random, true
	case SymmetricRandom:
		symmetric(Random)
	case SymmetricSequential:
		symmetric(Sequential)
	case TwinsHairpin:
		c.Hairpin = HairpinExternal
	case Carrier:
		c.Ports.Order, c.Lifetime, c.InboundRefresh = Random, carrierLifetime, false
	default:
		return NATConfig{}, false
	}
	return c, true
}

// Internet is a router that joins sites, each by a segment of its own. A packet from one
// site to another crosses two such segments.
//
// Site number k has the public addresses 51.k.0.1 to .253 and 2a0e:k:0::/48.
type Internet struct {
	w     *World
	core  *Host
	link  Link
	sites int
}

// Internet makes an internet without sites; l is the link of each site's segment.
func (w *World) Internet(l Link) *Internet {
	return &Internet{w: w, core: w.Router("internet"), link: l}
}

// Site is a host, or two, and what is between them and the internet.
type Site struct {
	Kind   Kind
	Host   *Host   // the first of Hosts
	Hosts  []*Host // two if they are twins
	Access *Segment
	LAN    []*Segment // of each host; none if the host itself is on Access

	// Nil where there is none.
	Router   *Host // next to the hosts; what listens on it can play a PCP server
	NAT      *NAT  // the one next to the hosts
	Carrier  *NAT  // of Double, the other one
	Firewall *Firewall

	net    *Internet
	number int
	used   int        // public addresses so far
	edge   *Interface // on Access
	lan    *Interface // of the only host, if it has a public address on its LAN
}

// Public makes a host with public addresses of both families, such as a relay.
func (n *Internet) Public(name string) *Site {
	s := n.site("", name)
	s.edge = s.Host.Attach(s.Access, s.addr4(), s.addr6(0))
	s.upstream4(s.Host)
	s.upstream6(s.Host)
	return s
}

// Site makes a site of a kind. Its first host is called name, the second name2.
func (n *Internet) Site(name string, k Kind) *Site {
	s := n.site(k, name)
	switch k {
	case Open:
		s.edge = s.Host.Attach(s.Access, s.addr4())
		s.upstream4(s.Host)
		return s
	case IPv6Firewall:
		s.firewalled()
		return s
	case Double:
		s.double()
		return s
	case Twins, TwinsHairpin:
		s.Hosts = append(s.Hosts, n.w.Host(name+"2"))
	}
	c, _ := k.NATConfig()
	r := s.router("router")
	s.edge = r.Attach(s.Access, s.addr4())
	s.upstream4(r)
	s.NAT = r.NAT(s.edge, c)
	s.behind(r)
	if k == UDPBlocked {
		s.Firewall = s.edge.Firewall(FirewallConfig{NoUDP: true})
	}
	return s
}

// Pair makes a host of each kind. If both are the same kind of twins, they are twins of
// one site, and a and b are the same.
func (n *Internet) Pair(a, b Kind) (x, y *Host, sites []*Site) {
	if a == b && (a == Twins || a == TwinsHairpin) {
		s := n.Site("a", a)
		return s.Hosts[0], s.Hosts[1], []*Site{s}
	}
	s, t := n.Site("a", a), n.Site("b", b)
	return s.Host, t.Host, []*Site{s, t}
}

func (n *Internet) site(k Kind, name string) *Site {
	n.sites++
	h := n.w.Host(name)
	s := &Site{Kind: k, Host: h, Hosts: []*Host{h}, Access: n.w.Segment("access of "+name, n.link), net: n, number: n.sites}
	n.core.Attach(s.Access, netip.PrefixFrom(s.public4(254), 24), netip.PrefixFrom(s.public6(0, 0xfe), 64))
	return s
}

func (s *Site) public4(host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{51, byte(s.number >> 8), byte(s.number), host})
}

func (s *Site) public6(net, host byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0x2a, 0x0e, byte(s.number >> 8), byte(s.number), 5: net, 15: host})
}

// addr4 returns the next public IPv4 address of the site.
func (s *Site) addr4() netip.Prefix {
	s.used++
	return netip.PrefixFrom(s.public4(byte(s.used)), 24)
}

// addr6 returns an IPv6 address with the number of the last IPv4 address, or the next one.
func (s *Site) addr6(net byte) netip.Prefix {
	return netip.PrefixFrom(s.public6(net, byte(max(1, s.used))), 64)
}

func (s *Site) upstream4(h *Host) { h.Gateway(s.public4(254)) }
func (s *Site) upstream6(h *Host) { h.Gateway(s.public6(0, 0xfe)) }

func (s *Site) router(what string) *Host {
	return s.net.w.Router(fmt.Sprintf("%s of %s", what, s.Host.name))
}

// behind puts each host on a LAN of its own behind a router: 192.168.1.0/24, as at
// everybody's home, and 192.168.2.0/24.
func (s *Site) behind(r *Host) {
	s.Router = r
	for k, h := range s.Hosts {
		lan := s.net.w.Segment(fmt.Sprintf("LAN of %s", h.name), Link{Delay: time.Millisecond})
		net := func(host byte) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(k + 1), host}), 24)
		}
		r.Attach(lan, net(1))
		h.Attach(lan, net(byte(9+s.number%200)))
		h.Gateway(net(1).Addr())
		s.LAN = append(s.LAN, lan)
	}
}

// double puts a home behind a carrier's NAT.
func (s *Site) double() {
	carrier, home := s.router("carrier"), s.router("router")
	s.edge = carrier.Attach(s.Access, s.addr4())
	s.upstream4(carrier)
	config, _ := Carrier.NATConfig()
	s.Carrier = carrier.NAT(s.edge, config)
	between := s.net.w.Segment("carrier's net of "+s.Host.name, Link{Delay: time.Millisecond})
	carrier.Attach(between, netip.MustParsePrefix("100.64.0.1/10"))
	outside := home.Attach(between, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(s.number), 2}), 10))
	home.Gateway(netip.AddrFrom4([4]byte{100, 64, 0, 1}))
	config, _ = Double.NATConfig()
	s.NAT = home.NAT(outside, config)
	s.behind(home)
}

// firewalled puts the host on an IPv6 LAN behind a router with a stateful firewall.
func (s *Site) firewalled() {
	r := s.router("router")
	s.Router = r
	s.used++
	s.edge = r.Attach(s.Access, netip.PrefixFrom(s.public6(0, 1), 64))
	s.upstream6(r)
	s.Firewall = s.edge.Firewall(FirewallConfig{Filtering: AddressAndPortDependent, Lifetime: homeLifetime, InboundRefresh: true})
	lan := s.net.w.Segment("LAN of "+s.Host.name, Link{Delay: time.Millisecond})
	r.Attach(lan, netip.PrefixFrom(s.public6(1, 0xfe), 64))
	s.net.core.Route(netip.PrefixFrom(s.public6(1, 0), 64), s.public6(0, 1))
	s.lan = s.Host.Attach(lan, s.addr6(1))
	s.Host.Gateway(s.public6(1, 0xfe))
	s.LAN = []*Segment{lan}
}

// DropUDP has a firewall next to the internet drop all UDP, or no longer.
func (s *Site) DropUDP(drop bool) { s.restrict(func(c *FirewallConfig) { c.NoUDP = drop }) }

// AllowTCP has a firewall next to the internet let TCP through to these remote ports alone;
// without any, to all.
func (s *Site) AllowTCP(ports ...uint16) {
	s.restrict(func(c *FirewallConfig) { c.NoTCP, c.AllowTCP = len(ports) > 0, ports })
}

// restrict changes the site's firewall. Where there was none it hinders nothing else.
func (s *Site) restrict(change func(*FirewallConfig)) {
	if s.Firewall == nil {
		s.Firewall = s.edge.Firewall(FirewallConfig{Open: true})
	}
	s.Firewall.SetConfig(change)
}

// SetLink changes the link to the internet in both directions, for example to
// Link{Delay: 300 * time.Millisecond, Loss: 0.3}.
func (s *Site) SetLink(l Link) { s.Access.SetLink(l) }

// Join adds another host on the LAN of the site's first host, behind the same NAT. It
// fails for a site without NAT.
func (s *Site) Join(name string) (*Host, error) {
	if s.NAT == nil {
		return nil, fmt.Errorf("vnet: a site of kind %q has no LAN to join", s.Kind)
	}
	h := s.net.w.Host(name)
	h.Attach(s.LAN[0], netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(210 + len(s.Hosts))}), 24))
	h.Gateway(netip.AddrFrom4([4]byte{192, 168, 1, 1}))
	s.Hosts = append(s.Hosts, h)
	return h, nil
}

// Reboot has what is next to the internet forget everything: NAT or firewall. A host that
// is itself there is not touched.
func (s *Site) Reboot() {
	switch {
	case s.Carrier != nil:
		s.Carrier.Reboot()
	case s.NAT != nil:
		s.NAT.Reboot()
	case s.Firewall != nil:
		s.Firewall.Reboot()
	}
}

// Renumber gives the site another public address: its NAT, or the host if there is none.
// A NAT reboots.
func (s *Site) Renumber() {
	switch {
	case s.Carrier != nil:
		s.Carrier.Reboot(s.addr4())
	case s.NAT != nil:
		s.NAT.Reboot(s.addr4())
	case s.lan != nil:
		s.used++
		s.lan.SetAddrs(s.addr6(1))
	case s.Kind == Open:
		s.edge.SetAddrs(s.addr4())
	default:
		s.edge.SetAddrs(s.addr4(), s.addr6(0))
	}
}
