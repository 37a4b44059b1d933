// Package whole makes files that are there as a whole or not at all, whatever ends the
// program or the power meanwhile. Only Replace replaces another file:
//
//	write DIR/.NAME-*  ->  sync it  ->  Place it as DIR/NAME  ->  sync DIR
//
// What a crash leaves of this is a file .NAME-*, which Sweep removes.
package whole

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Write makes a file with mode 0600. Its error wraps fs.ErrExist if there is one already.
func Write(path string, data []byte) error { return write(path, data, places) }

func write(path string, data []byte, ways []placer) error {
	return writeBy(path, data, func(from string) error { return place(from, path, ways) })
}

// Replace makes a file with mode 0600 in the place of one that may be there. Whatever ends
// the program meanwhile, one of the two is there as a whole.
func Replace(path string, data []byte) error {
	return writeBy(path, data, func(from string) error {
		if err := os.Rename(from, path); err != nil {
			return err
		}
		return SyncDir(filepath.Dir(path))
	})
}

// writeBy writes a file beside path, syncs it, and has it placed.
func writeBy(path string, data []byte, place func(from string) error) error {
	f, err := Temp(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // it has another name by then, unless something failed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return place(f.Name())
}

// Temp makes the file that is to become path. Its mode is 0600.
func Temp(path string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
}

// sweepAge is how old a file is that no running program still writes.
const sweepAge = time.Minute

// Sweep removes what earlier programs that crashed left of path. It spares young files,
// which another program may be writing.
func Sweep(path string, now time.Time) {
	for _, name := range Beside(filepath.Dir(path), "."+filepath.Base(path)+"-") {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > sweepAge {
			os.Remove(name)
		}
	}
}

// Beside lists the files of a directory whose names begin with a prefix, in the order of
// their names. A directory that cannot be read has none.
func Beside(dir, prefix string) (list []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			list = append(list, filepath.Join(dir, e.Name()))
		}
	}
	return list
}

// Place gives a file its final name in the same directory, and writes the directory to the
// disk. Its error wraps fs.ErrExist if that name is taken; then nothing has changed.
func Place(from, to string) error { return place(from, to, places) }

// placer renames a file without replacing another. Its error is errUnable where the system
// or the file system cannot do it in this way.
type placer func(from, to string) error

var errUnable = errors.New("the file system cannot do this")

func place(from, to string, ways []placer) error {
	for _, way := range ways {
		err := way(from, to)
		if err == nil {
			return SyncDir(filepath.Dir(to))
		}
		if !errors.Is(err, errUnable) {
			return err
		}
	}
	return &fs.PathError{Op: "make", Path: to, Err: errUnable}
}

// link needs hard links, which vfat, exFAT, Android and some network mounts do not have.
func link(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return os.Remove(from)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	return errUnable // the last way shows the error if it is another one
}

// claim works everywhere: it takes the name with an empty file, and then replaces that
// file, which is its own. A crash in between leaves an empty file.
func claim(from, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = f.Close(); err == nil {
		err = os.Rename(from, to)
	}
	if err != nil {
		os.Remove(to)
	}
	return err
}
