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

// TestProgress: a line is replaced as a whole, written only when it changes, and never longer than the terminal is now.
func TestProgress(t *testing.T) {
	var out strings.Builder
	columns := 79
	p := progress{to: &out, width: func() int { return columns }}
	for _, c := range []struct {
		columns    int
		text, want string
	}{
		{79, "waiting, 10 s", "\rwaiting, 10 s"},
		{79, "waiting, 10 s", ""},
		{79, "waiting, 9 s", "\rwaiting, 9 s "},
		{9, "waiting, 9 s", "\rwaiting,…"},
		{9, "waiting, 10 s", ""},
		{5, "w", "\rw    "},
	} {
		out.Reset()
		columns = c.columns
		if p.line(c.text); out.String() != c.want {
			t.Errorf("%d, %q: %q, want %q", c.columns, c.text, out.String(), c.want)
		}
	}
	out.Reset()
	if p.end(); out.String() != "\r   \r" {
		t.Errorf("%q", out.String())
	}
}
