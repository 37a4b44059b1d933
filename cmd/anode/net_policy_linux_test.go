package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNetPolicy: who was not added may ping, and gets answers, and nothing else. b has
// added nobody; a and c have added b.
func TestNetPolicy(t *testing.T) {
	const moment = 700 * time.Millisecond // to show that nothing comes
	a, b, c := newHost(t, "a"), newHost(t, "b"), newHost(t, "c")
	join(1, a, b, c)
	a.add(b)
	c.add(b)
	config := b.dir + "/anode.toml"
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("[policy]\nopen = false\n")
	a.up()
	b.up("--config", config)
	c.up()

	b.echoTCP(7)
	closed := func(t *testing.T, from *host) {
		t.Helper()
		if errno, took := from.refusal(b, 7, moment); errno != syscall.EACCES {
			t.Errorf("the connection from %s, a stranger: %v after %v, want %v at once", from.name, errno, took, syscall.EACCES)
		}
	}
	step(t, "pings", func(t *testing.T) {
		a.meets(b)
		b.meets(a)
		a.anode("ping", "b", "-c1")
		b.anode("ping", a.ula.String(), "-c1")
	}, a, b, c)
	step(t, "nothing else", func(t *testing.T) {
		closed(t, a)
		in, out := b.udp(9), a.dialUDP(b, 9)
		for _, size := range []int{0, 100, 3000} { // the last one in fragments
			out.Write(random(1, size))
		}
		in.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if n, err := in.Read(make([]byte, 4000)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stranger's %d bytes came in: %v", n, err)
		}
		if a.status().Counters["drop_not_added_there"] == 0 {
			t.Errorf("nothing was counted: %v", a.status().Counters)
		}
	}, a, b, c)
	step(t, "replies", func(t *testing.T) {
		a.echoTCP(7)
		a.echoUDP(7)
		for range 3 {
			if err := exchange(b.dialUDP(a, 7), random(2, 1000)); err != nil {
				t.Errorf("UDP: %v", err)
			}
		}
		conn, err := b.dial(a, 7)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := exchange(conn, random(3, 1000)); err != nil {
			t.Errorf("TCP: %v", err)
		}
		if errno, _ := b.refusal(a, 8, dialWait); errno != syscall.ECONNREFUSED {
			t.Errorf("a port without a listener: %v", errno)
		}
		transfer(t, b, a, 4<<20)
	}, a, b, c)
	step(t, "from a second stranger", func(t *testing.T) {
		if !c.pings(b) {
			t.Error("c cannot ping")
		}
		closed(t, c)
	}, a, b, c)
	step(t, "hangup", func(t *testing.T) {
		// A configuration that is broken changes nothing, and is told of.
		configure("[policy]\nopne = true\n")
		hangup(t, b, "not reloaded")
		closed(t, c)
		configure("[policy]\nopen = true\n")
		hangup(t, b, "was reloaded")
		within(t, dialWait, "c to know that b is open", func() bool {
			errno, _ := c.refusal(b, 7, dialWait)
			return errno == 0
		})
		transfer(t, a, b, 4<<20)
	}, a, b, c)
	step(t, "open from the start", func(t *testing.T) {
		b.down(syscall.SIGTERM)
		b.up("--open")
		b.echoTCP(8)
		a.meets(b)
		if errno, took := a.refusal(b, 8, dialWait); errno != 0 {
			t.Errorf("%v after %v", errno, took)
		}
	}, a, b, c)
	sound(t, a, b, c)
}

// hangup has the daemon read its configuration, and waits for what it says.
func hangup(t *testing.T, h *host, says string) {
	t.Helper()
	before := len(h.node.output())
	if err := h.node.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	within(t, dialWait, fmt.Sprintf("%q in the log", says), func() bool { return strings.Contains(h.node.output()[before:], says) })
}

// TestNetSources: nothing leaves under an address that is not the sender's own.
func TestNetSources(t *testing.T) {
	a, b := upPair(t)
	a.ip("-6 addr add fd00:0:0:bad::1/128 dev anode0 nodad", "-6 addr add fd77::1/64 dev eth1 nodad")
	into := b.udp(9)
	foreign := func(source string) {
		t.Helper()
		c, err := in(a, func() (*net.UDPConn, error) {
			return net.DialUDP("udp6", &net.UDPAddr{IP: net.ParseIP(source)}, &net.UDPAddr{IP: b.ula[:], Port: 9})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before := a.status().Counters["tun_out_drop_source"]
		if _, err := c.Write([]byte("from " + source)); err != nil {
			t.Fatal(err)
		}
		within(t, dialWait, "the packet to be dropped", func() bool { return a.status().Counters["tun_out_drop_source"] > before })
	}
	foreign("fd00:0:0:bad::1")
	foreign("fd77::1")
	if _, err := a.dialUDP(b, 9).Write([]byte("honest")); err != nil {
		t.Fatal(err)
	}
	into.SetReadDeadline(time.Now().Add(dialWait))
	buf := make([]byte, 100)
	n, from, err := into.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != "honest" || from.Addr() != a.ula.Addr() {
		t.Errorf("%q from %v, %v", buf[:n], from, err)
	}
}

// TestNetAnswers: what cannot be reached is answered by ICMPv6, not by silence, and
// within seconds.
func TestNetAnswers(t *testing.T) {
	const soon = 8 * time.Second
	a, b := upPair(t)
	away, c := newHost(t, "away"), newHost(t, "c")
	a.add(away)
	for _, x := range []struct {
		name string
		to   *host
		want syscall.Errno
	}{
		{"a ULA that nobody has", c, syscall.ENETUNREACH},
		{"a peer that is away", away, syscall.ENETUNREACH},
	} {
		step(t, x.name, func(t *testing.T) {
			errno, took := a.refusal(x.to, 7, 2*soon)
			t.Logf("%v after %v", errno, took)
			if errno != x.want || took > soon {
				t.Errorf("want %v within %v", x.want, soon)
			}
		}, a)
	}
	step(t, "a blocked peer", func(t *testing.T) {
		b.echoTCP(7)
		if errno, _ := a.refusal(b, 7, 2*soon); errno != 0 {
			t.Fatal(errno)
		}
		a.anode("peers", "block", "b")
		errno, took := a.refusal(b, 7, 2*soon)
		t.Logf("%v after %v", errno, took)
		if errno != syscall.EACCES || took > time.Second {
			t.Errorf("want %v at once", syscall.EACCES)
		}
		if b.pings(a) {
			t.Error("it is answered")
		}
		start := time.Now()
		if out, code := a.tryAnode("ping", "b", "-c1"); code != 5 || !strings.Contains(out, "blocked") || time.Since(start) > time.Second {
			t.Errorf("anode ping: exit code %d after %v, %s", code, time.Since(start), out)
		}
		a.anode("peers", "unblock", "b")
		t.Logf("unblocked, and a ping comes through after %v", a.meets(b))
		if errno, took := a.refusal(b, 7, 2*soon); errno != 0 {
			t.Errorf("unblocked: %v after %v", errno, took)
		}
	}, a, b)
	step(t, "a peer that goes away", func(t *testing.T) {
		b.down(syscall.SIGKILL)
		// First it may just be slow, then it may have moved.
		errno, took := a.refusal(b, 7, 3*soon)
		t.Logf("%v after %v", errno, took)
		if errno != syscall.ENETUNREACH || took > 2*soon {
			t.Errorf("want %v within %v", syscall.ENETUNREACH, 2*soon)
		}
	}, a, b)
}

// TestNetMTU: paths that are narrower than the adapter's MTU, told or silent, and
// wider ones.
func TestNetMTU(t *testing.T) {
	t.Run("1400", func(t *testing.T) { narrow(t, 1400, 1400-28-10) })
	t.Run("1280", func(t *testing.T) { narrow(t, 1280, 1280) }) // below, in pieces
	t.Run("576", func(t *testing.T) { narrow(t, 576, 1280) })
	t.Run("9000", func(t *testing.T) {
		a, b := pair(t)
		for _, h := range []*host{a, b} {
			h.ip("link set eth1 mtu 9000")
			h.up("--set", "tun.mtu=8900")
		}
		a.meets(b)
		b.echoUDP(7)
		if err := exchange(a.dialUDP(b, 7), random(1, 8900-48)); err != nil {
			t.Errorf("UDP: %v", err)
		}
		transfer(t, a, b, 32<<20)
		transfer(t, b, a, 32<<20)
		sound(t, a, b)
	})
	t.Run("narrowed later", func(t *testing.T) {
		a, b := upPair(t)
		b.echoTCP(7)
		c, err := a.dial(b, 7)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, mtu := range []int{1500, 1350, 1280, 1500} {
			for _, h := range []*host{a, b} {
				h.ip(fmt.Sprintf("link set eth1 mtu %d", mtu))
			}
			start := time.Now()
			c.SetDeadline(start.Add(20 * time.Second))
			data := random(uint64(mtu), 300_000)
			go c.Write(data)
			back := make([]byte, len(data))
			if _, err := io.ReadFull(c, back); err != nil || !bytes.Equal(back, data) {
				t.Fatalf("at %d: other bytes, or %v", mtu, err)
			}
			t.Logf("at %d, an exchange took %v", mtu, time.Since(start))
		}
		sound(t, a, b)
	})
	t.Run("silent", func(t *testing.T) {
		a, b := pair(t)
		// Each end's sending is narrowed where nobody can see it: the switch between
		// them takes 1300 bytes and drops the rest.
		a.ip("link del eth1")
		s := newMachine(t, "switch")
		s.ip("link add br0 type bridge", "link set br0 up")
		for i, h := range []*host{a, b} {
			s.ip(fmt.Sprintf("link add port%d type veth peer name eth1 netns %d", i, h.tid),
				fmt.Sprintf("link set port%d mtu 1300 master br0 up", i))
			h.ip(fmt.Sprintf("addr add 10.0.1.%d/24 dev eth1", i+1), "link set eth1 mtu 1500 gso_max_segs 1 up")
			h.sysctl("ipv6/conf/eth1/disable_ipv6=1")
		}
		a.up()
		b.up()
		a.meets(b)
		start := time.Now()
		rate := transfer(t, a, b, 8<<20)
		t.Logf("8 MB took %v, %.2f Gbit/s", time.Since(start), rate)
		transfer(t, b, a, 8<<20)
		// A link event, of which there are some at the start, has the path measured again.
		within(t, 5*time.Second, "status to say what fits", func() bool {
			mtu := a.peer(b).Path.MTU
			return mtu > 0 && mtu <= 1300-28-10
		})
		sound(t, a, b)
	})
}

// narrow has a link of an MTU between two hosts. The largest packets get Packet Too
// Big with what fits; what fits comes through, and TCP adapts.
func narrow(t *testing.T, link, fits int) {
	a, b := pair(t)
	for _, h := range []*host{a, b} {
		h.sysctl("ipv6/conf/eth1/disable_ipv6=1")
		h.ip(fmt.Sprintf("link set eth1 mtu %d", link))
		h.up()
	}
	a.meets(b)
	b.echoUDP(7)
	c := a.dialUDP(b, 7)
	option(t, c, unix.IPV6_DONTFRAG, []byte{1, 0, 0, 0})
	option(t, c, unix.IPV6_MTU_DISCOVER, []byte{unix.IPV6_PMTUDISC_DO, 0, 0, 0})
	// Until the kernel knows better it sends, and the packet is lost.
	var told error
	within(t, dialWait, "Packet Too Big", func() bool {
		_, told = c.Write(random(1, 1440-48))
		return told != nil
	})
	if !errors.Is(told, syscall.EMSGSIZE) {
		t.Errorf("a packet of 1440 bytes: %v", told)
	}
	if mtu, err := mtuOf(c); err != nil || mtu != fits {
		t.Errorf("the path takes %d bytes, %v; want %d", mtu, err, fits)
	}
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for _, err := c.Read(make([]byte, 2000)); err == nil; {
		_, err = c.Read(make([]byte, 2000)) // echoes of the first ones
	}
	for _, size := range []int{0, 1, 500, 1000, fits - 49, fits - 48} {
		if err := exchange(c, random(2, size)); err != nil {
			t.Errorf("UDP of %d bytes: %v", size, err)
		}
	}
	transfer(t, a, b, 16<<20)
	transfer(t, b, a, 16<<20)
	sound(t, a, b)
}

// mtuOf asks what the kernel knows of a connected socket's path.
func mtuOf(c *net.UDPConn) (mtu int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU) })
	return mtu, err
}
