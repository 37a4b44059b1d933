package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"anodenet/anode/private"
)

// nobody is the user ID of somebody else on this machine.
const nobody = 65534

// as runs f as another user.
func as(t *testing.T, uid int, f func() error) error {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("this test needs root")
		}
		t.Skip("needs root")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		// The thread alone changes its user: package syscall would change that of all.
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), 0); e != 0 {
			done <- e
			return
		}
		done <- f()
	}()
	return <-done
}

// openDir makes a directory that everybody can reach, with a mode of its own.
func openDir(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "anode") // not the test's, whose parent only root can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestListenLocked: another user locks all that can be opened; the start does not wait.
func TestListenLocked(t *testing.T) {
	dir := openDir(t, 0o755)
	path := filepath.Join(dir, "sock")
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil { // as a killed daemon left it
		t.Fatal(err)
	}
	err := as(t, nobody, func() error {
		fd, err := unix.Open(dir, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		if fd, err := unix.Open(path+".lock", unix.O_RDONLY, 0); err == nil {
			unix.Close(fd)
			return errors.New("the lock can be opened")
		}
		return unix.Flock(fd, unix.LOCK_EX)
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = as(t, nobody, func() error { _, err := net.Dial("unix", path); return err })
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("another user connects: %v", err)
	}
}

// TestListenSquatted: what belongs to another user is refused with words, and not touched.
func TestListenSquatted(t *testing.T) {
	refused := func(path string) {
		t.Helper()
		l, err := Listen(path)
		var unsafe *private.Error
		if !errors.As(err, &unsafe) || !strings.Contains(err.Error(), "another user") {
			t.Errorf("%s: %v", path, err)
		}
		if err == nil {
			l.Close()
		}
	}
	// The directory.
	dir := filepath.Join(openDir(t, 0o777|fs.ModeSticky), "run")
	if err := as(t, nobody, func() error { return os.Mkdir(dir, 0o777) }); err != nil {
		t.Fatal(err)
	}
	refused(filepath.Join(dir, "sock"))

	// The socket, alive and dead, and the lock.
	for _, squat := range []func(path string) error{
		func(path string) error {
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		},
		func(path string) error {
			l, err := net.Listen("unix", path)
			if err != nil {
				return err
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			return l.Close()
		},
		func(path string) error { return os.WriteFile(path+".lock", nil, 0o666) },
	} {
		path := filepath.Join(openDir(t, 0o777|fs.ModeSticky), "sock")
		if err := as(t, nobody, func() error { return squat(path) }); err != nil {
			t.Fatal(err)
		}
		refused(path)
	}

	// A directory that others can write to.
	if _, err := Listen(filepath.Join(openDir(t, 0o777), "sock")); err == nil {
		t.Error("a directory of everybody's was accepted")
	}
}

// TestListenBacklog: a daemon with so many clients that no more can connect is alive.
func TestListenBacklog(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); errors.Is(err, unix.EAGAIN) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if l, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, %v", l, err)
	}
}

// TestImpostor: a client does not talk to another user's program on the daemon's socket.
func TestImpostor(t *testing.T) {
	path := filepath.Join(openDir(t, 0o777|fs.ModeSticky), "sock")
	err := as(t, nobody, func() error {
		l, err := net.Listen("unix", path) // SO_PEERCRED names who listens
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(path)
	defer c.Close()
	if _, err := c.Status(t.Context()); err == nil || !strings.HasPrefix(err.Error(), path+": another user's program answers") {
		t.Errorf("got %v", err)
	}
}

// TestLimits: a user with too many connections is cut off, root and others are not.
func TestLimits(t *testing.T) {
	l := newLimited(nil)
	fill := func(uid, want int) {
		t.Helper()
		n := 0
		for range want + 10 {
			if l.admit(uid) {
				n++
			}
		}
		if n != want {
			t.Errorf("user %d has %d connections, want %d", uid, n, want)
		}
	}
	const users = maxConns / maxUserConns
	for uid := range users {
		fill(1000+uid, maxUserConns)
	}
	fill(2000, 0)
	if !l.admit(0) || !l.admit(os.Geteuid()) {
		t.Error("root or the daemon's own user is kept out")
	}
	l.leave(0)
	l.leave(os.Geteuid())
	l.leave(1000)
	fill(2000, 1)
	l.leave(2000)
	for uid := range users {
		for range maxUserConns {
			if uid > 0 || l.users[1000] > 0 {
				l.leave(1000 + uid)
			}
		}
	}
	if l.total != 0 || len(l.users) != 0 {
		t.Errorf("%d connections of %v are left", l.total, l.users)
	}
}

// TestLimitsOfOneUser opens connections as another user, who is let in by the mode.
func TestLimitsOfOneUser(t *testing.T) {
	path := filepath.Join(openDir(t, 0o755), "sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 2*maxUserConns)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	// open connects and reports whether the daemon keeps the connection.
	open := func(uid int) (kept bool) {
		t.Helper()
		var c net.Conn
		if err := as(t, uid, func() (err error) { c, err = net.Dial("unix", path); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			c.Read(make([]byte, 1))
		}()
		select {
		case s := <-accepted:
			t.Cleanup(func() { s.Close() })
			return true
		case <-closed:
			return false
		}
	}
	for i := range maxUserConns + 5 {
		if kept := open(nobody); kept != (i < maxUserConns) {
			t.Fatalf("connection %d: kept %v", i, kept)
		}
	}
	if !open(0) {
		t.Error("root is kept out")
	}
	l.Close()
	<-ended
}
