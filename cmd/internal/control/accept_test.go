package control

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
)

// peerListener gives its connections the address of a peer, each its own.
type peerListener struct {
	net.Listener
	mu     sync.Mutex
	from   []anode.ULA
	closed chan struct{}
}

type peerConn struct {
	*net.TCPConn
	from netip.AddrPort
}

func (c peerConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }

func (l *peerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.from[0]
	l.from = l.from[1:]
	return peerConn{c.(*net.TCPConn), netip.AddrPortFrom(from.Addr(), 1234)}, nil
}

func (l *peerListener) Close() error {
	err := l.Listener.Close()
	if err == nil {
		close(l.closed)
	}
	return err
}

// listening is a network on which connections from some ULAs come in, and its listeners.
func listening(t *testing.T, from ...anode.ULA) (*fakeNetwork, <-chan *peerListener) {
	t.Helper()
	opened := make(chan *peerListener, 8)
	return &fakeNetwork{listen: func() (net.Listener, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		p := &peerListener{Listener: l, from: from, closed: make(chan struct{})}
		opened <- p
		return p, nil
	}}, opened
}

// TestAccept: a stranger is turned away, a peer is told to the client, and each direction ends
// by itself.
func TestAccept(t *testing.T) {
	peer, stranger := newAddress(t), newAddress(t)
	n, opened := listening(t, stranger.ULA(), peer.ULA())
	c, _, _ := serveLocal(t, n, peer)
	type result struct {
		s    *Stream
		from netip.AddrPort
		err  error
	}
	accepted := make(chan result, 1)
	go func() {
		s, from, err := c.Accept(t.Context(), 7)
		accepted <- result{s, from, err}
	}()
	l := <-opened
	dial := func() (*net.TCPConn, error) {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		far.SetDeadline(time.Now().Add(20 * time.Second))
		return far.(*net.TCPConn), nil
	}
	switch first, err := dial(); {
	case errors.Is(err, syscall.ECONNRESET): // it was turned away before the call had returned
	case err != nil:
		t.Fatal(err)
	default:
		if _, err := first.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stranger gets in: %v", err)
		}
		first.Close()
	}
	far, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("some text ", 200_000)
	go func() {
		io.WriteString(far, text)
		far.CloseWrite()
	}()
	r := <-accepted
	if r.err != nil || r.from.Addr() != peer.ULA().Addr() || r.from.Port() != 1234 {
		t.Fatalf("%+v", r)
	}
	<-l.closed // nobody else gets in
	if got, err := io.ReadAll(r.s); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	go func() {
		io.WriteString(r.s, text)
		r.s.CloseWrite()
	}()
	if got, err := io.ReadAll(far); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	far.Close()
	r.s.Close()
}

// TestAcceptEnds: the port is free again when the client or the daemon goes, and both sides
// notice the other's end.
func TestAcceptEnds(t *testing.T) {
	peer := newAddress(t)
	n, opened := listening(t, peer.ULA())
	c, _, end := serveLocal(t, n, peer)
	wait := func(l *peerListener) {
		t.Helper()
		select {
		case <-l.closed:
		case <-time.After(20 * time.Second):
			t.Error("the port is still in use")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	accept := func(ctx context.Context) {
		_, _, err := c.Accept(ctx, 7)
		failed <- err
	}
	go accept(ctx)
	l := <-opened
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wait(l)
	go accept(t.Context())
	l = <-opened
	end()
	if err := <-failed; err == nil {
		t.Error("a connection came from nowhere")
	}
	wait(l)
}

func TestAcceptFails(t *testing.T) {
	peer := newAddress(t)
	n := &fakeNetwork{listen: func() (net.Listener, error) { return nil, errors.New("by a test") }}
	c, _, _ := serveLocal(t, n, peer)
	for port, text := range map[uint16]string{7: "by a test", 0: "want 1 to 65535"} {
		if _, _, err := c.Accept(t.Context(), port); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	none := serve(t, &fakeNode{}, func() {})
	if _, _, err := none.Accept(t.Context(), 7); err == nil {
		t.Error("a server without peers accepted a connection")
	}
}
