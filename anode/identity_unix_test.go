//go:build unix

package anode

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"anodenet/anode/private"
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
		var refused *private.Error
		got, err := LoadIdentity(path)
		switch {
		case ok && (err != nil || got.Export() != id.Export()):
			t.Errorf("mode %o: %v", mode, err)
		case !ok && !errors.As(err, &refused):
			t.Errorf("mode %o: got %v", mode, err)
		}
	}
}

// What is no file in an identity's place is an error: nothing waits for it, and nothing
// replaces it.
func TestIdentityNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe, link, sub := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "sub")
	err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(filepath.Join(dir, "elsewhere"), link), os.Mkdir(sub, 0o700))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, sub} {
		var refused *private.Error
		if _, created, err := LoadOrCreateIdentity(path, 0); !errors.As(err, &refused) || created {
			t.Errorf("%s: %v, %v", path, created, err)
		}
	}
}
