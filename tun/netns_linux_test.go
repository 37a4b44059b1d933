package tun

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
)

// needRoot skips a test that needs network namespaces where there are none, but
// never in CI.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

// space is a network namespace without a name: it ends with the test, however that ends.
type space struct {
	t  testing.TB
	ns netns.NsHandle
}

func newSpace(t testing.TB) *space {
	t.Helper()
	needRoot(t)
	s := &space{t: t}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var err error
		s.ns, err = netns.New()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ns.Close() })
	s.run("ip", "link", "set", "lo", "up")
	return s
}

// do runs f in the namespace; sockets, devices and processes that it makes belong there.
func (s *space) do(f func()) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := netns.Set(s.ns)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

// try runs a program in the namespace, for at most a minute.
func (s *space) try(name string, arg ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	var err error
	s.do(func() {
		c := exec.CommandContext(ctx, name, arg...)
		c.Stdout, c.Stderr = &out, &out
		err = c.Run()
	})
	return out.String(), err
}

// run is try for a program that must not fail.
func (s *space) run(name string, arg ...string) string {
	s.t.Helper()
	out, err := s.try(name, arg...)
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(arg, " "), err, out)
	}
	return out
}

// snmp reads the namespace's IPv6 counters.
func (s *space) snmp() map[string]string {
	m := make(map[string]string)
	s.do(func() {
		for _, file := range []string{"snmp6", "netstat", "snmp"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				s.t.Error(err)
				return
			}
			lines := strings.Split(strings.TrimSpace(string(b)), "\n")
			if file == "snmp6" {
				for _, l := range lines {
					f := strings.Fields(l)
					m[f[0]] = f[1]
				}
				continue
			}
			for i := 0; i+1 < len(lines); i += 2 {
				names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
				for j := 1; j < len(names); j++ {
					m[strings.TrimSuffix(names[0], ":")+names[j]] = values[j]
				}
			}
		}
	})
	return m
}

// host is a namespace with an adapter in it.
type host struct {
	*space
	ula anode.ULA
	dev *Device
	lan *alias.Table
	in  []sync.Mutex // guard the incoming half of each queue, which the pump uses from both directions
	hop func(to anode.ULA, msg []byte) bool

	reports atomic.Int64 // of Config.Reports
}

func testULA(last byte) anode.ULA { return anode.ULA{0: 0xfd, 1: 0x12, 2: 0x34, 15: last} }

// withIPv4 gives a host its alias, with routes to all others and for all that is sent to all.
func (h *host) withIPv4() {
	h.run("ip", "addr", "add", h.lan.Self().String()+"/10", "broadcast", h.lan.Broadcast().String(), "dev", "an0")
	h.run("ip", "route", "add", "broadcast", "255.255.255.255", "dev", "an0")
	h.run("ip", "route", "add", "multicast", "224.0.0.0/4", "dev", "an0")
}

func newHost(t testing.TB, last byte, offload Offload, queues int) *host {
	t.Helper()
	return newHostOf(t, last, Config{Offload: offload, Queues: queues})
}

// newHostOf is newHost with other settings of the adapter.
func newHostOf(t testing.TB, last byte, c Config) *host {
	t.Helper()
	h := &host{space: newSpace(t), ula: testULA(last), in: make([]sync.Mutex, c.Queues)}
	h.lan = alias.New(alias.Range, h.ula)
	h.lan.Set([]anode.ULA{testULA(1), testULA(2)})
	c.Name, c.MTU, c.Self, c.Aliases, c.Groups, c.Reports = "an0", 1440, h.ula, h.lan, true, func() { h.reports.Add(1) }
	h.do(func() {
		var err error
		h.dev, err = Open(c)
		if err != nil {
			t.Error(err)
			return
		}
		link, err := netlink.LinkByName("an0")
		if err != nil {
			t.Error(err)
			return
		}
		for _, err := range []error{
			netlink.LinkSetMTU(link, 1440),
			netlink.LinkSetARPOff(link), // before there are addresses, else neighbours could ask for them
			netlink.LinkSetIP6AddrGenMode(link, 1),
			netlink.LinkSetGSOMaxSize(link, 61000),
			netlink.AddrAdd(link, &netlink.Addr{IPNet: netlink.NewIPNet(h.ula[:]), Flags: unix.IFA_F_NODAD}),
			netlink.LinkSetUp(link),
			netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: &net.IPNet{IP: h.ula[:], Mask: net.CIDRMask(40, 128)}}),
		} {
			if err != nil {
				t.Error(err)
				return
			}
		}
		for { // the kernel completes an address in a work queue
			routes, err := netlink.RouteGet(h.ula[:])
			if err != nil || routes[0].Type == unix.RTN_LOCAL {
				break
			}
			runtime.Gosched()
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { h.dev.Close() })
	return h
}

// addr is the host's address with a port.
func (h *host) addr(port int) string { return net.JoinHostPort(h.ula.String(), strconv.Itoa(port)) }

// trust says whether hosts let everything of each other in.
type trust struct{ a, b bool }

var bothTrust = trust{true, true}

// pump is an engine without a network: it puts all that one host's system sends into
// the other's, and closes both when the test ends. A host's hop, if it has one, is asked
// for each message whether it goes on.
func pump(t testing.TB, a, b *host, how trust) {
	var wg sync.WaitGroup
	for i := range a.dev.Queues() {
		wg.Go(func() { forward(t, i, a, b, how.a, how.b) })
		wg.Go(func() { forward(t, i, b, a, how.b, how.a) })
	}
	t.Cleanup(func() {
		a.dev.Close()
		b.dev.Close()
		wg.Wait()
	})
}

// forward takes what a's queue i sends. aTrusts says whether a lets everything of b in.
func forward(t testing.TB, i int, a, b *host, aTrusts, bTrusts bool) {
	from := a.dev.Queues()[i]
	for {
		dst, ok, err := from.Read(true)
		for n := 0; ok; n++ {
			count, size, last := from.Shape()
			if !aTrusts {
				from.Track(dst)
			}
			for j := 1; ; j++ {
				m := from.Next()
				if m == nil {
					break
				}
				if j < count && len(m) != size || j == count && len(m) != last || j > count {
					t.Errorf("message %d of %d has %d bytes; the shape said %d, and %d for the last", j, count, len(m), size, last)
				}
				switch {
				case a.hop != nil && !a.hop(dst, m):
				case dst[0] != 0xfd: // to a group
					b.put(i, a.ula, bTrusts, m, false)
				case dst != b.ula:
					t.Errorf("a packet to %s", dst)
				case m[0] == byte(wire.Ping): // an engine answers these itself
					a.put(i, b.ula, aTrusts, append([]byte{byte(wire.Pong)}, m[1:]...), true)
				default:
					b.put(i, a.ula, bTrusts, m, false)
				}
			}
			if n == 8 {
				break
			}
			dst, ok, err = from.Read(false)
		}
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			return
		}
		b.put(i, a.ula, bTrusts, nil, true)
	}
}

// put opens a message, as it were, into the host's device.
func (h *host) put(i int, from anode.ULA, trusted bool, msg []byte, flush bool) {
	h.in[i].Lock()
	defer h.in[i].Unlock()
	q := h.dev.Queues()[i]
	if msg != nil {
		s := q.Slot(len(msg) + 16)
		q.Put(from, trusted, s[:copy(s, msg)])
	}
	if flush {
		q.Flush()
	}
}

// clean checks that the hosts' kernels found no checksum wrong, and that the devices
// dropped nothing but what is excepted.
func clean(t testing.TB, hosts []*host, except ...counter) {
	t.Helper()
	for _, h := range hosts {
		s := h.snmp()
		for _, name := range []string{"TcpInCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors", "UdpInCsumErrors", "IcmpInCsumErrors", "TcpInErrs", "IpInHdrErrors", "Ip6InHdrErrors", "Ip6InTruncatedPkts"} {
			if v, ok := s[name]; v != "0" || !ok {
				t.Errorf("%s: %s is %q", h.ula, name, v)
			}
		}
		counts := h.dev.Counters()
		for i := none + 1; i < numCounters; i++ {
			if n := counts[counterNames[i]]; n > 0 && (strings.Contains(counterNames[i], "drop") || strings.Contains(counterNames[i], "error")) && !slices.Contains(except, i) {
				t.Errorf("%s: %s is %d", h.ula, counterNames[i], n)
			}
		}
	}
}
