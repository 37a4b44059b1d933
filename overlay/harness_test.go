package overlay

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/store"
	"anodenet/overlay/vnet"
)

// fakeDevice is a Device and its Queue: tests write messages into out, and look at
// what was delivered.
type fakeDevice struct {
	mtu    int
	out    chan outgoing
	closed chan struct{}
	once   sync.Once

	cur  outgoing
	slot []byte

	mu      sync.Mutex
	got     []delivered
	tracked []anode.ULA
	errors  []answered
	// it has a policy: what is not trusted is refused
	strictly bool
}

type outgoing struct {
	to   anode.ULA
	msgs [][]byte
}

type delivered struct {
	from    anode.ULA
	trusted bool
	msg     string
}

type answered struct {
	what string
	to   anode.ULA
	mtu  int
}

var errDeviceClosed = errors.New("device closed")

func newFakeDevice() *fakeDevice {
	return &fakeDevice{mtu: 1440, out: make(chan outgoing, 256), closed: make(chan struct{})}
}

func (d *fakeDevice) Name() string                { return "fake0" }
func (d *fakeDevice) MTU() int                    { return d.mtu }
func (d *fakeDevice) Counters() map[string]uint64 { return nil }
func (d *fakeDevice) Close() error                { d.once.Do(func() { close(d.closed) }); return nil }

func (d *fakeDevice) NoRoute(to anode.ULA, _ []byte)    { d.answer("no route", to, 0) }
func (d *fakeDevice) Prohibited(to anode.ULA, _ []byte) { d.answer("prohibited", to, 0) }
func (d *fakeDevice) TooBig(to anode.ULA, _ []byte, mtu int) {
	d.answer("too big", to, mtu)
}

func (d *fakeDevice) answer(what string, to anode.ULA, mtu int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errors = append(d.errors, answered{what, to, mtu})
}

func (d *fakeDevice) Read(wait bool) (anode.ULA, bool, error) {
	if !wait {
		select {
		case d.cur = <-d.out:
			return d.cur.to, true, nil
		default:
			return anode.ULA{}, false, nil
		}
	}
	select {
	case d.cur = <-d.out:
		return d.cur.to, true, nil
	case <-d.closed:
		return anode.ULA{}, false, errDeviceClosed
	}
}

func (d *fakeDevice) Shape() (count, size, last int) {
	m := d.cur.msgs
	return len(m), len(m[0]), len(m[len(m)-1])
}

func (d *fakeDevice) Next() []byte {
	if len(d.cur.msgs) == 0 {
		return nil
	}
	m := d.cur.msgs[0]
	d.cur.msgs = d.cur.msgs[1:]
	return m
}

func (d *fakeDevice) Track(to anode.ULA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tracked = append(d.tracked, to)
}

func (d *fakeDevice) Slot(n int) []byte {
	d.slot = slices.Grow(d.slot[:0], n)[:n]
	return d.slot
}

// fakeIncoming is the half of a device for what comes beside UDP, on a goroutine of its own.
type fakeIncoming struct {
	*fakeDevice
	slot []byte
}

func (d *fakeIncoming) Slot(n int) []byte {
	d.slot = slices.Grow(d.slot[:0], n)[:n]
	return d.slot
}

// Put delivers everything, also what the adapter's policy would refuse, unless the device is
// strict.
func (d *fakeDevice) Put(from anode.ULA, trusted bool, msg []byte) (refused bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.strictly && !trusted {
		return true
	}
	d.got = append(d.got, delivered{from, trusted, string(msg)})
	return false
}

// Unasked says of a strict device that everything except echoes needs to be let in.
func (d *fakeDevice) Unasked(anode.ULA) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.strictly && d.cur.msgs[0][0] != byte(wire.Ping) && d.cur.msgs[0][0] != byte(wire.Pong)
}

func (d *fakeDevice) Came(anode.ULA, []byte) {}

func (d *fakeDevice) Flush() error { return nil }

// delivered gives what has arrived so far.
func (d *fakeDevice) delivered() []delivered {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got)
}

func (d *fakeDevice) answers() []answered {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.errors)
}

// testClock is a clock that tests can set.
type testClock struct {
	mu   sync.Mutex
	wall time.Duration // added to what people see
	age  time.Duration // added to ages, as sleep is
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.wall)
}

func (c *testClock) Since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(time.Now().UnixNano()) + c.age
}

func (c *testClock) set(wall, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.age = wall, age
}

// testNode is a node on a host of the simulated internet.
type testNode struct {
	*Node
	t      *testing.T
	host   *vnet.Host
	dev    *fakeDevice
	clock  *testClock
	cfg    testConfig
	dir    string
	bare   bool // without an adapter, and its book in memory
	cancel context.CancelFunc
	ended  chan error
}

// testConfig is a node's Config, and the peers of its configuration.
type testConfig struct {
	Config
	Peers []Peer
}

// bubble runs f under virtual time, with an internet that ends with it.
func bubble(t *testing.T, f func(t *testing.T, w *vnet.World)) {
	t.Helper()
	seed := vnet.Seed(t)
	synctest.Test(t, func(t *testing.T) {
		w := vnet.New(seed)
		defer w.Close()
		f(t, w)
	})
}

func newIdentity(t testing.TB) *anode.Identity {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// node makes a node with an identity of its own; start starts it.
func newTestNode(t *testing.T, h *vnet.Host, change func(*Config)) *testNode {
	t.Helper()
	n := &testNode{t: t, host: h, clock: &testClock{}, dir: t.TempDir()}
	n.cfg.Config = Config{Identity: newIdentity(t), Network: h, Port: link.Port, Relay: true, Version: "test"}
	if testing.Verbose() && os.Getenv("ANODE_LOG") != "" {
		n.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", h.Name())
	}
	if change != nil {
		change(&n.cfg.Config)
	}
	return n
}

func (n *testNode) start() *testNode {
	n.t.Helper()
	if n.bare {
		return n.startBare()
	}
	s, err := store.Open(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	n.dev = newFakeDevice()
	cfg := n.cfg.Config
	if cfg.Book, _, err = book.Open(n.address0(), s, n.cfg.Peers); err != nil {
		n.t.Fatal(err)
	}
	cfg.Clock, cfg.Device, cfg.Queues, cfg.Incoming = n.clock, n.dev, []Queue{n.dev}, &fakeIncoming{fakeDevice: n.dev}
	return n.run(cfg, func() { s.Close() })
}

// startBare starts a node as programs do that use the package as a library.
func (n *testNode) startBare() *testNode {
	n.t.Helper()
	cfg := n.cfg.Config
	var err error
	if cfg.Book, _, err = book.Open(n.address0(), book.NewMemory(), n.cfg.Peers); err != nil {
		n.t.Fatal(err)
	}
	cfg.Clock = n.clock
	return n.run(cfg, func() {})
}

func (n *testNode) run(cfg Config, after func()) *testNode {
	n.t.Helper()
	var err error
	if n.Node, err = New(cfg); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(n.t.Context())
	n.cancel, n.ended = cancel, make(chan error, 1)
	go func() {
		err := n.Run(ctx)
		after()
		n.ended <- err
	}()
	return n
}

// stop ends a node and waits for it.
func (n *testNode) stop() {
	n.t.Helper()
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Errorf("%s: Run: %v", n.host.Name(), err)
	}
}

func (n *testNode) address0() anode.Address { return n.cfg.Identity.Address() }

// adds makes all nodes peers of each other, in their Config.
func adds(ns ...*testNode) {
	for _, a := range ns {
		for _, b := range ns {
			if a != b {
				a.cfg.Peers = append(a.cfg.Peers, Peer{Address: b.address0(), Name: b.host.Name()})
			}
		}
	}
}

// say sends one IP6 message, whose text is its payload, as the adapter would.
func (n *testNode) say(to *testNode, text string) { n.sayTo(to.address0().ULA(), text) }

func (n *testNode) sayTo(u anode.ULA, text string) {
	n.dev.out <- outgoing{u, [][]byte{ip6(text)}}
}

func ip6(text string) []byte {
	return wire.IP6Msg{Flow: 6 << 28, NextHeader: 59, HopLimit: 64, Payload: []byte(text)}.Append([]byte{byte(wire.IP6)})
}

// gotText reports whether a text has arrived from a node.
func (n *testNode) gotText(from *testNode, text string) bool {
	return slices.ContainsFunc(n.dev.delivered(), func(d delivered) bool { return d.from == from.address0().ULA() && d.msg == string(ip6(text)) })
}

// heard checks that a text arrived from a node, exactly times times.
func (n *testNode) heard(from *testNode, text string, times int) {
	n.t.Helper()
	count := 0
	for _, d := range n.dev.delivered() {
		if d.from == from.address0().ULA() && d.msg == string(ip6(text)) {
			count++
		}
	}
	if count != times {
		n.t.Errorf("%s heard %q from %s %d times, want %d", n.host.Name(), text, from.host.Name(), count, times)
	}
}

func (n *testNode) status() Status {
	n.t.Helper()
	s, err := n.Status(n.t.Context())
	if err != nil {
		n.t.Fatalf("status: %v", err)
	}
	return s
}

// peer gives the status of one peer; its zero value if it is not known.
func (n *testNode) peer(of *testNode) PeerStatus {
	n.t.Helper()
	for _, p := range n.status().Peers {
		if p.Address == of.address0() {
			return p
		}
	}
	return PeerStatus{}
}

func (n *testNode) counter(name string) uint64 { return n.status().Counters[name] }

func (n *testNode) ping(to *testNode, timeout time.Duration) (PingReply, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), timeout)
	defer cancel()
	return n.Ping(ctx, to.address0(), 40)
}

// lan puts hosts on a new segment, at 10.N.0.1 and on.
func lan(w *vnet.World, name string, net byte, hosts ...*vnet.Host) *vnet.Segment {
	s := w.Segment(name, vnet.Link{Delay: time.Millisecond})
	for k, h := range hosts {
		h.Attach(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, net, 0, byte(k + 1)}), 24))
	}
	return s
}

// pair starts two nodes on one LAN that added each other.
func pair(t *testing.T, w *vnet.World) (a, b *testNode, s *vnet.Segment) {
	t.Helper()
	a = newTestNode(t, w.Host("a"), nil)
	b = newTestNode(t, w.Host("b"), nil)
	adds(a, b)
	s = lan(w, "lan", 0, a.host, b.host)
	return a.start(), b.start(), s
}

// tape keeps what a segment carries.
type tape struct {
	mu      sync.Mutex
	packets []vnet.Packet
}

func record(s *vnet.Segment) *tape {
	t := &tape{}
	s.Tap(func(p vnet.Packet) {
		t.mu.Lock()
		defer t.mu.Unlock()
		p.Data = bytes.Clone(p.Data)
		t.packets = append(t.packets, p)
	})
	return t
}

func (t *tape) all() []vnet.Packet {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.packets)
}

// settle lets virtual time pass.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
