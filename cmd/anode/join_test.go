package main

import (
	"strings"
	"testing"

	"anodenet/cmd/internal/control"
)

// A peer that was there before keeps its name: who wants another one is told how to change it.
func TestJoinKeepsName(t *testing.T) {
	for _, c := range []struct {
		as   string
		want string
	}{
		{"", ""},
		{"north", ""},
		{"other", "anode peers rename north other"},
	} {
		j := joining{app: &app{}, client: control.NewClient(t.TempDir() + "/none"), request: control.JoinRequest{As: c.as},
			last: control.Joined{Name: "north", State: control.JoinDone}}
		text := strings.Join(j.words(t.Context()), "\n")
		if c.want == "" && strings.Contains(text, "rename") || !strings.Contains(text, c.want) {
			t.Errorf("--as %q: %s", c.as, text)
		}
	}
}
