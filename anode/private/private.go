// Package private opens the files and directories that only this user may control: the
// identity, a network's secret, the state, and the directory of the control socket.
//
// Each is opened first and then checked through the descriptor, so nobody can exchange it
// between the check and the use:
//
//	file       regular, no symbolic link, owner: this user or root, no permission for others
//	directory  owner: this user or root, no write permission for others
//
// A file of root's that its group may read is accepted if this user is not root, who could
// not read it otherwise (systemd's credentials are such files). A directory like /tmp, in
// which only its owner may remove a file, is accepted where the caller allows that.
//
// Systems other than Unix have access lists instead of modes; there only the type is checked.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Error says what is wrong with a file or directory, and how to mend it. Its text has the
// form "PATH: PROBLEM; try: REMEDY".
type Error struct{ Path, Problem, Try string }

func (e *Error) Error() string { return e.Path + ": " + e.Problem + "; try: " + e.Try }

// Open opens a file for reading and checks it. The error of a file that anybody else may
// read, write or exchange is an *Error.
func Open(path string) (*os.File, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	if err := Check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadFile opens a file, checks it, and returns its content, which may have up to max bytes.
func ReadFile(path string, max int) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(max)+1))
	if err == nil && len(b) > max {
		return nil, &Error{path, fmt.Sprintf("it has more than %d bytes", max), "another file"}
	}
	return b, err
}

// Check checks a file that is open.
func Check(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &Error{f.Name(), "not a regular file", "another path"}
	}
	return checkFile(f.Name(), info, os.Geteuid())
}

// CheckOwner checks only who owns a file, socket or directory.
func CheckOwner(path string, info fs.FileInfo) error { return checkOwner(path, info, os.Geteuid()) }

// Owner returns the user ID of a file's owner, -1 where files have none.
func Owner(info fs.FileInfo) int { return owner(info) }

// Sticky says whether a directory may be one like /tmp: everybody may write to it, but only
// the owner of a file may remove it.
type Sticky bool

// The values of Sticky.
const (
	NotSticky Sticky = false
	MaySticky Sticky = true
)

// OpenDir opens a directory and checks it. Symbolic links on the way to it are followed.
func OpenDir(path string, sticky Sticky) (*os.File, error) {
	f, err := openDir(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = &Error{path, "not a directory", "another path"}
	}
	if err == nil {
		err = checkDir(path, info, os.Geteuid(), sticky)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// MakeDir makes a directory with the mode, and those above it, if it is not there, and
// checks it.
func MakeDir(path string, mode fs.FileMode, sticky Sticky) error {
	if err := os.MkdirAll(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := OpenDir(path, sticky)
	if err != nil {
		return err
	}
	return f.Close()
}
