package anode

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// rfc5903 is the initiator's key of RFC 5903, 8.1, which is no secret.
const rfc5903 = "ANODE-256-40:" + initiator + ":c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433"

func newIdentity(t testing.TB, zone Zone) *Identity {
	t.Helper()
	id, err := NewIdentity(zone)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestNewIdentity(t *testing.T) {
	a, b := newIdentity(t, 9), newIdentity(t, 9)
	equal(t, a.Address().Zone(), Zone(9))
	if a.Address() == b.Address() {
		t.Fatal("the same key twice")
	}
	ka, err := a.Address().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	kb, err := b.Address().PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ab, err1 := a.DH(kb)
	ba, err2 := b.DH(ka)
	if err1 != nil || err2 != nil || !bytes.Equal(ab, ba) || len(ab) != 32 {
		t.Errorf("%x, %v and %x, %v", ab, err1, ba, err2)
	}
}

// No way of printing an identity but Export shows the private key.
func TestIdentityHidesKey(t *testing.T) {
	id, err := ParseIdentity(rfc5903)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%s", "%q", "%x", "%#v"} {
		for _, v := range []any{id, *id, struct{ I *Identity }{id}} {
			s := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(s, "c88f01f510d9") || strings.Contains(s, "0xc8, 0x8f, 0x1") || strings.Contains(s, "200 143 1 245") {
				t.Errorf("%s of %T shows the key", verb, v)
			}
		}
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	other := newIdentity(t, 0x01020304)
	f := strings.Split(rfc5903, ":")
	for name, s := range map[string]string{
		"empty":               "",
		"another type":        "ANODE-256-41:" + f[1] + ":" + f[2],
		"no key":              f[0] + ":" + f[1],
		"four fields":         rfc5903 + ":",
		"a bad address":       f[0] + ":" + f[1][1:] + ":" + f[2],
		"a short key":         f[0] + ":" + f[1] + ":" + f[2][2:],
		"a key that is zero":  f[0] + ":" + f[1] + ":" + strings.Repeat("0", 64),
		"a key out of range":  f[0] + ":" + f[1] + ":" + strings.Repeat("f", 64),
		"a key that is none":  f[0] + ":" + f[1] + ":" + strings.Repeat("x", 64),
		"another's key":       f[0] + ":" + other.Address().String() + ":" + f[2],
		"two lines":           rfc5903 + "\n" + rfc5903,
		"a blank in the line": strings.Replace(rfc5903, ":", ": ", 1),
	} {
		if id, err := ParseIdentity(s); !errors.Is(err, ErrIdentity) || id != nil {
			t.Errorf("%s: got %v, %v", name, id, err)
		}
	}
}

func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	if _, err := LoadIdentity(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("without a file:", err)
	}
	made, created, err := LoadOrCreateIdentity(path, 5)
	if err != nil || !created {
		t.Fatal(created, err)
	}
	equal(t, made.Address().Zone(), Zone(5))

	again, created, err := LoadOrCreateIdentity(path, 6) // the zone is of no account now
	if err != nil || created {
		t.Fatal(created, err)
	}
	equal(t, again.Export(), made.Export())

	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, string(b), made.Export()+"\n")
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// A file that is no identity is never replaced: it may be somebody's only key.
func TestIdentityFileKept(t *testing.T) {
	for _, text := range []string{"half a ke", "", strings.Repeat("x", maxIdentityFile), rfc5903[:len(rfc5903)-1]} {
		path := filepath.Join(t.TempDir(), "identity")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, created, err := LoadOrCreateIdentity(path, 0); !errors.Is(err, ErrIdentity) || created {
			t.Fatal(created, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("now it has %q, %v", b, err)
		}
	}
}

// A file that is empty because another process is about to fill it is waited for.
func TestIdentityBeingMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := newIdentity(t, 0)
	made := make(chan error, 1)
	go func() {
		err := os.WriteFile(path+".new", []byte(want.Export()), 0o600)
		made <- errors.Join(err, os.Rename(path+".new", path))
	}()
	got, err := loadMade(path)
	if err := errors.Join(err, <-made); err != nil {
		t.Fatal(err)
	}
	equal(t, got.Export(), want.Export())
}

func TestIdentityFileNoPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	id, created, err := LoadOrCreateIdentity(filepath.Join(file, "identity"), 0)
	if err == nil || created || id != nil {
		t.Errorf("below a file: %v, %v, %v", id, created, err)
	}
}

// Many that start at once on one directory end up with one identity.
func TestIdentityConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	const n = 16
	var (
		wg      sync.WaitGroup
		ids     [n]*Identity
		created [n]bool
		errs    [n]error
	)
	for i := range n {
		wg.Go(func() { ids[i], created[i], errs[i] = LoadOrCreateIdentity(path, 0) })
	}
	wg.Wait()
	makers := 0
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		equal(t, ids[i].Export(), ids[0].Export())
		if created[i] {
			makers++
		}
	}
	equal(t, makers, 1)
}

func FuzzParseIdentity(f *testing.F) {
	f.Add(rfc5903)
	f.Add(strings.ToUpper(rfc5903))
	f.Add(" " + rfc5903 + "\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseIdentity(s)
		if err != nil {
			if !errors.Is(err, ErrIdentity) || id != nil {
				t.Fatal(id, err)
			}
			return
		}
		back, err := ParseIdentity(id.Export())
		if err != nil {
			t.Fatal(err)
		}
		equal(t, back.Export(), id.Export())
	})
}

// A key has an address in each zone, and the same one whenever it returns to a zone.
func TestInZone(t *testing.T) {
	id := newIdentity(t, 0)
	other := id.InZone(0xc0000201)
	if z := other.Address().Zone(); z != 0xc0000201 {
		t.Errorf("it is in zone %v", z)
	}
	if other.Address().X() != id.Address().X() || !other.PrivateKey().Equal(id.PrivateKey()) {
		t.Error("it has another key")
	}
	if back := other.InZone(0); back.Address() != id.Address() {
		t.Errorf("it returns as %v, and was %v", back.Address(), id.Address())
	}
	if again, err := ParseIdentity(other.Export()); err != nil || again.Address() != other.Address() {
		t.Errorf("it is read as %v, %v", again, err)
	}
}
