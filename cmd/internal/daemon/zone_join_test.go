package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/cmd/internal/config"
	"anodenet/overlay/book"
	"anodenet/overlay/store"
)

// A machine gets its address in a zone, keeps its key, its peers and the old identity, and
// can go back.
func TestJoinZone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := JoinZone(dir, 0)
	if err != nil || !first.Before.IsZero() || first.After.Zone() != 0 || first.Kept != "" {
		t.Fatalf("the first: %+v, %v", first, err)
	}
	addPeer(t, dir, first.After)
	away, err := JoinZone(dir, ownZone)
	if err != nil || away.Before != first.After || away.After.Zone() != ownZone || away.After.X() != first.After.X() {
		t.Fatalf("away: %+v, %v", away, err)
	}
	if kept, err := anode.LoadIdentity(away.Kept); err != nil || kept.Address() != first.After {
		t.Errorf("kept in %s: %v, %v", away.Kept, kept, err)
	}
	if id, err := LoadIdentity(dir); err != nil || id.Address() != away.After {
		t.Errorf("the identity is %v, %v", id, err)
	}
	if info, err := os.Stat(filepath.Join(dir, identityFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if again, err := JoinZone(dir, ownZone); err != nil || again.Before != again.After || again.Kept != "" {
		t.Errorf("again: %+v, %v", again, err)
	}
	back, err := JoinZone(dir, 0)
	if err != nil || back.After != first.After {
		t.Errorf("back: %+v, %v", back, err)
	}
	if _, err := JoinZone(dir, ownZone); err != nil {
		t.Errorf("a second time: %v", err)
	}
	m, err := store.Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := m.Load(); err != nil || len(c.Entries) != 1 {
		t.Errorf("it has the peers %v, %v", c.Entries, err)
	}
}

// addPeer adds somebody to a state directory's book.
func addPeer(t *testing.T, dir string, self anode.Address) {
	t.Helper()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, _, err := book.Open(self, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(newAddress(t), "north", nil, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// Nothing is lost: not beside a daemon, not another identity that was kept, and not one whose
// file is gone while its peers are there.
func TestJoinZoneRefuses(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host).start(t)
	before := m.identity(t)
	if _, err := JoinZone(m.options.State, ownZone); !errors.Is(err, store.ErrStateBusy) {
		t.Errorf("beside a daemon: %v", err)
	}
	if m.identity(t) != before {
		t.Error("the identity is another one")
	}

	dir := filepath.Join(t.TempDir(), "state")
	first, err := JoinZone(dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := anode.NewIdentity(1)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(dir, "identity.zone-00000001")
	if err := os.WriteFile(kept, []byte(other.Export()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := JoinZone(dir, 2); err == nil || !strings.Contains(err.Error(), kept+" holds another identity; try: ") {
		t.Errorf("over another identity: %v", err)
	}
	if id, err := LoadIdentity(dir); err != nil || id.Address() != first.After {
		t.Errorf("the identity is %v, %v", id, err)
	}

	addPeer(t, dir, first.After)
	if err := os.Remove(filepath.Join(dir, identityFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := JoinZone(dir, 2); !errors.Is(err, ErrIdentityLost) {
		t.Errorf("with peers and without an identity: %v", err)
	}
}

// A new machine that is to relay without a zone gets no identity, which would be of zone 0.
func TestZoneNewRelay(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, "relay.zone = true")
	err := Run(t.Context(), m.options)
	if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), "; try: --zone IP too, with the public IPv4 address of this machine") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(m.options.State, identityFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is an identity: %v", err)
	}
}

// Settings that the identity does not fit are refused with what to do and what it costs.
func TestZoneRefused(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	m.identity(t)
	for text, want := range map[string][]string{
		"zone = \"9.0.3.2\"": {"zone: the identity in " + m.options.State + " is in zone 0, the local network, not in zone 9.0.3.2; try: anode zone join 9.0.3.2 --state " + m.options.State,
			"ULA and short ID change", "everybody who added the old address"},
		"relay.zone = true": {"relay.zone: this machine is in zone 0", "; try: anode zone join IP"},
	} {
		m.configure(t, text)
		err := Run(t.Context(), m.options)
		if !errors.Is(err, config.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: no %q in %v", text, w, err)
			}
		}
	}
}

// A daemon takes up zone.* and relay.* at a hangup.
func TestZoneReload(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host)
	path := filepath.Join(t.TempDir(), "zone.txt")
	m.options.Socket = filepath.Join(filepath.Dir(m.options.State), "s")
	if _, err := JoinZone(m.options.State, ownZone); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(file(7)), 0o600); err != nil {
		t.Fatal(err)
	}
	m.options.fetchZone = noWeb
	m.configure(t, "zone.serve = false")
	m.start(t)
	m.log.wait("the zone file cannot be fetched")
	zones := func() []anode.Zone {
		s, err := m.client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Relaying.Zones
	}
	if list := zones(); len(list) != 0 {
		t.Errorf("it relays for %v", list)
	}
	m.hangUp(t, "relay.zone = true\nrelay.client_rate = \"8Mbit\"\nzone.serve = \"127.0.0.1:1\"\nzone.file = \""+path+"\"\n")
	m.log.wait("this machine has the zone file")
	m.log.wait(`key=relay.client_rate old="\"10Gbit\"" new="\"8Mbit\""`)
	m.log.wait(`msg="the configuration was reloaded"`)
	if list := zones(); len(list) != 1 || list[0] != ownZone {
		t.Errorf("it relays for %v", list)
	}
	s, err := m.client.Status(t.Context())
	if err != nil || s.Relaying.Limits.ClientBytes != 1_000_000 || len(s.Zones) != 1 || s.Zones[0].Revision != 7 {
		t.Errorf("%+v, %v", s, err)
	}
	files, err := m.client.ZoneFiles(t.Context())
	if err != nil || len(files.Files) != 1 || files.Files[0].Source != path || files.Files[0].Revision != 7 {
		t.Errorf("%+v, %v", files, err)
	}
	m.hangUp(t, "relay.zone = true\nzone.serve = false\nzone.id = \"1\"\n")
	m.log.wait(`msg="a setting needs a restart" key=zone running="\"00000000\"" configured="\"00000001\""`)
}

// noWeb is a web without a zone file.
func noWeb(_ context.Context, _ anode.Zone, known zone.Copy) (zone.Copy, error) {
	return known, errors.New("no such host")
}
