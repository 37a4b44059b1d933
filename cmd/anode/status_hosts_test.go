package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// The status shows what DNS has for host names: where the peer is not reached, or the name is
// not found, or it is asked for.
func TestHostNotes(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	since := now.Add(-3 * time.Minute)
	host := func(name string, state control.HostState, problem string, ips ...string) control.Host {
		h := control.Host{Endpoint: book.Host{Name: name, Port: 8737}, State: state, Problem: problem, Since: &since}
		for _, ip := range ips {
			h.Addresses = append(h.Addresses, netip.MustParseAddr(ip))
		}
		return h
	}
	asking := host("new.example.org", control.HostAsking, "")
	asking.Since = nil
	v := statusView{hosts: []peerHost{
		{northAddress, host("home.example.org", control.HostFound, "", "2001:db8::7", "192.0.2.7")},
		{northAddress, host("old.example.org", control.HostFailed, "no answer from DNS", "192.0.2.8")},
		{northAddress, host("gone.example.org", control.HostNotFound, "not found")},
		{northAddress, asking},
		{selfAddress, host("other.example.org", control.HostNotFound, "not found")},
	}}
	const (
		found  = "udp:home.example.org:8737 is 2001:db8::7, 192.0.2.7|"
		faults = "udp:old.example.org:8737: no answer from DNS, since 3 min; it was 192.0.2.8 before|" +
			"udp:gone.example.org:8737: not found, since 3 min|udp:new.example.org:8737: not looked up yet|"
	)
	a := &app{now: func() time.Time { return now }}
	for name, c := range map[string]struct {
		peer overlay.PeerStatus
		long bool
		want string
	}{
		"up":      {overlay.PeerStatus{Address: northAddress, State: overlay.StateUp}, false, faults},
		"long":    {overlay.PeerStatus{Address: northAddress, State: overlay.StateUp}, true, found + faults},
		"away":    {overlay.PeerStatus{Address: northAddress, State: overlay.StateUnreachable}, false, found + faults},
		"blocked": {overlay.PeerStatus{Address: northAddress, Blocked: true}, true, ""},
	} {
		v.long = c.long
		got := ""
		for _, row := range a.hostNotes(c.peer, v, 200) {
			got += strings.TrimSpace(strings.Join(row, " ")) + "|"
		}
		if got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}
