package main

import (
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
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
