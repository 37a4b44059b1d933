package tun

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// eachOffload runs a test with two hosts joined by a pump, with offloads, without, and
// with one of each, and with interfaces that are like those of Ethernet; then it looks for packets that
// were lost or damaged.
func eachOffload(t *testing.T, f func(t *testing.T, a, b *host), except ...counter) {
	for _, c := range []struct {
		name string
		a, b Config
	}{
		{"on", Config{Offload: OffloadOn}, Config{Offload: OffloadOn}},
		{"off", Config{Offload: OffloadOff}, Config{Offload: OffloadOff}},
		{"mixed", Config{Offload: OffloadOn}, Config{Offload: OffloadOff}},
		{"ethernet", Config{Offload: OffloadOn, Ethernet: true}, Config{Offload: OffloadOn, Ethernet: true}},
		{"ethernet off", Config{Offload: OffloadOff, Ethernet: true}, Config{Offload: OffloadOff}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.a.Queues, c.b.Queues = 1, 1
			a, b := newHostOf(t, 1, c.a), newHostOf(t, 2, c.b)
			pump(t, a, b, bothTrust)
			f(t, a, b)
			clean(t, []*host{a, b}, except...)
		})
	}
}

// listen opens a listener or a socket in the host's namespace.
func listen[T any](h *host, open func() (T, error)) T {
	h.t.Helper()
	var v T
	var err error
	h.do(func() { v, err = open() })
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

func (h *host) udp() *net.UDPConn {
	h.t.Helper()
	return h.udpAt(h.ula.Addr(), 0)
}

func (h *host) udpAt(at netip.Addr, port uint16) *net.UDPConn {
	h.t.Helper()
	c := listen(h, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
	})
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// TestEthernet looks at what programs see of an interface that is like one of Ethernet.
func TestEthernet(t *testing.T) {
	h := newHostOf(t, 1, Config{Offload: OffloadOn, Queues: 1, Ethernet: true})
	out := h.run("ip", "-o", "link", "show", "an0")
	for _, want := range []string{"BROADCAST", "MULTICAST", "NOARP", "link/ether"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing: %s", want, out)
		}
	}
	if strings.Contains(out, "POINTOPOINT") {
		t.Errorf("point-to-point: %s", out)
	}
}

// TestTransfer moves 64 MiB by the kernels' TCP, each way, and compares hashes.
func TestTransfer(t *testing.T) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		var wg sync.WaitGroup
		wg.Go(func() { transfer(t, a, b, 64<<20, nil) })
		wg.Go(func() { transfer(t, b, a, 16<<20, nil) })
		wg.Wait()
	})
}

// TestTransferExtension does the same with a destination option in each packet, which
// super-packets may have.
func TestTransferExtension(t *testing.T) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		transfer(t, a, b, 8<<20, func(fd int) error {
			return unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, "\x00\x00\x01\x04\x00\x00\x00\x00")
		})
	})
}

// TestQueues moves several flows at once over several queues.
func TestQueues(t *testing.T) {
	a, b := newHost(t, 1, OffloadOn, 3), newHost(t, 2, OffloadOn, 3)
	pump(t, a, b, bothTrust)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() { transfer(t, a, b, 2<<20, nil) })
	}
	wg.Wait()
	clean(t, []*host{a, b})
}

// transfer sends size random bytes from a to b over one connection.
func transfer(t testing.TB, a, b *host, size int64, option func(fd int) error) {
	t.Helper()
	transferTo(t, a, b, b.ula.Addr(), size, option)
}

// transferTo is transfer to one of b's addresses.
func transferTo(t testing.TB, a, b *host, at netip.Addr, size int64, option func(fd int) error) {
	t.Helper()
	l := listen(b, func() (net.Listener, error) { return net.Listen("tcp", netip.AddrPortFrom(at, 0).String()) })
	defer l.Close()
	got := make(chan [32]byte, 1)
	go func() {
		var sum [32]byte
		defer func() { got <- sum }()
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		h := sha256.New()
		if n, err := io.Copy(h, c); err != nil || n != size {
			t.Errorf("received %d of %d bytes: %v", n, size, err)
		}
		h.Sum(sum[:0])
	}()
	d := net.Dialer{Timeout: 20 * time.Second}
	if option != nil {
		d.Control = func(_, _ string, c syscall.RawConn) (err error) {
			if e := c.Control(func(fd uintptr) { err = option(int(fd)) }); e != nil {
				return e
			}
			return err
		}
	}
	var c net.Conn
	var err error
	a.do(func() { c, err = d.Dial("tcp", l.Addr().String()) })
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(rand.NewChaCha8([32]byte{1}), size)); err != nil {
		t.Error(err)
	}
	c.(*net.TCPConn).CloseWrite()
	if sum := <-got; sum != [32]byte(h.Sum(nil)) {
		t.Error("the hashes differ")
	}
}

// TestDatagrams sends UDP of every size up to the MTU, and fragmented beyond, with and
// without a class, hop limit and extension header.
func TestDatagrams(t *testing.T) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		g := newTraffic(1, alice, bob)
		from, to := a.udp(), ipv6.NewPacketConn(b.udp())
		if err := to.SetControlMessage(ipv6.FlagTrafficClass|ipv6.FlagHopLimit, true); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		for _, c := range []struct {
			class, hops int
			options     string
		}{{0, 64, ""}, {0xb9, 64, ""}, {2, 37, ""}, {0, 64, "\x00\x00\x01\x04\x00\x00\x00\x00"}} {
			p := ipv6.NewPacketConn(from)
			raw, _ := from.SyscallConn()
			raw.Control(func(fd uintptr) {
				if err := unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, c.options); err != nil {
					t.Error(err)
				}
			})
			if err := errors.Join(p.SetTrafficClass(c.class), p.SetHopLimit(c.hops)); err != nil {
				t.Fatal(err)
			}
			step := 1
			if c.class != 0 || c.options != "" {
				step = 29
			}
			sizes := []int{1385, 1392, 1393, 4000, 20000, 65000}
			for n := 0; n < 1392; n += step {
				sizes = append(sizes, n)
			}
			for _, n := range sizes {
				data := g.bytes(n)
				if _, err := from.WriteTo(data, to.LocalAddr()); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				got, cm, _, err := to.ReadFrom(buf)
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if !bytes.Equal(buf[:got], data) {
					t.Fatalf("%d bytes came as %d others", n, got)
				}
				if cm.TrafficClass != c.class || cm.HopLimit != c.hops {
					t.Fatalf("%d bytes: class %#x and hop limit %d came as %#x and %d", n, c.class, c.hops, cm.TrafficClass, cm.HopLimit)
				}
			}
		}
	})
}

// TestDatagramTrain sends UDP super-packets, which arrive as the datagrams they stand for.
func TestDatagramTrain(t *testing.T) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		g := newTraffic(1, alice, bob)
		from, to := a.udp(), b.udp()
		raw, _ := from.SyscallConn()
		raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1100); err != nil {
				t.Error(err)
			}
		})
		data := g.bytes(40*1100 + 5)
		if _, err := from.WriteTo(data, to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		for len(data) > 0 {
			n, err := to.Read(buf)
			if err != nil {
				t.Fatalf("%d bytes before the end: %v", len(data), err)
			}
			want := data[:min(1100, len(data))]
			if !bytes.Equal(buf[:n], want) {
				t.Fatalf("%d bytes before the end came as %d others", len(data), n)
			}
			data = data[len(want):]
		}
	})
}

// TestEchoes sends echo requests of every size, and what ping does.
func TestEchoes(t *testing.T) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		g := newTraffic(1, alice, bob)
		c := listen(a, func() (*net.IPConn, error) { return net.ListenIP("ip6:ipv6-icmp", &net.IPAddr{IP: a.ula[:]}) })
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 1<<16)
		for n := range 1393 {
			m := append(echoBytes(icmpEcho, 77), g.bytes(n)...)
			be.PutUint16(m[6:], uint16(n))
			if _, err := c.WriteTo(m, &net.IPAddr{IP: b.ula[:]}); err != nil {
				t.Fatal(err)
			}
			got := 0
			for got == 0 || buf[0] != icmpReply {
				var err error
				if got, err = c.Read(buf); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
			}
			if !bytes.Equal(buf[4:got], m[4:]) {
				t.Fatalf("%d bytes came back otherwise", n)
			}
		}
		if n := a.dev.Counters()[counterNames[inMessages]]; n < 1393 {
			t.Errorf("%d messages came in", n)
		}
		dst := b.ula.String()
		// One each: after the first reply, ping waits for the next but two round trips.
		for _, args := range [][]string{{"-s", "0"}, {"-s", "1393"}, {"-s", "20000"}, {"-Q", "0xb8"}, {"-t", "3"}} {
			out := a.run("ping", append([]string{"-6", "-n", "-c", "1", "-W", "9", dst}, args...)...)
			if !strings.Contains(out, " 0% packet loss") {
				t.Errorf("ping %v:\n%s", args, out)
			}
		}
	})
}

// TestErrorsShown shows the system's programs the errors that we make.
func TestErrorsShown(t *testing.T) {
	a, b := newHost(t, 1, OffloadOn, 1), newHost(t, 2, OffloadOn, 1)
	var answer func(to anode.ULA, m []byte)
	var mu sync.Mutex
	a.hop = func(to anode.ULA, m []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		answer(to, m)
		return false
	}
	set := func(f func(to anode.ULA, m []byte)) {
		mu.Lock()
		defer mu.Unlock()
		answer = f
	}
	pump(t, a, b, bothTrust)
	missing := anode.ULA{0: 0xfd, 1: 0x12, 2: 0x34, 15: 99}

	for _, c := range []struct {
		answer func(to anode.ULA, m []byte)
		ping   string
		err    error
	}{
		// Sockets of UDP are told only what the kernel calls fatal, which "no route" is not.
		{a.dev.NoRoute, "From " + missing.String() + " icmp_seq=1 Destination unreachable: No route", syscall.ENETUNREACH},
		{a.dev.Prohibited, "From " + missing.String() + " icmp_seq=1 Destination unreachable: Administratively prohibited", syscall.EACCES},
	} {
		set(c.answer)
		out, _ := a.try("ping", "-6", "-n", "-c", "1", "-W", "5", missing.String())
		if !strings.Contains(out, c.ping) {
			t.Errorf("ping said\n%s", out)
		}
		a.do(func() {
			_, err := net.DialTimeout("tcp6", "["+missing.String()+"]:80", 20*time.Second)
			if !errors.Is(err, c.err) {
				t.Errorf("TCP said %v, want %v", err, c.err)
			}
			if c.err != syscall.EACCES {
				return
			}
			u, err := net.Dial("udp6", "["+missing.String()+"]:53")
			if err != nil {
				t.Error(err)
				return
			}
			defer u.Close()
			u.SetDeadline(time.Now().Add(20 * time.Second))
			u.Write([]byte("hello"))
			if _, err := u.Read(make([]byte, 10)); !errors.Is(err, c.err) {
				t.Errorf("UDP said %v, want %v", err, c.err)
			}
		})
	}
	clean(t, []*host{a, b})
}

// TestTooBig has a path that takes less than the MTU: TCP learns it and goes on.
func TestTooBig(t *testing.T) {
	const path = 1300
	a, b := newHost(t, 1, OffloadOn, 1), newHost(t, 2, OffloadOn, 1)
	a.hop = func(to anode.ULA, m []byte) bool {
		if m[0] != byte(wire.IP6P) || len(m)-headIP6+ip6Size <= path {
			return true
		}
		a.dev.TooBig(to, m, path)
		return false
	}
	pump(t, a, b, bothTrust)
	transfer(t, a, b, 4<<20, nil)
	if out := a.run("ip", "-6", "route", "get", b.ula.String()); !strings.Contains(out, "mtu 1300") {
		t.Errorf("the route's MTU was not learned: %s", out)
	}
	clean(t, []*host{a, b})
}

// TestStranger connects to a peer that was not added: its replies come in, its own
// connections and datagrams do not.
func TestStranger(t *testing.T) {
	a, b := newHost(t, 1, OffloadOn, 1), newHost(t, 2, OffloadOn, 1)
	pump(t, a, b, trust{a: false, b: true})
	transfer(t, a, b, 1<<20, nil)
	for range 2 {
		if out := a.run("ping", "-6", "-n", "-c", "1", "-W", "5", b.ula.String()); !strings.Contains(out, " 0% packet loss") {
			t.Error(out)
		}
	}
	a.run("ping", "-6", "-n", "-c", "1", "-W", "5", "-t", "9", b.ula.String()) // as IP6

	asked, unasked, theirs := a.udp(), a.udp(), b.udp()
	buf := make([]byte, 100)
	asked.WriteTo([]byte("question"), theirs.LocalAddr())
	if n, err := theirs.Read(buf); err != nil || string(buf[:n]) != "question" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	theirs.WriteTo([]byte("unasked"), unasked.LocalAddr())
	theirs.WriteTo([]byte("answer"), asked.LocalAddr())
	if n, err := asked.Read(buf); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	if n := a.dev.Counters()[counterNames[inUnasked]]; n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	// A port where nobody listens is told, for it was ours that asked.
	a.do(func() {
		c, err := net.Dial("udp6", b.addr(9))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write(nil)
		if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port said %v", err)
		}
	})
	l := listen(a, func() (net.Listener, error) { return net.Listen("tcp6", a.addr(0)) })
	defer l.Close()
	b.do(func() {
		_, err := net.DialTimeout("tcp6", l.Addr().String(), 200*time.Millisecond)
		if e := net.Error(nil); !errors.As(err, &e) || !e.Timeout() {
			t.Errorf("the stranger's connection: %v", err)
		}
	})
	if n := a.dev.Counters()[counterNames[inUnasked]]; n != 2 {
		t.Errorf("%d dropped, want 2", n)
	}
	clean(t, []*host{a, b}, inUnasked)
}

// TestDeviceEnds closes a device, and has another removed, while a Read waits.
func TestDeviceEnds(t *testing.T) {
	for _, c := range []struct {
		end  func(h *host)
		want error
	}{
		{func(h *host) { h.dev.Close() }, ErrClosed},
		{func(h *host) { h.run("ip", "link", "del", "an0") }, ErrGone},
	} {
		h := newHost(t, 1, OffloadAuto, 1)
		q := h.dev.Queues()[0]
		if _, ok, err := q.Read(false); ok || err != nil {
			t.Errorf("reading nothing: %v, %v", ok, err)
		}
		got := make(chan error)
		go func() {
			_, _, err := q.Read(true)
			got <- err
		}()
		c.end(h)
		if err := <-got; !errors.Is(err, c.want) {
			t.Errorf("Read: %v, want %v", err, c.want)
		}
		h.put(0, alice, true, []byte{byte(wire.IP6), 0x60, 0, 0, 0, 59, 64}, false)
		if err := q.Flush(); !errors.Is(err, c.want) {
			t.Errorf("Flush: %v, want %v", err, c.want)
		}
	}
}

// TestOpenErrors wants errors that say what to do.
func TestOpenErrors(t *testing.T) {
	h := newHost(t, 1, OffloadAuto, 1)
	h.do(func() {
		for _, c := range []struct {
			config Config
			want   string
		}{
			{Config{Name: "an0", MTU: 1440}, "with another name"},
			{Config{Name: "lo", MTU: 1440}, "lo"},
			{Config{Name: "a/b", MTU: 1440}, "refuses the name"},
			{Config{Name: "sixteen-letters-", MTU: 1440}, "1 to 15 characters"},
			{Config{Name: "an1", MTU: 1279}, "1280"},
		} {
			d, err := Open(c.config)
			if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v", c.config, err)
			}
			if err == nil {
				d.Close()
			}
		}
		d, err := Open(Config{MTU: 1440})
		if err != nil || !strings.HasPrefix(d.Name(), "tun") || d.MTU() != 1440 {
			t.Errorf("without a name: %v", err)
		}
		if err == nil {
			d.Close()
		}
	})
	h.do(func() { // as somebody who may not; the thread ends with this function
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&head, &data[0]); err != nil {
			t.Error(err)
			return
		}
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		if err := unix.Capset(&head, &data[0]); err != nil {
			t.Error(err)
			return
		}
		if _, err := Open(Config{Name: "an2", MTU: 1440}); !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
			t.Errorf("without the right to: %v", err)
		}
	})
	for err, want := range map[error]string{
		openError("an0", os.ErrNotExist):    "modprobe tun",
		openError("an0", unix.ENODEV):       "modprobe tun",
		openError("an0", unix.EACCES):       "try: sudo",
		openError("an0", unix.EMFILE):       "too many open files",
		attachError("an0", unix.EPERM):      "CAP_NET_ADMIN",
		attachError("an0", unix.EBUSY):      "with another name",
		attachError("an0", unix.EADDRINUSE): "an0",
	} {
		if !errors.Is(err, ErrOpen) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: no %q", err, want)
		}
	}
}

// BenchmarkPump moves 256 MiB of one TCP connection through two devices, without a
// network and a cipher between.
func BenchmarkPump(b *testing.B) {
	x, y := newHost(b, 1, OffloadOn, 1), newHost(b, 2, OffloadOn, 1)
	pump(b, x, y, bothTrust)
	l := listen(y, func() (net.Listener, error) { return net.Listen("tcp6", y.addr(0)) })
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		buf := make([]byte, 1<<18)
		for err == nil {
			_, err = c.Read(buf)
		}
	}()
	c := listen(x, func() (net.Conn, error) { return net.Dial("tcp6", l.Addr().String()) })
	defer c.Close()
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}
