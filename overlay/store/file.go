package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"anodenet/anode/private"
	"anodenet/anode/whole"
)

// lockWait is how long Open waits for another process to close the file.
const lockWait = 200 * time.Millisecond

// lockPause is how long it waits between two attempts.
const lockPause = 20 * time.Millisecond

var (
	// errExchanged says that the file was replaced while it was being opened.
	errExchanged = errors.New("another process has replaced the file")
	// errLocked is what tryLock returns if another process holds the lock.
	errLocked = errors.New("another process has locked the file")
)

// openLocked opens the file for writing, with an exclusive lock.
func openLocked(path string) (*os.File, error) { return openWith(path, os.O_RDWR, true) }

// openShared opens the file for reading, with a lock that other readers may have as well.
func openShared(path string) (*os.File, error) { return openWith(path, os.O_RDONLY, false) }

func openWith(path string, flag int, exclusive bool) (*os.File, error) {
	f, err := os.OpenFile(path, flag|openFlags, 0)
	if err != nil {
		return nil, wordsFor(path, err)
	}
	if err = private.Check(f); err == nil {
		err = lock(f, exclusive)
	}
	if err == nil {
		err = same(f, path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// wordsFor adds a remedy to what the system says.
func wordsFor(path string, err error) error {
	switch {
	case isLink(err):
		return &private.Error{Path: path, Problem: "it is a symbolic link", Try: "the directory of the file itself"}
	case isReadOnly(err):
		return fmt.Errorf("%s: the directory is read-only: %w", path, err)
	}
	return err
}

func lock(f *os.File, exclusive bool) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err := tryLock(f, exclusive)
		if !errors.Is(err, errLocked) {
			return err
		}
		if time.Now().After(deadline) {
			return ErrStateBusy
		}
	}
}

// release closes a file that bbolt may have failed to close. What bbolt mapped stays in
// memory and would keep the lock.
func release(f *os.File) {
	unlock(f) // fails if bbolt closed it
	f.Close()
}

// same checks that a file that is locked now is still the one at the path.
func same(f *os.File, path string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err == nil && os.SameFile(opened, there) {
		return nil
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return errExchanged
	}
	return err
}

// makeEmpty makes a database without peers. It is no error if another process does so
// first.
func makeEmpty(path string) error {
	temp, err := build(path, makeBuckets)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := whole.Place(temp, path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// build makes a database beside the path, and returns its name. It is on the disk, but its
// name is not yet.
func build(path string, fill func(*bolt.Tx) error) (temp string, err error) {
	f, err := whole.Temp(path)
	if err != nil {
		return "", wordsFor(path, err)
	}
	err = guard(func() error {
		db, err := openBolt(f.Name(), f)
		if err != nil {
			return err
		}
		return errors.Join(db.Update(fill), db.Close())
	})
	f.Close() // in case bbolt did not
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("%s: it cannot be written: %w", filepath.Join(filepath.Dir(path), fileName), err)
	}
	return f.Name(), nil
}
