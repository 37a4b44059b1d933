//go:build unix

package private

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nobody is a user ID that is neither root's nor that of the tests.
const nobody = 65534

// problem returns what an *Error says, and "" for no error.
func problem(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is a %T, not an *Error", err, err)
	}
	if e.Try == "" || !strings.Contains(err.Error(), "; try: ") {
		t.Errorf("%v has no remedy", err)
	}
	return e.Problem
}

// rooted ends the test without root, who alone can give a file away.
func rooted(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for m := range fs.FileMode(0o1000) {
		if m&0o400 == 0 {
			continue // unreadable without root
		}
		if err := os.Chmod(path, m); err != nil {
			t.Fatal(err)
		}
		b, err := ReadFile(path, 4)
		if said := problem(t, err); (said == "") != (m&0o077 == 0) {
			t.Errorf("mode %04o: %q, %v", m, b, err)
		}
		if err == nil && string(b) != "text" {
			t.Errorf("mode %04o: read %q", m, b)
		}
	}
}

func TestFileSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, 3); !strings.Contains(problem(t, err), "more than 3 bytes") {
		t.Errorf("a file of 4 bytes where 3 may be: %v", err)
	}
}

func TestFileMissing(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestFileType has all that is no regular file. A pipe must not stop Open.
func TestFileType(t *testing.T) {
	dir := t.TempDir()
	target, link, pipe := filepath.Join(dir, "f"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(target, nil, 0o600), os.Symlink(target, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, dir, os.DevNull} {
		if f, err := Open(path); problem(t, err) == "" {
			f.Close()
			t.Errorf("%s was opened", path)
		}
	}
}

func TestFileOwner(t *testing.T) {
	rooted(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chown(path, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !strings.Contains(problem(t, err), "belongs to another user") {
		t.Errorf("a file of another user: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "d")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(dir, 0o700, MaySticky); !strings.Contains(problem(t, err), "belongs to another user") {
		t.Errorf("a directory of another user: %v", err)
	}
}

// TestGroupOfRoot has a file that root lets a group read: its members may use it, while
// for root itself the mode is too wide.
func TestGroupOfRoot(t *testing.T) {
	rooted(t)
	path := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o440)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkFile(path, info, nobody); err != nil {
		t.Errorf("for a member: %v", err)
	}
	if problem(t, checkFile(path, info, 0)) == "" {
		t.Error("root accepts it")
	}
	for _, m := range []fs.FileMode{0o460, 0o450, 0o444, 0o442, 0o441} {
		if err := os.Chmod(path, m); err != nil {
			t.Fatal(err)
		}
		if info, err = os.Stat(path); err != nil {
			t.Fatal(err)
		}
		if problem(t, checkFile(path, info, nobody)) == "" {
			t.Errorf("a member accepts mode %04o", m)
		}
	}
}

func TestDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := MakeDir(dir, 0o700, NotSticky); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with %v, %v", info.Mode(), err)
	}
	for m := range fs.FileMode(0o1000) {
		if m&0o700 != 0o700 {
			continue
		}
		for _, sticky := range []fs.FileMode{0, fs.ModeSticky} {
			if err := os.Chmod(dir, m|sticky); err != nil {
				t.Fatal(err)
			}
			others := m&0o022 != 0
			if said := problem(t, MakeDir(dir, 0o700, NotSticky)); (said == "") != !others {
				t.Errorf("%v: %q", m|sticky, said)
			}
			if said := problem(t, MakeDir(dir, 0o700, MaySticky)); (said == "") != (!others || sticky != 0) {
				t.Errorf("%v, sticky is allowed: %q", m|sticky, said)
			}
		}
	}
	if err := MakeDir(os.DevNull, 0o700, NotSticky); err == nil {
		t.Error("a device is taken for a directory")
	}
}
