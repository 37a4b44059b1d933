package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/tun"
)

// host is a network namespace with an adapter, whose TCP all goes to a gateway.
type host struct {
	t    testing.TB
	ns   netns.NsHandle
	dev  *tun.Device
	g    *Gateway
	peer *peer
}

func newHost(t testing.TB, offload tun.Offload) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	h := &host{t: t, peer: &peer{streams: make(chan *fakeStream, 1000)}}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var err error
		h.ns, err = netns.New()
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.ns.Close() })
	h.do(func() { h.open(offload) })
	if t.Failed() {
		t.FailNow()
	}
	in := h.dev.Injector()
	h.g = New(Config{
		Self: self, MTU: h.dev.MTU(), Super: h.dev.SuperPackets(), Dial: h.peer.dial, NoRoute: h.dev.NoRoute, Prohibited: h.dev.Prohibited,
		Put: func(_ anode.ULA, size int, parts ...[]byte) { in.Put(true, size, parts...) },
	})
	var wg sync.WaitGroup
	for _, q := range h.dev.Queues() {
		wg.Go(func() { h.read(q) })
	}
	t.Cleanup(func() {
		h.g.Close()
		h.dev.Close()
		wg.Wait()
	})
	return h
}

// do runs f in the namespace; sockets and devices that it makes belong there.
func (h *host) do(f func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(h.ns)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		h.t.Error(err)
	}
}

func (h *host) open(offload tun.Offload) {
	var err error
	if h.dev, err = tun.Open(tun.Config{Name: "an0", MTU: 1440, Queues: 2, Self: self, Offload: offload}); err != nil {
		h.t.Error(err)
		return
	}
	link, err := netlink.LinkByName("an0")
	if err != nil {
		h.t.Error(err)
		return
	}
	for _, err := range []error{
		netlink.LinkSetMTU(link, 1440),
		netlink.LinkSetIP6AddrGenMode(link, 1),
		netlink.LinkSetGSOMaxSize(link, 61000),
		netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(self[:]), Flags: unix.IFA_F_NODAD}),
		netlink.LinkSetUp(link),
		netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: self[:], Mask: net.CIDRMask(40, 128)}}),
	} {
		if err != nil {
			h.t.Error(err)
		}
	}
	for { // the kernel completes an address in a work queue
		routes, err := netlink.RouteGet(self[:])
		if err != nil || routes[0].Type == unix.RTN_LOCAL {
			return
		}
		runtime.Gosched()
	}
}

// read passes on what the system sends, until the device is closed.
func (h *host) read(q *tun.Queue) {
	for {
		to, ok, err := q.Read(true)
		switch {
		case err != nil:
			return
		case !ok:
		case q.TCP() != nil:
			h.g.Outbound(q.TCP())
		default:
			for msg := q.Next(); msg != nil; msg = q.Next() {
				if wire.Type(msg[0]) == wire.IP6 && msg[5] == protoICMP {
					h.g.Outbound(packetOf(to, msg))
				}
			}
		}
	}
}

// packetOf makes the packet of an IP6 message that we send.
func packetOf(to anode.ULA, msg []byte) []byte {
	p := append([]byte(nil), msg[1:5]...)
	p = append(be.AppendUint16(p, uint16(len(msg)-7)), msg[5], msg[6])
	return append(append(append(p, self[:]...), to[:]...), msg[7:]...)
}

// dial is a program of the system that connects to a peer.
func (h *host) dial(to anode.ULA, port uint16) (c *net.TCPConn, err error) {
	h.do(func() {
		var x net.Conn
		if x, err = net.DialTimeout("tcp6", netip.AddrPortFrom(to.Addr(), port).String(), patience); err == nil {
			c = x.(*net.TCPConn)
			c.SetDeadline(time.Now().Add(patience))
		}
	})
	return c, err
}

func (h *host) connect(to anode.ULA, port uint16) (*net.TCPConn, *fakeStream) {
	h.t.Helper()
	c, err := h.dial(to, port)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c, h.peer.next(h.t)
}

// listen is a service of the system.
func (h *host) listen() (l net.Listener, port uint16) {
	h.t.Helper()
	h.do(func() {
		var err error
		if l, err = net.Listen("tcp6", netip.AddrPortFrom(self.Addr(), 0).String()); err != nil {
			h.t.Error(err)
		}
	})
	if h.t.Failed() {
		h.t.FailNow()
	}
	h.t.Cleanup(func() { l.Close() })
	return l, uint16(l.Addr().(*net.TCPAddr).Port)
}

// clean checks that no checksum was wrong, and that the adapter dropped nothing.
func (h *host) clean() {
	h.t.Helper()
	h.do(func() {
		out, err := exec.Command("nstat", "-az", "TcpInCsumErrors").CombinedOutput()
		if err != nil {
			h.t.Errorf("nstat: %v: %s", err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if len(lines) != 2 {
			h.t.Errorf("nstat: %s", out)
		}
		for _, l := range lines[1:] {
			if f := strings.Fields(l); f[1] != "0" {
				h.t.Errorf("%s is %s", f[0], f[1])
			}
		}
	})
	for name, n := range h.dev.Counters() {
		if n > 0 && (strings.Contains(name, "drop") || strings.Contains(name, "error")) {
			h.t.Errorf("%s is %d", name, n)
		}
	}
}

// eachOffload runs a test with a system that takes super-packets, and one that takes none.
func eachOffload(t *testing.T, f func(t *testing.T, h *host)) {
	for _, o := range []tun.Offload{tun.OffloadOn, tun.OffloadOff} {
		t.Run(string(o), func(t *testing.T) {
			t.Cleanup(func() { leaks(t) })
			h := newHost(t, o)
			f(t, h)
			h.clean()
		})
	}
}

// Bytes arrive through the kernel's TCP as they were sent, and each direction ends alone.
func TestRealTransfer(t *testing.T) {
	eachOffload(t, func(t *testing.T, h *host) {
		const size = 100 << 20
		c, s := h.connect(bob, 80)
		c.SetDeadline(time.Time{}) // with the race detector it takes long
		var wg sync.WaitGroup
		var sent, got [2][]byte
		wg.Go(func() { got[0] = receive(t, s, size) })
		sent[0] = send(t, c, size, 1)
		c.CloseWrite()
		wg.Wait()
		wg.Go(func() { got[1] = receive(t, c, size) })
		sent[1] = send(t, s, size, 2)
		s.CloseWrite()
		wg.Wait()
		if !bytes.Equal(sent[0], got[0]) || !bytes.Equal(sent[1], got[1]) {
			t.Error("the hashes differ")
		}
		eventually(t, func() bool { return h.g.Counters()["gateway_connections"] == 0 }, func() string { return "it ended" })
	})
}

// The kernel's programs see what became of their connections.
func TestRealErrors(t *testing.T) {
	h := newHost(t, tun.OffloadOn)
	h.peer.fails(syscall.ECONNREFUSED)
	if _, err := h.dial(bob, 80); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	h.peer.fails(syscall.EHOSTUNREACH)
	if _, err := h.dial(bob, 80); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("without a path: %v", err)
	}
	h.peer.fails(syscall.EACCES)
	if _, err := h.dial(bob, 80); !errors.Is(err, syscall.EACCES) {
		t.Errorf("blocked: %v", err)
	}
	h.peer.fails(nil)

	c, s := h.connect(bob, 80)
	s.Abort()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer's reset: %v", err)
	}
	c, s = h.connect(bob, 80)
	c.SetLinger(0)
	c.Close()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the program's reset: %v", err)
	}
	c, s = h.connect(bob, 80)
	h.g.Close()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end of the gateway: %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the end of the gateway: %v", err)
	}
	h.clean()
}

// The kernel's services see the peer's own address, and refuse what they do not listen for.
func TestRealInbound(t *testing.T) {
	eachOffload(t, func(t *testing.T, h *host) {
		w := &world{t: t, g: h.g}
		if _, err := w.inbound(bob, 9); !errors.Is(err, ErrRefused) {
			t.Errorf("a closed port: %v", err)
		}
		l, port := h.listen()
		s, err := w.inbound(bob, port)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if a := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); a != bob.Addr() {
			t.Errorf("the service sees %v", a)
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
		echo(t, s, 1)
	})
}

// A firewall of the system that rejects by ICMPv6 or by a reset refuses at once.
func TestRealRejected(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("needs nft")
		}
		t.Skip("needs nft")
	}
	h := newHost(t, tun.OffloadOn)
	w := &world{t: t, g: h.g}
	_, port := h.listen()
	for _, with := range []string{"icmpv6 type admin-prohibited", "icmpv6 type port-unreachable", "icmpv6 type no-route", "tcp reset"} {
		rules := fmt.Sprintf("flush ruleset; table ip6 f { chain in { type filter hook input priority 0; tcp dport %d reject with %s; }; }", port, with)
		h.do(func() {
			if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
		start := time.Now()
		if _, err := w.inbound(bob, port); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v after %v", with, err, time.Since(start))
		}
	}
	if got := h.g.Counters()["gateway_in_refused"]; got != 4 {
		t.Errorf("%d were refused", got)
	}
}

// 200 connections at once, half of them opened by the peer.
func TestRealMany(t *testing.T) {
	eachOffload(t, func(t *testing.T, h *host) {
		const half = 100
		l, port := h.listen()
		w := &world{t: t, g: h.g}
		var wg sync.WaitGroup
		wg.Go(func() {
			for range half {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { io.Copy(c, c); c.Close() })
				s := h.peer.next(t)
				wg.Go(func() { io.Copy(s, s); s.Close() })
			}
		})
		for i := range half {
			wg.Go(func() {
				if c, err := h.dial(bob, 7); err != nil {
					t.Error(err)
				} else {
					echo(t, c, i)
					c.Close()
				}
			})
			wg.Go(func() {
				if s, err := w.inbound(eve, port); err != nil {
					t.Error(err)
				} else {
					echo(t, s, i)
					s.Close()
				}
			})
		}
		wg.Wait()
		eventually(t, func() bool { return h.g.Counters()["gateway_connections"] == 0 }, func() string { return "all ended" })
	})
}

// BenchmarkReal moves bytes between a program and a peer.
func BenchmarkReal(b *testing.B) {
	for _, o := range []tun.Offload{tun.OffloadOn, tun.OffloadOff} {
		for _, up := range []bool{true, false} {
			name := string(o) + "/from the peer"
			if up {
				name = string(o) + "/to the peer"
			}
			b.Run(name, func(b *testing.B) {
				h := newHost(b, o)
				c, s := h.connect(bob, 80)
				from, to := io.Writer(s), io.Reader(c)
				if up {
					from, to = c, s
				}
				go io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 1<<18))
				buf := make([]byte, 1<<20)
				b.SetBytes(1 << 20)
				c.SetDeadline(time.Time{})
				for b.Loop() {
					if _, err := from.Write(buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// An idle connection costs little memory, and the buffers of those that moved much are given
// back.
func TestRealIdle(t *testing.T) {
	const count, most = 500, 32 << 10
	h := newHost(t, tun.OffloadOn)
	h.connect(bob, 80) // and netstack is there
	memory := func() uint64 {
		for range 3 { // pools are empty after two
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	for range count {
		c, s := h.connect(bob, 80)
		for _, ends := range [][2]io.ReadWriter{{c, s}, {s, c}} {
			go ends[0].Write(make([]byte, 100<<10))
			if _, err := io.ReadFull(ends[1], make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	each := int(memory()-before) / count
	t.Logf("%d bytes for each of %d idle connections, the test's own ends included", each, count)
	if each > most && !raceDetector() { // which takes memory of its own
		t.Errorf("want at most %d", most)
	}
}

// raceDetector reports whether the test was built with it.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
