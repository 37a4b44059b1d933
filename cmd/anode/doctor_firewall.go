package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Two looks at this machine's firewall. The first sends packets from here to the daemon's
// port at our own addresses, and sees whether the daemon counts them. They travel over the
// loopback interface, so a rule for another interface does not meet them. The second reads
// the rules of nf_tables, which only root may do.

// errNoTool means that the program which lists the rules is not installed.
var errNoTool = errors.New("nft is not installed")

// arrival is what became of packets to an address of our own.
type arrival struct {
	to      netip.Addr
	arrived bool
	err     error // of sending
}

func checkFirewall(ctx context.Context, p *patient) []finding {
	port := p.port()
	if port == 0 || p.elsewhere {
		return nil
	}
	rules, err := p.machine.rules(ctx)
	list := judgeRules(rules, err, port)
	if p.status == nil || slices.ContainsFunc(list, func(f finding) bool { return f.Verdict == bad }) {
		return list
	}
	return append(judgeArrivals(port, p.knock(ctx, port)), list...)
}

// maxKnocks is how many of our own addresses are tried.
const maxKnocks = 4

// knock sends packets to our own addresses, one after the other.
func (p *patient) knock(ctx context.Context, port uint16) (list []arrival) {
	s, err := p.machine.links(p.adapter())
	if err != nil {
		return nil
	}
	for _, i := range s.Interfaces {
		for _, prefix := range i.Prefixes {
			if a := prefix.Addr(); !a.IsLinkLocalUnicast() && len(list) < maxKnocks {
				list = append(list, p.knockAt(ctx, netip.AddrPortFrom(a, port)))
			}
		}
	}
	return list
}

// tooShort is the counter of packets that are too short to be Anode's. No other packet
// that we could send without a key has one that is so rarely used.
const tooShort = "drop_short"

func (p *patient) knockAt(ctx context.Context, to netip.AddrPort) arrival {
	a := arrival{to: to.Addr()}
	before, err := p.client.Status(ctx)
	if err != nil {
		a.err = err
		return a
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		a.err = err
		return a
	}
	defer c.Close()
	for pause := 5 * time.Millisecond; pause < 400*time.Millisecond; pause *= 2 {
		if _, err := c.Write([]byte("anode doctor")); err != nil {
			a.err = err
			return a
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			a.err = ctx.Err()
			return a
		}
		after, err := p.client.Status(ctx)
		if err != nil {
			a.err = err
			return a
		}
		if after.Counters[tooShort] > before.Counters[tooShort] {
			a.arrived = true
			return a
		}
	}
	return a
}

func judgeArrivals(port uint16, list []arrival) []finding {
	const topic = "firewall"
	var good []string
	var found []finding
	for _, a := range list {
		switch {
		case a.arrived:
			good = append(good, a.to.String())
		case errors.Is(a.err, syscall.EPERM), errors.Is(a.err, syscall.EACCES):
			found = append(found, finding{topic, bad, fmt.Sprintf("the firewall of this machine refuses packets that it sends to %s, UDP port %d", a.to, port),
				fmt.Sprintf("let UDP port %d out", port), "firewall_refuses"})
		case a.err == nil:
			found = append(found, finding{topic, bad, fmt.Sprintf("packets that this machine sends to its own address %s, UDP port %d, do not reach the daemon: a firewall on this machine drops them", a.to, port),
				allowPort(port), "firewall_drops"})
		}
	}
	if len(good) > 0 {
		found = append([]finding{{topic, fine, fmt.Sprintf("packets from this machine to UDP port %d at its own %s reach the daemon (a rule for one interface alone does not meet them)",
			port, strings.Join(good, ", ")), "", "firewall_own_packets"}}, found...)
	}
	return found
}

// allowPort is how to let a port in, with the usual tools.
func allowPort(port uint16) string {
	return fmt.Sprintf("let UDP port %d in: with ufw: sudo ufw allow %d/udp; with firewalld: sudo firewall-cmd --permanent --add-port=%d/udp, then sudo firewall-cmd --reload; with nftables: udp dport %d accept",
		port, port, port, port)
}

// firewallRules are the rules of this machine's firewall.
type firewallRules struct {
	chains []nftChain
	legacy bool // there are rules of the old iptables, which were not read
}

func judgeRules(r firewallRules, err error, port uint16) []finding {
	const topic = "firewall"
	if err != nil {
		return nil
	}
	var list []finding
	for _, c := range r.chains {
		if c.hook != "input" && c.hook != "prerouting" {
			continue
		}
		where := fmt.Sprintf("table %s %s, chain %s", c.family, c.table, c.name)
		switch fateOf(r.chains, c, port) {
		case fateDropped:
			list = append(list, finding{topic, bad, fmt.Sprintf("a rule drops UDP port %d (%s), so peers reach this machine only through what it begins itself", port, where),
				fmt.Sprintf("remove that rule (sudo nft list chain %s %s %s shows it)", c.family, c.table, c.name), "firewall_rule_drops"})
		case fatePartly:
			list = append(list, finding{topic, warn, fmt.Sprintf("a rule drops UDP port %d from some interfaces or sources (%s)", port, where),
				fmt.Sprintf("sudo nft list chain %s %s %s shows it; remove it if peers come that way", c.family, c.table, c.name), "firewall_rule_drops_some"})
		case fateUnnamed:
			list = append(list, finding{topic, warn, fmt.Sprintf("what no rule lets in is dropped (%s), and no rule lets UDP port %d in: peers on the LAN are not heard, and connections must begin here", where, port),
				allowPort(port), "firewall_port_not_allowed"})
		}
	}
	if len(list) == 0 {
		says := fmt.Sprintf("no rule of nf_tables drops UDP port %d", port)
		if r.legacy {
			says += "; there are rules of the old iptables too, which were not read (sudo iptables-legacy -S)"
		}
		list = []finding{{topic, fine, says, "", "firewall_rules"}}
	}
	return list
}

// nftChain is a chain of nf_tables with its rules.
type nftChain struct {
	family, table, name string
	hook                string // empty: only jumped to
	drops               bool   // its policy is drop
	rules               []nftRule
}

// nftRule is what a rule does with UDP packets, as far as it matters here.
type nftRule struct {
	verdict  string // accept, drop, jump, goto, return; empty: none
	target   string // the chain of jump and goto
	ports    []portRange
	names    bool // it matches destination ports, those in ports
	narrow   bool // it matches only some of them: an interface, a sender
	excludes bool // it does not match UDP packets that others send first
	opaque   bool // it has a match that cannot be read
}

type portRange struct{ low, high uint16 }

func (r nftRule) hits(port uint16) bool {
	return !r.names || slices.ContainsFunc(r.ports, func(p portRange) bool { return p.low <= port && port <= p.high })
}

// fate is what a chain does with a UDP packet to a port.
type fate int

const (
	fateOpen    fate = iota // no verdict: the next rule decides
	fateAccept              // accepted, or accepted from some
	fateDropped             // a rule drops it
	fatePartly              // a rule for this port drops it from some
	fateUnnamed             // the policy drops it
)

// maxJumps bounds how deep chains jump; nf_tables itself has a bound of 16.
const maxJumps = 16

// fateOf follows a base chain.
func fateOf(all []nftChain, c nftChain, port uint16) fate {
	w := ruleWalk{all: all, port: port}
	switch f := w.chain(c, 0); {
	case f != fateOpen:
		return f
	case w.partly:
		return fatePartly
	case c.drops && !w.accepted && !w.opaque:
		return fateUnnamed
	}
	return fateAccept
}

// ruleWalk follows the rules of a chain.
type ruleWalk struct {
	all      []nftChain
	port     uint16
	steps    int
	accepted bool // a rule accepts the port from some
	partly   bool // a rule drops the port from some
	opaque   bool // a rule could not be read
}

// maxSteps bounds how many rules are looked at.
const maxSteps = 100_000

func (w *ruleWalk) chain(c nftChain, depth int) fate {
	for _, r := range c.rules {
		if w.steps++; w.steps > maxSteps || depth > maxJumps {
			return fateOpen
		}
		if r.excludes || !r.hits(w.port) {
			continue
		}
		w.opaque = w.opaque || r.opaque
		if r.narrow || r.opaque {
			w.narrowed(c, r, depth)
			continue
		}
		switch r.verdict {
		case "accept":
			return fateAccept
		case "drop":
			return fateDropped
		case "return":
			return fateOpen
		case "jump", "goto":
			f := fateOpen
			if next, ok := w.find(c, r.target); ok {
				f = w.chain(next, depth+1)
			}
			if f != fateOpen || r.verdict == "goto" {
				return f
			}
		}
	}
	return fateOpen
}

// narrowed notes a rule that applies to some packets only. A drop counts only if it names
// the port; others, such as lists of bad senders, are no news.
func (w *ruleWalk) narrowed(c nftChain, r nftRule, depth int) {
	switch r.verdict {
	case "accept":
		w.accepted = true
	case "drop":
		w.partly = w.partly || r.names
	case "jump", "goto":
		if next, ok := w.find(c, r.target); ok && w.chain(next, depth+1) == fateAccept {
			w.accepted = true
		}
	}
}

func (w *ruleWalk) find(from nftChain, name string) (nftChain, bool) {
	i := slices.IndexFunc(w.all, func(c nftChain) bool {
		return c.family == from.family && c.table == from.table && c.name == name
	})
	if i < 0 {
		return nftChain{}, false
	}
	return w.all[i], true
}

// parseNFT reads the output of nft -j list ruleset (libnftables-json(5)).
func parseNFT(b []byte) ([]nftChain, error) {
	var list struct {
		Nftables []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
			Rule  *struct {
				Family, Table, Chain string
				Expr                 []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	var chains []nftChain
	for _, x := range list.Nftables {
		switch {
		case x.Chain != nil:
			c := x.Chain
			chains = append(chains, nftChain{family: c.Family, table: c.Table, name: c.Name, hook: c.Hook, drops: c.Policy == "drop"})
		case x.Rule != nil:
			r := x.Rule
			i := slices.IndexFunc(chains, func(c nftChain) bool {
				return c.family == r.Family && c.table == r.Table && c.name == r.Chain
			})
			if i >= 0 {
				chains[i].rules = append(chains[i].rules, parseRule(r.Expr))
			}
		}
	}
	return chains, nil
}

func parseRule(exprs []map[string]json.RawMessage) (r nftRule) {
	for _, e := range exprs {
		for kind, body := range e {
			switch kind {
			case "accept", "return":
				r.verdict = kind
			case "drop", "reject":
				r.verdict = "drop"
			case "jump", "goto":
				var to struct{ Target string }
				r.verdict, r.opaque = kind, json.Unmarshal(body, &to) != nil || r.opaque
				r.target = to.Target
			case "match":
				r.match(body)
			case "counter", "log", "comment":
			case "limit":
				r.narrow = true
			case "vmap":
				r.vmap(body)
			default: // xt, and whatever is new
				r.opaque = true
			}
		}
	}
	return r
}

// match adds a condition to a rule.
func (r *nftRule) match(body json.RawMessage) {
	var m struct {
		Op    string
		Left  map[string]json.RawMessage
		Right json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil {
		r.opaque = true
		return
	}
	var payload struct{ Protocol, Field string }
	var meta struct{ Key string }
	var ct struct{ Key string }
	_ = json.Unmarshal(m.Left["payload"], &payload) // empty: it is another condition
	_ = json.Unmarshal(m.Left["meta"], &meta)
	_ = json.Unmarshal(m.Left["ct"], &ct)
	right := string(m.Right)
	protocol := meta.Key == "l4proto" || payload.Field == "protocol" || payload.Field == "nexthdr"
	incoming := meta.Key == "iif" || meta.Key == "iifname"
	switch {
	case ct.Key == "state" && m.Op != "!=": // what matters here is what begins outside
		r.excludes = r.excludes || !strings.Contains(right, `"new"`)
	case incoming && right == `"lo"`:
		r.excludes = r.excludes || m.Op == "=="
	case m.Op == "==" && protocol:
		r.excludes = r.excludes || !strings.Contains(right, "udp") && !strings.Contains(right, "17")
	case slices.Contains([]string{"tcp", "icmp", "icmpv6", "sctp", "dccp", "esp", "ah"}, payload.Protocol):
		r.excludes = true
	case m.Op == "==" && payload.Field == "dport":
		ports, ok := parsePorts(m.Right)
		if !ok { // perhaps all
			ports = []portRange{{0, 65535}}
		}
		r.ports, r.names, r.opaque = append(r.ports, ports...), true, r.opaque || !ok
	default:
		r.narrow = true
	}
}

// vmap adds a map of verdicts. One by the state of the connection says nothing about what
// begins outside, unless it has an entry for that.
func (r *nftRule) vmap(body json.RawMessage) {
	var m struct {
		Key struct{ Ct struct{ Key string } }
	}
	if json.Unmarshal(body, &m) == nil && m.Key.Ct.Key == "state" && !strings.Contains(string(body), `"new"`) {
		r.excludes = true
		return
	}
	r.opaque = true
}

// parsePorts reads the right side of a match of ports: 8737, {"range": [1, 2]}, or
// {"set": [...]} of these. A named set is not known.
func parsePorts(b json.RawMessage) (list []portRange, ok bool) {
	var one uint16
	if json.Unmarshal(b, &one) == nil {
		return []portRange{{one, one}}, true
	}
	var many struct {
		Range []uint16
		Set   []json.RawMessage
	}
	if json.Unmarshal(b, &many) != nil {
		return nil, false
	}
	if len(many.Range) == 2 {
		list = append(list, portRange{many.Range[0], many.Range[1]})
	}
	for _, m := range many.Set {
		p, ok := parsePorts(m)
		if !ok {
			return list, false
		}
		list = append(list, p...)
	}
	return list, true
}
