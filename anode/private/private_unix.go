//go:build unix

package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// The permissions of others.
const (
	groupRead  fs.FileMode = 0o040
	othersAll  fs.FileMode = 0o077
	othersFill fs.FileMode = 0o022
)

// openFile opens a file. A pipe must not stop the caller, so nothing is waited for.
func openFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EMLINK) { // EMLINK: FreeBSD
		return nil, &Error{path, "it is a symbolic link", "the path of the file itself"}
	}
	return f, err
}

func openDir(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
}

// checkFile checks a file for the user me.
func checkFile(path string, info fs.FileInfo, me int) error {
	if err := checkOwner(path, info, me); err != nil {
		return err
	}
	bad := othersAll
	if me != 0 && owner(info) == 0 {
		bad &^= groupRead
	}
	if m := info.Mode().Perm(); m&bad != 0 {
		return &Error{path, fmt.Sprintf("others can read or write it (mode %04o)", m), "chmod 600 " + path}
	}
	return nil
}

func checkDir(path string, info fs.FileInfo, me int, sticky Sticky) error {
	if err := checkOwner(path, info, me); err != nil {
		return err
	}
	m := info.Mode()
	if m&othersFill == 0 || sticky == MaySticky && m&fs.ModeSticky != 0 {
		return nil
	}
	return &Error{path, fmt.Sprintf("others can write to this directory (mode %04o)", m.Perm()), "chmod go-w " + path}
}

// checkOwner refuses what belongs to another user, who can change its mode at any time.
func checkOwner(path string, info fs.FileInfo, me int) error {
	uid := owner(info)
	if uid == 0 || uid == me {
		return nil
	}
	try := fmt.Sprintf("another path; or chown %d %s", me, path)
	if me == 0 { // it may be that of a service with a user of its own
		try = fmt.Sprintf("the same command as that user: sudo -u '#%d' ...; or chown root %s", uid, path)
	}
	return &Error{path, fmt.Sprintf("it belongs to another user, %s", userName(uid)), try}
}

// owner returns the user ID of a file's owner.
func owner(info fs.FileInfo) int {
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

// userName returns a user's name and ID.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username + " (" + id + ")"
	}
	return "user ID " + id
}
