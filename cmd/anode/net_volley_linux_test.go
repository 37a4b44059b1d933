package main_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shot is a UDP datagram with any source.
type shot struct {
	from, to netip.AddrPort
	data     []byte
}

// volley is a flood of shots by a raw socket.
type volley struct {
	fd     int
	rate   int // a second
	next   func(i int) shot
	count  atomic.Int64
	ending chan struct{}
	ended  chan struct{}
	once   sync.Once
}

// fire has a host send shots, rate of them a second, until stop. next makes the i-th. All
// are of one IP version.
func fire(h *host, rate int, next func(i int) shot) *volley {
	h.t.Helper()
	family := unix.AF_INET
	if next(0).to.Addr().Is6() {
		family = unix.AF_INET6
	}
	// IPPROTO_RAW: we write the IP header too.
	fd, err := in(h, func() (int, error) {
		return unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	})
	if err != nil {
		h.t.Fatal(err)
	}
	v := &volley{fd: fd, rate: rate, next: next, ending: make(chan struct{}), ended: make(chan struct{})}
	go v.run()
	h.t.Cleanup(func() { v.stop() })
	return v
}

func (v *volley) run() {
	defer close(v.ended)
	defer unix.Close(v.fd)
	start, buf := time.Now(), make([]byte, 0, 2048)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-v.ending:
			return
		case <-tick.C:
		}
		// At most a tenth of a second's worth at once: no burst after a pause.
		due := min(int(time.Since(start).Seconds()*float64(v.rate))-i, v.rate/10+1)
		for range due {
			s := v.next(i)
			i++
			buf = s.append(buf[:0])
			if unix.Sendto(v.fd, buf, 0, sockaddr(s.to.Addr())) == nil {
				v.count.Add(1)
			}
		}
	}
}

// sent is how many went.
func (v *volley) sent() int { return int(v.count.Load()) }

// stop ends the volley, and returns how many went.
func (v *volley) stop() int {
	v.once.Do(func() { close(v.ending) })
	<-v.ended
	return v.sent()
}

func sockaddr(a netip.Addr) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16()}
}

// append writes the IP and UDP headers and the data. The kernel fills in IPv4's checksum;
// UDP's is left out there, and computed for IPv6, which demands it.
func (s shot) append(b []byte) []byte {
	const header = 8
	length := uint16(header + len(s.data))
	v4 := s.to.Addr().Is4()
	if v4 {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, 20+length)
		b = append(b, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0)
	} else {
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, length)
		b = append(b, unix.IPPROTO_UDP, 64)
	}
	b = append(b, s.from.Addr().AsSlice()...)
	b = append(b, s.to.Addr().AsSlice()...)
	at := len(b)
	b = binary.BigEndian.AppendUint16(b, s.from.Port())
	b = binary.BigEndian.AppendUint16(b, s.to.Port())
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(append(b, 0, 0), s.data...)
	if !v4 {
		sum := uint32(length) + unix.IPPROTO_UDP
		for _, part := range [][]byte{s.from.Addr().AsSlice(), s.to.Addr().AsSlice(), b[at:]} {
			for i, c := range part {
				sum += uint32(c) << (8 * (1 - i%2))
			}
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		binary.BigEndian.PutUint16(b[at+6:], max(^uint16(sum), 1))
	}
	return b
}

// nft sets a ruleset of the host, in place of the one that it has. It may stand on one line.
func (h *host) nft(rules string) {
	h.t.Helper()
	if _, err := exec.LookPath("nft"); err != nil {
		need(h.t, "nft")
	}
	lines := strings.NewReplacer("{", "{\n", ";", "\n", "}", "\n}\n").Replace(rules)
	h.run("nft", "flush ruleset")
	h.run("nft", lines)
}

// newRouter is a machine that forwards between the hosts' links: 10.0.N.1 on ethN, and
// each host is 10.0.N.2 with its default route to it.
func newRouter(t *testing.T, hosts ...*host) *host {
	t.Helper()
	r := newMachine(t, "router")
	r.sysctl("ipv4/ip_forward=1")
	for i, h := range hosts {
		join(i+1, r, h)
	}
	return r
}

// slowLink is join for two hosts that are far from each other: each frame takes its time.
func slowLink(n int, delay time.Duration, hosts ...*host) {
	t, dev := hosts[0].t, fmt.Sprintf("eth%d", n)
	t.Helper()
	self := newMachine(t, "cable")
	var ports [2]int
	for i, h := range hosts {
		port := fmt.Sprintf("port%d", i)
		self.ip(fmt.Sprintf("link add %s type veth peer name %s netns %d", port, dev, h.tid), "link set "+port+" up")
		h.ip(fmt.Sprintf("addr add 10.0.%d.%d/24 brd + dev %s", n, i+1, dev), "link set "+dev+" up")
		fd, err := in(self, func() (int, error) { return rawPort(port) })
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = fd
	}
	stop := make(chan struct{})
	var ended sync.WaitGroup
	for i := range ports {
		under := make(chan late, 1<<14)
		ended.Go(func() {
			defer close(under)
			delayed(ports[i], delay, under, stop)
		})
		ended.Go(func() {
			for f := range under {
				time.Sleep(time.Until(f.due))
				unix.Write(ports[1-i], f.frame) // an error: one that is lost
			}
		})
	}
	t.Cleanup(func() {
		close(stop)
		ended.Wait()
		for _, fd := range ports {
			unix.Close(fd)
		}
	})
}

// late is a frame on a slow link.
type late struct {
	due   time.Time
	frame []byte
}

// delayed reads frames from a port until stopped.
func delayed(port int, delay time.Duration, under chan<- late, stop <-chan struct{}) {
	buf := make([]byte, 1<<17)
	for {
		n, err := unix.Read(port, buf)
		select {
		case <-stop:
			return
		default:
		}
		if err != nil || n == 0 {
			continue // nothing came for a while
		}
		select {
		case under <- late{time.Now().Add(delay), append([]byte(nil), buf[:n]...)}:
		default: // full: lost
		}
	}
}

// settled waits until the links of hosts have all their addresses, so that they cause no
// more events.
func settled(hosts ...*host) {
	for _, h := range hosts {
		within(h.t, dialWait, "the links' addresses", func() bool { return !strings.Contains(h.run("ip", "-6", "addr"), "tentative") })
	}
	time.Sleep(500 * time.Millisecond)
}

// public gives a router's link to a host other addresses, 9.0.N.1 and 9.0.N.2, and the host
// its default route.
func public(router, h *host, n int) {
	for i, x := range []*host{router, h} {
		x.ip(fmt.Sprintf("addr flush dev eth%d", n), fmt.Sprintf("addr add 9.0.%d.%d/24 brd + dev eth%d", n, i+1, n))
	}
	h.ip(fmt.Sprintf("route add default via 9.0.%d.1", n))
}

// onlyIPv4 switches IPv6 off on hosts, except on their adapters, which turn it on again.
func onlyIPv4(hosts ...*host) {
	for _, h := range hosts {
		h.sysctl("ipv6/conf/all/disable_ipv6=1")
		h.sysctl("ipv6/conf/default/disable_ipv6=1")
	}
}
