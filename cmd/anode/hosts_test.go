package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// hostList is a peer's endpoints: an address, a name that is found, and others that are not.
func hostList() control.Endpoints {
	ip := netip.MustParseAddr
	return control.Endpoints{
		Given: []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("192.0.2.1:8737"))},
		Hosts: []control.Host{
			{Endpoint: book.Host{Name: "home.example.org", Port: 8737}, State: control.HostFound, Addresses: []netip.Addr{ip("2001:db8::7"), ip("192.0.2.7")}},
			{Endpoint: book.Host{Name: "old.example.org", Port: 1}, State: control.HostFailed, Addresses: []netip.Addr{ip("192.0.2.8")}, Problem: "no answer from DNS"},
			{Endpoint: book.Host{Name: "gone.example.org", Port: 1}, State: control.HostNotFound, Problem: "not found"},
			{Endpoint: book.Host{Name: "new.example.org", Port: 1}, State: control.HostAsking},
		},
		Learned: []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("192.0.2.7:8737"))},
	}
}

func TestHostRows(t *testing.T) {
	var got []string
	for _, row := range endpointRows(hostList()) {
		got = append(got, strings.Join(row, " | "))
	}
	want := []string{
		"ENDPOINT | ORIGIN",
		"udp:192.0.2.1:8737 | given",
		"udp:home.example.org:8737 | given",
		"udp:[2001:db8::7]:8737 | address of home.example.org",
		"udp:192.0.2.7:8737 | address of home.example.org",
		"udp:old.example.org:1 | given, no answer from DNS",
		"udp:192.0.2.8:1 | address of old.example.org",
		"udp:gone.example.org:1 | given, not found",
		"udp:new.example.org:1 | given, not looked up yet",
		"udp:192.0.2.7:8737 | learned",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	const words = "at udp:192.0.2.1:8737, udp:home.example.org:8737, udp:old.example.org:1 (no answer from DNS), " +
		"udp:gone.example.org:1 (not found), udp:new.example.org:1 (not looked up yet) (given), udp:192.0.2.7:8737 (learned)"
	if got := endpointWords(hostList()); got != words {
		t.Errorf("got %s", got)
	}
}

// A name without an address is named as the cause where nobody knows the peer's place, and
// nowhere else.
func TestBlameHosts(t *testing.T) {
	list := hostList()
	for reason, blames := range map[overlay.Reason]bool{overlay.ReasonNoEndpoint: true, overlay.ReasonNoAnswer: false} {
		p := overlay.PeerStatus{Name: "north", Allowed: true, State: overlay.StateUnreachable, Reason: reason}
		w := explainPeer(p, overlay.Status{}, whyPinged{Error: "no answer in time"}, nil)
		before := w
		w.Endpoints = &list
		w.blameHosts()
		const says = "; its host name gone.example.org: not found; its host name new.example.org: not looked up yet"
		if blames != (w.Says == before.Says+says) || blames != strings.HasPrefix(w.Try, "check the name") || !blames && w.Try != before.Try {
			t.Errorf("%s: %s; try %s", reason, w.Says, w.Try)
		}
	}
}
