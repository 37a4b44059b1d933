package main_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the user ID of another local user, without privileges.
const nobody = 65534

// asNobody runs f on the host as another local user: a thread of its own, without the
// capabilities and groups of this one.
func (h *host) asNobody(f func() error) error {
	h.t.Helper()
	return h.as(nobody, f)
}

// as is asNobody for any user ID.
func (h *host) as(uid uintptr, f func() error) error {
	h.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		done <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", h.tid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			// Package syscall would change all threads.
			for _, call := range [][4]uintptr{
				{unix.SYS_SETGROUPS, 0, 0, 0}, {unix.SYS_SETRESGID, uid, uid, uid}, {unix.SYS_SETRESUID, uid, uid, uid},
			} {
				if _, _, e := unix.RawSyscall(call[0], call[1], call[2], call[3]); e != 0 {
					return e
				}
			}
			return f()
		}()
	}()
	return <-done
}

// denied checks that another local user cannot do something.
func (h *host) denied(what string, f func() error) {
	h.t.Helper()
	if err := h.asNobody(f); !errors.Is(err, fs.ErrPermission) {
		h.t.Errorf("another user can %s: %v", what, err)
	}
}

// claim asks for the port 8737 as another local user, in one of all ways. The socket is the
// test's.
func (h *host) claim(to string, options ...int) error {
	h.t.Helper()
	return h.asNobody(func() error {
		a := netip.MustParseAddr(to)
		family, local := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: 8737, Addr: a.As16(), ZoneId: 1})
		if a.Is4() {
			family, local = unix.AF_INET, &unix.SockaddrInet4{Port: 8737, Addr: a.As4()}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		h.t.Cleanup(func() { unix.Close(fd) })
		for _, o := range options {
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1); err != nil {
				return err
			}
		}
		return unix.Bind(fd, local)
	})
}

// TestNetLocalUser: another user of the machine tries to read, stop, delay and impersonate a
// daemon, with all that needs no privileges.
func TestNetLocalUser(t *testing.T) {
	a, b := pair(t)
	b.up()
	secret := filepath.Join(a.dir, "secret")
	a.run(a.bin, "config", "secret", secret)
	// Where the socket is, everybody can look, as in /run/anode.
	if err := os.Chmod(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}

	// Before the start: hold what the daemon may want.
	held := a.asNobody(func() error {
		dir, err := os.Open(a.dir)
		if err != nil {
			return err
		}
		t.Cleanup(func() { dir.Close() })
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		for _, network := range []string{"unix", "unixpacket"} {
			l, err := net.Listen(network, "@anode/udp/8737")
			if err != nil {
				continue // both have one space of names
			}
			t.Cleanup(func() { l.Close() })
		}
		return nil
	})
	if held != nil {
		t.Fatal(held)
	}
	a.up()
	a.meets(b)

	pid := a.node.cmd.Process.Pid
	// On most systems everybody may open the clone device; here, perhaps not.
	var clone int
	var err error
	a.do(func() { clone, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(clone)
	open := func(flags int, parts ...string) func() error {
		return func() error {
			f, err := os.OpenFile(filepath.Join(parts...), flags, 0o600)
			if err == nil {
				f.Close()
			}
			return err
		}
	}
	for _, c := range []struct {
		what string
		try  func() error
	}{
		{"connect to the socket", func() error { _, err := net.Dial("unix", a.socket()); return err }},
		{"read the secret", open(os.O_RDONLY, secret)},
		{"look into the state", open(os.O_RDONLY, a.state())},
		{"read the identity", open(os.O_RDONLY, a.state(), "identity")},
		{"lock the state", open(os.O_RDWR, a.state(), "state.db")},
		{"put files beside the socket", open(os.O_RDWR|os.O_CREATE, a.dir, "new")},
		{"take the lock of the socket", open(os.O_RDWR|os.O_CREATE, a.socket()+".lock")},
		{"remove the socket", func() error { return os.Remove(a.socket()) }},
		{"replace the socket", func() error { return os.Rename(a.socket(), a.socket()+"2") }},
		{"open the socket to all", func() error { return os.Chmod(a.socket(), 0o666) }},
		{"stop the daemon", func() error { return syscall.Kill(pid, syscall.SIGTERM) }},
		{"halt the daemon", func() error { return syscall.Kill(pid, syscall.SIGSTOP) }},
		{"reload the daemon", func() error { return syscall.Kill(pid, syscall.SIGHUP) }},
		{"read its memory", open(os.O_RDONLY, fmt.Sprintf("/proc/%d/mem", pid))},
		{"read its environment", open(os.O_RDONLY, fmt.Sprintf("/proc/%d/environ", pid))},
		{"follow its descriptors", open(os.O_RDONLY, fmt.Sprintf("/proc/%d/fd", pid))},
		{"trace it", func() error { return unix.PtraceSeize(pid) }},
		{"take its adapter", func() error {
			r, err := unix.NewIfreq("anode0")
			if err != nil {
				return err
			}
			r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE | unix.IFF_VNET_HDR)
			return unix.IoctlIfreq(clone, unix.TUNSETIFF, r)
		}},
		{"set its adapter down", func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			r, err := unix.NewIfreq("anode0")
			if err != nil {
				return err
			}
			return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
		}},
	} {
		a.denied(c.what, c.try)
	}
	addresses := []string{"::", "0.0.0.0", "::1", "127.0.0.1", "10.0.1.1", a.ula.String(), "255.255.255.255", "10.0.1.255", "ff02::1"}
	for _, to := range addresses {
		for _, options := range [][]int{nil, {unix.SO_REUSEADDR}, {unix.SO_REUSEPORT}, {unix.SO_REUSEADDR, unix.SO_REUSEPORT}} {
			if err := a.claim(to, options...); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("another user binds %s with %v: %v", to, options, err)
			}
		}
	}
	a.works(b)

	// A second node of the same user still works beside it, and hears the beacons.
	second := &host{t: t, name: "second", dir: t.TempDir(), bin: a.bin, tid: a.tid, work: a.work}
	second.identify()
	second.up("--tun", "anode1", "--port", "8738")
	for _, to := range addresses {
		if err := a.claim(to, unix.SO_REUSEADDR, unix.SO_REUSEPORT); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("beside two nodes, another user binds %s: %v", to, err)
		}
	}
	within(t, dialWait, "the second node to hear a beacon", func() bool { return len(second.status().Peers) > 0 })
	second.down(syscall.SIGTERM)

	// Another user who has the port before the start is named, and keeps nobody from it.
	a.ends(syscall.SIGTERM, 0)
	if err := a.claim("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	a.up()
	a.works(b)
	if out := a.node.output(); !strings.Contains(out, "UDP port 8737: used by") || !strings.Contains(out, fmt.Sprint(nobody)) {
		t.Errorf("the log does not name who has the port: %s", out)
	}
}

// TestNetLocalSquattedDirectory: the directory of the socket belongs to another user.
func TestNetLocalSquattedDirectory(t *testing.T) {
	a := newHost(t, "a")
	if err := os.Chmod(a.dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	run := filepath.Join(a.dir, "run")
	if err := a.asNobody(func() error { return os.Mkdir(run, 0o777) }); err != nil {
		t.Fatal(err)
	}
	out, code := a.try(a.bin, "daemon", "--state", a.state(), "--socket", filepath.Join(run, "sock"), "--tun", "none")
	if code != 1 || !strings.Contains(out, "anode: "+run+": it belongs to another user") || !strings.Contains(out, "\ntry: ") {
		t.Errorf("exit code %d, %s", code, out)
	}
}
