package main

import (
	"runtime"
	"testing"
)

func TestBuild(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for _, test := range []struct {
		commit, described, want string
		dirty                   bool
	}{
		{"", "", release, false},
		{commit, "", release + "+0123456789ab", false},
		{commit, "0123456", release + "+0123456789ab", false},
		{commit, "0123456-dirty", release + "+0123456789ab.modified", true},
		{commit, "v1.2.3", "1.2.3", false},
		{commit, "v1.2.3-4-g0123456-dirty", "1.2.3-4-g0123456.modified", true},
		{commit, "vote-7-g0123456", release + "+0123456789ab", false},
		{"short", "", release, false},
	} {
		b := build{Commit: test.commit}.named(test.described)
		if b.Version != test.want || b.Dirty != test.dirty || b.Schema != schema || b.OS != runtime.GOOS || b.Arch != runtime.GOARCH || b.Go == "" {
			t.Errorf("%q, %q: %+v", test.commit, test.described, b)
		}
	}
}
