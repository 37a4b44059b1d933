//go:build unix

package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/anode/private"
)

// backlog is how many connections may wait to be accepted.
const backlog = 128

// listenAt makes the socket. Nobody can connect before listen(2), and until then it gets its
// group and mode.
func listenAt(path string) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), path)
	defer f.Close() // FileListener makes a copy
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	err = admitGroup(path)
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	var l net.Listener
	if err == nil {
		l, err = net.FileListener(f)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(true)
	return l, nil
}

// admitGroup sets the socket's group and mode. Without the group, only the owner may use it.
func admitGroup(path string) error {
	mode := fs.FileMode(0o600)
	if gid, ok := GroupID(); ok {
		switch err := os.Lchown(path, -1, gid); {
		case err == nil:
			mode = 0o660
		case !errors.Is(err, fs.ErrPermission): // we are neither root nor in the group
			return err
		}
	}
	return os.Chmod(path, mode)
}

// nobodyListens reports whether a connection failed because the socket is dead. A daemon
// with many clients can fail otherwise.
func nobodyListens(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}

// How long lock waits for another daemon that starts, and how often it tries.
const (
	lockWait = 2 * time.Second
	lockLook = 5 * time.Millisecond
)

// lock keeps out other daemons that open the socket at the same time. It locks a file that
// other users can neither open nor lock, and waits only a limited time.
func lock(path string) (unlock func(), err error) {
	path += ".lock"
	look := time.NewTicker(lockLook)
	defer look.Stop()
	for end := time.Now().Add(lockWait); ; <-look.C {
		f, err := tryLock(path)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() {
				os.Remove(path) // one that stays is no harm
				f.Close()
			}, nil
		}
		if time.Now().After(end) {
			return nil, ErrInUse
		}
	}
}

// tryLock returns the locked file, or nil if another one has it or has just removed it.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		if info, e := os.Lstat(path); e == nil && private.CheckOwner(path, info) != nil {
			return nil, private.CheckOwner(path, info)
		}
		return nil, err
	}
	err = private.Check(f)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err == nil && st.Nlink > 0 {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil
	}
	return nil, err
}
