package main

import (
	"testing"

	"anodenet/overlay"
)

func TestExamine(t *testing.T) {
	good := overlay.Status{Rung: "gso", Tun: &overlay.TunStatus{Name: "anode0", MTU: 1440}}
	for _, c := range []struct {
		name   string
		change func(*overlay.Status)
		check  string
		want   verdict
	}{
		{"all well", func(*overlay.Status) {}, "packets", fine},
		{"no adapter", func(s *overlay.Status) { s.Tun = nil }, "adapter", slow},
		{"stepped down", func(s *overlay.Status) { s.Rung = "batch" }, "packets", slow},
		{"plain", func(s *overlay.Status) { s.Rung = "plain" }, "packets", slow},
		{"full inbox", func(s *overlay.Status) { s.Counters = map[string]uint64{"drop_inbox_waiting": 3} }, "queues", slow},
		{"a copy of this node", func(s *overlay.Status) { s.Copies, s.PeerID = true, 3 }, "machines", slow},
		{"added on one side", func(s *overlay.Status) {
			s.Peers = []overlay.PeerStatus{{Name: "north", Allowed: true, State: overlay.StateUp, Admits: new(bool)}}
		}, "peer north", bad},
		{"lost peer", func(s *overlay.Status) {
			s.Peers = []overlay.PeerStatus{{Name: "north", Allowed: true, State: overlay.StateUnreachable}}
		}, "peer north", bad},
	} {
		s := good
		c.change(&s)
		found := false
		for _, f := range examine(s) {
			if f.Verdict != fine && f.Try == "" {
				t.Errorf("%s: %q says no remedy", c.name, f.Check)
			}
			if f.Check == c.check {
				found = true
				if f.Verdict != c.want {
					t.Errorf("%s: %+v, want %s", c.name, f, c.want)
				}
			} else if c.want == fine && f.Verdict != fine {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		if !found {
			t.Errorf("%s: nothing about %q", c.name, c.check)
		}
	}
}
