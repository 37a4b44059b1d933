package platform

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestAsUser: files are opened and made as the user, with no right of root's; afterwards all is as
// before.
func TestAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	const nobody, nogroup = 65534, 65534
	dir, err := os.MkdirTemp("/tmp", "anode-user") // others may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret, theirs, made := filepath.Join(dir, "secret"), filepath.Join(dir, "theirs"), filepath.Join(dir, "theirs", "made")
	if err := errors.Join(os.Chmod(dir, 0o711), os.WriteFile(secret, nil, 0o640), os.Mkdir(theirs, 0o700), os.Chown(theirs, nobody, nogroup)); err != nil {
		t.Fatal(err)
	}
	err = AsUser(nobody, nogroup, func() {
		if uid, gid := os.Geteuid(), os.Getegid(); uid != nobody || gid != nogroup {
			t.Errorf("user %d, group %d", uid, gid)
		}
		if _, err := os.ReadFile(secret); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("reading root's file: %v", err)
		}
		if err := os.WriteFile(made, nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(secret); err != nil || os.Geteuid() != 0 {
		t.Errorf("afterwards: user %d, %v", os.Geteuid(), err)
	}
	f, err := os.Open(made)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := AsUser(nobody, nogroup, func() { err = f.Chmod(0o400) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("the file is not the user's: %v", err)
	}
}
