package main_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"anodenet/cmd/internal/control"
)

// box is a machine between a host and the internet: a router, with or without a firewall
// and a NAT.
type box struct {
	nat      string // how it translates what leaves, in nft's words; WAN is its own address outside. Empty: not at all
	fixed    bool   // it gives port 8737 of each machine inside one port outside, for all destinations
	known    bool   // and lets in by it all ports of an address that something was sent to
	full     bool   // and lets everybody in by it
	hairpin  bool   // from inside too
	open     bool   // it drops nothing that comes from outside
	together bool   // machines in two of its networks reach each other by their own addresses
	lifetime int    // seconds that it remembers silent UDP; 0: as Linux
	noUDP    bool   // it drops all UDP
	closed   bool   // it lets nothing out, except
	lets     string // what this matches, in nft's words
	proxy    string // it has this one of the proxies
	portal   bool   // it answers what is asked by HTTP with a page of its own
	maps     string // a line of miniupnpd's configuration: it opens ports for who asks. Empty: it does not
}

// boxes are those that topologies are made of. Linux translates with a mapping for each
// destination, but leaves a port as it is while it can, which others see as one mapping for
// all. Only random and sequential ports differ.
var boxes = map[string]box{
	"router":   {open: true},
	"firewall": {}, // stateful, without a NAT
	// What most homes have: the port stays, and only who was written to gets in.
	"home": {nat: "masquerade"},
	// Home without the rule that drops what nobody asked for. Such a packet takes the place
	// in the NAT that the host inside needs when it answers.
	"trusting": {nat: "masquerade", open: true},
	// Home with another port outside.
	"moved": {nat: "masquerade", fixed: true},
	"known": {nat: "masquerade", fixed: true, known: true},
	"cone":  {nat: "masquerade", fixed: true, full: true},
	// Cone that also turns round what machines inside send to each other's ports outside.
	"hairpin": {nat: "masquerade", fixed: true, full: true, hairpin: true},
	// Symmetric: another port for each destination.
	"random":     {nat: "masquerade random"},
	"fully":      {nat: "masquerade fully-random"},
	"sequential": {nat: "snat to WAN:numgen inc mod 2000 map " + nextPorts(2000)},
	// The same by nft's shorter words, whose counter is in the host's order of bytes: each
	// port is 256 above the last.
	"sequential-256": {nat: "snat to WAN:numgen inc mod 20000 offset 30000"},
	// A provider's, which forgets quickly.
	"carrier":           {nat: "masquerade", lifetime: 10},
	"carrier-random":    {nat: "masquerade fully-random", lifetime: 10},
	"carrier-hairpin":   {nat: "masquerade", fixed: true, full: true, hairpin: true, lifetime: 10},
	"no-udp":            {nat: "masquerade", noUDP: true},
	"no-udp-random":     {nat: "masquerade random", noUDP: true},
	"home-between-lans": {nat: "masquerade", together: true},
	// Those of offices, hotels and the like.
	"web":                {nat: "masquerade", closed: true, lets: "tcp dport { 80, 443 }"},
	"sealed":             {nat: "masquerade", closed: true},
	"portal":             {nat: "masquerade", closed: true, portal: true},
	"tinyproxy":          {nat: "masquerade", closed: true, proxy: "tinyproxy"},
	"tinyproxy-password": {nat: "masquerade", closed: true, proxy: "tinyproxy-password"},
	"squid":              {nat: "masquerade", closed: true, proxy: "squid"},
	"squid-password":     {nat: "masquerade", closed: true, proxy: "squid-password"},
	"squid-digest":       {nat: "masquerade", closed: true, proxy: "squid-digest"},
	"buffering":          {nat: "masquerade", closed: true, proxy: "buffering"},
	// Symmetric, but it opens ports by UPnP IGD, or by NAT-PMP and PCP.
	"upnp": {nat: "masquerade random", maps: "enable_upnp=yes"},
	"pcp":  {nat: "masquerade random", maps: "enable_upnp=no\nenable_natpmp=yes"},
}

// nextPorts is a map of nft from 0, 1, 2 to ports that follow each other.
func nextPorts(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%d : %d", i, 30000+i)
	}
	return "{ " + strings.Join(list, ", ") + " }"
}

// place is where a host is.
type place struct {
	boxes  []string // from the internet to the host
	shared int      // how many of the other host's boxes, from outside, come before these
	lan    bool     // in the other host's network, behind all its boxes
	v6     bool     // it has IPv6 too
	no4    bool     // it has no IPv4
	line   *line    // nil: a home's
}

// gateway is a box in a laboratory.
type gateway struct {
	*host
	box
	outside netip.Addr // IPv4
	uplink  *uplink    // nil: it is inside another one
	prefix6 string     // of its IPv6 networks, without the last groups
	lans    []lan

	rebooted int // times
}

// lan is a network inside a gateway: a bridge.
type lan struct {
	dev      string
	prefix   netip.Prefix // IPv4, with the gateway as .1
	machines []netip.Addr
}

// laboratory is two hosts, a and b, and relays, on an internet.
type laboratory struct {
	t         *testing.T
	internet  *internet
	a, b      *host
	relays    []*host
	gateways  []*gateway
	chains    map[*host][]*gateway // from the internet to the host
	clients   map[*host]*control.Client
	odometers []*odometer // of a and b
}

// newLaboratory is one without machines.
func newLaboratory(t *testing.T) *laboratory {
	return &laboratory{t: t, internet: newInternet(t), chains: map[*host][]*gateway{}, clients: map[*host]*control.Client{}}
}

// build makes the laboratory of a topology. No daemon runs yet.
func build(t *testing.T, row topology) *laboratory {
	l := newLaboratory(t)
	l.a, l.b = newHost(t, "a"), newHost(t, "b")
	l.put(l.a, row.a, 1, nil)
	l.put(l.b, row.b, 2, l.chains[l.a])
	l.odometers = []*odometer{l.a.odometer("eth0"), l.b.odometer("eth0")}
	for i := range max(1, row.relays) {
		r := newHost(t, fmt.Sprintf("r%d", i+1))
		l.relays = append(l.relays, r)
		l.put(r, centre, firstRelay+i, nil)
	}
	l.rules()
	return l
}

// centre is where relays are.
var centre = place{boxes: []string{"router"}, v6: true, line: &centreLine}

// innermost is the box next to a host.
func (l *laboratory) innermost(h *host) *gateway {
	chain := l.chains[h]
	return chain[len(chain)-1]
}

// rules has all boxes write their rules.
func (l *laboratory) rules() {
	for _, g := range l.gateways {
		g.rule()
		g.serveMaps()
		g.serveProxy()
		g.servePortal()
	}
}

// firstRelay is the number of the first relay's site.
const firstRelay = 3

// put makes a host's place and connects it. The number is its site's, which its addresses
// have.
func (l *laboratory) put(h *host, p place, site int, other []*gateway) {
	l.connect(h, p, l.lay(p, site, other))
}

// lay makes the boxes of a place, with a network for the host in the last one.
func (l *laboratory) lay(p place, site int, other []*gateway) []*gateway {
	if p.lan {
		return other
	}
	chain := append([]*gateway(nil), other[:p.shared]...)
	for _, name := range p.boxes {
		b, ok := boxes[name]
		if !ok {
			l.t.Fatalf("no box is named %s", name)
		}
		var g *gateway
		if len(chain) == 0 {
			g = l.outermost(b, p, site)
		} else {
			g = l.inner(b, chain[len(chain)-1], site)
		}
		l.gateways = append(l.gateways, g)
		chain = append(chain, g)
	}
	last := chain[len(chain)-1]
	prefix := fmt.Sprintf("192.168.%d.0/24", len(last.lans)+1)
	if last.nat == "" {
		prefix = fmt.Sprintf("9.0.%d.0/24", site)
	}
	last.addLAN(prefix)
	return chain
}

// connect connects a host to the newest network of the last of some boxes.
func (l *laboratory) connect(h *host, p place, chain []*gateway) {
	l.chains[h] = chain
	l.innermost(h).serve(h, p)
}

// outermost makes a box with an uplink.
func (l *laboratory) outermost(b box, p place, site int) *gateway {
	g := &gateway{host: newGatewayHost(l.t), box: b, prefix6: fmt.Sprintf("2a00:0:%d", site)}
	quality := homeLine
	if p.line != nil {
		quality = *p.line
	}
	var networks []netip.Prefix
	if !p.no4 {
		networks = append(networks, netip.MustParsePrefix(fmt.Sprintf("9.0.%d.0/24", site)))
	}
	if p.v6 {
		networks = append(networks, netip.MustParsePrefix(g.prefix6+"::/48"))
	}
	g.uplink = l.internet.attach(g.host, quality, networks...)
	if !p.no4 {
		g.outside = networks[0].Addr().Next()
		if b.nat != "" {
			g.ip(fmt.Sprintf("addr add %s/32 dev wan", g.outside))
		}
		g.ip("route add default dev wan")
	}
	if p.v6 {
		g.ip("-6 route add default dev wan")
	}
	return g
}

// inner makes a box inside another.
func (l *laboratory) inner(b box, outer *gateway, site int) *gateway {
	g := &gateway{host: newGatewayHost(l.t), box: b}
	prefix := fmt.Sprintf("10.%d.%d.0/24", len(outer.lans), site)
	if outer.lifetime > 0 { // a provider's
		prefix = fmt.Sprintf("100.64.%d.0/24", site)
	}
	outer.addLAN(prefix)
	g.outside = outer.plug(g.host, "wan", len(outer.lans)-1)
	return g
}

func newGatewayHost(t *testing.T) *host {
	g := newMachine(t, "gateway")
	g.sysctl("ipv4/ip_forward=1")
	g.sysctl("ipv6/conf/all/forwarding=1")
	// What a bridge passes on does not concern the firewall.
	for _, family := range []string{"ip", "ip6"} {
		if key := "bridge/bridge-nf-call-" + family + "tables"; g.hasSysctl(key) {
			g.sysctl(key + "=0")
		}
	}
	return g
}

// hasSysctl reports whether the kernel has a key of net.
func (h *host) hasSysctl(key string) bool {
	_, err := in(h, func() (os.FileInfo, error) { return os.Stat("/proc/sys/net/" + key) })
	return err == nil
}

// addLAN makes one more network inside.
func (g *gateway) addLAN(prefix string) {
	p := netip.MustParsePrefix(prefix)
	dev := fmt.Sprintf("lan%d", len(g.lans))
	g.ip("link add "+dev+" type bridge", "link set "+dev+" addrgenmode none", "link set "+dev+" up",
		fmt.Sprintf("addr add %s/%d brd + dev %s", p.Addr().Next(), p.Bits(), dev))
	g.lans = append(g.lans, lan{dev: dev, prefix: p})
}

// plug connects a machine's interface to a network, with the next address, and makes the
// gateway its default route.
func (g *gateway) plug(h *host, dev string, network int) netip.Addr {
	n := &g.lans[network]
	address := n.prefix.Addr().Next().Next()
	for range n.machines {
		address = address.Next()
	}
	n.machines = append(n.machines, address)
	port := fmt.Sprintf("%sp%d", n.dev, len(n.machines))
	g.ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", port, dev, h.tid),
		fmt.Sprintf("link set %s addrgenmode none", port), fmt.Sprintf("link set %s master %s up", port, n.dev))
	h.ip(fmt.Sprintf("addr add %s/%d brd + dev %s", address, n.prefix.Bits(), dev), "link set "+dev+" up",
		fmt.Sprintf("route add default via %s dev %s", n.prefix.Addr().Next(), dev))
	return address
}

// serve connects a host to the newest network, with what its place has of IPv4 and IPv6.
func (g *gateway) serve(h *host, p place) {
	network := len(g.lans) - 1
	links := h.links()
	if !p.v6 && links == 0 { // later it would switch off the adapter's IPv6 too
		onlyIPv4(h)
	}
	dev := fmt.Sprintf("eth%d", links)
	g.plug(h, dev, network)
	if p.no4 {
		h.ip("-4 addr flush dev " + dev)
	}
	if p.v6 {
		n, net6 := g.lans[network], fmt.Sprintf("%s:%d", g.prefix6, network)
		if len(n.machines) == 1 {
			// Without a link-local address it would ask for nobody's link address.
			g.ip(fmt.Sprintf("addr add fe80::1/64 dev %s nodad", n.dev), fmt.Sprintf("addr add %s::1/64 dev %s nodad", net6, n.dev))
		}
		h.ip(fmt.Sprintf("addr add %s::%d/64 dev %s nodad", net6, len(n.machines)+1, dev),
			fmt.Sprintf("-6 route add default via %s::1", net6))
	}
}

// links is how many interfaces the host has beside lo and the adapter.
func (h *host) links() int {
	return strings.Count(h.run("ip", "-brief", "link", "show", "type", "veth"), "\n")
}

// reboot has the box forget all connections, and give other ports than before.
func (g *gateway) reboot() {
	g.rebooted++
	g.rule()
	_, err := in(g.host, func() (struct{}, error) {
		return struct{}{}, netlink.ConntrackTableFlush(netlink.ConntrackTable)
	})
	if err != nil {
		g.t.Fatal(err)
	}
}

// rule writes the box's rules.
func (g *gateway) rule() {
	g.t.Helper()
	if g.lifetime > 0 {
		for _, key := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
			g.sysctl(fmt.Sprintf("netfilter/%s=%d", key, g.lifetime))
		}
	}
	g.run("nft", "flush ruleset\n"+g.filter()+g.translate())
}

// filter is the box's firewall. What comes from outside must belong to what has left, or be
// let in by a rule of the NAT.
func (g *gateway) filter() string {
	var forward, input []string
	if g.noUDP {
		forward = append(forward, "meta l4proto udp drop")
	}
	if g.closed {
		if g.lets != "" {
			forward = append(forward, `iifname "lan*" oifname "wan" `+g.lets+" accept")
		}
		forward = append(forward, `iifname "lan*" oifname "wan" drop`)
	}
	if !g.open {
		forward = append(forward, `iifname "wan" ct state new ct status & dnat == 0 drop`)
		input = append(input, `iifname "wan" ct state new drop`)
	}
	if g.nat != "" && !g.together {
		forward = append(forward, `iifname "lan*" oifname "lan*" ct status & dnat == 0 drop`)
	}
	chains := map[string][]string{
		"forward { type filter hook forward priority 0": forward,
		"input { type filter hook input priority 0":     input,
	}
	if g.maps != "" { // the chains that miniupnpd writes to
		chains["miniupnpd {"], chains["prerouting_miniupnpd {"], chains["postrouting_miniupnpd {"] = nil, nil, nil
		chains["pre { type nat hook prerouting priority -101"] = []string{"jump prerouting_miniupnpd"}
		chains["post { type nat hook postrouting priority 99"] = []string{"jump postrouting_miniupnpd"}
	}
	return table("inet filter", chains)
}

// serveMaps has the box open ports for who asks.
func (g *gateway) serveMaps() {
	if g.maps == "" {
		return
	}
	daemon, err := exec.LookPath("miniupnpd")
	if err != nil {
		need(g.t, "miniupnpd")
	}
	conf := filepath.Join(g.dir, "miniupnpd.conf")
	text := fmt.Sprintf("ext_ifname=wan\nlistening_ip=lan0\n%s\nlease_file=%s\nuuid=5ce64921-5afe-4123-a8df-16%010d\n",
		g.maps, filepath.Join(g.dir, "leases"), g.tid)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	p := g.start(daemon, "-d", "-f", conf, "-P", filepath.Join(g.dir, "miniupnpd.pid"))
	within(g.t, dialWait, "miniupnpd", func() bool { return strings.Contains(p.output(), " starting ") })
}

// translate is the box's NAT.
func (g *gateway) translate() string {
	if g.nat == "" {
		return ""
	}
	var in, out []string
	number := 0
	for _, n := range g.lans {
		for _, m := range n.machines {
			number++
			port := 21000 + 1000*g.rebooted + number
			if g.fixed {
				out = append(out, fmt.Sprintf(`oifname "wan" ip saddr %s udp sport 8737 snat to %s:%d`, m, g.outside, port))
			}
			if g.known {
				in = append(in, fmt.Sprintf(`iifname "wan" ip saddr @known udp dport %d dnat to %s:8737`, port, m))
			}
			if g.full {
				in = append(in, fmt.Sprintf(`iifname "wan" udp dport %d dnat to %s:8737`, port, m))
			}
			if g.hairpin {
				in = append(in, fmt.Sprintf(`iifname "lan*" ip daddr %s udp dport %d dnat to %s:8737`, g.outside, port, m))
				out = append(out, fmt.Sprintf(`oifname "lan*" ip saddr %s udp sport 8737 snat to %s:%d`, m, g.outside, port))
			}
		}
	}
	if g.nat == "masquerade" && g.rebooted > 0 {
		// Of a range Linux would choose at random for each destination.
		out = append(out, fmt.Sprintf(`oifname "wan" udp sport 8737 masquerade to :%d`, 40000+g.rebooted))
	}
	out = append(out, `oifname "wan" meta l4proto udp `+strings.ReplaceAll(g.nat, "WAN", g.outside.String()), `oifname "wan" masquerade`)
	if g.portal {
		in = append(in, fmt.Sprintf(`iifname "lan*" tcp dport 80 redirect to :%d`, portalPort))
	}
	chains := map[string][]string{
		"out { type nat hook postrouting priority 100": out,
		"in { type nat hook prerouting priority -100":  in,
	}
	if g.known {
		chains["note { type filter hook forward priority 0"] = []string{`oifname "wan" meta l4proto udp update @known { ip daddr }`}
		return table("ip nat", chains, "set known { type ipv4_addr; flags dynamic,timeout; timeout 1m; }")
	}
	return table("ip nat", chains)
}

// table is a table of nft with chains of rules, and sets.
func table(name string, chains map[string][]string, sets ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s {\n%s\n", name, strings.Join(sets, "\n"))
	for head, rules := range chains {
		fmt.Fprintf(&b, "chain %s\n%s\n}\n", head, strings.Join(rules, "\n"))
	}
	return b.String() + "}\n"
}
