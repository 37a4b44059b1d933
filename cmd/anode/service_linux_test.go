package main

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"anodenet/anode"
	"anodenet/cmd/internal/daemon"
)

// TestServiceAdvice: what people are told to do fits the machine.
func TestServiceAdvice(t *testing.T) {
	packaged, bare := service{unit: true, group: true}, service{}
	for _, c := range []struct{ got, want string }{
		{packaged.start(), "sudo systemctl start anode"},
		{bare.start(), "sudo anode up"},
		{packaged.restart(), "restart the daemon: sudo systemctl restart anode"},
		{bare.restart(), "restart the daemon: anode down; then anode up"},
		{packaged.admit(), "the same with sudo; or once: sudo usermod -aG anode USER; log in again"},
		{bare.admit(), "the same with sudo; or once: groupadd -f anode; usermod -aG anode USER; log in again; restart the daemon"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestKeeper: root acts as the keeper of a state directory only where that is the user of the unit,
// and then reads and makes the files as that user.
func TestKeeper(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	other, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(other.Uid)
	gid, _ := strconv.Atoi(other.Gid)
	top, err := os.MkdirTemp("/tmp", "anode-keeper") // others may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	dir, link := filepath.Join(top, "state"), filepath.Join(top, "link")
	if err := errors.Join(os.Chmod(top, 0o711), os.Mkdir(dir, 0o700), os.Chown(dir, uid, gid), os.Symlink(dir, link)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, name string
		want      bool
	}{{dir, "nobody", true}, {dir, serviceUser, false}, {link, "nobody", false}, {top, "nobody", false}, {top, "root", false}, {filepath.Join(top, "none"), "nobody", false}} {
		if u, g, ok := keeper(c.dir, c.name); ok != c.want || ok && (u != uid || g != gid) {
			t.Errorf("%s, %s: %d %d %v", c.dir, c.name, u, g, ok)
		}
	}
	if _, _, err := daemon.Identity(dir, 0); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
		t.Fatalf("as root: %v", err)
	}
	var made, read *anode.Identity
	if failed := asUserOf(dir, "nobody", func() { made, _, err = daemon.Identity(dir, 0) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if failed := asUserOf(dir, "nobody", func() { read, err = daemon.LoadIdentity(dir) }); failed != nil || err != nil {
		t.Fatal(failed, err)
	}
	if made.Address() != read.Address() {
		t.Error("another identity")
	}
	if u, _, ok := keeper(dir, "nobody"); !ok || u != uid {
		t.Error("the directory has another owner now")
	}
	info, err := os.Stat(filepath.Join(dir, identityName))
	if err != nil {
		t.Fatal(err)
	}
	if u, _ := ownerOf(info); u != uid {
		t.Errorf("the identity belongs to %d", u)
	}
}
