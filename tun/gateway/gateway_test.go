package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// says checks that an error says something.
func says(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// each runs a test with and without super-packets.
func each(t *testing.T, f func(t *testing.T, w *world)) {
	for name, super := range map[string]bool{"super-packets": true, "single packets": false} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { leaks(t) })
			f(t, newWorld(t, super))
		})
	}
}

// send writes size random bytes and returns their hash.
func send(t *testing.T, to io.Writer, size int64, seed byte) []byte {
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, h), io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)); err != nil {
		t.Error(err)
	}
	return h.Sum(nil)
}

// receive reads to the end and returns the hash.
func receive(t *testing.T, from io.Reader, size int64) []byte {
	h := sha256.New()
	if n, err := io.Copy(h, from); err != nil || n != size {
		t.Errorf("received %d of %d bytes: %v", n, size, err)
	}
	return h.Sum(nil)
}

// Bytes arrive as they were sent, both ways at once, and each direction ends alone.
func TestOutbound(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		const size = 3 << 20
		c, s := w.connect(bob, 80)
		if d := w.peer.dialled; len(d) != 1 || d[0].peer != bob || d[0].port != 80 {
			t.Errorf("dialled %v", d)
		}
		var wg sync.WaitGroup
		var sent, got [2][]byte
		wg.Go(func() { sent[0] = send(t, c, size, 1); c.CloseWrite() })
		wg.Go(func() { sent[1] = send(t, s, size, 2); s.CloseWrite() })
		wg.Go(func() { got[0] = receive(t, s, size) })
		wg.Go(func() { got[1] = receive(t, c, size) })
		wg.Wait()
		if !bytes.Equal(sent[0], got[0]) || !bytes.Equal(sent[1], got[1]) {
			t.Error("the hashes differ")
		}
		w.counts("gateway_connections", 0)
		if n := w.g.Counters()["gateway_aborted"]; n != 0 {
			t.Errorf("%d aborted", n)
		}
	})
}

// One direction ends, and the other goes on; whichever it is.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, s := w.connect(bob, 22)
		c.Write([]byte("question"))
		c.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "question" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		s.Write([]byte("answer"))
		s.CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "answer" || err != nil {
			t.Errorf("%q, %v", b, err)
		}

		c, s = w.connect(bob, 22)
		s.Write([]byte("greeting"))
		s.CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "greeting" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		c.Write([]byte("thanks"))
		c.Close()
		if b, err := io.ReadAll(s); string(b) != "thanks" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		w.counts("gateway_connections", 0)
	})
}

// What the peer refuses, the program sees refused; what cannot be reached is answered by
// ICMPv6 about the program's packet.
func TestNoStream(t *testing.T) {
	w := newWorld(t, true)
	w.peer.fails(syscall.ECONNREFUSED)
	_, err := w.dial(bob, 80)
	says(t, err, "refused")
	w.counts("gateway_out_refused", 1)
	if w.g.net.Load() != nil {
		t.Error("netstack was made for nothing")
	}

	for _, x := range []struct {
		err     error
		answers chan []byte
	}{{syscall.EHOSTUNREACH, w.noRoute}, {syscall.EACCES, w.denied}} {
		w.peer.fails(x.err)
		go w.dial(bob, 4711)
		select {
		case msg := <-x.answers:
			if wire.Type(msg[0]) != wire.IP6 || msg[5] != protoTCP || be.Uint16(msg[1+wire.IP6Header+2:]) != 4711 {
				t.Errorf("%x", msg)
			}
		case <-time.After(patience):
			t.Error("no answer to ", x.err)
		}
	}
}

// A SYN that is repeated while the stream is being opened opens no second one.
func TestSlowStream(t *testing.T) {
	w := newWorld(t, true)
	w.peer.waits = make(chan struct{})
	result := make(chan error)
	go func() {
		_, err := w.dial(bob, 80)
		result <- err
	}()
	eventually(t, func() bool { return w.g.Counters()["gateway_drop_repeated_syn"] > 0 }, func() string { return "repeated" })
	close(w.peer.waits)
	if err := <-result; err != nil {
		t.Error(err)
	}
	w.peer.mu.Lock()
	defer w.peer.mu.Unlock()
	if n := len(w.peer.dialled); n != 1 {
		t.Errorf("dialled %d times", n)
	}
}

// A reset passes through, from either side, even if nobody waits for the other.
func TestReset(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		c, s := w.connect(bob, 80)
		s.Abort()
		_, err := c.Read(make([]byte, 1))
		says(t, err, "reset")

		for _, full := range []bool{false, true} {
			c, s = w.connect(bob, 80)
			if full { // the gateway waits for the peer, which reads nothing
				eventually(t, func() bool {
					c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
					_, err := c.Write(make([]byte, 1<<16))
					return err != nil
				}, func() string { return "the peer reads nothing, and all is taken" })
			}
			reset(w, c.LocalAddr().(*net.TCPAddr).Port)
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer reads %v", err)
			}
		}
		w.counts("gateway_connections", 0)
		counts := w.g.Counters() // a reset may come before the handshake was seen to succeed
		if counts["gateway_aborted"]+counts["gateway_out_failed"] != 3 {
			t.Errorf("%v", counts)
		}
	})
}

// reset has the system end the connection of a port by a reset.
func reset(w *world, port int) {
	for _, e := range w.system.stack.RegisteredEndpoints() {
		if i, ok := e.(interface {
			GetLocalAddress() (tcpip.FullAddress, tcpip.Error)
		}); ok {
			if a, _ := i.GetLocalAddress(); int(a.Port) == port {
				e.Abort()
			}
		}
	}
}

// Who waits for a program that does not read waits, and does not try again and again: not
// even if the program has nothing more to say.
func TestStalled(t *testing.T) {
	w := newWorld(t, true)
	c, s := w.connect(bob, 80)
	c.CloseWrite()
	if _, err := io.ReadAll(s); err != nil {
		t.Fatal(err)
	}
	w.g.mu.Lock()
	var ep tcpip.Endpoint
	for x := range w.g.table.all {
		ep = x.ep
	}
	w.g.mu.Unlock()
	failed := ep.Stats().(*tcp.Stats).WriteErrors.WriteClosed.Value
	var writing sync.WaitGroup
	writing.Go(func() { s.Write(make([]byte, 64<<20)) })
	eventually(t, func() bool { return failed() > 0 && s.out.full() }, func() string { return "all buffers are full" })
	before, beside := failed(), 0
	c2, s2 := w.connect(bob, 7)
	go io.Copy(s2, s2)
	for b := []byte{0}; beside < 300; beside++ {
		c2.Write(b)
		if _, err := io.ReadFull(c2, b); err != nil {
			t.Fatal(err)
		}
	}
	if n := failed() - before; n > 100 {
		t.Errorf("%d attempts to write, during %d round trips", n, beside)
	}
	s.Abort()
	writing.Wait()
}

// A program that writes after the peer closed both directions is told.
func TestPeerClosed(t *testing.T) {
	w := newWorld(t, true)
	c, s := w.connect(bob, 80)
	s.Close()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the program reads %v", err)
	}
	eventually(t, func() bool {
		_, err := c.Write([]byte("x"))
		return err != nil
	}, func() string { return "writing fails" })
}

// inbound is a peer that opens a stream to a service.
func (w *world) inbound(from anode.ULA, port uint16) (*fakeStream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	taken, err := w.g.Inbound(ctx, from, port)
	if err != nil {
		return nil, err
	}
	ours, theirs := newStreams()
	taken(ours)
	return theirs, nil
}

// A service sees the peer's own ULA, and bytes pass both ways.
func TestInbound(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l := w.listen(80)
		const size = 1 << 20
		for _, from := range []anode.ULA{bob, eve} {
			s, err := w.inbound(from, 80)
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if a := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); a != from.Addr() {
				t.Errorf("%v came as %v", from, a)
			}
			var wg sync.WaitGroup
			var sent, got [2][]byte
			wg.Go(func() { sent[0] = send(t, c, size, 1); c.(interface{ CloseWrite() error }).CloseWrite() })
			wg.Go(func() { sent[1] = send(t, s, size, 2); s.CloseWrite() })
			wg.Go(func() { got[0] = receive(t, s, size) })
			wg.Go(func() { got[1] = receive(t, c, size) })
			wg.Wait()
			if !bytes.Equal(sent[0], got[0]) || !bytes.Equal(sent[1], got[1]) {
				t.Error("the hashes differ")
			}
			c.Close()
		}
		w.counts("gateway_connections", 0)
	})
}

// A port where nobody listens is refused before the stream is accepted; a stream that does
// not open leaves no connection; nor does one of which the peer thinks otherwise.
func TestInboundNot(t *testing.T) {
	w := newWorld(t, true)
	if _, err := w.inbound(bob, 81); !errors.Is(err, ErrRefused) {
		t.Errorf("a closed port says %v", err)
	}
	l := w.listen(80)
	taken, err := w.g.Inbound(context.Background(), bob, 80)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	taken(nil)
	_, err = c.Read(make([]byte, 1))
	says(t, err, "reset")
	w.counts("gateway_connections", 0)

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.g.Inbound(ctx, bob, 80); err == nil {
		t.Error("no error although nobody waits")
	}
	w.counts("gateway_connections", 0)
}

// Many connections, in both directions and to several peers, all of which end.
func TestMany(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		l := w.listen(80)
		const each = 40
		var wg sync.WaitGroup
		wg.Go(func() {
			for range each {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { io.Copy(c, c); c.Close() })
			}
		})
		wg.Go(func() {
			for range each {
				s := w.peer.next(t)
				wg.Go(func() { io.Copy(s, s); s.Close() })
			}
		})
		for i := range each {
			from := []anode.ULA{bob, eve}[i%2]
			wg.Go(func() {
				c, err := w.dial(from, 7)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				echo(t, c, i)
			})
			wg.Go(func() {
				s, err := w.inbound(from, 80)
				if err != nil {
					t.Error(err)
					return
				}
				defer s.Close()
				echo(t, s, i)
			})
		}
		wg.Wait()
		w.counts("gateway_connections", 0)
	})
}

// echo checks that what it sends comes back.
func echo(t *testing.T, c interface {
	io.ReadWriter
	CloseWrite() error
}, seed int) {
	const size = 100_000
	var got []byte
	var wg sync.WaitGroup
	wg.Go(func() { got = receive(t, c, size) })
	sent := send(t, c, size, byte(seed))
	c.CloseWrite()
	if wg.Wait(); !bytes.Equal(sent, got) {
		t.Error("what came back differs")
	}
}

// Close ends whatever there is: connections, those that are being opened, and those that
// wait for their stream.
func TestClose(t *testing.T) {
	w := newWorld(t, true)
	w.listen(80)
	c, s := w.connect(bob, 22)
	in, err := w.inbound(bob, 80)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := w.g.Inbound(context.Background(), bob, 80)
	if err != nil {
		t.Fatal(err)
	}
	w.peer.mu.Lock()
	w.peer.waits = make(chan struct{})
	w.peer.mu.Unlock()
	dialled := make(chan error)
	go func() {
		_, err := w.dial(bob, 23)
		dialled <- err
	}()
	eventually(t, func() bool { return w.g.Counters()["gateway_connections"] == 4 }, func() string { return "4 connections" })
	w.g.Close()
	_, err = c.Read(make([]byte, 1))
	says(t, err, "reset")
	for _, s := range []*fakeStream{s, in} {
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a peer reads %v", err)
		}
	}
	ours, _ := newStreams()
	taken(ours)
	if _, err := ours.Read(make([]byte, 1)); err == nil {
		t.Error("a stream goes on after Close")
	}
	if _, err := w.inbound(bob, 80); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if n := w.g.Counters()["gateway_connections"]; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	w.system.stack.Close()
	<-dialled
}

// Without netstack, the rest of a connection from before is reset.
func TestOldConnection(t *testing.T) {
	var got []byte
	g := New(Config{Self: self, MTU: 1440, Put: func(_ anode.ULA, _ int, parts ...[]byte) { got = bytes.Join(parts, nil) }})
	defer g.Close()
	p := packet(flagACK, 1000, 2000, 5)
	g.Outbound(p)
	if len(got) != ip6Size+tcpSize || anode.ULA(got[8:]) != bob || anode.ULA(got[24:]) != self {
		t.Fatalf("answered by %x", got)
	}
	if b := got[ip6Size:]; b[13] != flagRST || be.Uint32(b[4:]) != 2000 || be.Uint16(b) != 80 || be.Uint16(b[2:]) != 5000 {
		t.Errorf("answered by %x", b)
	}
	got = nil
	g.Outbound(packet(flagRST, 1, 1, 0))
	if got != nil {
		t.Errorf("a reset was answered by %x", got)
	}
	g.Outbound(packet(flagFIN, 1000, 0, 7))
	if b := got[ip6Size:]; b[13] != flagRST|flagACK || be.Uint32(b[8:]) != 1008 {
		t.Errorf("answered by %x", b)
	}
}

// packet makes a packet from self to bob.
func packet(flags byte, seq, ack uint32, payload int) []byte {
	p := make([]byte, ip6Size+tcpSize+payload)
	p[0], p[6], p[7] = 0x60, protoTCP, 64
	be.PutUint16(p[4:], uint16(tcpSize+payload))
	copy(p[8:], self[:])
	copy(p[24:], bob[:])
	b := p[ip6Size:]
	be.PutUint16(b, 5000)
	be.PutUint16(b[2:], 80)
	be.PutUint32(b[4:], seq)
	be.PutUint32(b[8:], ack)
	b[12], b[13] = 5<<4, flags
	return p
}

// Connections to one peer that are being opened have a bound, and leave room for others.
func TestPending(t *testing.T) {
	waits := make(chan struct{})
	p := &peer{waits: waits, fail: syscall.ETIMEDOUT}
	g := New(Config{Self: self, MTU: 1440, Dial: p.dial, Put: func(anode.ULA, int, ...[]byte) {}})
	syn := func(to anode.ULA, port int) {
		b := packet(flagSYN, 1, 0, 0)
		copy(b[24:], to[:])
		be.PutUint16(b[ip6Size:], uint16(port))
		g.Outbound(b)
	}
	for i := range 3 * pendingOf {
		syn(bob, i)
	}
	c := g.Counters()
	if c["gateway_connections"] != pendingOf || c["gateway_drop_too_many"] != 2*pendingOf {
		t.Errorf("%v", c)
	}
	syn(eve, 1)
	if n := g.Counters()["gateway_connections"]; n != pendingOf+1 {
		t.Errorf("another peer's is refused: %d", n)
	}
	close(waits)
	eventually(t, func() bool { return g.Counters()["gateway_connections"] == 0 }, func() string { return "all ended" })
	g.Close()
	if len(g.table.flows)+len(g.table.peers)+g.table.pending != 0 {
		t.Errorf("left: %+v", g.table)
	}
}

// The buffers of all connections never exceed the bound, and a connection that is alone
// again has a large one.
func TestShares(t *testing.T) {
	x := newTable()
	var all []*conn
	for i := range maxConns + 1 {
		c := &conn{flow: flow{peer: anode.ULA{14: byte(i % 8)}}}
		if x.add(c) != (i < maxConns) {
			t.Fatalf("connection %d", i)
		}
		all = append(all, c)
		x.resize()
		if n := 2 * len(x.all) * x.share(); n > totalBuffer {
			t.Fatalf("%d connections have %d bytes", len(x.all), n)
		}
	}
	if x.share() != leastBuffer {
		t.Errorf("%d bytes for each", x.share())
	}
	for _, c := range all[:maxConns] {
		x.remove(c)
		x.resize()
	}
	if x.share() != mostBuffer || len(x.peers) != 0 {
		t.Errorf("at the end: %d bytes, %d peers", x.share(), len(x.peers))
	}
	for i := range maxOfPeer + 1 {
		if x.add(&conn{flow: flow{peer: bob}}) != (i < maxOfPeer) {
			t.Fatalf("connection %d of one peer", i)
		}
	}
}

// FuzzOutbound passes any bytes for a packet of the system.
func FuzzOutbound(f *testing.F) {
	f.Add(packet(flagSYN, 1, 2, 3))
	f.Add(packet(flagACK|flagFIN, 1, 2, 3))
	f.Add([]byte{0x60})
	var gateways []*Gateway
	for _, up := range []bool{false, true} {
		g := New(Config{Self: self, MTU: 1440, Put: func(_ anode.ULA, _ int, parts ...[]byte) {
			if p := bytes.Join(parts, nil); anode.ULA(p[24:]) != self {
				panic("a packet for somebody else")
			}
		}, Dial: func(context.Context, anode.ULA, uint16) (net.Conn, error) { return nil, syscall.ECONNREFUSED }})
		if up {
			if _, err := g.netstack(); err != nil {
				f.Fatal(err)
			}
		}
		f.Cleanup(func() { g.Close() })
		gateways = append(gateways, g)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, g := range gateways {
			g.Outbound(b)
		}
	})
}

// unreachable is the ICMPv6 error of the system about a packet that the gateway sent to it.
func unreachable(code byte, packet []byte) []byte {
	quote := packet[:min(len(packet), 1280-48)]
	p := binary.BigEndian.AppendUint32(nil, 6<<28)
	p = append(binary.BigEndian.AppendUint16(p, uint16(icmpSize+len(quote))), protoICMP, 64)
	p = append(append(p, packet[24:40]...), packet[8:24]...)
	return append(append(p, icmpUnreachable, code, 0, 0, 0, 0, 0, 0), quote...)
}

// A firewall of our system rejects what a peer opens by an ICMPv6 error: the peer is refused at
// once. Errors that are not about that change nothing.
func TestInboundRejected(t *testing.T) {
	for code := range byte(8) { // RFC 4443, 3.1, and one more
		t.Run(fmt.Sprint("code ", code), func(t *testing.T) {
			w := newRejecting(t)
			failed := make(chan error, 1)
			go func() {
				_, err := w.g.Inbound(t.Context(), bob, 80)
				failed <- err
			}()
			syn := <-w.sent
			wrong := func(change func(p []byte)) {
				p := unreachable(code, syn)
				change(p)
				w.g.Outbound(p)
			}
			wrong(func(p []byte) { p[ip6Size] = 3 })                                               // time exceeded
			wrong(func(p []byte) { p[ip6Size+icmpSize+6] = 17 })                                   // about UDP
			wrong(func(p []byte) { p[ip6Size+icmpSize+ip6Size]++ })                                // another port of the peer
			wrong(func(p []byte) { p[ip6Size+icmpSize+ip6Size+3]++ })                              // another one of ours
			wrong(func(p []byte) { copy(p[8:24], eve[:]) })                                        // not from us
			wrong(func(p []byte) { copy(p[24:40], eve[:]) })                                       // to another peer
			wrong(func(p []byte) { copy(p[24:40], eve[:]); copy(p[ip6Size+icmpSize+8:], eve[:]) }) // about another peer
			w.g.Outbound(unreachable(code, syn)[:ip6Size+icmpSize+ip6Size+3])
			w.g.Outbound(unreachable(code, syn)[:ip6Size+1])
			select {
			case err := <-failed:
				t.Fatalf("another error ended it: %v", err)
			default:
			}
			w.g.Outbound(unreachable(code, syn))
			if err := <-failed; !errors.Is(err, ErrRefused) {
				t.Errorf("it says %v", err)
			}
			w.g.Outbound(unreachable(code, syn)) // late
			c := w.g.Counters()
			if c["gateway_drop_error"] != 10 || c["gateway_in_refused"] != 1 || c["gateway_connections"] != 0 {
				t.Errorf("%v", c)
			}
		})
	}
}

// rejecting is a gateway whose system answers nothing by itself.
type rejecting struct {
	g    *Gateway
	sent chan []byte
}

func newRejecting(t *testing.T) *rejecting {
	w := &rejecting{sent: make(chan []byte, 10)}
	w.g = New(Config{Self: self, MTU: 1440, Put: func(_ anode.ULA, _ int, parts ...[]byte) {
		select {
		case w.sent <- bytes.Join(parts, nil):
		default: // a repetition
		}
	}})
	t.Cleanup(func() { w.g.Close() })
	return w
}

// An error about a connection that is open does not end it.
func TestRejectedLater(t *testing.T) {
	w := newWorld(t, true)
	l := w.listen(80)
	s, err := w.inbound(bob, 80)
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	at := c.RemoteAddr().(*net.TCPAddr).Port
	packet := make([]byte, ip6Size+tcpSize)
	packet[0], packet[6] = 6<<4, protoTCP
	copy(packet[8:], bob[:])
	copy(packet[24:], self[:])
	binary.BigEndian.PutUint16(packet[ip6Size:], uint16(at))
	binary.BigEndian.PutUint16(packet[ip6Size+2:], 80)
	w.g.Outbound(unreachable(1, packet))
	go func() {
		io.Copy(c, c)
		c.Close()
	}()
	echo(t, s, 1)
	if got := w.g.Counters()["gateway_drop_error"]; got != 1 {
		t.Errorf("%d errors were counted", got)
	}
}

// Whatever comes from the system as an ICMPv6 error is read within its bounds.
func FuzzParseUnreachable(f *testing.F) {
	packet := make([]byte, ip6Size+tcpSize)
	packet[0], packet[6] = 6<<4, protoTCP
	copy(packet[8:], bob[:])
	copy(packet[24:], self[:])
	f.Add(unreachable(1, packet))
	f.Fuzz(func(t *testing.T, p []byte) {
		if !isICMP(p) {
			return
		}
		if fl, ok := parseUnreachable(p, self); ok && fl.peer != anode.ULA(p[24:40]) {
			t.Errorf("%v", fl)
		}
	})
}
