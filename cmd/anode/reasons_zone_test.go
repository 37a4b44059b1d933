package main

import (
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/overlay"
)

// A zone file that may be why a peer is not reached is told with doctor's code and remedy, and one
// that serves is not.
func TestZoneAdvice(t *testing.T) {
	now := time.Now()
	hour, week := now.Add(-time.Hour), now.Add(-7*24*time.Hour)
	const web = "http://9.0.3.2/z"
	for _, c := range []struct {
		name string
		file control.ZoneFile
		want string
	}{
		{"not fetched yet", control.ZoneFile{Own: true}, ""},
		{"never fetched", control.ZoneFile{Own: true, Problem: control.ZoneUnreachable, Error: "connection refused"}, "zone_unreachable"},
		{"a portal", control.ZoneFile{Own: true, Problem: control.ZoneNoFile, Error: "a web page"}, "zone_no_file"},
		{"a peer's, never fetched", control.ZoneFile{Problem: control.ZoneUnreachable, Error: "connection refused"}, "zone_peer"},
		{"good", control.ZoneFile{Own: true, Source: web, Relays: 1, Checked: &week}, ""},
		{"a new copy", control.ZoneFile{Own: true, Source: web, Relays: 1, Checked: &hour, Problem: control.ZoneUnreachable, Error: "timeout"}, ""},
		{"an old copy", control.ZoneFile{Own: true, Source: web, Relays: 1, Checked: &week, Problem: control.ZoneUnreachable, Error: "timeout"}, "zone_stale"},
		{"no relay", control.ZoneFile{Own: true, Source: web, Checked: &hour}, "zone_no_relay"},
		{"our own, no relay", control.ZoneFile{Own: true, Source: control.SourceSelf}, "zone_no_relay"},
		{"a matter of serving it", control.ZoneFile{Own: true, Source: control.SourceSelf, Relays: 1, Problem: control.ZonePortTaken}, ""},
	} {
		c.file.Zone = 0x09000302
		list := zoneAdvice(c.file, selfAddress, now)
		switch {
		case c.want == "" && len(list) == 0:
		case len(list) != 1 || list[0].Code != c.want || list[0].Says == "" || list[0].Try == "":
			t.Errorf("%s: %+v, want %q", c.name, list, c.want)
		}
	}
}

// TestWrappedCommand: a command whose address does not fit its line can be pasted as it is printed.
func TestWrappedCommand(t *testing.T) {
	var b strings.Builder
	wrapped(&b, 80, "try: ", "     ", "on that machine: anode peers add "+southAddress.String())
	if want := "try: on that machine: anode peers add \\\n     " + southAddress.String() + "\n"; b.String() != want {
		t.Errorf("%q", b.String())
	}
}

// What stands in front of everybody outside is what why and netcheck say, unless somebody answers.
func TestGate(t *testing.T) {
	own := control.ZoneFile{Own: true, Gate: overlay.ReasonCaptivePortal}
	relay := overlay.Status{Zones: []overlay.ZoneStatus{{Relays: []overlay.ZoneRelayStatus{{TroubleReason: overlay.ReasonProxyAuth}}}}}
	for _, c := range []struct {
		s     overlay.Status
		files []control.ZoneFile
		want  overlay.Reason
	}{
		{overlay.Status{}, nil, ""},
		{overlay.Status{}, []control.ZoneFile{{Gate: overlay.ReasonProxyAuth}}, ""},
		{overlay.Status{}, []control.ZoneFile{own}, overlay.ReasonCaptivePortal},
		{relay, nil, overlay.ReasonProxyAuth},
		{relay, []control.ZoneFile{own}, overlay.ReasonCaptivePortal},
		{overlay.Status{Peers: []overlay.PeerStatus{{Ways: []overlay.WayStatus{{TroubleReason: overlay.ReasonTCPRefused}, {TroubleReason: overlay.ReasonProxyRefused}}}}}, nil, overlay.ReasonProxyRefused},
	} {
		if got := gateIn(c.s, c.files); got != c.want {
			t.Errorf("%+v, %+v: %q, want %q", c.s, c.files, got, c.want)
		}
	}
	for was, want := range map[overlay.Reason]overlay.Reason{
		overlay.ReasonNoEndpoint: overlay.ReasonProxyAuth, overlay.ReasonUDPBlocked: overlay.ReasonProxyAuth, overlay.ReasonBlocked: overlay.ReasonBlocked, "": "",
	} {
		if got := gated(overlay.PeerStatus{Reason: was}, overlay.ReasonProxyAuth).Reason; got != want {
			t.Errorf("%q becomes %q, want %q", was, got, want)
		}
	}
	n := netAnswer{Code: netUnknown}
	if n.gated("", 8737); n.Code != netUnknown || n.cutOff() {
		t.Errorf("%+v", n)
	}
	if n.gated(overlay.ReasonCaptivePortal, 8737); n.Code != "captive_portal" || !n.cutOff() || n.Says == "" || n.Try == "" || n.verdict() != bad {
		t.Errorf("%+v", n)
	}
}
