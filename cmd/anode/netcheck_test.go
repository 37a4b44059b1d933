package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/portmap"
)

// natStatus is a status of a machine behind a home router, which one relay sees.
func natStatus() overlay.Status {
	s := fixtureStatus()
	hub := hubAddress
	s.Network = overlay.NetworkStatus{IPv4: overlay.FamilyStatus{Address: "192.168.1.9", Gateway: "192.168.1.1", Route: true, Works: true},
		Portmap: overlay.PortmapStatus{Code: string(portmap.NoAnswer), Says: portmap.NoAnswer.Text(), Gateway: "192.168.1.1"}}
	s.Reach = overlay.ReachStatus{
		Mapping: "independent", Ports: "preserved", Endpoint: "udp:198.51.100.1:8737", Lifetime: 100, Keepalive: 80, Filtering: "address_port_dependent", Hairpin: "no",
		Own:     []string{"udp:198.51.100.1:8737", "udp:192.168.1.9:8737"},
		Seen:    []overlay.SeenStatus{{Endpoint: "udp:198.51.100.1:8737", By: &hub, From: "udp:192.0.2.7:8737", Age: 12}},
		Anchors: []overlay.AnchorStatus{{Address: hub, Name: "hub", Endpoint: "udp:192.0.2.7:8737", State: "kept", RTT: 16.2, Interval: 80}},
	}
	return s
}

// silentPeer is an added peer whose endpoint outside does not answer.
func silentPeer(a anode.Address, endpoint string) overlay.PeerStatus {
	return overlay.PeerStatus{Address: a, ID: a.ID(), Allowed: true, Path: overlay.PathStatus{Kind: overlay.PathNone},
		Ways: []overlay.WayStatus{{Endpoint: endpoint, Origin: "static", State: overlay.WayChecking, Silent: true}}}
}

// connectedPeer is one that a connection leads to, and UDP does not.
func connectedPeer(a anode.Address, endpoint string) overlay.PeerStatus {
	p := silentPeer(a, "udp:192.0.2.1:8737")
	p.Ways = append(p.Ways, overlay.WayStatus{Endpoint: endpoint, Origin: "static", State: overlay.WayWorks, Used: true})
	return p
}

// Where UDP is blocked and a connection works, peers can be reached: it is said what that costs.
func TestNetCheckConnected(t *testing.T) {
	for endpoint, want := range map[string]string{"tcp:192.0.2.1:443": "by TCP (one packet", "https://home.example.org/x": "by HTTP (one packet"} {
		s := natStatus()
		s.Reach, s.Peers = overlay.ReachStatus{Mapping: "unknown", Ports: "unknown"}, []overlay.PeerStatus{connectedPeer(northAddress, endpoint)}
		n := netCheck(t.Context(), s, func(context.Context, string) bool { return false })
		if n.UDP || n.TCP != strings.HasPrefix(endpoint, "tcp") || n.HTTP == n.TCP || n.cutOff() || n.verdict() != slow || !strings.Contains(n.Says, want) {
			t.Errorf("%s: %+v", endpoint, n)
		}
		text := ""
		for _, f := range netFacts(n, nil) {
			text += f[0] + ": " + f[1] + "\n"
		}
		if !strings.Contains(text, "UDP: no machine") || !strings.Contains(text, "works; the cost: ") {
			t.Errorf("%s:\n%s", endpoint, text)
		}
	}
}

// TestNetCheck: each code is what some network leads to, and has words and a place in the help.
func TestNetCheck(t *testing.T) {
	blind := func(s *overlay.Status, peers ...overlay.PeerStatus) {
		s.Network.IPv4.Works = false
		s.Reach, s.Peers = overlay.ReachStatus{Mapping: "unknown", Ports: "unknown"}, peers
	}
	covered := map[string]bool{}
	for _, c := range []struct {
		name   string
		alive  bool
		change func(s *overlay.Status)
		want   string
	}{
		{"home", false, func(*overlay.Status) {}, netIndependent},
		{"public", false, func(s *overlay.Status) { s.Reach.Mapping = "none" }, netOpen},
		{"a port is open", false, func(s *overlay.Status) { s.Reach.Mapped = []string{"udp:198.51.100.1:8737"} }, netMapped},
		{"IPv6 alone", false, func(s *overlay.Status) {
			s.Reach.Mapping = "unknown"
			s.Network = overlay.NetworkStatus{IPv6: overlay.FamilyStatus{Address: "2a0e::1", Public: true, Route: true, Works: true}}
		}, netIPv6},
		{"in order", false, func(s *overlay.Status) { s.Reach.Mapping, s.Reach.Ports, s.Reach.Step = "dependent", "sequential", 1 }, netSequential},
		{"symmetric", false, func(s *overlay.Status) { s.Reach.Mapping, s.Reach.Ports = "dependent", "random" }, string(overlay.ReasonHereSymmetric)},
		{"random, one relay", false, func(s *overlay.Status) { s.Reach.Mapping, s.Reach.Ports = "unknown", "random" }, netUnclear},
		{"alone", false, func(s *overlay.Status) { blind(s) }, netUnknown},
		{"one is silent", false, func(s *overlay.Status) { blind(s, silentPeer(northAddress, "udp:192.0.2.1:8737")) }, string(overlay.ReasonRelaySilent)},
		{"one is silent, and is there", true, func(s *overlay.Status) { blind(s, silentPeer(northAddress, "udp:192.0.2.1:8737")) }, string(overlay.ReasonUDPBlocked)},
		{"two are silent", false, func(s *overlay.Status) {
			blind(s, silentPeer(northAddress, "udp:192.0.2.1:8737"), silentPeer(southAddress, "udp:192.0.2.2:8737"))
		}, string(overlay.ReasonUDPBlocked)},
		{"TCP alone", false, func(s *overlay.Status) {
			blind(s, connectedPeer(northAddress, "tcp:192.0.2.1:443"))
			s.Network.IPv4.Works, s.Transports.UDPSilent = true, true
		}, string(overlay.ReasonUDPBlocked)},
		{"HTTP alone", false, func(s *overlay.Status) { blind(s, connectedPeer(northAddress, "https://home.example.org/")) }, string(overlay.ReasonUDPBlocked)},
		{"unplugged", false, func(s *overlay.Status) { blind(s); s.Network = overlay.NetworkStatus{} }, netNoNetwork},
	} {
		s := natStatus()
		c.change(&s)
		n := netCheck(t.Context(), s, func(context.Context, string) bool { return c.alive })
		if n.Code != c.want || n.Says == "" || n.verdict() != fine && n.Try == "" {
			t.Errorf("%s: %+v", c.name, n)
		}
		covered[n.Code] = true
	}
	for _, gate := range []overlay.Reason{overlay.ReasonCaptivePortal, overlay.ReasonProxyAuth, overlay.ReasonProxyRefused} {
		s := natStatus()
		n := netCheck(t.Context(), s, func(context.Context, string) bool { return false })
		n.gated(gate, 8737)
		covered[n.Code] = true
	}
	for _, code := range netCodes() {
		if !covered[code[0]] {
			t.Errorf("no network leads to %q", code[0])
		}
		delete(covered, code[0])
	}
	if len(covered) > 0 {
		t.Errorf("%v are not in the help", covered)
	}
}

// TestNetCheckFiltering: what was measured is what is printed; a public address behind a firewall is
// said to be one.
func TestNetCheckFiltering(t *testing.T) {
	words := map[string]bool{}
	for _, mapping := range []string{"independent", "none"} {
		for _, kind := range []string{"", "address_port_dependent", "not_port_dependent"} {
			s := natStatus()
			s.Reach.Mapping, s.Reach.Filtering = mapping, kind
			n := netCheck(t.Context(), s, nil)
			if want := cmp.Or(kind, "unknown"); n.NAT.Filtering != want {
				t.Errorf("%q is printed as %q", kind, n.NAT.Filtering)
			}
			words[filteringWords(n.NAT)] = true
			if walled := mapping == "none" && kind == "address_port_dependent"; strings.Contains(n.Says, "firewall lets in only replies") != walled || (n.Try != "") != walled {
				t.Errorf("%s, %s: %s; try: %s", mapping, kind, n.Says, n.Try)
			}
		}
	}
	if len(words) != 4 {
		t.Errorf("words: %v", words)
	}
	s := natStatus()
	s.Peers[1].PathReason = overlay.ReasonHairpin
	for measured, want := range map[string]string{"": "no", "yes": "yes", "no": "no"} {
		if s.Reach.Hairpin = measured; hairpinOf(s) != want {
			t.Errorf("measured %q: %s", measured, hairpinOf(s))
		}
	}
}

// TestMappedElsewhere: a port that the router opened before another NAT is no open port, and the
// remedy is the one for two NATs.
func TestMappedElsewhere(t *testing.T) {
	s := natStatus()
	s.Reach.Elsewhere = []string{"udp:203.0.113.9:8737"}
	s.Network.Portmap = overlay.PortmapStatus{Code: overlay.PortmapElsewhere, Says: "the gateway opened a port elsewhere", Protocol: "upnp"}
	n := netCheck(t.Context(), s, nil)
	if n.Code == netMapped || n.Portmap.Code != string(overlay.ReasonNoPortmap) || n.Portmap.Reason != overlay.PortmapElsewhere || portmapWords(n.Portmap) != "none: the gateway opened a port elsewhere" {
		t.Errorf("%+v", n)
	}
	if a := noPortmap(s); !strings.Contains(a.Says, "opened a port elsewhere") || !strings.Contains(a.Try, "provider") {
		t.Errorf("%+v", a)
	}
}

// TestSymmetricNote: a peer that does not answer, behind a symmetric NAT here without a relay, gets
// that as a note with what would help; otherwise there is no such note.
func TestSymmetricNote(t *testing.T) {
	for mapping, want := range map[string]bool{"dependent": true, "independent": false, "none": false} {
		s := natStatus()
		s.Reach.Mapping = mapping
		p := silentPeer(southAddress, "udp:203.0.113.5:8737")
		p.Reason, p.ReasonAt = overlay.ReasonNoAnswer, "udp:203.0.113.5:8737"
		w := explainPeer(p, s, whyPinged{Error: "no reply"}, nil)
		a, out := onTerminal()
		a.printWhy(w, nil)
		if got := strings.Contains(out.String(), "symmetric NAT") && strings.Contains(out.String(), "a third one"); got != want || w.Code != string(overlay.ReasonNoAnswer) {
			t.Errorf("%s: %s", mapping, out)
		}
	}
}

func TestPrintNet(t *testing.T) {
	a, out := onTerminal()
	s := natStatus()
	a.printNet(netCheck(t.Context(), s, nil), map[anode.Address]string{hubAddress: "hub"})
	wantText(t, out.String(), `
UDP           works: machines outside answer
IPv4          192.168.1.9, a private address; machines outside answer
IPv6          none
seen as       udp:198.51.100.1:8737, by hub 12 s ago
router        NAT with one port for all destinations; it keeps the port of this
              machine
filtering     the router lets in only replies: packets from an address and port
              to which this machine has sent
lifetime      the router keeps an idle connection for at least 100 s; a packet
              every 80 s keeps the way in open
hairpin       no: machines behind the same router do not reach each other by its
              outside
port mapping  none: the gateway does not offer port mapping (UPnP, NAT-PMP or
              PCP)
relay         hub (314c6a3662ebad08) udp:192.0.2.7:8737, 16.2 ms

Peers behind most home routers reach this machine directly; peers behind routers
that take another port for each connection (symmetric NAT) mostly only through a
relay.
`)
}

// relayedPeer is a peer behind a relay.
func relayedPeer(r overlay.Reason) overlay.PeerStatus {
	hub := hubAddress
	return overlay.PeerStatus{Address: southAddress, ID: southAddress.ID(), ULA: southAddress.ULA(), Name: "south", Allowed: true, State: overlay.StateUp,
		Path: overlay.PathStatus{Kind: overlay.PathRelay, Endpoint: "udp:192.0.2.7:8737", Via: &hub, RTT: 37.25, MTU: 1400}, PathReason: r, PathAge: 300,
		Attempts: &overlay.AttemptsStatus{Takes: true, Count: 3, Requests: 24, Last: "failed", LastAge: 5, Next: 15},
		Ways: []overlay.WayStatus{
			{Endpoint: "udp:192.0.2.7:8737", Via: &hub, Origin: "relay", State: overlay.WayWorks, Used: true, RTT: 37.25},
			{Endpoint: "udp:203.0.113.5:8737", Origin: "told", State: overlay.WayFailed, Silent: true, Reason: overlay.ReasonNoAnswer},
		}}
}

// TestPathReasonWords: each reason why a path is no better one has a sentence, a remedy, and a
// row in the help of why; and so has each reason why a peer is not reached.
func TestPathReasonWords(t *testing.T) {
	inHelp := map[overlay.Reason]bool{}
	for _, l := range slices.Concat(peerReasons(), pathReasons()) {
		if inHelp[l.code] || l.says == "" {
			t.Errorf("%q is in the help twice, or has no words there", l.code)
		}
		inHelp[l.code] = true
	}
	s := natStatus()
	seen := map[string]overlay.Reason{}
	for _, r := range overlay.Reasons() {
		if !inHelp[r] {
			t.Errorf("%q is not in the help of why", r)
		}
		if r == overlay.ReasonNoPortmap { // a note
			continue
		}
		what, try := pathReasonWords(relayedPeer(r), s)
		if !strings.Contains(what, "south") || try == "" || strings.ContainsAny(what, "\n;") {
			t.Errorf("%q: %q; try: %q", r, what, try)
		}
		if other, ok := seen[what]; ok {
			t.Errorf("%s and %s have the same words", r, other)
		}
		seen[what] = r
	}
	if what, try := pathReasonWords(relayedPeer(""), s); what != "" || try != "" {
		t.Errorf("of a path with which nothing is wrong: %q, %q", what, try)
	}
}

// TestNoPortmap: that the router opens no port is a note where one would help, and only there.
func TestNoPortmap(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason overlay.Reason
		change func(s *overlay.Status)
		want   bool
	}{
		{"symmetric there", overlay.ReasonPeerSymmetric, func(*overlay.Status) {}, true},
		{"a firewall", overlay.ReasonFirewalled, func(*overlay.Status) {}, true},
		{"it would not help", overlay.ReasonFamilyMismatch, func(*overlay.Status) {}, false},
		{"a port is open", overlay.ReasonPeerSymmetric, func(s *overlay.Status) { s.Reach.Mapped = []string{"udp:198.51.100.1:8737"} }, false},
		{"no router translates", overlay.ReasonPeerSymmetric, func(s *overlay.Status) { s.Reach.Mapping = "none" }, false},
	} {
		s := natStatus()
		c.change(&s)
		ms := 40.0
		w := explainPeer(relayedPeer(c.reason), s, whyPinged{RTT: &ms}, nil)
		has := slices.ContainsFunc(w.Notes, func(n advice) bool {
			return n.Code == string(overlay.ReasonNoPortmap) && n.Says != "" && n.Try != ""
		})
		if has != c.want || w.PathCode != c.reason || w.Code != "up" || !w.Reachable {
			t.Errorf("%s: %+v", c.name, w)
		}
	}
}

func TestPrintWhyRelayed(t *testing.T) {
	s := natStatus()
	s.Peers[2].Name = "hub"
	ms := 38.1
	south := relayedPeer(overlay.ReasonPeerSymmetric)
	a, out := onTerminal()
	a.printWhy(explainPeer(south, s, whyPinged{RTT: &ms, Path: &south.Path}, nil), namesOf(s.Peers))
	wantText(t, out.String(), `
south (395d77976c9f8031) can be reached, through relay hub.
No direct path: the router or provider of south (395d77976c9f8031) takes another
port for each connection (symmetric NAT), which this machine cannot foresee.
try: switch on UPnP, NAT-PMP or PCP in the router here or in that of south; or
     forward UDP port 8737 to this machine, or port 8737 to that one
Also: the router of this machine opens no port for it: the gateway does not
offer port mapping (UPnP, NAT-PMP or PCP).

address  aeaaaaaaaaaafwbi444ozh4qzvz37zrl6ml33oxne2o5km25omvvrhtljsro2hm5
IPv6     fd00:0:45:dfd7:395d:7797:6c9f:8031
here     added on this machine
there    it has not told whether this machine is added there
state    connected
path     relay hub, 37.2 ms, packets of up to 1400 bytes, for 5 min
ping     answered just now in 38.1 ms, relay hub
heard    never since the daemon started
attempts 3 to open a direct path, with 24 packets; the last got no answer 5 s
         ago; the next in 15 s if something is sent
way      relay hub udp:192.0.2.7:8737: in use, 37.2 ms
way      udp:203.0.113.5:8737 (the peer names it): no answer
`)
}
