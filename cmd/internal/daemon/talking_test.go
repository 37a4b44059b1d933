package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"anodenet/cmd/internal/control"
)

// TestPortTaken: the rest of the daemon goes on, and says so.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, fmt.Sprintf("info2 = {bare = true, port = %d}", l.Addr().(*net.TCPAddr).Port))
	m.start(t)
	m.log.wait("clear text")
	m.log.wait("Info2 does not run; everything else does")
	s, err := m.client.Info2(t.Context())
	if err != nil || len(s.Networks) != 1 || !strings.Contains(s.Networks[0].Failed, "in use by another program") || s.Networks[0].Encrypted {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := m.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBareDaemon joins a daemon's bare network as a stranger, by hand.
func TestBareDaemon(t *testing.T) {
	free, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, fmt.Sprintf("info2 = {bare = true, port = %d}", port))
	m.start(t)
	m.log.wait("info2 started")
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "INFO2 CONNECT/0.6\n\n"); err != nil {
		t.Fatal(err)
	}
	ok := make([]byte, len("INFO2 OK\n\n"))
	if _, err := io.ReadFull(conn, ok); err != nil || string(ok) != "INFO2 OK\n\n" {
		t.Fatalf("%q, %v", ok, err)
	}
	if _, err := io.WriteString(conn, "SEND 123456 hello \x1b[2J\n\n"); err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = m.client.Log(ctx, control.LogRequest{Last: 10, Follow: true}, func(e control.Entry) error {
		if e.Text != "hello ␛[2J" || e.Network != control.NetworkBare || e.From.String() != "127.0.0.1" || e.MID.String() != "123456" || e.Own {
			t.Errorf("%+v", e)
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
	// The daemon ends although somebody follows.
	ended := make(chan error, 1)
	go func() {
		ended <- m.client.Log(ctx, control.LogRequest{Follow: true}, func(control.Entry) error { return nil })
	}()
	said, err := m.client.Say(ctx, control.SayRequest{Text: "bye"})
	if err != nil || said.Network != control.NetworkBare {
		t.Errorf("%+v, %v", said, err)
	}
	m.stop()
	if err := <-ended; !errors.Is(err, control.ErrNoDaemon) {
		t.Errorf("got %v", err)
	}
}
