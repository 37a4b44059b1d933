package dns

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
	"anodenet/overlay/mono"
)

// serving is a server on loopback, with a clock that the test moves.
type serving struct {
	*Server
	at    netip.AddrPort
	clock atomic.Int64
	scene *scene
}

func serve(t *testing.T) *serving {
	t.Helper()
	x := &serving{scene: newScene(t)}
	x.clock.Store(int64(time.Hour))
	x.Server = NewServer(slog.New(slog.DiscardHandler), func() time.Duration { return time.Duration(x.clock.Load()) })
	x.Publish(x.scene.Snapshot)
	sockets, err := Listen(netip.MustParseAddr("127.0.0.1"), 0)
	if err != nil {
		t.Fatal(err)
	}
	x.at = sockets.At()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- x.Serve(ctx, sockets) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *serving) dial(t *testing.T, network string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, x.at.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func (x *serving) count(name string) uint64 {
	all := map[string]uint64{}
	x.Count(all)
	return all[name]
}

func northQuery(t *testing.T) []byte {
	return ask{name: "north." + suffix + ".", kind: dnsmessage.TypeAAAA}.message(t)
}

func readTCP(t *testing.T, c net.Conn) []byte {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestServer(t *testing.T) {
	x := serve(t)
	want := "Success AAAA=" + x.scene.north.ULA().String()
	udp := x.dial(t, "udp")
	b := make([]byte, 2000)
	udp.Write(northQuery(t))
	if n, err := udp.Read(b); err != nil || answered(t, b[:n]) != want {
		t.Fatalf("% x, %v", b[:n], err)
	}
	tcp := x.dial(t, "tcp")
	q := northQuery(t)
	frame := append([]byte{0, byte(len(q))}, q...)
	tcp.Write(append(frame, frame[:7]...))
	tcp.Write(frame[7:])
	for range 2 {
		if got := answered(t, readTCP(t, tcp)); got != want {
			t.Error(got)
		}
	}
	large := x.dial(t, "tcp")
	large.Write(append(append([]byte{0xff, 0xff}, q...), make([]byte, 65535-len(q))...))
	if got := answered(t, readTCP(t, large)); got != want {
		t.Errorf("64 KB behind a query: %s", got)
	}
	none := x.dial(t, "tcp")
	none.Write([]byte{0, 3, 1, 2, 3})
	if _, err := none.Read(b); err != io.EOF {
		t.Errorf("less than a header: %v", err)
	}
	if x.count("dns_found") != 4 || x.count("dns_silent") != 1 {
		t.Errorf("%d found, %d silent", x.count("dns_found"), x.count("dns_silent"))
	}
}

// TestServerOwnAddresses: who is not this machine is not answered.
func TestServerOwnAddresses(t *testing.T) {
	s := NewServer(nil, func() time.Duration { return 0 })
	s.SetOwn([]netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.0.0.1")})
	for text, want := range map[string]bool{"fd00::1": true, "::1": true, "127.0.0.1": true, "10.0.0.1": true, "::ffff:10.0.0.1": true, "fd00::2": false, "10.0.0.2": false, "::": false} {
		if s.isOwn(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: want %t", text, want)
		}
	}
}

// burst is what one port may ask at once.
const burst = 400

// TestLimits: ports that ask little are answered in a flood from many that ask much.
func TestLimits(t *testing.T) {
	var l limits
	now, answered, quiet := mono.At(time.Hour), 0, 0
	for ms := range 5000 {
		now = now.Add(time.Millisecond)
		for k := range 50 {
			if l.allow(now, 40000+uint16((ms*50+k)%64)) {
				answered++
			}
		}
		if ms%100 == 0 && l.allow(now, 50000+uint16(ms/100)) {
			quiet++
		}
	}
	if most := 64*(40+5*10) + 1000 + 5*500; answered > most || answered < most*9/10 {
		t.Errorf("%d of a flood were answered, want %d", answered, most)
	}
	if quiet != 50 {
		t.Errorf("%d of 50 others were answered", quiet)
	}
}

// TestServerLimit: one port has its budget, and others are not concerned.
func TestServerLimit(t *testing.T) {
	x := serve(t)
	busy, other := x.dial(t, "udp"), x.dial(t, "udp")
	b, q := make([]byte, 2000), northQuery(t)
	for range burst {
		busy.Write(q)
		if _, err := busy.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	busy.Write(q)
	other.Write(q)
	if _, err := other.Read(b); err != nil {
		t.Fatal(err)
	}
	if n := x.count("dns_limited"); n != 1 {
		t.Errorf("%d were limited", n)
	}
	x.clock.Add(int64(time.Second / 100))
	busy.Write(q)
	if _, err := busy.Read(b); err != nil {
		t.Error(err)
	}
	tcp := x.dial(t, "tcp")
	for i := range burst + 1 {
		tcp.Write(append([]byte{0, byte(len(q))}, q...))
		if i == burst {
			if _, err := tcp.Read(b); err == nil {
				t.Error("a connection has no budget")
			}
			return
		}
		readTCP(t, tcp)
	}
}

// TestServerConnections: connections beyond the limit are closed at once.
func TestServerConnections(t *testing.T) {
	x := serve(t)
	for range maxConns {
		x.dial(t, "tcp").Write([]byte{0})
	}
	deadline := time.Now().Add(10 * time.Second)
	for x.count("dns_connections_full") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("there is no limit")
		}
		c, err := net.Dial("tcp", x.at.String())
		if err == nil {
			c.SetDeadline(time.Now().Add(time.Second))
			c.Read(make([]byte, 1))
			c.Close()
		}
	}
	udp := x.dial(t, "udp")
	udp.Write(northQuery(t))
	if _, err := udp.Read(make([]byte, 2000)); err != nil {
		t.Error("connections stop datagrams:", err)
	}
}

// TestListen: the port is the same for both, and the next one is taken where one is not free.
func TestListen(t *testing.T) {
	at := netip.MustParseAddr("127.0.0.1")
	first, err := Listen(at, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := Listen(at, first.At().Port()); err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "bind") {
		t.Errorf("%v", err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	second, err := Listen(at, uint16(tcp.Addr().(*net.TCPAddr).Port), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if udp, err := net.ListenPacket("udp", tcp.Addr().String()); err != nil {
		t.Errorf("a socket was left open: %v", err)
	} else {
		udp.Close()
	}
}

// TestAsked: addresses that were asked for are remembered for a while, and so many of them.
func TestAsked(t *testing.T) {
	x := serve(t)
	u := x.scene.stranger.ULA()
	if _, ok := x.Asked(u); ok {
		t.Error("nobody asked")
	}
	query := ask{name: names.Labels(x.scene.stranger) + "." + suffix + ".", kind: dnsmessage.TypeAAAA}.message(t)
	x.answer(query, false, nil)
	if a, ok := x.Asked(u); !ok || a != x.scene.stranger {
		t.Error("it is forgotten")
	}
	x.clock.Add(int64(strangersFor) - 1)
	if _, ok := x.Asked(u); !ok {
		t.Error("it is forgotten early")
	}
	x.clock.Add(1)
	if _, ok := x.Asked(u); ok {
		t.Error("it is not forgotten")
	}
	var s strangers
	var list []anode.Address
	for i := range strangersKept + 3 {
		a := x.scene.stranger
		a[1], a[2] = byte(i>>8), byte(i) // as if in other zones
		list = append(list, a)
		s.remember(mono.Time(1), a)
	}
	for i, a := range list {
		if _, ok := s.find(2, a.ULA()); ok != (i >= 3) {
			t.Errorf("%d: %t", i, ok)
		}
	}
	if len(s.of) != strangersKept {
		t.Errorf("%d are kept", len(s.of))
	}
	s.remember(mono.Time(1), list[5])
	if len(s.of) != strangersKept {
		t.Errorf("%d are kept", len(s.of))
	}
}
