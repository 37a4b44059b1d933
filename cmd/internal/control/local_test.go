package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/proxy"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// fakeNetwork has one peer, whose every port leads to one address.
type fakeNetwork struct {
	to     string
	err    error
	listen func() (net.Listener, error) // nil: any port
	waits  chan struct{}                // if it is there, it gets a value, and a connection does not open
}

func (n *fakeNetwork) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	if n.waits != nil {
		n.waits <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n.err != nil {
		return nil, n.err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, n.to)
}

func (n *fakeNetwork) Listen(string, string) (net.Listener, error) {
	if n.listen != nil {
		return n.listen()
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

func (n *fakeNetwork) ListenPacket(string, string) (net.PacketConn, error) {
	return net.ListenPacket("udp", "127.0.0.1:0")
}

// serveLocal is serve for a daemon that joins programs with a peer. end ends the daemon.
func serveLocal(t *testing.T, n *fakeNetwork, peer anode.Address) (c *Client, s *proxy.Service, end func()) {
	t.Helper()
	path := socketPath(t)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	entries := func() []book.Entry { return []book.Entry{{Address: peer, Name: "north", Added: true}} }
	s = proxy.New(n, proxy.Directory{Entries: entries}, Listen, log)
	server := NewServer(&fakeNode{}, &fakeTalk{}, func() {}, log)
	server.ServeLocal(s)
	served := make(chan error, 2)
	go func() { served <- s.Run(ctx) }()
	go func() { served <- server.Serve(ctx, l) }()
	c = NewClient(path)
	t.Cleanup(func() {
		c.Close()
		cancel()
		for range 2 {
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
	return c, s, cancel
}

// acceptOne returns an address, and a channel of the first connection to it.
func acceptOne(t *testing.T) (string, <-chan *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan *net.TCPConn, 1)
	go func() {
		defer l.Close()
		c, err := l.Accept()
		if err != nil {
			close(first)
			return
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		first <- c.(*net.TCPConn)
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String(), first
}

// TestOpen: each direction ends by itself, in either order.
func TestOpen(t *testing.T) {
	peer := newAddress(t)
	for _, ours := range []bool{true, false} {
		to, first := acceptOne(t)
		c, _, _ := serveLocal(t, &fakeNetwork{to: to}, peer)
		s, err := c.Open(t.Context(), peer, 80)
		if err != nil {
			t.Fatal(err)
		}
		far := <-first
		text := strings.Repeat("some text ", 200_000)
		send := func(w io.Writer, end func() error) {
			if _, err := io.WriteString(w, text); err != nil {
				t.Error(err)
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		}
		read := func(r io.Reader) {
			t.Helper()
			if got, err := io.ReadAll(r); err != nil || string(got) != text {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		if ours {
			go send(s, s.CloseWrite)
			read(far)
			go send(far, far.CloseWrite)
			read(s)
		} else {
			go send(far, far.CloseWrite)
			read(s)
			go send(s, s.CloseWrite)
			read(far)
		}
		far.Close()
		s.Close()
	}
}

// TestOpenBreaks: what breaks is no end of file, on either side.
func TestOpenBreaks(t *testing.T) {
	peer := newAddress(t)
	open := func() (*Stream, *net.TCPConn, func()) {
		to, first := acceptOne(t)
		c, _, end := serveLocal(t, &fakeNetwork{to: to}, peer)
		s, err := c.Open(t.Context(), peer, 80)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, <-first, end
	}
	s, far, _ := open()
	far.SetLinger(0)
	far.Close()
	var remote *Error
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &remote) || remote.Message == "" {
		t.Errorf("the peer resets: %v", err)
	}
	s, far, _ = open()
	s.Close()
	if _, err := far.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client leaves: %v", err)
	}
	s, far, end := open()
	end()
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the daemon ends: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the daemon ends, and the connection is still there: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	peer := newAddress(t)
	n := &fakeNetwork{to: "127.0.0.1:1"}
	c, _, _ := serveLocal(t, n, peer)
	for _, try := range []struct {
		err  error
		port uint16
		want Code
	}{
		{nil, 80, CodeRefused}, {overlay.ErrUnreachable, 80, CodeUnreachable}, {context.DeadlineExceeded, 80, CodeUnreachable}, {nil, 0, CodeInvalid},
	} {
		n.err = try.err
		_, err := c.Open(t.Context(), peer, try.port)
		var remote *Error
		if !errors.As(err, &remote) || remote.Code != try.want {
			t.Errorf("%v: %v", try, err)
		}
	}
	if _, err := c.Open(t.Context(), anode.Address{}, 80); err == nil {
		t.Error("no address was accepted")
	}
	none := serve(t, &fakeNode{}, func() {})
	if _, err := none.Open(t.Context(), peer, 80); err == nil {
		t.Error("a server without peers opened a connection")
	}
	if d, err := none.Doors(t.Context()); err != nil || len(d.Doors) != 0 {
		t.Errorf("%v, %v", d, err)
	}
}

// TestOpenCanceled: who does not want to wait for the peer any longer need not.
func TestOpenCanceled(t *testing.T) {
	n := &fakeNetwork{waits: make(chan struct{}, 1)}
	c, _, _ := serveLocal(t, n, newAddress(t))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Open(ctx, newAddress(t), 80)
		done <- err
	}()
	<-n.waits
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestKeepDoor: a door stays as long as the client, and no longer than the daemon.
func TestKeepDoor(t *testing.T) {
	peer := newAddress(t)
	to, first := acceptOne(t)
	c, s, end := serveLocal(t, &fakeNetwork{to: to}, peer)
	keep := func(ctx context.Context, r KeepRequest) (proxy.Status, <-chan error) {
		t.Helper()
		ready, done := make(chan proxy.Status, 1), make(chan error, 1)
		go func() { done <- c.Keep(ctx, r, func(s proxy.Status) { ready <- s }) }()
		select {
		case s := <-ready:
			return s, done
		case err := <-done:
			t.Fatal(err)
			return proxy.Status{}, nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	status, done := keep(ctx, KeepRequest{Kind: proxy.Forward, Spec: "0=north:80"})
	if _, err := netip.ParseAddrPort(status.Listen); err != nil {
		t.Fatalf("%+v", status)
	}
	conn, err := net.Dial("tcp", status.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	(<-first).Close()
	d, err := c.Doors(t.Context())
	if err != nil || len(d.Doors) != 1 || d.Doors[0].Spec != status.Spec || !strings.HasPrefix(status.Owner, "uid ") && status.Owner != "somebody" {
		t.Errorf("%+v, %v", d, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for wait := time.Now().Add(20 * time.Second); len(s.Doors()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(wait) {
			t.Fatal("the door is still there")
		}
	}
	for _, r := range []KeepRequest{
		{Kind: proxy.Forward, Spec: "0=foe:80"}, {Kind: proxy.Forward, Spec: "0.0.0.0:0=north:80"}, {Kind: proxy.Forward, Spec: "x"},
		{Kind: proxy.Expose, Spec: "80@foe"}, {Kind: proxy.Expose, Spec: "x"}, {Kind: proxy.SOCKS, Spec: "0"}, {},
	} {
		var remote *Error
		if err := c.Keep(t.Context(), r, func(proxy.Status) { t.Errorf("%v is open", r) }); !errors.As(err, &remote) {
			t.Errorf("%v: %v", r, err)
		}
	}
	_, done = keep(t.Context(), KeepRequest{Kind: proxy.Expose, Spec: "80"})
	end()
	if err := <-done; !errors.Is(err, ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x04data\x01\x00\x00"))
	f.Add([]byte("\x02\x00\x05error"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &Stream{client: NewClient("none"), ctx: ctx, cancel: cancel, answer: io.NopCloser(bytes.NewReader(b))}
		defer cancel()
		got, err := io.ReadAll(s)
		if len(got) > len(b) {
			t.Errorf("%d bytes of %d", len(got), len(b))
		}
		if err == nil && !bytes.Contains(b, []byte{frameEnd}) {
			t.Errorf("% x: an end without its frame", b)
		}
		if again, _ := s.Read(make([]byte, 1)); again != 0 {
			t.Errorf("% x: more after the end", b)
		}
	})
}
