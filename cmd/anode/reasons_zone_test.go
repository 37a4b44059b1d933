package main

import (
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
)

// TestZoneFault: each fault of a zone file has a code and a remedy, and a file that serves is none.
func TestZoneFault(t *testing.T) {
	now := time.Now()
	hour, week := now.Add(-time.Hour), now.Add(-7*24*time.Hour)
	for _, c := range []struct {
		name string
		file control.ZoneFile
		want string
	}{
		{"not fetched yet", control.ZoneFile{}, ""},
		{"never fetched", control.ZoneFile{Error: "192.0.2.1: connection refused"}, zoneNoFile},
		{"good", control.ZoneFile{Source: "http://192.0.2.1/z", Relays: 1, Checked: &week}, ""},
		{"a new copy", control.ZoneFile{Source: "http://192.0.2.1/z", Relays: 1, Checked: &hour, Error: "timeout"}, ""},
		{"an old copy", control.ZoneFile{Source: "http://192.0.2.1/z", Relays: 1, Checked: &week, Error: "timeout"}, zoneOldFile},
		{"no relay", control.ZoneFile{Source: "http://192.0.2.1/z", Checked: &hour}, zoneNoRelay},
		{"our own, no relay", control.ZoneFile{Source: control.SourceSelf}, zoneNoRelay},
	} {
		c.file.Zone = 0xc0000201
		a, ok := zoneFault(c.file, now)
		if a.Code != c.want || ok != (c.want != "") || ok && (a.Says == "" || a.Try == "") {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	files := []control.ZoneFile{{Own: true, Error: "x"}, {Error: "y"}}
	if list := zoneFaults(files, now, func(f control.ZoneFile) bool { return f.Own }); len(list) != 1 {
		t.Errorf("%+v", list)
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
