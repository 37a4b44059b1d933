package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	ip "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"anodenet/anode"
)

var (
	self = anode.ULA{0: 0xfd, 1: 0x12, 15: 1}
	bob  = anode.ULA{0: 0xfd, 1: 0x12, 15: 2}
	eve  = anode.ULA{0: 0xfd, 1: 0x12, 15: 3}
)

const patience = time.Minute // for what takes milliseconds

// half is one direction of a fake stream.
type half struct {
	mu   sync.Mutex
	more *sync.Cond
	data []byte
	room int
	err  error // for the reader, after the data; for the writer, unless it is io.EOF
}

func newHalf(room int) *half {
	h := &half{room: room}
	h.more = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.data) == 0 && h.err == nil {
		h.more.Wait()
	}
	n := copy(b, h.data)
	if h.data = h.data[n:]; len(h.data) == 0 {
		h.data = nil
	}
	h.more.Broadcast()
	if n == 0 && len(b) > 0 {
		return 0, h.err
	}
	return n, nil
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(b) {
		for len(h.data) >= h.room && h.err == nil {
			h.more.Wait()
		}
		switch h.err {
		case nil:
		case io.EOF:
			return n, syscall.EPIPE
		default:
			return n, h.err
		}
		k := min(len(b)-n, h.room-len(h.data))
		h.data = append(h.data, b[n:n+k]...)
		n += k
		h.more.Broadcast()
	}
	return n, nil
}

func (h *half) full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.data) >= h.room
}

func (h *half) end(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || h.err == io.EOF {
		h.err = err
	}
	if err != io.EOF {
		h.data = nil
	}
	h.more.Broadcast()
}

// fakeStream is one end of a stream, as stream.Conn is one.
type fakeStream struct {
	in, out *half
	net.Conn
}

func newStreams() (a, b *fakeStream) {
	x, y := newHalf(256<<10), newHalf(256<<10)
	return &fakeStream{in: x, out: y}, &fakeStream{in: y, out: x}
}

func (s *fakeStream) Read(b []byte) (int, error)  { return s.in.read(b) }
func (s *fakeStream) Write(b []byte) (int, error) { return s.out.write(b) }
func (s *fakeStream) CloseWrite() error           { s.out.end(io.EOF); return nil }

func (s *fakeStream) Close() error {
	s.out.end(io.EOF)
	s.in.end(net.ErrClosed)
	return nil
}

func (s *fakeStream) Abort() {
	s.out.end(syscall.ECONNRESET)
	s.in.end(syscall.ECONNRESET)
}

// peer is what is behind Dial.
type peer struct {
	mu      sync.Mutex
	fail    error         // of Dial
	waits   chan struct{} // Dial waits until it is closed, or for ctx
	dialled []flow
	streams chan *fakeStream // the peer's ends
}

func (p *peer) dial(ctx context.Context, to anode.ULA, port uint16) (net.Conn, error) {
	p.mu.Lock()
	fail, waits := p.fail, p.waits
	p.dialled = append(p.dialled, flow{peer: to, port: port})
	p.mu.Unlock()
	if waits != nil {
		select {
		case <-waits:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, &net.OpError{Op: "dial", Net: "anode", Err: fail}
	}
	ours, theirs := newStreams()
	p.streams <- theirs
	return ours, nil
}

// fails sets the error of Dial; nil: none.
func (p *peer) fails(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail = err
}

func (p *peer) next(t testing.TB) *fakeStream {
	t.Helper()
	select {
	case s := <-p.streams:
		return s
	case <-time.After(patience):
		t.Fatal("no stream was opened")
		return nil
	}
}

// system is our operating system: another netstack.
type system struct {
	stack *stack.Stack
	link  *channel.Endpoint
	self  tcpip.Address
}

// world is a gateway between a system and peers.
type world struct {
	t       testing.TB
	g       *Gateway
	peer    *peer
	system  *system
	noRoute chan []byte
	denied  chan []byte
}

// newWorld joins a gateway with a system. super says that the system takes super-packets.
func newWorld(t testing.TB, super bool) *world {
	w := &world{t: t, peer: &peer{streams: make(chan *fakeStream, 1000)}, system: newSystem(t), noRoute: make(chan []byte, 10), denied: make(chan []byte, 10)}
	in := make(chan []byte, 1<<14)
	w.g = New(Config{
		Self: self, MTU: 1440, Super: super, Dial: w.peer.dial,
		Put: func(from anode.ULA, size int, parts ...[]byte) {
			var p []byte
			for _, b := range parts {
				p = append(p, b...)
			}
			if !super && (size > 0 || len(p) > 1440) {
				t.Errorf("a super-packet of %d bytes", len(p))
			}
			if anode.ULA(p[8:24]) != from || anode.ULA(p[24:40]) != self {
				t.Errorf("a packet from %v to %v in the name of %v", anode.ULA(p[8:24]), anode.ULA(p[24:40]), from)
			}
			in <- p
		},
		NoRoute:    func(to anode.ULA, msg []byte) { w.noRoute <- msg },
		Prohibited: func(to anode.ULA, msg []byte) { w.denied <- msg },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.system.run(ctx, in, w.g.Outbound) })
	t.Cleanup(func() {
		w.g.Close()
		cancel()
		wg.Wait()
		w.system.stack.Destroy()
	})
	return w
}

func newSystem(t testing.TB) *system {
	s := &system{
		stack: stack.New(stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv6.NewProtocol}, TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol}}),
		link:  channel.New(1<<17, 1440, ""),
		self:  tcpip.AddrFrom16(self),
	}
	s.link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	s.stack.SetRouteTable([]tcpip.Route{{Destination: ip.IPv6EmptySubnet, NIC: 1}})
	for _, err := range []tcpip.Error{
		s.stack.CreateNIC(1, s.link),
		s.stack.AddProtocolAddress(1, tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: s.self.WithPrefix()}, stack.AddressProperties{}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// run moves packets both ways until ctx ends.
func (s *system) run(ctx context.Context, in <-chan []byte, out func([]byte)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for {
			p := s.link.ReadContext(ctx)
			if p == nil {
				return
			}
			if p.TransportProtocolNumber == tcp.ProtocolNumber {
				v := p.ToView()
				out(v.AsSlice())
				v.Release()
			}
			p.DecRef()
		}
	})
	for {
		select {
		case b := <-in:
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
			p.RXChecksumValidated = true
			s.link.InjectInbound(ipv6.ProtocolNumber, p)
			p.DecRef()
		case <-ctx.Done():
			return
		}
	}
}

// dial is a program that connects to a peer.
func (w *world) dial(to anode.ULA, port uint16) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := gonet.DialContextTCP(ctx, w.system.stack, tcpip.FullAddress{NIC: 1, Addr: tcpip.AddrFrom16(to), Port: port}, ipv6.ProtocolNumber)
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
	}
	return c, err
}

// connect is dial that must not fail, with the peer's end.
func (w *world) connect(to anode.ULA, port uint16) (*gonet.TCPConn, *fakeStream) {
	w.t.Helper()
	c, err := w.dial(to, port)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return c, w.peer.next(w.t)
}

// listen is a service.
func (w *world) listen(port uint16) *gonet.TCPListener {
	w.t.Helper()
	l, err := gonet.ListenTCP(w.system.stack, tcpip.FullAddress{NIC: 1, Addr: w.system.self, Port: port}, ipv6.ProtocolNumber)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// counts waits until a counter has a value.
func (w *world) counts(name string, want uint64) {
	w.t.Helper()
	eventually(w.t, func() bool { return w.g.Counters()[name] == want }, func() string { return fmt.Sprintf("%s is %d; all: %v", name, want, w.g.Counters()) })
}

// eventually waits until a condition holds.
func eventually(t testing.TB, holds func() bool, what func() string) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("not after ", patience, ": ", what())
		}
	}
}

// leaks checks that no goroutine of this package or of netstack is left.
func leaks(t testing.TB) {
	t.Helper()
	var stacks string
	eventually(t, func() bool {
		buf := make([]byte, 1<<22)
		stacks = string(buf[:runtime.Stack(buf, true)])
		n := 0
		for s := range strings.SplitSeq(stacks, "\n\n") {
			if strings.Contains(s, "gateway.(*") || strings.Contains(s, "gvisor.dev/") {
				n++
			}
		}
		return n == 0
	}, func() string { return stacks })
}
