package control

import (
	"strings"
	"testing"
)

func TestFindGroup(t *testing.T) {
	long := "users:x:100:" + strings.Repeat("somebody,", 1<<14)
	for _, c := range []struct {
		name, file string
		gid        int
		ok         bool
	}{
		{"members", "root:x:0:\n" + long + "\nanode:x:987:ann,bob\n", 987, true},
		{"no members, no end of line", "anode:x:987:", 987, true},
		{"the first counts", "anode:x:5:\nanode:x:6:\n", 5, true},
		{"none", "root:x:0:\nanodes:x:1:\n", 0, false},
		{"a comment", "#anode:x:987:\n", 0, false},
		{"a member of that name", "users:x:100:anode\n", 0, false},
		{"no ID", "anode:x::\n", 0, false},
		{"a negative ID, which chown takes for no change", "anode:x:-1:\n", 0, false},
		{"an ID out of range", "anode:x:4294967295:\n", 0, false},
		{"too few fields", "anode:x:987\n", 0, false},
		{"empty", "", 0, false},
	} {
		if gid, ok := findGroup(strings.NewReader(c.file), "anode"); ok != c.ok || ok && gid != c.gid {
			t.Errorf("%s: %d, %v", c.name, gid, ok)
		}
	}
}
