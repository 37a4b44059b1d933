package main_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// middle is somebody on the cable between two hosts, who passes on what comes, in the
// way that he likes:
//
//	a ── eth1 ── port0 ─ middle ─ port1 ── eth1 ── b
type middle struct {
	ports [2]int // sockets
	bad   atomic.Pointer[mischief]
}

// mischief is what happens to a frame, each with a chance of so many in 1000.
type mischief struct{ lose, double, delay, damage, replay int }

// newMiddle joins two hosts by a cable with somebody on it, who does nothing yet.
func newMiddle(t *testing.T, hosts ...*host) *middle {
	t.Helper()
	m := &middle{}
	m.bad.Store(&mischief{})
	self := newMachine(t, "middle")
	for i, h := range hosts {
		port := fmt.Sprintf("port%d", i)
		self.ip(fmt.Sprintf("link add %s type veth peer name eth1 netns %d", port, h.tid), "link set "+port+" up")
		// One frame for each packet, so that packets meet their fates one by one.
		h.ip(fmt.Sprintf("addr add 10.0.1.%d/24 brd + dev eth1", i+1), "link set eth1 gso_max_segs 1 up")
		fd, err := in(self, func() (int, error) { return rawPort(port) })
		if err != nil {
			t.Fatal(err)
		}
		m.ports[i] = fd
	}
	stop := make(chan struct{})
	var ended [2]chan struct{}
	for i := range m.ports {
		ended[i] = make(chan struct{})
		go func() {
			defer close(ended[i])
			m.pass(i, stop)
		}()
	}
	t.Cleanup(func() {
		close(stop)
		for i, fd := range m.ports {
			<-ended[i]
			unix.Close(fd)
		}
	})
	return m
}

// rawPort opens an interface for frames as they come, before the virtio header of
// each, which tells which checksums are still to be made.
func rawPort(name string) (int, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return 0, err
	}
	for _, set := range []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) },
		func() error {
			return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000})
		},
		func() error { return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}) },
	} {
		if err := set(); err != nil {
			unix.Close(fd)
			return 0, err
		}
	}
	return fd, nil
}

// isUDP reports whether a frame is UDP over IPv4, or over IPv6 without extension headers.
// The kernels' own packets, to find each other, are not to be damaged: they have
// checksums of their own, which the kernels count.
func isUDP(frame []byte) bool {
	switch uint16(frame[12])<<8 | uint16(frame[13]) {
	case 0x0800:
		return frame[14+9] == unix.IPPROTO_UDP
	case 0x86dd:
		return frame[14+6] == unix.IPPROTO_UDP
	}
	return false
}

// pass takes frames from one side to the other until told to stop.
func (m *middle) pass(from int, stop <-chan struct{}) {
	const virtio, headers, remembered = 10, 14 + 20 + 8, 512
	r := rand.New(rand.NewPCG(uint64(from), 0))
	chance := func(of int) bool { return r.IntN(1000) < of }
	var past [remembered][]byte
	var late [][]byte
	send := func(frame []byte) { unix.Write(m.ports[1-from], frame) } // an error: one more that is lost
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, err := unix.Read(m.ports[from], buf)
		if err != nil || n < virtio+headers {
			if err == nil {
				send(buf[:n])
			}
			for _, f := range late {
				send(f)
			}
			late = nil
			continue
		}
		frame, bad := append([]byte(nil), buf[:n]...), m.bad.Load()
		past[r.IntN(remembered)] = frame
		if chance(bad.replay) {
			if old := past[r.IntN(remembered)]; old != nil {
				send(old)
			}
		}
		switch {
		case chance(bad.lose):
			continue
		case chance(bad.delay):
			late = append(late, frame)
			continue
		case chance(bad.double):
			send(frame)
		case chance(bad.damage) && n > virtio+headers && isUDP(frame[virtio:]):
			damaged := append([]byte(nil), frame...)
			damaged[virtio+headers+r.IntN(n-virtio-headers)] ^= byte(1 << r.IntN(8))
			send(damaged)
			continue
		}
		send(frame)
		if len(late) > 0 && chance(300) {
			send(late[0])
			late = late[1:]
		}
	}
}

// TestNetMiddle: somebody on the cable loses, doubles, delays, damages and replays. Nodes
// find each other all the same, and every byte that arrives is right.
func TestNetMiddle(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	m := newMiddle(t, a, b)
	a.add(b)
	b.add(a)
	m.bad.Store(&mischief{lose: 30, double: 30, delay: 50, damage: 20, replay: 50})
	a.up()
	b.up()
	t.Logf("the first ping comes back after %v", a.meets(b))
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		start := time.Now()
		transfer(t, way[0], way[1], 4<<20)
		t.Logf("%s to %s: 4 MB in %v", way[0].name, way[1].name, time.Since(start))
	}
	for range 5 {
		b.down(9)
		b.launch()
		t.Logf("b was restarted, a ping comes back after %v", a.meets(b))
	}
	b.ready()
	transfer(t, a, b, 1<<20)

	m.bad.Store(&mischief{lose: 300})
	b.down(9)
	b.launch()
	t.Logf("with 30 %% lost, b was restarted, and a ping comes back after %v", a.meets(b))
	b.ready()

	m.bad.Store(&mischief{damage: 100, replay: 1000})
	before := b.status().Counters
	eachOnce(t, a, b)
	after := b.status().Counters
	for _, name := range []string{"drop_seal_auth", "drop_seal_replay"} {
		if after[name] == before[name] {
			t.Errorf("%s stayed %d", name, after[name])
		}
	}
	for _, h := range []*host{a, b} {
		if out := h.node.output(); strings.Contains(out, "panic") {
			t.Error(out)
		}
	}
	sound(t, a, b)
}

// eachOnce sends numbered datagrams, of which some are lost, and checks that those that
// arrive do so once and unchanged.
func eachOnce(t *testing.T, from, to *host) {
	t.Helper()
	out, into := from.dialUDP(to, 19), to.udp(19)
	const count, size = 2000, 300
	go func() {
		for i := range count {
			if i%20 == 0 {
				<-time.After(time.Millisecond) // no more at once than queues hold
			}
			out.Write(append([]byte{byte(i >> 8), byte(i)}, random(uint64(i), size)...))
		}
	}()
	seen := make([]bool, count)
	arrived := 0
	buf := make([]byte, 2000)
	for {
		into.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := into.Read(buf)
		if err != nil {
			break
		}
		i := int(buf[0])<<8 | int(buf[1])
		if n != size+2 || i >= count || string(buf[2:n]) != string(random(uint64(i), size)) {
			t.Fatalf("%d bytes that nobody sent", n)
		}
		if seen[i] {
			t.Fatalf("datagram %d came twice", i)
		}
		seen[i] = true
		arrived++
	}
	k := to.kernel()
	t.Logf("%d of %d datagrams arrived, each once; %d found the node's socket full, %d the app's", arrived, count, k["UdpRcvbufErrors"], k["Udp6RcvbufErrors"])
	if arrived < count*3/4 {
		t.Errorf("only %d of %d datagrams arrived", arrived, count)
	}
}
