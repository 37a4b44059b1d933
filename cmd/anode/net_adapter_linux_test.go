package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/platform"
)

// secret is what two peers say to each other, and what nobody else may see.
const secret = "the code of the safe is 4711"

// talk sends the secret from one host to another over TCP and back.
func talk(from, to *host, port int) error {
	c, err := from.dial(to, port)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(dialWait))
	if _, err := io.WriteString(c, secret); err != nil {
		return err
	}
	b := make([]byte, len(secret))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != secret {
		return fmt.Errorf("got %q", b)
	}
	return nil
}

// prefixOption and routeOption are options of a router advertisement (RFC 4861, 4.6.2;
// RFC 4191, 2.3), valid for half an hour.
func prefixOption(p netip.Prefix, flags byte) []byte {
	b := []byte{3, 4, byte(p.Bits()), flags, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0}
	return append(b, p.Addr().AsSlice()...)
}

func routeOption(p netip.Prefix) []byte {
	const high = 0x08
	return append([]byte{24, 3, byte(p.Bits()), high, 0, 0, 7, 8}, p.Addr().AsSlice()...)
}

const (
	onLink     = 0x80 // flags of a prefix
	autonomous = 0x40
)

// advertise sends a router advertisement to everybody on eth1.
func (h *host) advertise(lifetime uint16, options ...[]byte) {
	h.t.Helper()
	b := []byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(b[6:], lifetime)
	for _, o := range options {
		b = append(b, o...)
	}
	_, err := in(h, func() (struct{}, error) {
		dev, err := net.InterfaceByName("eth1")
		if err != nil {
			return struct{}{}, err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return struct{}{}, err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrInet6{ZoneId: uint32(dev.Index), Addr: netip.MustParseAddr("ff02::1").As16()}
		return struct{}{}, errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, dev.Index),
			unix.Sendto(fd, b, 0, to))
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// linkLocalOf waits for the link-local address of a host's interface.
func (h *host) linkLocalOf(dev string) (addr string) {
	h.t.Helper()
	within(h.t, dialWait, "a link-local address", func() bool {
		out := h.run("ip", "-6", "-o", "addr", "show", "dev", dev, "scope", "link", "-tentative")
		if f := strings.Fields(out); len(f) > 3 {
			addr, _, _ = strings.Cut(f[3], "/")
		}
		return addr != ""
	})
	return addr
}

// spoof sends a UDP packet from any address of a host.
func (h *host) spoof(from, to string, port int, text string) {
	h.t.Helper()
	_, err := in(h, func() (struct{}, error) {
		c, err := net.DialUDP("udp6", &net.UDPAddr{IP: net.ParseIP(from), Port: 5353}, &net.UDPAddr{IP: net.ParseIP(to), Port: port})
		if err != nil {
			return struct{}{}, err
		}
		defer c.Close()
		_, err = io.WriteString(c, text)
		return struct{}{}, err
	})
	if err != nil {
		h.t.Errorf("%s from %s to %s: %v", h.name, from, to, err)
	}
}

// next reads one packet.
func next(c *net.UDPConn) string {
	c.SetReadDeadline(time.Now().Add(dialWait))
	b := make([]byte, 100)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		return err.Error()
	}
	return string(b[:n])
}

// problems lists the codes of the adapter's problems.
func (h *host) problems() (codes []string) {
	h.t.Helper()
	for _, p := range h.status().Tun.Problems {
		codes = append(codes, p.Code)
	}
	return codes
}

// TestNetAdapterHostile: a third machine on the LAN announces routes to a peer, speaks
// with a peer's address and to ours, and owns a peer's address on the link. Nothing of
// what the peers say is seen on the LAN, and nothing of the third is heard at a service
// of the adapter.
func TestNetAdapterHostile(t *testing.T) {
	a, b, eve := newHost(t, "a"), newHost(t, "b"), newMachine(t, "eve")
	join(1, a, b, eve)
	a.add(b)
	b.add(a)
	for i, h := range []*host{a, b, eve} {
		h.sysctl("ipv6/conf/eth1/accept_ra_rt_info_max_plen=128")
		h.ip(fmt.Sprintf("addr add 2001:db8::%d/64 dev eth1 nodad", i+1))
	}
	aLink := a.linkLocalOf("eth1")
	eve.linkLocalOf("eth1")
	a.up()
	b.up()
	a.meets(b)
	b.echoTCP(80)
	mac, err := in(a, func() (*net.Interface, error) { return net.InterfaceByName("eth1") })
	if err != nil {
		t.Fatal(err)
	}
	eve.ip("addr add "+b.ula.String()+"/128 dev eth1 nodad", "-6 route add "+a.ula.String()+" via "+aLink+" dev eth1",
		"-6 neigh replace "+aLink+" lladdr "+mac.HardwareAddr.String()+" dev eth1 nud permanent")
	cable := a.capture("eth1")

	// A service of eve's under b's address must never be reached.
	trap, err := in(eve, func() (net.Listener, error) { return net.Listen("tcp6", net.JoinHostPort(b.ula.String(), "80")) })
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	go func() {
		for {
			c, err := trap.Accept()
			if err != nil {
				return
			}
			t.Error("a connection for b came to eve")
			c.Close()
		}
	}()

	whole := netip.PrefixFrom(b.ula.Addr(), 128)
	wide := func(bits int) netip.Prefix { return netip.PrefixFrom(b.ula.Addr(), bits).Masked() }
	own := "-6 route append " + b.ula.String() + "/128 dev eth1 metric 1"
	for _, c := range []struct {
		name  string
		do    func()
		shows string // in a's routes
	}{
		{"an on-link prefix", func() { eve.advertise(1800, prefixOption(wide(64), onLink)) }, wide(64).String() + " dev eth1"},
		{"routes", func() { eve.advertise(1800, routeOption(wide(64)), routeOption(wide(127)), routeOption(whole)) }, b.ula.String() + " via"},
		{"another program's route", func() { a.ip(own) }, b.ula.String() + " dev eth1 metric 1 "},
		{"another program's replaced route", func() { a.ip(strings.Replace(own, "append", "replace", 1)) }, b.ula.String() + " dev eth1 metric 1 "},
	} {
		step(t, c.name, func(t *testing.T) {
			c.do()
			within(t, dialWait, "the route to be there", func() bool { return strings.Contains(a.run("ip", "-6", "route"), c.shows) })
			// A replaced route is put back a moment later. Until then, packets are dropped.
			within(t, 2*time.Second, "the route of the adapter", func() bool {
				return strings.Contains(a.run("ip", "-6", "route", "get", b.ula.String()), " dev anode0 ")
			})
			for i := range 10 {
				if err := talk(a, b, 80); err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
			}
		}, a, b, eve)
	}

	step(t, "spoofed packets", func(t *testing.T) {
		inside, everywhere := a.udp(5000), (*net.UDPConn)(nil)
		everywhere, err := in(a, func() (*net.UDPConn, error) { return net.ListenUDP("udp6", &net.UDPAddr{Port: 5001}) })
		if err != nil {
			t.Fatal(err)
		}
		defer everywhere.Close()
		a.echoTCP(5002)
		for _, from := range []string{b.ula.String(), "2001:db8::3"} {
			eve.spoof(from, a.ula.String(), 5000, "evil")
			eve.spoof(from, a.ula.String(), 5001, "evil")
		}
		eve.spoof(b.ula.String(), "2001:db8::1", 5001, "evil")
		if errno, _ := eve.refusal(a, 5002, time.Second); errno != syscall.ETIMEDOUT {
			t.Errorf("TCP from eve to the ULA: %v", errno)
		}
		// What came in order shows that the others did not come.
		eve.spoof("2001:db8::3", "2001:db8::1", 5001, "fair")
		if got := next(everywhere); got != "fair" {
			t.Errorf("a service of all addresses hears %q", got)
		}
		b.spoof(b.ula.String(), a.ula.String(), 5000, "good")
		if got := next(inside); got != "good" {
			t.Errorf("a service of the ULA hears %q", got)
		}
		if err := talk(b, a, 5002); err != nil {
			t.Error(err)
		}
		counters := a.status().Counters
		for _, name := range []string{"guard_drop_to_us", "guard_drop_as_peer"} {
			if counters[name] == 0 {
				t.Errorf("%s is 0", name)
			}
		}
	}, a, b, eve)

	// A rule of routing is stronger than any route. It cannot be mended, and is closed.
	step(t, "a rule of another program", func(t *testing.T) {
		a.ip("-6 route add "+b.ula.String()+" dev eth1 table 77", "-6 rule add pref 5 to "+b.ula.String()+" lookup 77")
		if errno, _ := a.refusal(b, 80, time.Second); errno == 0 {
			t.Error("a connection came about")
		}
		within(t, dialWait, "the problem to be told", func() bool { return slices.Contains(a.problems(), platform.ProblemDiverted) })
		if a.status().Counters["guard_drop_outside"] == 0 {
			t.Error("guard_drop_outside is 0")
		}
		a.ip("-6 rule del pref 5")
		within(t, dialWait, "the problem to be gone", func() bool { return len(a.problems()) == 0 })
		if err := talk(a, b, 80); err != nil {
			t.Error(err)
		}
	}, a, b, eve)

	for _, p := range cable.stop() {
		if bytes.Contains(p, []byte(secret)) {
			t.Fatalf("the secret is on the cable: %x", p)
		}
		const toAddress, ipv6 = 14 + 24, "\x86\xdd"
		if len(p) >= toAddress+16 && string(p[12:14]) == ipv6 && bytes.Equal(p[toAddress:toAddress+16], b.ula[:]) {
			t.Fatalf("a packet for b is on the cable: %x", p)
		}
	}
}

// TestNetAdapterLAN: a LAN with a prefix that lies in a zone's works as it does without a
// node, for the machine and for a container behind it, in both families.
//
//	container ── eth2 ── a ── eth1 ── router (fd00::1), b
func TestNetAdapterLAN(t *testing.T) {
	a, b, router, container := newHost(t, "a"), newHost(t, "b"), newMachine(t, "router"), newMachine(t, "container")
	join(1, a, b, router)
	join(2, a, container)
	a.sysctl("ipv6/conf/all/forwarding=1")
	a.sysctl("ipv4/ip_forward=1")
	a.sysctl("ipv6/conf/eth1/accept_ra=2")
	router.ip("addr add fd00::1/64 dev eth1 nodad")
	router.linkLocalOf("eth1")
	a.ip("addr add fd00:c::1/64 dev eth2 nodad")
	container.ip("addr add fd00:c::2/64 dev eth2 nodad", "route add default via 10.0.2.1", "-6 route add default via fd00:c::1")
	a.add(b)
	b.add(a)
	a.up()
	b.up()
	a.meets(b)
	var lan string // a's address
	within(t, dialWait, "an address of the LAN's prefix", func() bool {
		router.advertise(1800, prefixOption(netip.MustParsePrefix("fd00::/64"), onLink|autonomous))
		for _, f := range strings.Fields(a.run("ip", "-6", "-o", "addr", "show", "dev", "eth1", "scope", "global", "-tentative")) {
			if addr, bits, _ := strings.Cut(f, "/"); bits == "64" && strings.HasPrefix(addr, "fd00:") {
				lan = addr
			}
		}
		return lan != ""
	})
	router.ip("-6 route add fd00:c::/64 via "+lan, "route add 10.0.2.0/24 via 10.0.1.1")
	a.run("nft", "add table ip6 nat; add chain ip6 nat post { type nat hook postrouting priority 100; }; add rule ip6 nat post oifname anode0 masquerade")
	ping := func(from *host, to string, want bool) {
		t.Helper()
		_, code := from.try("ping", "-n", "-q", "-c3", "-i0.05", "-W1", to)
		if (code == 0) != want {
			t.Errorf("%s pings %s: %v", from.name, to, !want)
		}
	}
	for _, from := range []*host{a, container} {
		ping(from, "fd00::1", true)
		ping(from, "10.0.1.3", true)
		ping(from, b.ula.String(), true)
	}
	ping(router, lan, true)
	ping(router, "fd00:c::2", true)
	ping(container, a.ula.String(), false) // it is not a peer
	if c, err := in(a, func() ([]platform.Covering, error) { return platform.CoveringPrefixes("anode0", b.ula.Addr()) }); err != nil || len(c) != 0 {
		t.Errorf("%v, %v", c, err)
	}
}

// TestNetAdapterTwo: two nodes of one machine do not drop each other's packets.
func TestNetAdapterTwo(t *testing.T) {
	a, b, c := newHost(t, "a"), newHost(t, "b"), newHost(t, "c")
	join(1, a, b, c)
	dir, err := os.MkdirTemp("", "anode-a2")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	second := *a
	second.name, second.dir = "a2", dir
	other := &second
	other.identify()
	for _, pair := range [][2]*host{{a, b}, {b, a}, {a, other}, {other, a}, {b, other}, {other, b}, {c, other}, {other, c}} {
		pair[0].add(pair[1])
	}
	a.up()
	other.up("--tun", "anode1", "--port", "8800")
	b.up()
	c.up()
	a.meets(b)
	c.meets(other)
	for _, pair := range [][2]*host{{a, other}, {other, a}} {
		out, code := pair[0].try("ping", "-6", "-n", "-c2", "-i0.05", "-W1", "-I", pair[0].ula.String(), pair[1].ula.String())
		if code != 0 {
			t.Errorf("%s to %s: %s", pair[0].name, pair[1].name, out)
		}
	}
	inside := other.udp(5000)
	within(t, dialWait, "a packet of a peer that both have", func() bool {
		b.spoof(b.ula.String(), other.ula.String(), 5000, "hello")
		inside.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _, err := inside.ReadFrom(make([]byte, 10))
		return err == nil && n == 5
	})
	for _, h := range []*host{a, other} {
		for name, n := range h.status().Counters {
			if strings.HasPrefix(name, "guard_drop_") && n != 0 {
				t.Errorf("%s: %s is %d", h.name, name, n)
			}
		}
		if p := h.problems(); len(p) != 0 {
			t.Errorf("%s: problems %v", h.name, p)
		}
	}
	other.down(syscall.SIGTERM)
	a.meets(b)
	if out := a.run("nft", "list", "ruleset"); strings.Count(out, "table ip6 anode_") != 1 {
		t.Errorf("the tables:\n%s", out)
	}
}
