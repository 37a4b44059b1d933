package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// TestNetSizes: packets of every size from no payload to the MTU come through both
// ways, of UDP, of ICMPv6, and of a protocol that nobody knows.
func TestNetSizes(t *testing.T) {
	a, b := upPair(t)
	step(t, "UDP", func(t *testing.T) { everySize(t, a, b, 1) }, a, b)
	step(t, "echo", func(t *testing.T) {
		c, err := in(a, func() (*net.IPConn, error) {
			return net.DialIP("ip6:ipv6-icmp", &net.IPAddr{IP: a.ula[:]}, &net.IPAddr{IP: b.ula[:]})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetReadDeadline(time.Now().Add(30 * time.Second))
		buf, data := make([]byte, 2048), random(2, 1440)
		for size := 0; size <= 1440-40-8; size++ {
			// type, code, checksum (the kernel's), identifier, sequence number
			request := binary.BigEndian.AppendUint16([]byte{128, 0, 0, 0, 0xab, 0xcd}, uint16(size))
			request = append(request, data[:size]...)
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			for {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatalf("%d bytes: %v", size, err)
				}
				if buf[0] != 129 {
					continue
				}
				if !bytes.Equal(buf[4:n], request[4:]) {
					t.Errorf("%d bytes: another reply", size)
				}
				break
			}
		}
	}, a, b)
	step(t, "protocol 253", func(t *testing.T) {
		ca, err := in(a, func() (*net.IPConn, error) {
			return net.DialIP("ip6:253", &net.IPAddr{IP: a.ula[:]}, &net.IPAddr{IP: b.ula[:]})
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ca.Close()
		cb, err := in(b, func() (*net.IPConn, error) { return net.ListenIP("ip6:253", &net.IPAddr{IP: b.ula[:]}) })
		if err != nil {
			t.Fatal(err)
		}
		defer cb.Close()
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := cb.ReadFrom(buf)
				if err != nil {
					return // closed
				}
				cb.WriteTo(buf[:n], from)
			}
		}()
		data := random(3, 1440)
		for size := 1; size <= 1440-40; size += 3 { // an empty one cannot be written
			if err := exchange(ca, data[:size]); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
	}, a, b)
	step(t, "TCP", func(t *testing.T) {
		b.echoTCP(7)
		c, err := a.dial(b, 7)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		data, buf := random(4, 3000), make([]byte, 3000)
		for size := 1; size <= len(data); size += 7 {
			if _, err := c.Write(data[:size]); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf[:size]); err != nil || !bytes.Equal(buf[:size], data[:size]) {
				t.Fatalf("%d bytes: other bytes, or %v", size, err)
			}
		}
	}, a, b)
	sound(t, a, b)
}

// TestNetHeaders: what a packet's header says comes through both ways: all traffic
// classes (DSCP and ECN), hop limits, extension headers, fragments.
func TestNetHeaders(t *testing.T) {
	a, b := upPair(t)
	for i, way := range [][2]*host{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		t.Run(from.name+" to "+to.name, func(t *testing.T) {
			out, back := from.dialUDP(to, 9000+i), to.udp(9000+i)
			t.Run("traffic class", func(t *testing.T) { trafficClass(t, out, back) })
			t.Run("extension headers", func(t *testing.T) { extensions(t, out, back) })
			t.Run("fragments", func(t *testing.T) {
				to.echoUDP(7)
				c := from.dialUDP(to, 7)
				for _, size := range []int{1393, 1440, 1500, 2784, 2785, 8000, 30_000, 65_000} {
					if err := exchange(c, random(uint64(size), size)); err != nil {
						t.Errorf("%d bytes: %v", size, err)
					}
				}
			})
		})
	}
	t.Run("TCP", func(t *testing.T) { classOfTCP(t, a, b) })
	sound(t, a, b)
}

// trafficClass sends every one, with some hop limit.
func trafficClass(t *testing.T, out, back *net.UDPConn) {
	o, b := ipv6.NewConn(out), ipv6.NewPacketConn(back)
	if err := b.SetControlMessage(ipv6.FlagTrafficClass|ipv6.FlagHopLimit, true); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for class := range 256 {
		hops := 1 + class*3%255
		if err := errors.Join(o.SetTrafficClass(class), o.SetHopLimit(hops)); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte{byte(class)}); err != nil {
			t.Fatal(err)
		}
		back.SetReadDeadline(time.Now().Add(dialWait))
		n, cm, _, err := b.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n != 1 || buf[0] != byte(class) || cm.TrafficClass != class || cm.HopLimit != hops {
			t.Errorf("class %#x, hop limit %d: %d bytes, %+v", class, hops, n, cm)
		}
	}
	if err := errors.Join(o.SetTrafficClass(0), o.SetHopLimit(64)); err != nil {
		t.Fatal(err)
	}
}

// extensions sends destination options and hop-by-hop options. Each is an option
// that nobody knows and everybody passes over (RFC 8200, 4.2), and padding.
func extensions(t *testing.T, out, back *net.UDPConn) {
	header := []byte("\x00\x01\x1e\x0aan option!\x01\x00")
	for _, c := range []struct {
		name          string
		send, receive int
	}{
		{"destination options", unix.IPV6_DSTOPTS, unix.IPV6_RECVDSTOPTS},
		{"hop-by-hop options", unix.IPV6_HOPOPTS, unix.IPV6_RECVHOPOPTS},
	} {
		option(t, out, c.send, header)
		option(t, back, c.receive, []byte{1, 0, 0, 0})
		for _, size := range []int{0, 1, 1000, 1440 - 40 - 16 - 8, 3000} {
			if _, err := out.Write(random(5, size)); err != nil {
				t.Fatal(err)
			}
			back.SetReadDeadline(time.Now().Add(dialWait))
			buf, oob := make([]byte, 4000), make([]byte, 200)
			n, oobn, _, _, err := back.ReadMsgUDP(buf, oob)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", c.name, size, err)
			}
			messages, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				t.Fatal(err)
			}
			found := slices.ContainsFunc(messages, func(m unix.SocketControlMessage) bool {
				return int(m.Header.Type) == c.send && len(m.Data) == len(header) && bytes.Equal(m.Data[1:], header[1:])
			})
			if !found || !bytes.Equal(buf[:n], random(5, size)) {
				t.Errorf("%s, %d bytes: %d bytes with %+v", c.name, size, n, messages)
			}
		}
		option(t, out, c.send, nil)
		option(t, back, c.receive, []byte{0, 0, 0, 0})
	}
}

// option sets an IPv6 option of a socket.
func option(t *testing.T, c *net.UDPConn, opt int, value []byte) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, opt, string(value)) })
	if err != nil {
		t.Fatal(err)
	}
}

// classOfTCP: super-packets keep their class too, and ECN is negotiated through.
func classOfTCP(t *testing.T, a, b *host) {
	a.sysctl("ipv4/tcp_ecn=1")
	b.sysctl("ipv4/tcp_ecn=1")
	const expedited = 46 << 2 // RFC 3246
	l := b.listen(0)
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(io.Discard, c)
		}
	}()
	inside := b.capture("anode0")
	d := net.Dialer{Timeout: dialWait, Control: func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, expedited)
		})
		return err
	}}
	c, err := in(a, func() (net.Conn, error) { return d.Dial("tcp6", l.Addr().String()) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, 200_000)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	port := l.Addr().(*net.TCPAddr).Port
	seen := map[int]int{}
	for _, p := range inside.stop() {
		const tcp = 40
		if len(p) > tcp+20 && p[6] == unix.IPPROTO_TCP && int(binary.BigEndian.Uint16(p[tcp+2:])) == port {
			seen[int(binary.BigEndian.Uint16(p)>>4&0xff)] += len(p)
		}
	}
	// ECN-capable data has ECT(0); the SYN and other control packets have not.
	if seen[expedited|2] < 200_000 || len(seen) > 2 {
		t.Errorf("bytes by class: %v", seen)
	}
}

// TestNetFlows: a thousand TCP connections at once.
func TestNetFlows(t *testing.T) {
	a, b := upPair(t)
	b.echoTCP(7)
	const flows, size = 1000, 20_000
	var running sync.WaitGroup
	failed := make(chan error, flows)
	conns := make([]net.Conn, flows)
	for i := range conns {
		c, err := a.dial(b, 7)
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		conns[i] = c
	}
	start := time.Now()
	for i, c := range conns {
		running.Go(func() {
			c.SetDeadline(time.Now().Add(time.Minute))
			data, buf := random(uint64(i), size), make([]byte, size)
			_, err := c.Write(data)
			if err == nil {
				_, err = io.ReadFull(c, buf)
			}
			if err == nil && !bytes.Equal(data, buf) {
				err = errors.New("other bytes")
			}
			if err != nil {
				failed <- fmt.Errorf("connection %d: %w", i, err)
			}
		})
	}
	running.Wait()
	t.Logf("%d connections, %d bytes there and back on each: %v", flows, size, time.Since(start))
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	sound(t, a, b)
}

// TestNetIntegrity: the SHA-256 of many bytes is the same on the other side.
func TestNetIntegrity(t *testing.T) {
	a, b := upPair(t)
	n := bulk(256 << 20)
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		t.Logf("%s to %s: %.2f Gbit/s, hashes included", way[0].name, way[1].name, transfer(t, way[0], way[1], n))
	}
	// Nothing is lost on this link: what is sent twice came in another order. How flows
	// are spread depends on their ports, so there are some.
	for range 8 {
		transfer(t, a, b, 16<<20)
	}
	if k := a.kernel(); k["TcpRetransSegs"]*50 > k["TcpOutSegs"] {
		t.Errorf("of %d segments, %d were sent again", k["TcpOutSegs"], k["TcpRetransSegs"])
	} else {
		t.Logf("of %d segments, %d were sent again", k["TcpOutSegs"], k["TcpRetransSegs"])
	}
	var both sync.WaitGroup
	both.Go(func() { transfer(t, a, b, n/4) })
	transfer(t, b, a, n/4)
	both.Wait()
	sound(t, a, b)
}

// TestNetLoaded: pings beside a transfer are slower, and none is lost.
func TestNetLoaded(t *testing.T) {
	a, b := upPair(t)
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		pings := a.start("ping", "-6", "-n", "-q", "-i0.01", "-c100", b.ula.String())
		for running := true; running; {
			transfer(t, way[0], way[1], 64<<20)
			select {
			case <-pings.done:
				running = false
			default:
			}
		}
		out := pings.output()
		t.Logf("%s sends: %s", way[0].name, lastLines(out, 2))
		if !strings.Contains(out, " 100 received") {
			t.Errorf("pings were lost: %s", out)
		}
	}
}

// TestNetRungs: every way of handing packets to the system, on either side, carries
// all sizes and keeps every byte.
func TestNetRungs(t *testing.T) {
	modes := []string{"gso on", "gso off", "batch on", "batch off", "plain on", "plain off"}
	for i, mode := range modes {
		other := modes[(i+3)%len(modes)] // another rung, and the other offload
		t.Run(mode+", "+other, func(t *testing.T) {
			a, b := pair(t)
			for h, mode := range map[*host]string{a: mode, b: other} {
				rung, offload, _ := strings.Cut(mode, " ")
				h.up("--set", "link.rung="+rung, "--set", "tun.offload="+offload)
				if got := h.status().Rung; got != rung {
					t.Errorf("%s is on rung %s, want %s", h.name, got, rung)
				}
			}
			a.meets(b)
			everySize(t, a, b, 5)
			for _, way := range [][2]*host{{a, b}, {b, a}} {
				t.Logf("%s to %s: %.2f Gbit/s", way[0].name, way[1].name, transfer(t, way[0], way[1], bulk(48<<20)))
			}
			sound(t, a, b)
		})
	}
}

// TestNetOnward: what the adapter hands to the kernel, checksums and segments left to
// that, is sound also where the kernel does not take it itself but sends it onward, by an
// interface that does the rest or by one that does nothing of it.
//
//	a ── eth1 ── b ── eth2 ── c, which has b's address
//
// b's adapter keeps that address, and nothing from it may come in by eth2. So on that
// cable, c is fd77::2.
func TestNetOnward(t *testing.T) {
	if _, err := exec.LookPath("ethtool"); err != nil {
		need(t, "ethtool")
	}
	a, b := upPair(t)
	c := newMachine(t, "c")
	c.ula = b.ula
	join(2, b, c)
	b.sysctl("ipv6/conf/all/forwarding=1")
	b.ip("addr add fd77::1/64 dev eth2 nodad")
	c.ip("addr add fd77::2/64 dev eth2 nodad", "addr add "+b.ula.String()+"/128 dev eth2 nodad",
		"route add "+a.ula.String()+"/128 via fd77::1 src "+b.ula.String())
	for h, nat := range map[*host][4]string{
		b: {"iifname anode0 ip6 daddr " + b.ula.String(), "fd77::2", "oifname anode0 ip6 saddr fd77::2", b.ula.String()},
		c: {"ip6 daddr fd77::2", b.ula.String(), "oifname eth2 ip6 saddr " + b.ula.String(), "fd77::2"},
	} {
		h.run("nft", fmt.Sprintf("table ip6 onward { chain i { type nat hook prerouting priority dstnat; %s dnat to %s; }; "+
			"chain o { type nat hook postrouting priority srcnat; %s snat to %s; }; }", nat[0], nat[1], nat[2], nat[3]))
	}
	within(t, dialWait, "a ping from a to c", func() bool { return a.pings(c) })
	for _, offload := range []string{"on", "off"} {
		step(t, "offload "+offload, func(t *testing.T) {
			b.run("ethtool", "-K", "eth2", "tx", offload, "tso", offload, "gso", offload, "gro", offload)
			everySize(t, a, c, 7)
			for _, way := range [][2]*host{{a, c}, {c, a}} {
				t.Logf("%s to %s: %.2f Gbit/s", way[0].name, way[1].name, transfer(t, way[0], way[1], 32<<20))
			}
		}, a, b, c)
	}
	if n := b.kernel()["Ip6OutForwDatagrams"]; n < 4*(32<<20)/65535 {
		t.Errorf("%d packets went onward", n)
	}
	sound(t, a, b, c)
}
