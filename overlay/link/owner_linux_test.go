package link

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is the user ID of somebody else on this machine.
const nobody = 65534

// as runs f as another user. Its error is the test's.
func (n *namespace) as(uid int, f func() error) (err error) {
	n.t.Helper()
	n.do(func() {
		// The thread alone changes its user: package syscall would change that of all.
		set := func(uid int) error {
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), 0); e != 0 {
				return e
			}
			return nil
		}
		if err = set(uid); err != nil {
			return
		}
		err = errors.Join(f(), set(0))
	})
	return err
}

// claim is one way to ask for a port.
type claim struct {
	to      string
	options []int
	six     bool // IPv6 alone
	device  bool // on the interface lan alone
}

// claims are all ways to ask for an address: with each of the options, and on one device.
func claims() (list []claim) {
	for _, to := range []string{
		"::", "0.0.0.0", "10.77.0.1", "127.0.0.1", "::1", "fd77::1", "fe80::1", "::ffff:10.77.0.1",
		"255.255.255.255", "10.77.0.255", "ff02::1", "224.0.0.1",
	} {
		for _, options := range [][]int{nil, {unix.SO_REUSEADDR}, {unix.SO_REUSEPORT}, {unix.SO_REUSEADDR, unix.SO_REUSEPORT}} {
			for _, device := range []bool{false, true} {
				if device && to == "::1" {
					continue // it is not on lan
				}
				list = append(list, claim{to, options, false, device})
				if strings.HasPrefix(to, ":") && to != "::ffff:10.77.0.1" {
					list = append(list, claim{to, options, true, device})
				}
			}
		}
	}
	return list
}

// bind asks for the port, and returns the socket.
func (c claim) bind(port uint16, lan int) (int, error) {
	a := netip.MustParseAddr(c.to)
	family := unix.AF_INET
	var local unix.Sockaddr
	if a.Is6() {
		family = unix.AF_INET6
		in6 := &unix.SockaddrInet6{Port: int(port), Addr: a.As16()}
		if a.IsLinkLocalUnicast() || a.IsMulticast() {
			in6.ZoneId = uint32(lan)
		}
		local = in6
	} else {
		local = &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	for _, o := range c.options {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1))
	}
	if c.six {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1))
	}
	if c.device {
		err = errors.Join(err, unix.BindToDevice(fd, "lan"))
	}
	if err == nil {
		err = unix.Bind(fd, local)
	}
	if err != nil {
		unix.Close(fd)
	}
	return fd, err
}

// TestOtherUser: another user can share the port in no way, neither with one socket nor with
// a group, on Port nor on another one, while one of our own nodes hears beacons.
func TestOtherUser(t *testing.T) {
	for _, x := range []struct {
		port uint16
		n    int
	}{{Port, 1}, {Port, 3}, {8739, 1}, {8739, 3}} {
		t.Run(fmt.Sprintf("%d sockets on %d", x.n, x.port), func(t *testing.T) {
			a, b := cable(t)
			a.ip("link set lo up")
			a.listenBeacons()
			var group []Conn
			var err error
			a.do(func() { group, err = new(System).ListenGroup(x.port, x.n) })
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range group {
				a.closing(c, nil)
			}
			a.listenBeacons()
			lan := a.index()
			for _, c := range claims() {
				var fd int
				err := a.as(nobody, func() (err error) { fd, err = c.bind(x.port, lan); return err })
				if err == nil {
					unix.Close(fd)
				}
				if !errors.Is(err, unix.EADDRINUSE) {
					t.Errorf("%+v: %v", c, err)
				}
			}
			in, w := newInbox(t, group[0]), b.listen(new(System), 0).NewWriter()
			for _, to := range []string{"10.77.0.1", "fe80::1", "fd77::1"} {
				write(t, w, Train{Buf: []byte(to), Size: len(to), Endpoint: on(netip.MustParseAddr(to), x.port, b.index())})
				in.want([]byte(to))
			}
		})
	}
}

// TestSquatter: another user who has the port, or an address of it, before us cannot be
// removed, and does not keep us from starting; the log says who it is.
func TestSquatter(t *testing.T) {
	a, _ := cable(t)
	a.ip("link set lo up")
	lan := a.index()
	self, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims() {
		var fd int
		err := a.as(nobody, func() (err error) { fd, err = c.bind(Port, lan); return err })
		if err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		var log strings.Builder
		conn := a.listen(&System{Log: slog.New(slog.NewTextHandler(&log, nil))}, Port)
		if port := conn.LocalPort(); port == Port || port == 0 {
			t.Errorf("%+v: the port is %d", c, port)
		}
		conn.Close()
		// Package user may not know the name of nobody.
		for _, want := range []string{strings.TrimSpace(string(self)), fmt.Sprintf("process %d", os.Getpid()), fmt.Sprint(nobody)} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%+v: %q does not name %s", c, log.String(), want)
			}
		}
		unix.Close(fd)
	}
	a.listen(new(System), Port)
}

// TestStartAtOnce: of two nodes of one user that start at the same time, never both have
// the port.
func TestStartAtOnce(t *testing.T) {
	n, other := newNamespace(t), newNamespace(t)
	n.ip("link set lo up")
	var err error
	other.do(func() { // the two threads share one namespace
		var fd int
		if fd, err = unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", n.tid), unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			err = errors.Join(unix.Setns(fd, unix.CLONE_NEWNET), unix.Close(fd))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var conns [2]Conn
		var errs [2]error
		var ready, all sync.WaitGroup
		ready.Add(2)
		for i, thread := range []*namespace{n, other} {
			all.Go(func() {
				thread.do(func() {
					ready.Done()
					ready.Wait()
					conns[i], errs[i] = (&System{Rung: RungGSO}).Listen(Port)
				})
			})
		}
		all.Wait()
		if errs[0] == nil && errs[1] == nil {
			t.Error("both have the port")
		}
		for i, err := range errs {
			if err == nil {
				conns[i].Close()
			} else if !errors.Is(err, errInUse) {
				t.Error(err)
			}
		}
	}
	n.listen(new(System), Port)
}

// TestHolders finds a socket of each family in the kernel's list.
func TestHolders(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up")
	for _, to := range []string{"0.0.0.0", "127.0.0.1", "::", "::1"} {
		var fd int
		err := n.as(nobody, func() (err error) { fd, err = claim{to: to}.bind(8740, 1); return err })
		if err != nil {
			t.Fatal(err)
		}
		var list []Holder
		n.do(func() { list, err = Holders(8740) })
		if err != nil || len(list) != 1 || list[0].Local.Addr().String() != to || list[0].UID != nobody || list[0].inode == 0 {
			t.Errorf("%s: %+v, %v", to, list, err)
		}
		unix.Close(fd)
	}
}

// FuzzParseHolder: what is read is written in the line.
func FuzzParseHolder(f *testing.F) {
	f.Add(" 2211: 00000000:2221 00000000:0000 07 00000000:00000000 00:00000000 00000000 65534        0 12345 2 0000000000000000 0")
	f.Add(" 2211: 00000000000000000000000001000000:2221 00000000000000000000000000000000:0000 07 0:0 0:0 0 0 0 7 2 0 0")
	f.Add("a b:c d e f g h i j k")
	f.Fuzz(func(t *testing.T, line string) {
		h, ok := parseHolder(line)
		if !ok {
			return
		}
		fields := strings.Fields(line)
		port := fmt.Sprintf("%X", h.Local.Port())
		if !h.Local.Addr().IsValid() || h.UID < 0 || !strings.HasSuffix(strings.ToUpper(fields[1]), port) {
			t.Errorf("%q was read as %+v", line, h)
		}
	})
}

// TestSelfTestDisturbed: packets of another local program are no reason to go down a rung.
func TestSelfTestDisturbed(t *testing.T) {
	n := newNamespace(t)
	n.ip("link set lo up")
	for _, rung := range []string{RungGSO, RungBatch, RungPlain} {
		var from, dst, other prober
		var errs [3]error
		n.do(func() {
			for i, c := range []*prober{&from, &dst, &other} {
				*c, errs[i] = new(System).testSocket(rung)
			}
		})
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			write(t, other.NewWriter(), Train{Buf: []byte("noise"), Size: 5, Endpoint: on(loopbackAddr, dst.LocalPort(), 0)})
		}
		if err := exchange(from, dst); err != nil {
			t.Errorf("%s: %v", rung, err)
		}
		for _, c := range []Conn{from, dst, other} {
			c.Close()
		}
	}
}
