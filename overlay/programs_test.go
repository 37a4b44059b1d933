package overlay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/stream"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// newBareNode makes a node without an adapter.
func newBareNode(t *testing.T, h *vnet.Host) *testNode {
	t.Helper()
	n := newTestNode(t, h, nil)
	n.bare = true
	return n
}

// barePair starts two nodes without adapters on one LAN that added each other.
func barePair(t *testing.T, w *vnet.World) (a, b *testNode, s *vnet.Segment) {
	t.Helper()
	a, b = newBareNode(t, w.Host("a")), newBareNode(t, w.Host("b"))
	adds(a, b)
	s = lan(w, "lan", 0, a.host, b.host)
	return a.start(), b.start(), s
}

// serves answers each stream to a port by f.
func (n *testNode) serves(address string, f func(net.Conn)) net.Listener {
	n.t.Helper()
	l, err := n.Listen("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return l
}

// echo sends back what comes until the end of file.
func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	_ = c.Close()
}

func (n *testNode) dial(target string) net.Conn {
	n.t.Helper()
	c, err := n.Dial(n.t.Context(), "tcp", target)
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

// roundTrip sends size bytes through an echo, and checks what comes back. during, which may be
// nil, is called when a part is back.
func roundTrip(t *testing.T, c net.Conn, size int, during func()) {
	t.Helper()
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Write(want); err != nil {
			t.Error(err)
		}
		if err := c.(*stream.Conn).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got := make([]byte, size)
	n, err := io.ReadFull(c, got[:size/4])
	if during != nil {
		during()
	}
	if err == nil {
		var more int
		more, err = io.ReadFull(c, got[n:])
		n += more
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes came back, %v", n, size, err)
	}
	if n, err := c.Read(got); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d, %v", n, err)
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A stream opens by all forms of a peer's name, both sides know who the other is, and each
// direction ends by itself.
func TestStream(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		from := make(chan net.Addr, 8)
		b.serves(":80", func(c net.Conn) {
			from <- c.RemoteAddr()
			echo(c)
		})
		u, id := b.address0().ULA(), b.address0().ID()
		for _, target := range []string{
			"b:80", b.address0().String() + ":80", b.address0().CheckForm() + ":80",
			u.String() + ":80", "[" + u.String() + "]:80", id.String() + ":80",
		} {
			c := a.dial(target)
			if p, ok := PeerOf(c.RemoteAddr()); !ok || p != b.address0() || c.RemoteAddr().String() != fmt.Sprintf("[%v]:80", u) {
				t.Errorf("%s: with %v", target, c.RemoteAddr())
			}
			if p, ok := PeerOf(<-from); !ok || p != a.address0() {
				t.Errorf("%s: from %v", target, p)
			}
			roundTrip(t, c, 100<<10, nil)
		}
	})
}

// What is wrong is told apart, and is what programs for TCP know.
func TestDialErrors(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := barePair(t, w)
		c := newBareNode(t, w.Host("c")) // has not added a
		c.cfg.Relay = false
		c.host.Attach(s, netip.MustParsePrefix("10.0.0.9/24"))
		a.cfg.Peers = append(a.cfg.Peers, Peer{Address: c.address0(), Name: "c"})
		a.stop()
		a.start()
		c.start()
		gone := newBareNode(t, w.Host("gone"))
		defer a.stop()
		defer b.stop()
		defer c.stop()
		if _, err := a.AddPeer(t.Context(), Peer{Address: gone.address0(), Name: "gone"}); err != nil {
			t.Fatal(err)
		}
		c.serves(":80", echo)
		for _, x := range []struct {
			target string
			want   []error
		}{
			{"b:81", []error{ErrRefused, syscall.ECONNREFUSED}},
			{"gone:80", []error{ErrUnreachable}},
			{"c:80", []error{ErrUnreachable, &UnreachableError{Reason: ReasonNotAddedThere}}},
			{"nobody:80", []error{ErrUnknownPeer}},
			{"[fd00::1:2:3:4]:80", []error{ErrUnknownPeer}},
			{a.address0().String() + ":80", []error{ErrSelf}},
		} {
			start := time.Now()
			_, err := a.Dial(t.Context(), "tcp", x.target)
			var op *net.OpError
			if !errors.As(err, &op) {
				t.Errorf("%s: %v", x.target, err)
			}
			for _, want := range x.want {
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", x.target, err, want)
				}
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("%s: after %v", x.target, took)
			}
			t.Log(x.target, time.Since(start), err)
		}
		for _, target := range []string{"b", "b:0", "b:x", "b:65536", ":", ""} {
			if _, err := a.Dial(t.Context(), "tcp", target); err == nil {
				t.Errorf("%q: no error", target)
			}
		}
		if _, err := a.Dial(t.Context(), "tcp4", "b:80"); !errors.Is(err, ErrNetwork) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s.SetLink(vnet.Link{Loss: 1})
		var timeout net.Error
		if _, err := a.Dial(ctx, "tcp", "b:80"); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("nothing arrives: %v", err)
		}
	})
}

// On a bad link everything arrives.
func TestStreamWithLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := barePair(t, w)
		defer a.stop()
		defer b.stop()
		b.serves(":80", echo)
		s.SetLink(vnet.Link{Delay: 10 * time.Millisecond, Loss: 0.05, Duplicate: 0.01, Reorder: 0.02})
		start := time.Now()
		roundTrip(t, a.dial("b:80"), 4<<20, nil)
		t.Logf("after %v", time.Since(start))
	})
}

// A stream goes on when its path changes: from direct to a relay, and back.
func TestStreamMoves(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, r := newBareNode(t, w.Host("a")), newBareNode(t, w.Host("b")), newBareNode(t, w.Host("r"))
		adds(a, b, r)
		direct := lan(w, "direct", 0, a.host, b.host)
		lan(w, "left", 1, a.host, r.host)
		lan(w, "right", 2, b.host, r.host)
		for _, n := range []*testNode{a, b, r} {
			n.start()
			defer n.stop()
		}
		b.serves(":80", echo)
		settle(5 * time.Second)
		c := a.dial("b:80")
		if p := a.peer(b).Path; p.Kind != PathLAN {
			t.Fatalf("before: %+v", p)
		}
		roundTrip(t, c, 8<<20, func() { direct.SetLink(vnet.Link{Loss: 1}) })
		if p := a.peer(b).Path; p.Kind != PathRelay {
			t.Errorf("meanwhile: %+v", p)
		}
		direct.SetLink(vnet.Link{Delay: time.Millisecond})
		c = a.dial("b:80")
		roundTrip(t, c, 8<<20, func() { settle(time.Minute) })
		if p := a.peer(b).Path; p.Kind != PathLAN {
			t.Errorf("afterwards: %+v", p)
		}
	})
}

// A stream goes on when its path takes only shorter packets than before.
func TestStreamOnShorterPath(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := barePair(t, w)
		defer a.stop()
		defer b.stop()
		b.serves(":80", echo)
		settle(5 * time.Second)
		c := a.dial("b:80")
		roundTrip(t, c, 8<<20, func() { s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: 1100}) })
		if p := a.peer(b).Path; p.MTU >= 1100 {
			t.Errorf("afterwards: %+v", p)
		}
	})
}

// A peer that is blocked loses its streams, and opens none.
func TestStreamsOfBlockedPeer(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		accepted := make(chan net.Conn, 8)
		b.serves(":80", func(c net.Conn) { accepted <- c })
		a.dial("b:80")
		x := <-accepted
		if _, err := b.BlockPeer(t.Context(), a.address0(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("read: %v", err)
		}
		if _, err := b.Dial(t.Context(), "tcp", "a:80"); !errors.Is(err, ErrBlocked) {
			t.Errorf("dial: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := a.Dial(ctx, "tcp", "b:80"); err == nil {
			t.Error("a blocked peer has a stream")
		}
		if len(accepted) != 0 {
			t.Error("a stream of a blocked peer was accepted")
		}
	})
}

// A stranger reaches a listener for everybody and no other one. A listener for some takes no
// others.
func TestStreamsOfStrangers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newBareNode(t, w.Host("a")), newBareNode(t, w.Host("b"))
		a.cfg.Peers = []Peer{{Address: b.address0(), Name: "b"}}
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		b.serves(":80", echo)
		l, err := b.ListenFor("tcp", ":81", Who{Strangers: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.ListenFor("tcp", ":82", Who{Strangers: true, Only: []anode.Address{b.address0()}}); err != nil {
			t.Fatal(err)
		}
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go echo(c)
			}
		}()
		if _, err := a.Dial(t.Context(), "tcp", "b:80"); !errors.Is(err, errNotAddedThere) {
			t.Errorf("port 80: %v", err)
		}
		roundTrip(t, a.dial("b:81"), 1<<20, nil)
		if _, err := a.Dial(t.Context(), "tcp", "b:82"); !errors.Is(err, ErrRefused) {
			t.Errorf("port 82: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		settle(time.Minute) // what repeats the end of a stream is let in
		if _, err := a.Dial(t.Context(), "tcp", "b:81"); !errors.Is(err, errNotAddedThere) {
			t.Errorf("port 81, closed: %v", err)
		}
		if b.counter("drop_stream") == 0 {
			t.Error("nothing was counted")
		}
		// The stranger answers on a stream that was opened to it.
		a.serves(":90", echo)
		roundTrip(t, b.dial(a.address0().String()+":90"), 1<<20, nil)
	})
}

// Many streams at once, and none is left over.
func TestManyStreams(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		b.serves(":80", echo)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { roundTrip(t, a.dial("b:80"), 4000, nil) })
		}
		wg.Wait()
		settle(2 * time.Minute)
		if list := b.programs.host.Remotes(a.address0()); len(list) != 0 {
			t.Errorf("still known: %v", list)
		}
	})
}

// Datagrams arrive, with where they came from, and are answered.
func TestDatagrams(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.ListenPacket("udp", ":53"); !errors.Is(err, ErrPortInUse) {
			t.Errorf("the port twice: %v", err)
		}
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := s.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = s.WriteTo(b[:n], from)
			}
		}()
		c, err := a.Dial(t.Context(), "udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 1200, 5000, 65000, mostDgram} {
			want := bytes.Repeat([]byte{byte(size)}, size)
			if _, err := c.Write(want); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 1<<16)
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := c.Read(got)
			if err != nil || !bytes.Equal(got[:n], want) {
				t.Errorf("%d bytes: %d came back, %v", size, n, err)
			}
		}
		if _, err := c.Write(make([]byte, mostDgram+1)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long: %v", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %v", err)
		}
		if err := errors.Join(c.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		if _, _, err := s.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if b.programs.sockets.list.Load() != nil || a.programs.sockets.list.Load() != nil {
			t.Error("sockets are left over")
		}
	})
}

// A program that does not read loses datagrams, which are counted.
func TestDatagramsWait(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		if _, err := b.ListenPacket("udp", ":53"); err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"b:53", "b:54"} {
			c, err := a.Dial(t.Context(), "udp", target)
			if err != nil {
				t.Fatal(err)
			}
			for range socketQueue + 10 {
				_, _ = c.Write([]byte("x"))
				settle(time.Millisecond)
			}
			settle(time.Second)
		}
		if got := b.counter("drop_socket_full"); got != 10 {
			t.Errorf("%d were dropped, want 10", got)
		}
		if got := b.counter("drop_no_adapter"); got != socketQueue+10 {
			t.Errorf("%d for a port without a socket", got)
		}
	})
}

// A stranger's datagrams get in only where everybody's do, and as answers.
func TestDatagramsOfStrangers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newBareNode(t, w.Host("a")), newBareNode(t, w.Host("b"))
		a.cfg.Peers = []Peer{{Address: b.address0(), Name: "b"}}
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		closed, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		open, err := b.ListenPacketFor("udp", ":54", Who{Strangers: true})
		if err != nil {
			t.Fatal(err)
		}
		at, err := a.ListenPacket("udp", ":1000")
		if err != nil {
			t.Fatal(err)
		}
		send := func(s net.PacketConn, to *testNode, port uint16) {
			t.Helper()
			if _, err := s.WriteTo([]byte("x"), &Addr{Peer: to.address0(), Port: port}); err != nil {
				t.Error(err)
			}
			settle(time.Second)
		}
		gets := func(s net.PacketConn, want bool) {
			t.Helper()
			_ = s.SetReadDeadline(time.Now().Add(time.Second))
			if _, _, err := s.ReadFrom(make([]byte, 1)); (err == nil) != want {
				t.Errorf("got %v", err)
			}
		}
		send(at, b, 53)
		gets(closed, false)
		send(at, b, 54)
		gets(open, true)
		send(closed, a, 1000) // now it may answer
		gets(at, true)
		send(at, b, 53)
		gets(closed, true)
		if b.counter("drop_socket_refused") == 0 {
			t.Error("nothing was counted")
		}
	})
}

// UDP of an adapter reaches a socket, as DGRAM and as whole UDP in IP6 or IP6P, and is
// answered by DGRAM.
func TestDatagramsOfAdapter(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newBareNode(t, w.Host("b"))
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		from, to := a.address0().ULA(), b.address0().ULA()
		udp := func(text string, sum bool) []byte {
			u := binary.BigEndian.AppendUint16(nil, 4000)
			u = binary.BigEndian.AppendUint16(u, 53)
			u = binary.BigEndian.AppendUint16(u, uint16(udpHeader+len(text)))
			u = append(append(u, 0, 0), text...)
			if sum {
				binary.BigEndian.PutUint16(u[6:], checksum(u, pseudoSum(&from, &to, protoUDP, len(u))))
			}
			return u
		}
		ip := func(t wire.Type, payload []byte) []byte {
			return wire.IP6Msg{Flow: 6<<28 | 1<<20, NextHeader: protoUDP, HopLimit: 64, Payload: payload}.Append([]byte{byte(t)})
		}
		for _, x := range []struct {
			msg  []byte
			want string // empty: it does not arrive
		}{
			{wire.DgramMsg{Source: 4000, Destination: 53, Payload: []byte("dgram")}.Append([]byte{byte(wire.Dgram)}), "dgram"},
			{ip(wire.IP6P, udp("ip6p", false)), "ip6p"},
			{ip(wire.IP6, udp("ip6, odd", true)), "ip6, odd"},
			{ip(wire.IP6, udp("ip6 odd", true)), "ip6 odd"},
			{ip(wire.IP6, udp("no checksum", false)), ""},
			{ip(wire.IP6, append(udp("padded", true), 0)), "padded"},
			{ip(wire.IP6, udp("short", true)[:9]), ""},
		} {
			a.dev.out <- outgoing{to, [][]byte{x.msg}}
			_ = s.SetReadDeadline(time.Now().Add(2 * time.Second))
			got := make([]byte, 100)
			n, peer, err := s.ReadFrom(got)
			if x.want == "" {
				if err == nil {
					t.Errorf("%q arrived", got[:n])
				}
				continue
			}
			if err != nil || string(got[:n]) != x.want || peer.String() != fmt.Sprintf("[%v]:4000", from) {
				t.Errorf("%q from %v, %v; want %q", got[:n], peer, err, x.want)
				continue
			}
			if _, err := s.WriteTo([]byte("re "+x.want), &net.UDPAddr{IP: from.Addr().AsSlice(), Port: 4000}); err != nil {
				t.Error(err)
			}
			settle(time.Second)
			answer := wire.DgramMsg{Source: 53, Destination: 4000, Payload: []byte("re " + x.want)}.Append([]byte{byte(wire.Dgram)})
			all := a.dev.delivered()
			if len(all) == 0 || all[len(all)-1].msg != string(answer) {
				t.Errorf("the answer to %q did not arrive", x.want)
			}
		}
	})
}

// Handshakes tell who has no adapter.
func TestCapabilities(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newBareNode(t, w.Host("b"))
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		if _, err := a.ping(b, time.Second); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		can := func(n, of *testNode, x seal.Capabilities) bool {
			t.Helper()
			r := n.contact(new(of.address0())).Route.Load()
			if r == nil {
				t.Fatal("no route")
			}
			return r.Line.Can(x)
		}
		if !can(a, b, seal.ReadsDAck|seal.HalfCloses) || can(a, b, seal.TakesIP6) {
			t.Error("the node with an adapter")
		}
		if !can(b, a, seal.TakesIP6|seal.ReadsDAck|seal.HalfCloses) {
			t.Error("the node without one")
		}
	})
}

// fakeGateway keeps what it was given, and answers.
type fakeGateway struct {
	mu      sync.Mutex
	packets [][]byte
	asked   []uint16
	taken   chan net.Conn
}

func (g *fakeGateway) Outbound(p []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.packets = append(g.packets, bytes.Clone(p))
}

func (g *fakeGateway) Inbound(_ context.Context, _ anode.ULA, port uint16) (Taken, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, port)
	if port == 25 {
		return nil, errors.New("nothing is there")
	}
	return func(c net.Conn) { g.taken <- c }, nil
}

// TCP of an adapter for a peer without one goes to the gateway, from the first packet on, and
// streams of that peer come from there. Nothing else does, and no other peer's.
func TestGateway(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		g := &fakeGateway{taken: make(chan net.Conn, 1)}
		a := newTestNode(t, w.Host("a"), func(c *Config) { c.Gateway = g })
		b, c := newBareNode(t, w.Host("b")), newTestNode(t, w.Host("c"), nil)
		adds(a, b, c)
		lan(w, "lan", 0, a.host, b.host, c.host)
		for _, n := range []*testNode{a, b, c} {
			n.start()
			defer n.stop()
		}
		tcp := make([]byte, 20)
		tcp[12] = 5 << 4
		from, to := a.address0().ULA(), b.address0().ULA()
		msg := wire.IP6Msg{Flow: 6 << 28, NextHeader: protoTCP, HopLimit: 64, Payload: tcp}.Append([]byte{byte(wire.IP6P)})
		for range 3 {
			a.dev.out <- outgoing{to, [][]byte{bytes.Clone(msg), bytes.Clone(msg)}}
			a.dev.out <- outgoing{c.address0().ULA(), [][]byte{bytes.Clone(msg)}}
			a.say(b, "hello")
			settle(time.Second)
		}
		g.mu.Lock()
		if len(g.packets) != 6 {
			t.Errorf("%d packets", len(g.packets))
		}
		for _, p := range g.packets {
			if len(p) != 60 || p[6] != protoTCP || anode.ULA(p[8:24]) != from || anode.ULA(p[24:40]) != to ||
				checksum(p[40:], pseudoSum(&from, &to, protoTCP, 20)) != 0 {
				t.Errorf("packet % x", p)
			}
		}
		g.mu.Unlock()
		if got := len(c.dev.delivered()); got != 3 {
			t.Errorf("%d packets between adapters", got)
		}
		// An error about TCP goes there too, and nothing else of ICMPv6.
		rejected := make([]byte, icmpHeader+ip6Header+tcpHeader)
		rejected[0], rejected[1], rejected[icmpHeader+6] = icmpUnreachable, 1, protoTCP
		other := bytes.Clone(rejected)
		other[icmpHeader+6] = protoUDP
		for _, payload := range [][]byte{rejected, other, rejected[:icmpHeader+tcpHeader]} {
			a.dev.out <- outgoing{to, [][]byte{wire.IP6Msg{Flow: 6 << 28, NextHeader: protoICMP, HopLimit: 64, Payload: payload}.Append([]byte{byte(wire.IP6)})}}
			settle(time.Second)
		}
		g.mu.Lock()
		if len(g.packets) != 7 || !bytes.Equal(g.packets[6][ip6Header:], rejected) || anode.ULA(g.packets[6][24:40]) != to {
			t.Errorf("%d packets with those of ICMPv6", len(g.packets))
		}
		g.mu.Unlock()
		if got := b.counter("drop_no_adapter"); got != 5 {
			t.Errorf("%d other packets", got)
		}

		if _, err := b.Dial(t.Context(), "tcp", "a:25"); !errors.Is(err, ErrRefused) {
			t.Errorf("port 25: %v", err)
		}
		x := b.dial("a:22")
		y := <-g.taken
		if p, _ := PeerOf(y.RemoteAddr()); p != b.address0() {
			t.Errorf("from %v", y.RemoteAddr())
		}
		go echo(y)
		roundTrip(t, x, 1<<20, nil)
		if _, err := c.Dial(t.Context(), "tcp", "a:22"); !errors.Is(err, ErrRefused) {
			t.Errorf("of a peer with an adapter: %v", err)
		}
	})
}

// After a node has started again, its peers' streams end soon, and new ones open, also where
// it has another peer ID than before.
func TestStreamsAfterRestart(t *testing.T) {
	for name, kept := range map[string]bool{"the same machine": false, "another machine": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b := newBareNode(t, w.Host("a")), newTestNode(t, w.Host("b"), nil)
				b.bare = !kept
				adds(a, b)
				s := lan(w, "lan", 0, a.host, b.host)
				a.start()
				b.start()
				b.serves(":80", echo)
				old := a.dial("b:80")
				before := b.peerID()
				s.SetLink(vnet.Link{Loss: 1}) // so that nobody hears of the end
				b.stop()
				s.SetLink(vnet.Link{Delay: time.Millisecond})
				for b.dir = t.TempDir(); ; b.dir = t.TempDir() {
					if b.start(); !kept || b.peerID() != before {
						break
					}
					b.stop()
				}
				if b.bare && b.peerID() != before {
					t.Errorf("peer ID %d, then %d", before, b.peerID())
				}
				defer a.stop()
				defer b.stop()
				b.serves(":80", echo)
				start := time.Now()
				roundTrip(t, a.dial("b:80"), 100, nil)
				t.Logf("another stream after %v", time.Since(start))
				if took := time.Since(start); took > 10*time.Second {
					t.Errorf("a new stream took %v", took)
				}
				if !b.bare {
					return
				}
				_, _ = old.Write([]byte("x"))
				if _, err := old.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
					t.Errorf("the old stream: %v", err)
				}
				if took := time.Since(start); took > 12*time.Second {
					t.Errorf("its end took %v", took)
				}
			})
		})
	}
}

// Streams end with the node, and so do those who wait.
func TestStreamsEndWithNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		l := b.serves(":80", func(net.Conn) {})
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		c := a.dial("b:80")
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, _, err := s.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("socket: %v", err)
			}
		})
		settle(time.Second)
		b.stop()
		wg.Wait()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("listener: %v", err)
		}
		if _, err := b.ListenPacket("udp", ":54"); !errors.Is(err, ErrClosed) {
			t.Errorf("a socket afterwards: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrReset) {
			t.Errorf("the peer: %v", err)
		}
		if _, err := b.Listen("tcp", ":81"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener afterwards: %v", err)
		}
		a.stop()
		if _, err := a.Dial(t.Context(), "tcp", "b:80"); !errors.Is(err, ErrClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial: %v", err)
		}
	})
}
