package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/platform"
)

// maxListed is how many findings of one kind are listed; the rest is counted.
const maxListed = 10

// checkRoutes compares the way that the kernel takes to each added peer with the adapter.
func checkRoutes(ctx context.Context, p *patient) []finding {
	if p.status == nil || p.status.Tun == nil || p.elsewhere {
		return nil
	}
	var routes []peerRoute
	for _, x := range p.status.Peers {
		if !x.Allowed {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		r, ok := routeTo(p.machine, *p.status.Tun, x)
		if !ok {
			return nil
		}
		routes = append(routes, r)
	}
	return judgeRoutes(routes, p.status.Tun.Name)
}

// peerRoute is the way that the kernel takes to a peer.
type peerRoute struct {
	peer string // its name
	ula  netip.Addr
	dev  string // empty: none
	err  error  // why there is none
	fate strayFate
}

// routeTo asks the kernel; ok is false where it cannot tell.
func routeTo(m machine, tun overlay.TunStatus, x overlay.PeerStatus) (r peerRoute, ok bool) {
	r = peerRoute{peer: nameOf(x), ula: x.ULA.Addr(), fate: strayFateOf(tun)}
	r.dev, r.err = m.routeOf(r.ula)
	return r, !errors.Is(r.err, errNotHere)
}

// nameOf is what a peer is called on the command line.
func nameOf(x overlay.PeerStatus) string { return cmp.Or(x.Name, x.ID.String()) }

func judgeRoutes(routes []peerRoute, adapter string) []finding {
	const topic = "routes"
	var list []finding
	for _, r := range routes {
		if r.dev != adapter {
			list = append(list, judgeRoute(r, adapter))
		}
	}
	if more := len(list) - maxListed; more > 0 {
		list = append(list[:maxListed], finding{topic, bad, fmt.Sprintf("the same holds for %d more peers", more), "anode why PEER", "route_stolen"})
	}
	if len(list) == 0 && len(routes) > 0 {
		list = append(list, finding{topic, fine, fmt.Sprintf("what programs send to added peers (%d) goes to %s", len(routes), adapter), "", "routes"})
	}
	return list
}

// judgeRoute is about a route that does not lead to the adapter.
func judgeRoute(r peerRoute, adapter string) finding {
	const topic = "routes"
	if r.err != nil || r.dev == "" {
		return finding{topic, bad, fmt.Sprintf("there is no route to %s (%s), so programs cannot reach it; it should lead to %s", r.peer, r.ula, adapter),
			thisService().restart(), "route_missing"}
	}
	if r.dev == "lo" {
		return finding{topic, bad, fmt.Sprintf("%s has an address that this machine has too (%s)", r.peer, r.ula),
			fmt.Sprintf("ip -6 addr show to %s shows where", r.ula), "route_local"}
	}
	return finding{topic, bad, fmt.Sprintf("what programs send to %s goes to %s instead of %s: another route or rule comes first, such as one of another VPN, or one that a router of the LAN announced. %s", r.peer, r.dev, adapter, r.fate.words()),
		fmt.Sprintf("ip -6 route get fibmatch %s and ip -6 rule show it; remove it, or stop the program that made it", r.ula), "route_stolen"}
}

// strayFate is what becomes of packets that take another way than the adapter.
type strayFate int

const (
	fateUnknown strayFate = iota
	fateGuarded           // the daemon's rules drop them
	fateInClear
)

// words describes the fate.
func (f strayFate) words() string {
	switch f {
	case fateGuarded:
		return "They are dropped there, so that nothing leaves in clear"
	case fateInClear:
		return "They leave in clear"
	}
	return "They may leave in clear"
}

// strayFateOf returns what the daemon's rules do with packets that take another way.
func strayFateOf(tun overlay.TunStatus) strayFate {
	switch {
	case slices.ContainsFunc(tun.Problems, func(p overlay.TunProblem) bool { return p.Code == platform.ProblemGuard }):
		return fateInClear
	case tun.Index != 0:
		return fateGuarded
	}
	return fateUnknown
}

// checkLAN looks for networks of this machine whose prefix has a peer's or our own
// address in it.
func checkLAN(_ context.Context, p *patient) []finding {
	if p.status == nil || p.status.Tun == nil || p.elsewhere {
		return nil
	}
	names := map[netip.Addr]string{p.status.ULA.Addr(): "this machine"}
	addrs := []netip.Addr{p.status.ULA.Addr()}
	for _, x := range p.status.Peers {
		if x.Allowed {
			names[x.ULA.Addr()] = nameOf(x)
			addrs = append(addrs, x.ULA.Addr())
		}
	}
	list, err := p.machine.covering(p.status.Tun.Name, addrs)
	if err != nil {
		return nil
	}
	return judgeCovering(list, names, p.status.Tun.Name)
}

func judgeCovering(list []platform.Covering, names map[netip.Addr]string, adapter string) []finding {
	const topic = "lan"
	type network struct {
		prefix netip.Prefix
		dev    string
	}
	var order []network
	covered := map[network][]string{}
	for _, c := range list {
		if c.Prefix.IsSingleIP() {
			continue // no network: checkRoutes looks at single routes
		}
		n := network{c.Prefix, c.Name}
		if covered[n] == nil {
			order = append(order, n)
		}
		covered[n] = append(covered[n], names[c.Addr])
	}
	var found []finding
	for _, n := range order {
		found = append(found, finding{topic, warn, fmt.Sprintf("the network %s on %s contains the address of %s; the daemon sends this address alone to %s, and leaves the rest of the network as it is",
			n.prefix, n.dev, someOf(covered[n]), adapter),
			"nothing, if all works; otherwise another IPv6 prefix in the router of that network", "lan_covers"})
	}
	return found
}

// someOf lists names, and counts those that are too many.
func someOf(names []string) string {
	if more := len(names) - maxListed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// checkSettings shows what decides who may do what.
func checkSettings(ctx context.Context, p *patient) []finding {
	list := []finding{}
	s := settings{
		open: p.config.Policy.Open, relay: p.config.Relay.Enabled, secret: p.config.Secret.Path != "",
		bare: p.config.Info2.Bare, bridge: p.config.Info2.Bridge,
		running: p.status != nil, adapter: p.adapter() != config.NoTun,
	}
	if p.status != nil {
		s.open, s.relay, s.secret = p.status.Open, p.status.Relay, p.status.Secret
		if info, err := p.client.Info2(ctx); err == nil {
			s.bare, s.bridge = false, info.Bridged
			for _, n := range info.Networks {
				s.bare = s.bare || !n.Encrypted
				if n.Failed != "" {
					list = append(list, finding{"info2", warn, "say and chat do not work (" + string(n.Network) + "): " + n.Failed, "anode info2 status", "info2_failed"})
				}
			}
		}
	}
	if p.status != nil {
		for _, text := range doorWarnings(doorsOf(ctx, p.client)) {
			list = append(list, finding{"settings", warn, text, "nothing, if you want that; otherwise remove local.anywhere from the configuration, or end the command that forwards", "local_anywhere"})
		}
	}
	return append(list, judgeSettings(s)...)
}

// settings are those of the daemon, or of one that would start now.
type settings struct {
	open, relay, secret, bare, bridge bool
	running, adapter                  bool
}

func judgeSettings(s settings) []finding {
	const topic = "settings"
	var list []finding
	add := func(v verdict, code, says, try string) { list = append(list, finding{topic, v, says, try, code}) }
	if s.open && s.adapter {
		add(warn, "open", "policy.open is on: everybody who can send packets to this machine reaches every port that listens on the adapter, added or not",
			"nothing, if you want that; otherwise policy.open = false in the configuration, or start without --open")
	}
	if s.bridge {
		add(warn, "bridge", "info2.bridge is on: what your peers say in chat becomes clear text that strangers can read",
			"nothing, if you want that; otherwise info2.bridge = false in the configuration")
	}
	if s.bare && !s.bridge {
		add(warn, "bare", "info2.bare is on: texts are exchanged with strangers, in clear text", "nothing, if you want that; otherwise info2.bare = false in the configuration")
	}
	var facts []string
	if !s.open {
		facts = append(facts, "only added peers reach this machine's ports")
	}
	if s.relay {
		facts = append(facts, "added peers may use this machine as a relay")
	}
	if s.secret {
		facts = append(facts, "the network has a secret")
	} else {
		facts = append(facts, "the network has no secret")
	}
	add(fine, "settings", strings.Join(facts, "; "), "")
	return list
}

// checkPeers goes through the peers that were added and are not well.
func checkPeers(_ context.Context, p *patient) []finding {
	if p.status == nil {
		return nil
	}
	return judgePeers(*p.status)
}

func judgePeers(s overlay.Status) []finding {
	const topic = "peers"
	var list []finding
	added, up := 0, 0
	for _, x := range s.Peers {
		if !x.Allowed {
			continue
		}
		added++
		if x.State == overlay.StateUp {
			up++
		}
		list = append(list, judgePeer(x, s)...)
	}
	switch {
	case added == 0:
		list = append(list, finding{topic, warn, "no peer is added yet", "anode invite NAME, and on the other machine anode join", "no_peers"})
	case len(list) == 0:
		text := fmt.Sprintf("%d added, %d connected", added, up)
		if up < added {
			text += "; the others are connected when there is something to send (anode why PEER looks at one)"
		}
		list = append(list, finding{topic, fine, text, "", "peers"})
	}
	return list
}

// leastMTU is the length of packet that every IPv6 path must carry (RFC 8200, 5).
const leastMTU = 1280

// judgePeer judges one peer that was added.
func judgePeer(x overlay.PeerStatus, s overlay.Status) []finding {
	topic := "peer " + nameOf(x)
	if what, try := reasonWords(x, s.Address); what != "" {
		return []finding{{topic, bad, what, try, string(x.Reason)}}
	}
	if x.State == overlay.StateUnreachable {
		return []finding{{topic, bad, "it could not be reached, and why is not known", "anode why " + nameOf(x), "unreachable"}}
	}
	if x.State == overlay.StateConnecting {
		return []finding{{topic, warn, "there is no connection yet: a path is looked for, or keys are exchanged", "wait a moment; then anode why " + nameOf(x), "connecting"}}
	}
	if x.PathReason != "" && x.PathReason != overlay.ReasonPunching {
		what, try := pathReasonWords(x, s)
		return []finding{{topic, slow, "it is reached through " + pathWord(x.Path, namesOf(s.Peers)) + ", not directly: " + what, try, string(x.PathReason)}}
	}
	if mtu := x.Path.MTU; mtu > 0 && mtu < leastMTU {
		return []finding{{topic, slow, fmt.Sprintf("the path to it carries packets of %d bytes at most, but IPv6 sends up to %d, so long ones go in two parts", mtu, leastMTU),
			"another path, or a larger MTU of the networks between (" + route(x.Path, nil) + ")", "path_mtu"}}
	}
	return nil
}
