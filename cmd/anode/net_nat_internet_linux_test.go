package main_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// internet carries IP packets between the sites of a laboratory. Each site has an uplink: a
// TUN device on its gateway, whose other end is here. The kernel delays and loses nothing by
// itself, so this does:
//
//	gateway of a ── wan ─ uplink: 8 ms ─┐
//	gateway of b ── wan ─ uplink: 8 ms ─┼─ routed by the address that a packet is for
//	gateway of r ── wan ─ uplink: 2 ms ─┘
//
// A packet takes the time of both uplinks that it crosses: from a to b 16 ms, from a to r
// 10 ms. A round trip between a and b takes 32 ms directly and 40 ms through r.
type internet struct {
	stop  chan struct{}
	ended sync.WaitGroup

	mu      sync.RWMutex
	uplinks []*uplink

	recording sync.Mutex
	pcap      *os.File // nil: nothing is recorded
}

// line is the quality of an uplink, each way.
type line struct {
	delay time.Duration
	loss  int // of 1000 packets
}

// Uplinks of homes, and of machines in data centres.
var (
	homeLine   = line{delay: 8 * time.Millisecond}
	centreLine = line{delay: 2 * time.Millisecond}
)

// uplink connects a site. Its queues keep the order of packets.
type uplink struct {
	internet *internet
	tun      *os.File
	networks []netip.Prefix // that are reached by it
	line     atomic.Pointer[line]
	up, down chan late
}

func newInternet(t *testing.T) *internet {
	n := &internet{stop: make(chan struct{})}
	t.Cleanup(func() {
		close(n.stop)
		for _, u := range n.uplinks {
			u.tun.Close()
		}
		n.ended.Wait()
	})
	return n
}

// attach gives a gateway an uplink, as its interface wan.
func (n *internet) attach(gateway *host, l line, networks ...netip.Prefix) *uplink {
	gateway.t.Helper()
	tun, err := in(gateway, func() (*os.File, error) { return openTUN("wan") })
	if err != nil {
		gateway.t.Fatal(err)
	}
	const most = 1 << 13 // packets in a queue
	u := &uplink{internet: n, tun: tun, networks: networks, up: make(chan late, most), down: make(chan late, most)}
	u.line.Store(&l)
	gateway.ip("link set wan addrgenmode none", "link set wan up")
	n.mu.Lock()
	n.uplinks = append(n.uplinks, u)
	n.mu.Unlock()
	n.ended.Go(u.read)
	n.ended.Go(func() { n.carry(u.up, n.forward) })
	n.ended.Go(func() { n.carry(u.down, func(p []byte) { u.tun.Write(p) }) }) // an error: the device is gone
	return u
}

// openTUN makes a device for whole IP packets. It is gone when the file is closed.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// read takes packets from the site until its device is closed.
func (u *uplink) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := u.tun.Read(buf)
		if err != nil {
			return
		}
		u.internet.note(buf[:n])
		u.push(u.up, append([]byte(nil), buf[:n]...))
	}
}

// push puts a packet on one direction of the line. A full queue loses it, as the line may.
func (u *uplink) push(queue chan<- late, packet []byte) {
	l := u.line.Load()
	if rand.IntN(1000) < l.loss {
		return
	}
	select {
	case queue <- late{time.Now().Add(l.delay), packet}:
	default:
	}
}

// carry hands on what is in a queue when its time has come.
func (n *internet) carry(queue <-chan late, take func([]byte)) {
	for {
		select {
		case <-n.stop:
			return
		case p := <-queue:
			time.Sleep(time.Until(p.due))
			take(p.frame)
		}
	}
}

// forward brings a packet to the uplink of its destination, if there is one.
func (n *internet) forward(packet []byte) {
	to := destination(packet)
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, u := range n.uplinks {
		for _, p := range u.networks {
			if p.Contains(to) {
				u.push(u.down, packet)
				return
			}
		}
	}
}

// record writes what sites send to a file in pcap's format, until the test ends.
func (n *internet) record(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	const rawIP = 101
	header := []uint32{0xa1b2c3d4, 4<<16 | 2, 0, 0, 1 << 16, rawIP} // magic, version, zone, accuracy, longest
	if err := binary.Write(f, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	n.recording.Lock()
	n.pcap = f
	n.recording.Unlock()
	t.Cleanup(func() {
		n.recording.Lock()
		defer n.recording.Unlock()
		n.pcap = nil
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// note records a packet.
func (n *internet) note(packet []byte) {
	n.recording.Lock()
	defer n.recording.Unlock()
	if n.pcap == nil {
		return
	}
	now, length := time.Now(), uint32(len(packet))
	head := binary.LittleEndian.AppendUint32(nil, uint32(now.Unix()))
	head = binary.LittleEndian.AppendUint32(head, uint32(now.Nanosecond()/1000))
	head = binary.LittleEndian.AppendUint32(head, length)
	head = binary.LittleEndian.AppendUint32(head, length)
	n.pcap.Write(append(head, packet...)) // an error: the disk is full, and the record ends here
}

// destination is the address that an IP packet is for.
func destination(p []byte) (a netip.Addr) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		a, _ = netip.AddrFromSlice(p[16:20])
	case len(p) >= 40 && p[0]>>4 == 6:
		a, _ = netip.AddrFromSlice(p[24:40])
	}
	return a
}
