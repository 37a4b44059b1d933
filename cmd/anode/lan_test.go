package main

import (
	"net/netip"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/alias"
	"anodenet/platform"
)

// The refusal of IPv4 is a finding of its own with its remedy.
func TestJudgeIP4(t *testing.T) {
	got := judgeProblem(overlay.TunProblem{Code: platform.ProblemIP4, Text: "IPv4 aliases are not used: wwan0 has the address 100.70.0.1/32; try: [lan] ip4 = \"198.18.0.0/15\""})
	if got.Code != "adapter_ip4_refused" || got.Verdict != warn || strings.Contains(got.Says, "try") || got.Try != "[lan] ip4 = \"198.18.0.0/15\"" {
		t.Errorf("%+v", got)
	}
}

// Who has the alias that a peer would have elsewhere is named.
func TestClash(t *testing.T) {
	r := netip.MustParsePrefix("10.1.2.0/24")
	ula := func(id byte) (u anode.ULA) {
		u[0], u[15] = 0xfd, id
		return u
	}
	s := overlay.Status{LAN: overlay.LANStatus{Range: r.String(), Alias: alias.Of(r, ula(7)).String()}, Peers: []overlay.PeerStatus{
		{Name: "north", ULA: ula(9), Alias: alias.Of(r, ula(9)).String(), Allowed: true},
		{Name: "south", ULA: ula(9), Alias: "10.1.2.77", AliasMoved: true, Allowed: true},
		{Name: "east", ULA: ula(7), Alias: "10.1.2.78", AliasMoved: true, Allowed: true},
	}}
	var text []string
	for _, p := range lanPeers(s) {
		text = append(text, p.Clash)
	}
	if strings.Join(text, ",") != ",north,self" {
		t.Errorf("%q", text)
	}
}

// What people read of the virtual LAN and of games.
func TestLANWords(t *testing.T) {
	a, out := onTerminal()
	s := overlay.Status{LAN: overlay.LANStatus{Chosen: 2, Members: 1, Alias: "100.64.0.9", Range: "100.64.0.0/10", Limits: overlay.DefaultLANLimits()},
		Peers: []overlay.PeerStatus{{Name: "north", LAN: overlay.LANMember, Alias: "100.64.0.10", Allowed: true}, {Name: "south", LAN: overlay.LANChosen, Allowed: true},
			{Name: "east", LAN: overlay.LANChosen, NoAdapter: true, Allowed: true}}}
	a.printLAN(s, control.LANView{Adapter: true})
	for _, want := range []string{"100.64.0.9, in 100.64.0.0/10", "1 of them chose this machine too", "south has not chosen this node for its virtual LAN", "only after a restart of the daemon"} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	for _, never := range []string{"east has not chosen", "without one"} {
		if strings.Contains(out.String(), never) {
			t.Errorf("%q in\n%s", never, out.String())
		}
	}
	if !strings.Contains(out.String(), "east runs without an adapter") {
		t.Error(out.String())
	}
	if got := restartNote(s, control.LANView{}); !strings.Contains(got, "--tun none") {
		t.Errorf("without an adapter: %q", got)
	}
	g := gamesAnswer{Adapter: "anode0", Broadcast: gameWay{"eth0"}, Multicast: gameWay{"anode0"}, LANView: control.LANView{Games: true}}
	if text := strings.Join(g.lines(), " "); !strings.Contains(text, "not to the real one") || !strings.Contains(text, "another route leads them to eth0") {
		t.Error(text)
	}
}
