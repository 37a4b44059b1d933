package info2

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// TestPerMessageSockets registers by BACKCONNECT as programs of other authors do:
// one socket at a time, without SO_REUSEADDR, so that the program that closes first
// cannot bind its port again. It hears every message, since we close first.
func TestPerMessageSockets(t *testing.T) {
	ours, theirs := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	var exact net.ListenConfig
	exact.Control = func(_, _ string, c syscall.RawConn) (err error) {
		c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
		return err
	}
	listen := func(port uint16) (net.Listener, error) {
		return exact.Listen(t.Context(), "tcp4", netip.AddrPortFrom(theirs, port).String())
	}
	l, err := listen(0)
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).AddrPort().Port()

	listening := make(chan struct{})
	s, err := New(Config{
		Port: port, Dial: dialTCP(ours), AllowLoopback: true,
		Listen: func(ctx context.Context, port uint16) (net.Listener, error) {
			defer close(listening)
			return listenTCP(ours)(ctx, port)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	<-listening
	register(t, dialTCP(theirs), netip.AddrPortFrom(ours, port))
	for { // until the close is seen
		st, err := s.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Neighbours) == 1 {
			break
		}
	}

	for i := range 5 {
		text := fmt.Sprint("text ", i)
		if _, err := s.Say(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		got, err := takeOne(l)
		if err != nil || !strings.HasPrefix(got, "SEND ") || !strings.HasSuffix(got, " "+text+"\n\n") {
			t.Fatalf("got %q, %v", got, err)
		}
		if l, err = listen(port); err != nil {
			t.Fatalf("after message %d: %v", i, err)
		}
	}
	l.Close()
}

// register joins as a program that wants to be dialled for each message.
func register(t *testing.T, dial func(context.Context, netip.AddrPort) (net.Conn, error), to netip.AddrPort) {
	t.Helper()
	c, err := dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ok := make([]byte, len(okLine))
	io.WriteString(c, helloLine)
	if _, err := io.ReadFull(c, ok); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "BACKCONNECT 127.0.0.2")
}

// takeOne takes one connection and nothing else meanwhile, answers its hello, and
// reads until its end.
func takeOne(l net.Listener) (string, error) {
	c, err := l.Accept()
	if err != nil {
		return "", err
	}
	defer c.Close()
	l.Close()
	hello := make([]byte, len(helloLine))
	if _, err := io.ReadFull(c, hello); err != nil || string(hello) != helloLine {
		return string(hello), fmt.Errorf("no hello: %v", err)
	}
	io.WriteString(c, okLine)
	got, err := io.ReadAll(c)
	return string(got), err
}
