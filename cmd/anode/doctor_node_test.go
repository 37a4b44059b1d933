package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/daemon"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/store"
)

// stateOf makes a state directory with an identity and a peer.
func stateDir(t *testing.T) (dir string, self anode.Address) {
	t.Helper()
	dir = t.TempDir()
	id, _, err := anode.LoadOrCreateIdentity(filepath.Join(dir, identityName), 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, _, err := book.Open(id.Address(), s, nil)
	if err == nil {
		_, err = daemon.Mark(s, id.Address())
	}
	if err == nil {
		_, err = b.Add(northAddress, "north", nil, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, id.Address()
}

// listing is what a directory holds: the names, modes and contents of its files.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e.Name(), info.Mode().String(), string(b))
	}
	return strings.Join(list, "\n")
}

// TestCheckFiles looks at state directories in many conditions, and changes none.
func TestCheckFiles(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(dir string) error
		identity string
		state    string
	}{
		{"well", func(string) error { return nil }, "fine identity", "fine state"},
		{"new", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, identityName)), os.Remove(filepath.Join(dir, stateName)))
		}, "fine identity_none", "fine state_none"},
		{"no directory", func(dir string) error { return os.RemoveAll(dir) }, "fine identity_none", "fine state_none"},
		{"identity lost", func(dir string) error { return os.Remove(filepath.Join(dir, identityName)) }, "bad identity_lost", "fine state"},
		{"identity for all to read", func(dir string) error { return os.Chmod(filepath.Join(dir, identityName), 0o644) }, "bad identity_bad", "fine state"},
		{"identity damaged", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, identityName), []byte("ANODE-256-40:x"), 0o600)
		}, "bad identity_bad", "fine state"},
		{"identity empty", func(dir string) error { return os.Truncate(filepath.Join(dir, identityName), 0) }, "bad identity_bad", "fine state"},
		{"state empty", func(dir string) error { return os.Truncate(filepath.Join(dir, stateName), 0) }, "fine identity", "bad state_damaged"},
		{"state is garbage", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, stateName), []byte(strings.Repeat("garbage ", 5000)), 0o600)
		}, "fine identity", "bad state_damaged"},
		{"state is a directory", func(dir string) error {
			path := filepath.Join(dir, stateName)
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o700))
		}, "fine identity", "bad state_unreadable"},
	} {
		dir, _ := stateDir(t)
		if err := c.change(dir); err != nil {
			t.Fatal(err)
		}
		before := ""
		if _, err := os.Stat(dir); err == nil && c.name != "state is a directory" {
			before = listing(t, dir)
		}
		p := &patient{machine: machineFacts{}, state: dir, statusErr: control.ErrNoDaemon}
		wantFindings(t, c.name, checkIdentity(t.Context(), p), c.identity)
		wantFindings(t, c.name, checkState(t.Context(), p), c.state)
		if before != "" && listing(t, dir) != before {
			t.Errorf("%s: doctor has changed the state", c.name)
		}
		if _, err := os.Stat(dir); c.name == "no directory" && err == nil {
			t.Error("doctor has made the state directory")
		}
	}
}

// TestCheckStateInUse: a state that is open is fine if a daemon runs, and bad otherwise.
func TestCheckStateInUse(t *testing.T) {
	dir, self := stateDir(t)
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := &patient{machine: machineFacts{}, state: dir, status: &overlay.Status{Address: self}}
	wantFindings(t, "a daemon", checkState(t.Context(), p), "fine state_in_use")
	wantFindings(t, "its identity", checkIdentity(t.Context(), p), "fine identity")
	p = &patient{machine: machineFacts{}, state: dir, statusErr: control.ErrNoDaemon}
	wantFindings(t, "no daemon", checkState(t.Context(), p), "bad state_locked")
	p.status, p.statusErr = &overlay.Status{Address: northAddress}, nil
	wantFindings(t, "another identity", checkIdentity(t.Context(), p), "warn identity_other")
}

// TestJudgeState: a file of which a part can be read.
func TestJudgeState(t *testing.T) {
	dir, _ := stateDir(t)
	m, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := judgeState("x", m, nil)
	wantFindings(t, "well", got, "fine state")
	if !strings.Contains(got[0].Says, "1 peers") {
		t.Error(got[0].Says)
	}
	wantFindings(t, "damaged", judgeState("x", m, store.ErrDamaged), "bad state_damaged")
	p := &patient{state: daemon.NoState}
	wantFindings(t, "none", append(checkState(t.Context(), p), checkIdentity(t.Context(), p)...), "fine state_not_kept", "fine identity_not_kept")
}

func TestCheckSecret(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	check := func(name, text string, mode os.FileMode, want string) {
		t.Helper()
		os.Remove(path)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), mode); err != nil {
				t.Fatal(err)
			}
		}
		p := &patient{config: config.Config{Secret: config.Secret{Path: path}}}
		wantFindings(t, name, checkSecret(t.Context(), p), want)
	}
	hex := strings.Repeat("0a", config.SecretSize)
	check("well", hex, 0o600, "fine secret")
	check("not there", "", 0, "bad secret_bad")
	check("for all to read", hex, 0o644, "bad secret_bad")
	check("short", hex[2:], 0o600, "bad secret_bad")
	wantFindings(t, "none", checkSecret(t.Context(), &patient{}))
}

func TestCheckConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "anode.toml")
	load := func(text string) *patient {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &patient{configFile: file}
		p.config, p.configErr = loadWithin(config.Source{File: file}, time.Minute)
		return p
	}
	wantFindings(t, "valid", checkConfig(t.Context(), load("")), "fine config")
	wantFindings(t, "not there", checkConfig(t.Context(), &patient{configFile: file + "x"}), "fine config_default")
	got := checkConfig(t.Context(), load("[listen]\nprot = 1\n"))
	wantFindings(t, "unknown key", got, "bad config_invalid")
	if !strings.Contains(got[0].Says, "listen.prot") {
		t.Errorf("%+v", got)
	}
	p := &patient{configErr: errors.New("a.toml:1: x is wrong\na.toml:2: y is wrong; try: z\n")}
	wantFindings(t, "two problems", checkConfig(t.Context(), p), "bad config_invalid", "bad config_invalid")
}

func TestPortOf(t *testing.T) {
	for text, want := range map[string]uint16{"udp:[::]:8737": 8737, "udp:0.0.0.0:1": 1, "udp:[::]": 0, "": 0, "udp:[::]:99999": 0} {
		if got := portOf(slices.DeleteFunc([]string{text}, func(s string) bool { return s == "" })); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
