package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// netAnswer is the JSON of netcheck.
type netAnswer struct {
	Schema  int                   `json:"schema"`
	Code    string                `json:"code"` // what it means for being reached: see netCodes
	Says    string                `json:"says"`
	Try     string                `json:"try,omitempty"`
	UDP     bool                  `json:"udp"`  // a machine outside answered by it
	TCP     bool                  `json:"tcp"`  // likewise, now
	HTTP    bool                  `json:"http"` // likewise
	Network overlay.NetworkStatus `json:"network"`
	NAT     netNAT                `json:"nat"`
	Seen    []overlay.SeenStatus  `json:"seen"`
	Portmap netPortmap            `json:"port_mapping"`
	Relays  []netRelay            `json:"relays"`
}

// netNAT is what is known of the router in front of this machine. What is "unknown" was not
// measured, or could not be.
type netNAT struct {
	Mapping   string  `json:"mapping"`     // unknown, none, independent, dependent
	Filtering string  `json:"filtering"`   // unknown, address_port_dependent, not_port_dependent
	Ports     string  `json:"ports"`       // unknown, preserved, sequential, random
	Step      int     `json:"port_step"`   // if ports are sequential
	Lifetime  float64 `json:"lifetime_s"`  // of a mapping without a packet, at least; 0: not known
	Keepalive float64 `json:"keepalive_s"` // between two packets that keep the way in open; 0: none
	Hairpin   string  `json:"hairpin"`     // unknown, yes, no
}

// netPortmap is what the router opens for this machine.
type netPortmap struct {
	Code      string   `json:"code"`      // mapped, no_portmap, or not_needed
	Reason    string   `json:"reason"`    // what the router answered: see the documentation of package portmap; empty: it is not asked
	Says      string   `json:"says"`      // the same in words
	Endpoints []string `json:"endpoints"` // that it opened
}

// netRelay is a peer or relay outside that sees this machine.
type netRelay struct {
	Address  anode.Address `json:"address"`
	Name     string        `json:"name"`
	Endpoint string        `json:"endpoint"`
	State    string        `json:"state"`  // kept, idle, asked, silent; of a zone: registered, connecting, silent; reached: it is not needed to be found
	RTT      float64       `json:"rtt_ms"` // 0: not known
}

// The codes of netcheck, beside udp_blocked, relay_silent and here_symmetric.
const (
	netNoNetwork   = "no_network"        // no address, or no route to the internet
	netUnknown     = "reach_unknown"     // nobody outside has said how it sees this machine
	netOpen        = "reach_open"        // a public address
	netMapped      = "reach_mapped"      // the router opened a port
	netIPv6        = "reach_ipv6"        // a public IPv6 address, and no IPv4
	netIndependent = "reach_independent" // a NAT through which attempts of both sides get
	netSequential  = "reach_sequential"  // a NAT whose next port can be foreseen
	netUnclear     = "reach_unclear"     // one relay alone cannot tell the kind of the NAT
)

func (a *app) netcheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "netcheck",
		Short: "Show what this machine's network lets through, and what that means",
		Long: "Show how the outside sees this machine, what its router does, which relays answer, and\n" +
			"what that means for being reached directly. The daemon has measured it: two relays, or\n" +
			"peers with public addresses, tell more than one.\n\n" +
			"Codes in \"code\" of --json:\n" + netCodesHelp() +
			"\nExit code: 0 if peers outside can reach this machine in some way, 1 if not.",
		GroupID: groupOther,
		Args:    want(0, 0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client := control.NewClient(a.socket)
		defer client.Close()
		status, err := client.Status(cmd.Context())
		if err != nil {
			return err
		}
		n := netCheck(cmd.Context(), status, answersTCP)
		n.gated(gateOf(cmd.Context(), client, status), portOf(status.Listen))
		if *asJSON {
			err = a.json(n)
		} else {
			a.printNet(n, namesOf(status.Peers))
		}
		if err == nil && n.cutOff() {
			err = &failure{exit: exitFailed}
		}
		return err
	}
	return cmd
}

// netCodesHelp lists the codes for the help.
func netCodesHelp() string {
	var b strings.Builder
	for _, c := range netCodes() {
		fmt.Fprintf(&b, "  %-18s %s\n", c[0], c[1])
	}
	return b.String()
}

// netCodes are the codes of netcheck, the best first.
func netCodes() [][2]string {
	return [][2]string{
		{netOpen, "a public address"},
		{netMapped, "the router opened a port"},
		{netIPv6, "a public IPv6 address, and no IPv4"},
		{netIndependent, "a router through which direct paths can be opened"},
		{netSequential, "a router whose next port can be foreseen"},
		{string(overlay.ReasonHereSymmetric), "a symmetric NAT: mostly through relays"},
		{netUnclear, "one relay alone cannot tell the kind of router"},
		{netUnknown, "nobody outside has said how it sees this machine"},
		{string(overlay.ReasonRelaySilent), "no relay and no peer outside answers"},
		{string(overlay.ReasonUDPBlocked), "UDP is blocked here"},
		{string(overlay.ReasonCaptivePortal), "this network shows a login page"},
		{string(overlay.ReasonProxyAuth), "the proxy wants a user name and a password, or others"},
		{string(overlay.ReasonProxyRefused), "the proxy refuses the connections"},
		{netNoNetwork, "no address, or no route to the internet"},
	}
}

// netCheck sums up what a status says about the network. alive reports whether the machine
// at an endpoint answers in another way than by UDP.
func netCheck(ctx context.Context, s overlay.Status, alive func(ctx context.Context, endpoint string) bool) netAnswer {
	r := s.Reach
	n := netAnswer{
		Schema: schema, Network: s.Network, TCP: worksBy(s, "tcp"), HTTP: worksBy(s, "http"), Seen: slices.Clone(r.Seen),
		NAT:     netNAT{r.Mapping, cmp.Or(r.Filtering, "unknown"), r.Ports, r.Step, r.Lifetime, r.Keepalive, hairpinOf(s)},
		Portmap: netPortmap{string(overlay.ReasonNoPortmap), s.Network.Portmap.Code, s.Network.Portmap.Says, append([]string{}, r.Mapped...)},
		Relays:  relaysOf(s),
	}
	n.UDP = worksBy(s, "udp") || (s.Network.IPv4.Works || s.Network.IPv6.Works) && !n.TCP && !n.HTTP && !s.Transports.UDPSilent
	if n.Seen == nil {
		n.Seen = []overlay.SeenStatus{}
	}
	switch {
	case len(r.Mapped) > 0:
		n.Portmap.Code = "mapped"
	case !natted(r):
		n.Portmap.Code = "not_needed"
	}
	n.Code = n.judge(s)
	if n.Code == string(overlay.ReasonRelaySilent) && slices.ContainsFunc(silentOutside(s), func(e string) bool { return alive(ctx, e) }) {
		n.Code = string(overlay.ReasonUDPBlocked)
	}
	n.Says, n.Try = netWords(n, portOf(s.Listen))
	return n
}

// judge returns the code for what is known.
func (n *netAnswer) judge(s overlay.Status) string {
	four, six := s.Network.IPv4, s.Network.IPv6
	switch {
	case four.Address == "" && six.Address == "", !four.Route && !six.Route && !n.UDP:
		return netNoNetwork
	case !n.UDP && n.connected():
		return string(overlay.ReasonUDPBlocked)
	case !n.UDP:
		switch silent := silentOutside(s); {
		case len(silent) > 1:
			return string(overlay.ReasonUDPBlocked)
		case len(silent) == 1:
			return string(overlay.ReasonRelaySilent)
		}
		return netUnknown
	case n.NAT.Mapping == "none":
		return netOpen
	case len(s.Reach.Mapped) > 0:
		return netMapped
	case four.Address == "" && six.Public:
		return netIPv6
	case n.NAT.Mapping == "independent":
		return netIndependent
	case n.NAT.Ports == "sequential":
		return netSequential
	case n.NAT.Mapping == "dependent":
		return string(overlay.ReasonHereSymmetric)
	case n.NAT.Ports == "random", len(s.Reach.Seen) > 0:
		return netUnclear
	}
	return netUnknown
}

// gated takes what stands between this machine and everybody outside, if anything does.
func (n *netAnswer) gated(gate overlay.Reason, port uint16) {
	if gate == overlay.NoReason || n.Code == netNoNetwork {
		return
	}
	n.Code, n.UDP = string(gate), false
	n.Says, n.Try = netWords(*n, port)
}

// connected reports whether a machine outside answers in another way than by UDP.
func (n *netAnswer) connected() bool { return n.TCP || n.HTTP }

// worksBy reports whether a machine outside answers by a transport now.
func worksBy(s overlay.Status, transport string) bool {
	for _, x := range s.Reach.Anchors {
		if transport == "udp" && (x.State == "kept" || x.State == "idle") {
			return true
		}
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			if answers(r) && transportOf(r.Endpoint) == transport {
				return true
			}
		}
	}
	for _, p := range s.Peers {
		for _, w := range p.Ways {
			works := w.State == overlay.WayWorks || w.State == overlay.WayUnproven || w.State == overlay.WaySmall
			if works && w.Via == nil && !w.OnLink && transportOf(w.Endpoint) == transport {
				return true
			}
		}
	}
	return false
}

// silentOutside lists endpoints outside, at different addresses, that do not answer.
func silentOutside(s overlay.Status) (list []string) {
	known := map[string]bool{}
	for _, p := range s.Peers {
		for _, w := range p.Ways {
			host := hostOf(w.Endpoint)
			if p.Allowed && w.Silent && !w.OnLink && w.Via == nil && w.Origin != "told" && w.Origin != "predicted" && transportOf(w.Endpoint) == "udp" && !known[host] {
				known[host] = true
				list = append(list, w.Endpoint)
			}
		}
	}
	return list
}

// hostOf is the address in an endpoint.
func hostOf(endpoint string) string {
	_, text, _ := strings.Cut(endpoint, ":")
	a, err := netip.ParseAddrPort(text)
	if err != nil {
		return endpoint
	}
	return a.Addr().String()
}

// aliveFor is how long the machine of a silent relay may take to answer by TCP.
const aliveFor = 2 * time.Second

// answersTCP reports whether the machine at an endpoint answers by TCP, be it with a refusal: then
// it is on, and connected, and only UDP is missing.
func answersTCP(ctx context.Context, endpoint string) bool {
	_, text, _ := strings.Cut(endpoint, ":")
	ctx, cancel := context.WithTimeout(ctx, aliveFor)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", text)
	if err == nil {
		c.Close()
	}
	return err == nil || errors.Is(err, syscall.ECONNREFUSED)
}

// hairpinOf says whether the router sends packets to its own outside back in: peers behind the same
// router show it best, then what was measured.
func hairpinOf(s overlay.Status) string {
	outside := hostOf(s.Reach.Endpoint)
	for _, p := range s.Peers {
		for _, w := range p.Ways {
			if w.Used && w.Via == nil && !w.OnLink && s.Reach.Endpoint != "" && natted(s.Reach) && hostOf(w.Endpoint) == outside {
				return "yes"
			}
		}
	}
	if r := s.Reach.Hairpin; r == "yes" || r == "no" {
		return r
	}
	if slices.ContainsFunc(s.Peers, func(p overlay.PeerStatus) bool { return p.PathReason == overlay.ReasonHairpin }) {
		return "no"
	}
	return "unknown"
}

// relaysOf lists who outside is in touch: first those that keep the way in open.
func relaysOf(s overlay.Status) []netRelay {
	list := []netRelay{}
	for _, x := range s.Reach.Anchors {
		list = append(list, netRelay{x.Address, x.Name, x.Endpoint, x.State, x.RTT})
	}
	for _, z := range s.Zones {
		for _, r := range z.Relays {
			if !slices.ContainsFunc(list, func(x netRelay) bool { return x.Address == r.Address }) {
				list = append(list, netRelay{r.Address, z.Name, r.Endpoint, string(r.State), r.RTT})
			}
		}
	}
	for _, p := range s.Peers {
		known := slices.ContainsFunc(list, func(r netRelay) bool { return r.Address == p.Address })
		if p.Allowed && !known && p.Path.Kind == overlay.PathDirect && p.State != overlay.StateUnreachable {
			list = append(list, netRelay{p.Address, p.Name, p.Path.Endpoint, "reached", p.Path.RTT})
		}
	}
	return list
}

// netWords says what a code means for being reached, and what to do.
func netWords(n netAnswer, port uint16) (says, try string) {
	help := fmt.Sprintf("switch on UPnP, NAT-PMP or PCP in the router, or forward UDP port %d to this machine", port)
	switch n.Code {
	case netNoNetwork:
		return "this machine has no way to the internet, so only machines on the same network reach it", "connect it to a network with internet; anode doctor shows its routes"
	case string(overlay.ReasonUDPBlocked):
		if n.connected() {
			return "no machine outside answers by UDP: this network blocks it, so packets go by " + n.instead(), "nothing, if it is fast enough; otherwise allow outgoing UDP in the firewall of this network"
		}
		return "no machine outside answers by UDP: this network blocks it, so peers outside cannot reach this machine", "allow outgoing UDP in the firewall of this network, or use another network, such as that of a phone"
	case string(overlay.ReasonRelaySilent):
		return "the only machine outside that is known does not answer: it is off, or this network blocks UDP", "on that machine: anode status; if it runs, allow outgoing UDP in the firewall of this network"
	case string(overlay.ReasonCaptivePortal):
		return "this network shows a login page of its own in place of every server, so peers outside cannot reach this machine", "open a web browser and log in to the network"
	case string(overlay.ReasonProxyAuth):
		return "the proxy of this network does not take the user name and the password, or wants some, so peers outside cannot reach this machine", proxyUserTry
	case string(overlay.ReasonProxyRefused):
		return "the proxy of this network refuses the connections, so peers outside cannot reach this machine", "ask who runs the proxy to let them through, or use another network"
	case netUnknown:
		return "how the outside sees this machine is not known: no relay and no peer outside is connected", "add a machine with a public address as a peer (anode peers add ADDRESS NAME --endpoint udp:IP:PORT)"
	case netOpen:
		if n.NAT.Filtering == "address_port_dependent" {
			return "this machine has a public address, but a firewall lets in only replies: peers behind most home routers reach it directly, peers behind symmetric NATs only through a relay",
				fmt.Sprintf("allow incoming UDP port %d in the firewall of this machine, of its router, or of the provider", port)
		}
		return "this machine has a public address, so peers reach it directly unless a firewall in front of it drops incoming UDP", ""
	case netMapped:
		return "the router opened a port for this machine, so peers reach it directly", ""
	case netIPv6:
		return "this machine has only IPv6: peers with IPv6 reach it directly, peers with IPv4 alone only through a relay", ""
	case netIndependent:
		return "peers behind most home routers reach this machine directly; peers behind routers that take another port for each connection (symmetric NAT) mostly only through a relay", ""
	case netSequential:
		return "the router takes another port for each connection, but in order: most peers reach this machine directly, some only through a relay", help
	case string(overlay.ReasonHereSymmetric):
		return "the router takes another, random port for each connection (symmetric NAT): peers with a public address or an open port reach this machine directly, others only through a relay", help
	}
	return "one relay alone cannot tell whether the router takes another port for each connection; if direct paths fail, it does", "add a second relay, or a peer with a public address; or " + help
}

// What another transport than UDP costs.
const (
	costTCP  = "one packet that is lost delays all behind it"
	costHTTP = "one packet that is lost delays all behind it, requests add size and delay, and an idle machine makes two or three a minute"
)

// instead names what packets go by where UDP does not work, and what that costs.
func (n *netAnswer) instead() string {
	if n.TCP {
		return "TCP (" + costTCP + ")"
	}
	return "HTTP (" + costHTTP + ")"
}

// cutOff reports whether nobody outside can reach this machine in any way.
func (n *netAnswer) cutOff() bool {
	switch overlay.Reason(n.Code) {
	case overlay.ReasonCaptivePortal, overlay.ReasonProxyAuth, overlay.ReasonProxyRefused:
		return true
	}
	return n.Code == netNoNetwork || n.Code == string(overlay.ReasonUDPBlocked) && !n.connected()
}

// verdict is how good a code is. A network without internet may be meant to have none.
func (n *netAnswer) verdict() verdict {
	switch n.Code {
	case string(overlay.ReasonCaptivePortal), string(overlay.ReasonProxyAuth), string(overlay.ReasonProxyRefused):
		return bad
	case string(overlay.ReasonUDPBlocked):
		if n.connected() {
			return slow
		}
		return bad
	case string(overlay.ReasonRelaySilent):
		return warn
	case string(overlay.ReasonHereSymmetric):
		return slow
	}
	return fine
}

// printNet prints the answer for people.
func (a *app) printNet(n netAnswer, names map[anode.Address]string) {
	for _, f := range netFacts(n, names) {
		wrapped(a.out, a.columnsOf(), fmt.Sprintf("%-14s", f[0]), strings.Repeat(" ", 14), f[1])
	}
	fmt.Fprintln(a.out)
	wrapped(a.out, a.columnsOf(), "", "", sentence(strings.ToUpper(n.Says[:1])+n.Says[1:]))
	if n.Try != "" {
		wrapped(a.out, a.columnsOf(), "try: ", "     ", n.Try)
	}
}

// netFacts are the facts: a word and what is known.
func netFacts(n netAnswer, names map[anode.Address]string) (list [][2]string) {
	add := func(name, text string) { list = append(list, [2]string{name, text}) }
	add("UDP", map[bool]string{true: "works: machines outside answer", false: "no machine outside has answered"}[n.UDP])
	for _, x := range []struct {
		name, cost string
		works      bool
	}{{"TCP", costTCP, n.TCP}, {"HTTP", costHTTP, n.HTTP}} {
		switch {
		case x.works:
			add(x.name, "works; the cost: "+x.cost)
		case !n.UDP:
			add(x.name, "no machine outside has answered")
		}
	}
	add("IPv4", familyWords(n.Network.IPv4, n.onlyNames()))
	add("IPv6", familyWords(n.Network.IPv6, n.onlyNames()))
	for _, x := range n.Seen {
		by := "a STUN server"
		if x.By != nil {
			by = nameIn(names, *x.By)
		}
		add("seen as", fmt.Sprintf("%s, by %s %s ago", x.Endpoint, by, age(secondsOf(x.Age))))
	}
	add("router", mappingWords(n))
	add("filtering", filteringWords(n.NAT))
	add("lifetime", lifetimeWords(n.NAT))
	add("hairpin", map[string]string{"yes": "yes: machines behind the same router reach each other by its outside",
		"no": "no: machines behind the same router do not reach each other by its outside", "unknown": hairpinUnknown(n.NAT)}[n.NAT.Hairpin])
	add("port mapping", portmapWords(n.Portmap))
	for _, r := range n.Relays {
		add("relay", netRelayWords(r))
	}
	return list
}

// nameIn is what an address is called.
func nameIn(names map[anode.Address]string, a anode.Address) string {
	if name := names[a]; name != "" {
		return name
	}
	return a.ID().String()
}

// onlyNames reports whether machines outside answer of which only a name is known, as by HTTP, so
// that nobody can say by which version of IP.
func (n *netAnswer) onlyNames() bool {
	return (n.UDP || n.connected()) && !n.Network.IPv4.Works && !n.Network.IPv6.Works
}

// familyWords is what is known of a version of IP. Unless unsure, it says whether anybody answers.
func familyWords(f overlay.FamilyStatus, unsure bool) string {
	if f.Address == "" {
		return "none"
	}
	text := f.Address
	if !f.Public {
		text += ", a private address"
	}
	switch {
	case f.Works:
		return text + "; machines outside answer"
	case !f.Route:
		return text + "; no route to the internet"
	case unsure:
		return text
	}
	return text + "; no machine outside has answered"
}

func mappingWords(a netAnswer) string {
	n := a.NAT
	ports := map[string]string{"preserved": "; it keeps the port of this machine", "random": "; ports are random", "sequential": fmt.Sprintf("; ports follow each other in steps of %d", n.Step)}[n.Ports]
	switch n.Mapping {
	case "none":
		return "no address translation (NAT)"
	case "independent":
		return "NAT with one port for all destinations" + ports
	case "dependent":
		return "NAT with another port for each destination (symmetric)" + ports
	}
	if four := a.Network.IPv4; len(a.Seen) > 0 && four.Works && !four.Public {
		return "NAT; not known whether it takes another port for each destination" + ports
	}
	return "not known whether it translates addresses (NAT)" + ports
}

func filteringWords(n netNAT) string {
	what := "the router"
	if n.Mapping == "none" {
		what = "a firewall here or at the provider"
	}
	switch n.Filtering {
	case "address_port_dependent":
		return what + " lets in only replies: packets from an address and port to which this machine has sent"
	case "not_port_dependent":
		return "open: packets come in from any port of a machine to which this one has sent, perhaps from every machine"
	}
	return "not known: it is measured with a relay of this version"
}

func hairpinUnknown(n netNAT) string {
	if n.Mapping == "none" {
		return "not needed"
	}
	return "not known: it is measured with a relay, behind a router"
}

func lifetimeWords(n netNAT) string {
	text := "not measured yet"
	if n.Lifetime > 0 {
		text = fmt.Sprintf("the router keeps an idle connection for at least %.0f s", n.Lifetime)
	}
	if n.Mapping == "none" && n.Lifetime == 0 {
		text = "nothing has to be kept open"
	}
	if n.Keepalive > 0 {
		text += fmt.Sprintf("; a packet every %.0f s keeps the way in open", n.Keepalive)
	}
	return text
}

func portmapWords(p netPortmap) string {
	switch p.Code {
	case "mapped":
		return "the router opened " + joinedText(p.Endpoints)
	case "not_needed":
		return "not needed"
	}
	if p.Reason == "" {
		return "none: the router is not asked (portmap in the configuration)"
	}
	return "none: " + p.Says
}

func joinedText(list []string) string { return strings.Join(list, ", ") }

func netRelayWords(r netRelay) string {
	text := strings.TrimSpace(labelOf(r.Name, r.Address.ID()) + " " + r.Endpoint)
	switch {
	case r.State == "silent", r.State == string(overlay.RelayRegistered) && r.Endpoint == "": // it answered once
		return text + ": does not answer"
	case r.State == "asked", r.State == string(overlay.RelayConnecting):
		return text + ": asked, no answer yet"
	}
	if r.RTT > 0 {
		text += ", " + millis(r.RTT) + " ms"
	}
	return text
}

// checkReach is netcheck in one line.
func checkReach(ctx context.Context, p *patient) []finding {
	if p.status == nil {
		return nil
	}
	n := netCheck(ctx, *p.status, answersTCP)
	list := []finding{{"reach", n.verdict(), n.Says, n.Try, n.Code}}
	for _, z := range p.status.Zones {
		if z.Own && len(z.Relays) > 0 && !slices.ContainsFunc(z.Relays, answers) {
			list = append(list, finding{"relay", warn, "no relay of zone " + zone.Label(z.Zone) + " answers now: peers are found only directly",
				"on the machine of the relay: anode status; anode zone show lists the relays", string(overlay.ReasonRelaySilent)})
		}
	}
	return list
}

// answers reports whether a relay of the zone answers; that of this machine itself does.
func answers(r overlay.ZoneRelayStatus) bool {
	return r.State == overlay.RelayRegistered && r.Endpoint != ""
}
