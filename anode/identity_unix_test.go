//go:build unix

package anode

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestIdentityMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "identity")
	id, _, err := LoadOrCreateIdentity(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, info.Mode().Perm(), 0o600)

	for mode, ok := range map[os.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true,
		0o640: false, 0o604: false, 0o620: false, 0o602: false, 0o610: false, 0o644: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := LoadIdentity(path)
		switch {
		case ok && (err != nil || got.Export() != id.Export()):
			t.Errorf("mode %o: %v", mode, err)
		case !ok && !errors.Is(err, ErrIdentityMode):
			t.Errorf("mode %o: got %v", mode, err)
		}
	}
}
