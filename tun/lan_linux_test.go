package tun

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// eachOffload4 is eachOffload with aliases.
func eachOffload4(t *testing.T, f func(t *testing.T, a, b *host), except ...counter) {
	eachOffload(t, func(t *testing.T, a, b *host) {
		a.withIPv4()
		b.withIPv4()
		f(t, a, b)
	}, except...)
}

// TestTransfer4 moves 64 MiB by alias, each way.
func TestTransfer4(t *testing.T) {
	eachOffload4(t, func(t *testing.T, a, b *host) {
		var wg sync.WaitGroup
		wg.Go(func() { transferTo(t, a, b, b.lan.Self(), 64<<20, nil) })
		wg.Go(func() { transferTo(t, b, a, a.lan.Self(), 16<<20, nil) })
		wg.Wait()
		// Packets that may be cut on their way have identifications of their own.
		transferTo(t, a, b, b.lan.Self(), 4<<20, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		})
	})
}

// TestDatagrams4 sends UDP by alias, of all sorts of sizes, fragmented and not, and as
// super-packets.
func TestDatagrams4(t *testing.T) {
	eachOffload4(t, func(t *testing.T, a, b *host) {
		g := newTraffic(1, alice, bob)
		from, to := a.udpAt(a.lan.Self(), 0), b.udpAt(b.lan.Self(), 0)
		p := ipv4.NewPacketConn(to)
		if err := p.SetControlMessage(ipv4.FlagTTL, true); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		for _, ttl := range []int{64, 3} {
			if err := ipv4.NewPacketConn(from).SetTTL(ttl); err != nil {
				t.Fatal(err)
			}
			sizes := []int{1411, 1412, 1413, 4000, 20000, 65000}
			for n := 0; n < 1412; n += 13 {
				sizes = append(sizes, n)
			}
			for _, n := range sizes {
				data := g.bytes(n)
				if _, err := from.WriteTo(data, to.LocalAddr()); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				got, cm, src, err := p.ReadFrom(buf)
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if !bytes.Equal(buf[:got], data) || cm.TTL != ttl || src.String() != from.LocalAddr().String() {
					t.Fatalf("%d bytes came as %d others, TTL %d, of %v", n, got, cm.TTL, src)
				}
			}
		}
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
		dst := b.lan.Self().String()
		for _, args := range [][]string{{"-s", "0"}, {"-s", "1412"}, {"-s", "1413"}, {"-s", "20000"}, {"-Q", "0xb8"}, {"-t", "3"}} {
			out := a.run("ping", append([]string{"-4", "-n", "-c", "1", "-W", "9", dst}, args...)...)
			if !strings.Contains(out, " 0% packet loss") {
				t.Errorf("ping %v:\n%s", args, out)
			}
		}
	})
}

// TestErrorsShown4 shows programs the errors of a peer, and those that we make.
func TestErrorsShown4(t *testing.T) {
	a, b := newHost(t, 1, OffloadOn, 1), newHost(t, 2, OffloadOn, 1)
	a.withIPv4()
	b.withIPv4()
	var mu sync.Mutex
	var answer func(to anode.ULA, m []byte)
	a.hop = func(to anode.ULA, m []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if answer == nil || m[0] != byte(wire.IP4) {
			return true
		}
		answer(to, m)
		return false
	}
	set := func(f func(to anode.ULA, m []byte)) {
		mu.Lock()
		defer mu.Unlock()
		answer = f
	}
	pump(t, a, b, bothTrust)
	refused := func(at netip.Addr, want error) {
		t.Helper()
		a.do(func() {
			c, err := net.Dial("udp4", netip.AddrPortFrom(at, 9).String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if err := setRecvErr(c); err != nil {
				t.Error(err)
			}
			c.Write([]byte("hello"))
			if _, err := c.Read(make([]byte, 10)); !errors.Is(err, want) {
				t.Errorf("%v said %v, want %v", at, err, want)
			}
		})
	}
	refused(b.lan.Self(), syscall.ECONNREFUSED) // of b's system
	refused(netip.MustParseAddr("100.64.99.99"), syscall.EHOSTUNREACH)
	set(a.dev.NoRoute)
	refused(b.lan.Self(), syscall.EHOSTUNREACH)
	set(a.dev.Prohibited)
	refused(b.lan.Self(), syscall.EHOSTUNREACH)

	const path = 1300
	set(func(to anode.ULA, m []byte) {
		if len(m)-headIP4+ip4Size > path {
			a.dev.TooBig(to, m, path)
		} else {
			b.put(0, a.ula, true, m, true)
		}
	})
	transferTo(t, a, b, b.lan.Self(), 1<<20, nil)
	if out := a.run("ip", "route", "get", b.lan.Self().String()); !strings.Contains(out, "mtu 1300") {
		t.Errorf("the route's MTU was not learned: %s", out)
	}
	clean(t, []*host{a, b}, outAlias)
}

// setRecvErr has a socket report errors that it would else not.
func setRecvErr(c net.Conn) (err error) {
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1) }); e != nil {
		return e
	}
	return err
}

// TestMovedShown has a host that calls its peer otherwise than it calls itself.
func TestMovedShown(t *testing.T) {
	a, b := newHost(t, 1, OffloadOn, 1), newHost(t, 2, OffloadOn, 1)
	a.withIPv4()
	b.withIPv4()
	other := anode.ULA{0: 0xfd, 15: 2} // is lower, and so has the alias of b
	a.lan.Set([]anode.ULA{other, b.ula})
	if !a.lan.Moved(b.ula) {
		t.Fatal("not moved")
	}
	at, _ := a.lan.Alias(b.ula)
	pump(t, a, b, bothTrust)
	l := b.udpAt(b.lan.Self(), 0)
	a.do(func() {
		for port, want := range map[uint16]error{l.LocalAddr().(*net.UDPAddr).AddrPort().Port(): nil, 9: syscall.ECONNREFUSED} {
			c, err := net.Dial("udp4", netip.AddrPortFrom(netip.AddrFrom4(at), port).String())
			if err != nil {
				t.Error(err)
				return
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			data := bytes.Repeat([]byte("hello"), 1000) // in fragments
			c.Write(data)
			if want != nil {
				if _, err := c.Read(make([]byte, 10)); !errors.Is(err, want) {
					t.Errorf("said %v, want %v", err, want)
				}
			} else {
				buf := make([]byte, 1<<16)
				n, from, err := l.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:n], data) {
					t.Errorf("%d bytes came as %d, %v", len(data), n, err)
					return
				}
				l.WriteTo(data, from)
				if n, err := c.Read(buf); err != nil || !bytes.Equal(buf[:n], data) {
					t.Errorf("%d bytes came back as %d, %v", len(data), n, err)
				}
			}
			c.Close()
		}
	})
	clean(t, []*host{a, b})
}

// TestBroadcast sends to all, and programs that know only that hear it.
func TestBroadcast(t *testing.T) {
	eachOffload4(t, func(t *testing.T, a, b *host) {
		from, to := a.udpAt(a.lan.Self(), 0), b.udpAt(netip.IPv4Unspecified(), 0)
		port := to.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		buf := make([]byte, 2000)
		for _, dst := range []string{"255.255.255.255", a.lan.Broadcast().String()} {
			for _, n := range []int{0, 1, 100, 1412} {
				data := bytes.Repeat([]byte{7}, n)
				if _, err := from.WriteToUDPAddrPort(data, netip.AddrPortFrom(netip.MustParseAddr(dst), port)); err != nil {
					t.Fatal(err)
				}
				got, src, err := to.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:got], data) || src.String() != from.LocalAddr().String() {
					t.Fatalf("%s, %d bytes: %d of %v, %v", dst, n, got, src, err)
				}
			}
		}
	})
}

// TestMulticast has programs join groups: the kernel reports it, and they hear what is sent
// there, with the hop limit that it was sent with.
func TestMulticast(t *testing.T) {
	eachOffload4(t, func(t *testing.T, a, b *host) {
		buf := make([]byte, 2000)
		in6, in4 := b.udpAt(netip.IPv6Unspecified(), 5353), b.udpAt(netip.MustParseAddr("224.0.0.251"), 5354)
		out6, out4 := a.udp(), a.udpAt(a.lan.Self(), 0)
		group6, group4 := netip.MustParseAddr("ff02::fb"), netip.MustParseAddr("224.0.0.251")
		p6, p4 := ipv6.NewPacketConn(in6), ipv4.NewPacketConn(in4)
		b.do(func() {
			an, err := net.InterfaceByName("an0")
			if err != nil {
				t.Error(err)
				return
			}
			// MLD comes from no address, since the interface has none of the link.
			if err := p6.JoinGroup(an, &net.UDPAddr{IP: group6.AsSlice()}); err != nil {
				t.Error(err)
			}
			b.tells(outSource, 1)
			if err := p4.JoinGroup(an, &net.UDPAddr{IP: group4.AsSlice()}); err != nil {
				t.Error(err)
			}
			b.tells(outGroup, 2)
			if err := errors.Join(p6.SetControlMessage(ipv6.FlagHopLimit, true), p4.SetControlMessage(ipv4.FlagTTL, true)); err != nil {
				t.Error(err)
			}
		})
		a.do(func() {
			an, err := net.InterfaceByName("an0")
			if err != nil {
				t.Error(err)
				return
			}
			p6, p4 := ipv6.NewPacketConn(out6), ipv4.NewPacketConn(out4)
			if err := errors.Join(p6.SetMulticastInterface(an), p4.SetMulticastInterface(an), p6.SetMulticastHopLimit(255), p4.SetMulticastTTL(255)); err != nil {
				t.Error(err)
			}
		})
		for _, n := range []int{1, 100, 1392} {
			data := bytes.Repeat([]byte{7}, n)
			if _, err := out6.WriteToUDPAddrPort(data, netip.AddrPortFrom(group6, 5353)); err != nil {
				t.Fatal(err)
			}
			got, cm, src, err := p6.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:got], data) || cm.HopLimit != 255 || src.String() != out6.LocalAddr().String() {
				t.Fatalf("%d bytes over IPv6: %d of %v, %+v, %v", n, got, src, cm, err)
			}
			if _, err := out4.WriteToUDPAddrPort(data, netip.AddrPortFrom(group4, 5354)); err != nil {
				t.Fatal(err)
			}
			got, cm4, src, err := p4.ReadFrom(buf)
			if err != nil || !bytes.Equal(buf[:got], data) || cm4.TTL != 255 || src.String() != out4.LocalAddr().String() {
				t.Fatalf("%d bytes over IPv4: %d of %v, %+v, %v", n, got, src, cm4, err)
			}
		}
	}, outSource, outGroup)
}

// tells waits until the kernel has reported a group, which is counted as what does not leave,
// and wants at least so many calls of Config.Reports then.
func (h *host) tells(drop counter, calls int64) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); h.dev.Counters()[counterNames[drop]] == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Errorf("no report was counted as %s", counterNames[drop])
			return
		}
	}
	if n := h.reports.Load(); n < calls {
		h.t.Errorf("told %d times, want %d", n, calls)
	}
}
