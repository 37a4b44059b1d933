package platform

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestResolverFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "resolver")
	alive := map[int]bool{10: true, 20: true}
	lives := func(pid int) bool { return alive[pid] }
	ours, others := resolverFiles{dir, 10, lives}, resolverFiles{dir, 20, lives}
	list := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	if removed, err := ours.cleanup(); err != nil || len(removed) != 0 {
		t.Errorf("without the folder: %v, %v", removed, err)
	}
	s := NameSettings{Server: netip.MustParseAddrPort("[fd12::1]:8753"), Domains: []string{"anode.internal", "7.d.f.ip6.arpa"}}
	if err := ours.apply(s); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "anode.internal"))
	if want := "# made by anode, process 10\nnameserver fd12::1\nport 8753\n"; err != nil || string(b) != want {
		t.Errorf("%q, %v", b, err)
	}
	foreign := filepath.Join(dir, "corp.example")
	if err := os.WriteFile(foreign, []byte("nameserver 10.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Domains = []string{"anode.internal", "8.d.f.ip6.arpa", "corp.example"}
	if err := ours.apply(s); !errors.Is(err, errForeignFile) {
		t.Errorf("over somebody else's file: %v", err)
	}
	if got := list(); !slices.Equal(got, []string{"8.d.f.ip6.arpa", "anode.internal", "corp.example"}) {
		t.Error(got)
	}
	if b, _ := os.ReadFile(foreign); string(b) != "nameserver 10.0.0.1\n" {
		t.Errorf("somebody else's file is now %q", b)
	}
	if err := others.apply(NameSettings{Server: s.Server, Domains: []string{"other.internal"}}); err != nil {
		t.Fatal(err)
	}
	if removed, err := ours.cleanup(); err != nil || len(removed) != 0 {
		t.Errorf("while all live: %v, %v", removed, err)
	}
	delete(alive, 20)
	if removed, err := ours.cleanup(); err != nil || !slices.Equal(removed, []string{filepath.Join(dir, "other.internal")}) {
		t.Errorf("of a killed one: %v, %v", removed, err)
	}
	if err := ours.revert(); err != nil || !slices.Equal(list(), []string{"corp.example"}) {
		t.Errorf("%v, %v", err, list())
	}
}
