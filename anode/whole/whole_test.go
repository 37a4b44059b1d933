package whole

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// ways are all that this system has, each alone, and as they follow each other.
func ways() map[string][]placer {
	unable := func(string, string) error { return errUnable }
	list := map[string][]placer{"all": places, "no way before the last": {unable, unable, claim}}
	for i, p := range places {
		list[fmt.Sprint("way ", i)] = []placer{p}
	}
	return list
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestWrite(t *testing.T) {
	for name, ways := range ways() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if err := write(path, []byte("one"), ways); err != nil {
				t.Fatal(err)
			}
			if err := write(path, []byte("two"), ways); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second time: %v", err)
			}
			b, err := os.ReadFile(path)
			if err != nil || string(b) != "one" {
				t.Errorf("it has %q, %v", b, err)
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if left := names(t, dir); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Of many that write one file, one succeeds, and its file is whole.
func TestWriteAtOnce(t *testing.T) {
	for name, ways := range ways() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			var wg sync.WaitGroup
			var errs [16]error
			for i := range errs {
				wg.Go(func() { errs[i] = write(path, bytes.Repeat([]byte{byte(i)}, 100), ways) })
			}
			wg.Wait()
			winner := -1
			for i, err := range errs {
				switch {
				case err == nil && winner < 0:
					winner = i
				case err == nil:
					t.Error("two of them made the file")
				case !errors.Is(err, fs.ErrExist):
					t.Error(err)
				}
			}
			if b, err := os.ReadFile(path); err != nil || winner < 0 || !bytes.Equal(b, bytes.Repeat([]byte{byte(winner)}, 100)) {
				t.Errorf("%d made it, and it has %x, %v", winner, b, err)
			}
		})
	}
}

func TestWriteNowhere(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := write(filepath.Join(dir, "file"), nil, nil); !errors.Is(err, errUnable) {
		t.Error(err)
	}
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	now := time.Now()
	for name, age := range map[string]time.Duration{
		".file-1": 2 * sweepAge, ".file-2": 0, "file": 2 * sweepAge, ".other-1": 2 * sweepAge, "file-1": 2 * sweepAge,
	} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, now.Add(-age), now.Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	Sweep(path, now)
	if got, want := fmt.Sprint(names(t, dir)), "[.file-2 .other-1 file file-1]"; got != want {
		t.Errorf("left: %s, want %s", got, want)
	}
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"one", "two"} {
		if err := Replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("it has %q, %v", b, err)
		}
	}
	if err := Replace(dir, nil); err == nil {
		t.Error("a directory was replaced")
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := Replace(filepath.Join(dir, "none", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
