package main

import (
	"strings"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
)

func TestJudgeZone(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	checked := now.Add(-72 * time.Hour)
	good := control.ZoneFile{Zone: 0x09000302, Own: true, Revision: 7, Relays: 1, Source: "http://9.0.3.2/z", Checked: &checked}
	with := func(change func(*control.ZoneFile)) control.ZoneFile {
		f := good
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		file   control.ZoneFile
		relays bool
		want   []string // code, verdict and a part of the text
	}{
		"fine":     {good, false, []string{"zone fine revision 7 and comes from http://9.0.3.2/z"}},
		"relay":    {with(func(f *control.ZoneFile) { f.Listed = true }), true, []string{"zone fine "}},
		"fetching": {with(func(f *control.ZoneFile) { f.Source = "" }), true, []string{"zone_fetching fine "}},
		"unlisted": {good, true, []string{"zone_unlisted warn does not name it"}},
		"no relay": {with(func(f *control.ZoneFile) { f.Relays = 0 }), false, []string{"zone_no_relay warn "}},
		"private":  {with(func(f *control.ZoneFile) { f.Zone = 0x0a000001 }), false, []string{"zone_limited warn 10.0.0.1 is a private address"}},
		"none": {with(func(f *control.ZoneFile) { f.Source, f.Problem, f.Error = "", control.ZoneUnreachable, "no\x1banswer" }), false,
			[]string{"zone_unreachable bad so this machine has no relay: no?answer"}},
		"a portal": {with(func(f *control.ZoneFile) { f.Source, f.Problem = "", control.ZoneNoFile }), false, []string{"zone_no_file bad "}},
		"stale": {with(func(f *control.ZoneFile) { f.Problem, f.Error = control.ZoneUnreachable, "no answer" }), false,
			[]string{"zone_stale warn last found to be current 3 d 0 h ago: no answer"}},
		"never checked": {with(func(f *control.ZoneFile) { f.Problem, f.Checked = control.ZoneUnreachable, nil }), false, []string{"zone_stale warn not known"}},
		"older":         {with(func(f *control.ZoneFile) { f.Problem = control.ZoneOlder }), false, []string{"zone_older warn which has revision 7"}},
		"taken":         {with(func(f *control.ZoneFile) { f.Problem = control.ZonePortTaken }), false, []string{"zone_port_taken bad "}},
		"denied":        {with(func(f *control.ZoneFile) { f.Problem = control.ZonePortDenied }), false, []string{"zone_port_denied bad "}},
		"not served":    {with(func(f *control.ZoneFile) { f.Problem = control.ZoneNotServed }), false, []string{"zone_not_served bad "}},
		"unreadable":    {with(func(f *control.ZoneFile) { f.Problem = control.ZoneUnreadable }), false, []string{"zone_unreadable bad "}},
		"two at once":   {with(func(f *control.ZoneFile) { f.Problem = control.ZoneOlder }), true, []string{"zone_older warn ", "zone_unlisted warn "}},
		"a peer's":      {with(func(f *control.ZoneFile) { f.Own = false }), false, nil},
		"a peer's, gone": {with(func(f *control.ZoneFile) { f.Own, f.Source, f.Problem = false, "", control.ZoneUnreachable }), false,
			[]string{"zone_peer warn zone 9.0.3.2, in which a peer is"}},
	} {
		got := judgeZone(c.file, selfAddress, c.relays, now)
		if len(got) != len(c.want) {
			t.Errorf("%s: got %+v", name, got)
			continue
		}
		for i, want := range c.want {
			code, rest, _ := strings.Cut(want, " ")
			v, text, _ := strings.Cut(rest, " ")
			if f := got[i]; f.Check != "zone" || f.Code != code || string(f.Verdict) != v || !strings.Contains(f.Says, text) || (f.Try == "") != (f.Verdict == fine) {
				t.Errorf("%s: got %+v, want %s", name, f, want)
			}
		}
	}
	try := judgeZone(with(func(f *control.ZoneFile) { f.Problem, f.Try = control.ZonePortTaken, "this" }), selfAddress, false, now)[0].Try
	if try != "this" {
		t.Errorf("the daemon's advice is not taken: %q", try)
	}
}
