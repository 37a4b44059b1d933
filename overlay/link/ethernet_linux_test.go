package link

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"anodenet/anode/wire"
)

// bareCable joins two new namespaces by a link without any address, not even those of IPv6.
func bareCable(t *testing.T) (a, b *namespace) {
	t.Helper()
	a, b = newNamespace(t), newNamespace(t)
	for _, n := range []*namespace{a, b} {
		var err error
		n.do(func() { err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) })
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	a.ip(fmt.Sprintf("link add lan type veth peer name lan netns %d", b.tid), "link set lan up")
	b.ip("link set lan up")
	return a, b
}

// ethernet opens a Mux on the namespace's interfaces of some names.
func (n *namespace) ethernet(names ...string) *Mux {
	n.t.Helper()
	m := NewMux(MuxConfig{})
	n.t.Cleanup(func() { m.Close() })
	var err error
	n.do(func() { err = m.OpenEthernet(names) })
	if err != nil {
		n.t.Fatal(err)
	}
	n.follow(m)
	return m
}

// follow passes the present links to a Mux, as a node does.
func (n *namespace) follow(m *Mux) {
	s := n.state(new(System))
	n.do(func() { m.Links(s) })
}

// carrier waits until the interfaces of namespaces take packets: the kernel drops them for up to a
// second after both ends of a cable are up, while they still have no queue.
func carrier(t *testing.T, ns ...*namespace) {
	t.Helper()
	ready := func(n *namespace) bool {
		var out []byte
		var err error
		n.do(func() { out, err = exec.Command("ip", "-o", "link", "show", "up").Output() })
		return err == nil && len(n.state(new(System)).Interfaces) > 0 && !bytes.Contains(out, []byte("noop"))
	}
	for _, n := range ns {
		for tries := 0; !ready(n); tries++ {
			if tries == 1000 {
				t.Fatal("no carrier")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func onePort(t *testing.T, m *Mux) *nic {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.ether.ports {
		return p.(*nic)
	}
	t.Fatal("no Ethernet is open")
	return nil
}

// Without any IP address, packets of all lengths go there and back, the first by broadcast.
func TestEthernetThereAndBack(t *testing.T) {
	a, b := bareCable(t)
	carrier(t, a, b)
	ma, mb := a.ethernet("lan"), b.ethernet("lan")
	in := newInbox(t, mb)
	to := ma.Broadcasts()
	if len(to) != 1 {
		t.Fatalf("broadcasts to %v", to)
	}
	if want := AtMAC(onePort(t, ma).own, 1).Addr.Addr(); to[0].Local != want {
		t.Errorf("broadcasts come from %v, want %v", to[0].Local, want)
	}
	hello := bytes.Repeat([]byte("h"), 40)
	write(t, ma.NewWriter(), Train{Buf: hello, Size: len(hello), Endpoint: to[0]})
	from := in.want(hello)
	if from.MAC() != onePort(t, ma).own || from.If != b.index() || from.Kind != Ethernet {
		t.Errorf("it came from %+v", from)
	}

	back := newInbox(t, ma)
	train := make([]byte, 63*1000+500)
	rand.NewChaCha8([32]byte{}).Read(train)
	write(t, mb.NewWriter(), Train{Buf: train, Size: 1000, Endpoint: from})
	for off := 0; off < len(train); off += 1000 {
		back.want(train[off:min(off+1000, len(train))])
	}
	for _, n := range []int{wire.MinPacket, 43, 44, 45, 46, 60, 1498} {
		write(t, mb.NewWriter(), Train{Buf: train[:n], Size: n, Endpoint: from})
		back.want(train[:n])
	}
	if sent, _ := mb.NewWriter().Write([]Train{{Buf: train[:1499], Size: 1499, Endpoint: from}}); sent != 0 || mb.Counters()["tx_ethernet_refused"] != 1 {
		t.Errorf("a packet larger than the interface takes: sent %d, %v", sent, mb.Counters())
	}
	if sent, err := mb.NewWriter().Write([]Train{{Buf: hello, Size: 40, Endpoint: AtMAC(from.MAC(), 99)}}); sent != 0 || !errors.Is(err, ErrEndpoint) {
		t.Errorf("an interface that is not open: sent %d, %v", sent, err)
	}
}

// Frames that are none of ours, and frames to others, do not get through, and do not hinder what
// is ours.
func TestEthernetFlood(t *testing.T) {
	a, b := bareCable(t)
	carrier(t, a, b)
	mb := b.ethernet("lan")
	target := onePort(t, mb).own
	raw := func(protocol uint16, to [6]byte, payload []byte) (err error) {
		a.do(func() {
			var fd int
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return
			}
			defer unix.Close(fd)
			l := &unix.SockaddrLinklayer{Protocol: networkOrder(protocol), Ifindex: a.index2(), Halen: 6}
			copy(l.Addr[:], to[:])
			for range 100 {
				if err = unix.Sendto(fd, payload, 0, l); err != nil {
					return
				}
			}
		})
		return err
	}
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1400)
	for i := range noise {
		noise[i] = byte(r.Uint32()) | 0x80 // a length that is too large
	}
	good := frameOf(bytes.Repeat([]byte("g"), 100))
	for _, x := range []struct {
		protocol uint16
		to       [6]byte
		payload  []byte
	}{
		{etherType, target, noise}, {etherType, target, []byte{1}}, {etherType, target, make([]byte, 60)},
		{etherType, [6]byte{2, 2, 2, 2, 2, 2}, good}, // to somebody else
		{0x88b6, target, good},                       // of another type
	} {
		if err := raw(x.protocol, x.to, x.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw(etherType, target, good); err != nil {
		t.Fatal(err)
	}
	in := newInbox(t, mb)
	for range 100 {
		in.want(good[2:])
	}
	// Those of another type never reach the socket. What is read is counted after it is handed over.
	c := mb.Counters()
	for tries := 0; c["rx_packets"] != 100 && tries < 1000; tries++ {
		time.Sleep(time.Millisecond)
		c = mb.Counters()
	}
	if c["rx_ethernet_bad"] != 400 || c["rx_packets"] != 100 {
		t.Errorf("counters %v", c)
	}
}

// index2 is index for use inside do.
func (n *namespace) index2() int {
	list, err := new(System).interfaces()
	if err != nil || len(list) == 0 {
		return -1
	}
	return list[0].Index
}

// What is wanted opens when its interface comes, and closes when that goes, or is called
// otherwise. Tunnels and members of bridges are not opened.
func TestEthernetFollowsInterfaces(t *testing.T) {
	a, b := bareCable(t)
	carrier(t, a, b)
	m := a.ethernet("lan", "later", "tunnel", "member")
	open := func() (names []string) {
		a.follow(m)
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range m.ether.ports {
			names = append(names, p.(*nic).iface.Name)
		}
		slices.Sort(names)
		return names
	}
	want := func(what string, names ...string) {
		t.Helper()
		for tries := 0; !slices.Equal(open(), names); tries++ {
			if tries == 1000 {
				t.Fatalf("%s: %v are open, want %v", what, open(), names)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	want("at first", "lan")
	a.ip("link set lan down")
	want("down")
	a.ip("link set lan up")
	want("up", "lan")
	a.ip("link set lan down", "link set lan name else", "link set else up")
	want("renamed")
	a.ip("link set else down", "link set else name later", "link set later up")
	want("renamed to a wanted name", "later")
	a.ip("link set later mtu 1400")
	want("another MTU", "later")
	if p := onePort(t, m); p.iface.MTU != 1400 {
		t.Errorf("the port has an MTU of %d", p.iface.MTU)
	}
	a.ip("link add tunnel type vxlan id 1 remote 127.0.0.1 dstport 4789", "link set tunnel up",
		"link add bridge type bridge", "link add member type veth peer name other", "link set member master bridge",
		"link set other up", "link set member up", "link set bridge up")
	want("a tunnel and a member of a bridge", "later")

	carrier(t, a, b)
	in := newInbox(t, m)
	mb := b.ethernet("lan")
	p := bytes.Repeat([]byte("p"), 50)
	write(t, mb.NewWriter(), Train{Buf: p, Size: 50, Endpoint: mb.Broadcasts()[0]})
	in.want(p)
	a.ip("link del later")
	want("gone")
}

// Two ports on one network do not take each other's broadcasts for somebody else's.
func TestEthernetOwnFrames(t *testing.T) {
	a, b := bareCable(t)
	b.ip("link add two type veth peer name two2", fmt.Sprintf("link set two2 netns %d", a.tid), "link set two up",
		"link add bridge type bridge", "link set lan master bridge", "link set two master bridge", "link set bridge up")
	a.ip("link set two2 up")
	carrier(t, a)
	m, mb := a.ethernet("lan", "two2"), b.ethernet("bridge")
	for tries := 0; len(m.Broadcasts()) < 2 || len(mb.Broadcasts()) < 1; tries++ {
		if tries == 1000 {
			t.Fatal("not open")
		}
		time.Sleep(5 * time.Millisecond)
		a.follow(m)
		b.follow(mb)
	}
	carrier(t, a, b)
	in, there := newInbox(t, m), newInbox(t, mb)
	p := bytes.Repeat([]byte("p"), 50)
	for _, to := range m.Broadcasts() {
		write(t, m.NewWriter(), Train{Buf: p, Size: 50, Endpoint: to})
		to = there.want(p)
		q := bytes.Repeat([]byte("q"), 50)
		write(t, mb.NewWriter(), Train{Buf: q, Size: 50, Endpoint: to})
		in.want(q) // and not p
	}
}

// Who lacks the capability is told so in plain words.
func TestEthernetRights(t *testing.T) {
	n := newNamespace(t)
	err := n.as(nobody, func() error {
		m := NewMux(MuxConfig{})
		defer m.Close()
		if err := m.OpenEthernet([]string{"lan"}); !errors.Is(err, ErrEthernetRights) || !strings.Contains(err.Error(), "; try: ") {
			t.Errorf("%v", err)
		}
		return m.OpenEthernet(nil)
	})
	if err != nil {
		t.Error(err)
	}
}
