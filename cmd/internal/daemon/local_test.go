package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/proxy"
)

// echoTCP answers what it gets on a port of the loopback address, and returns its address.
func echoTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// doors are where a machine's doors listen, in the order of the configuration.
func (m *machine) doors(t *testing.T) (list []proxy.Status) {
	t.Helper()
	d, err := m.client.Doors(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Doors
}

// TestLocalDoors: a program of one machine reaches a service of another one, whose daemons have
// no adapters; and a reload leads it elsewhere.
func TestLocalDoors(t *testing.T) {
	hostA, hostB := lan(t)
	b := newMachine(t, hostB)
	a := newMachine(t, hostA, peerFlag("b="+b.identity(t).String()+"@udp:10.0.0.2:8737"))
	b.options.Source.Flags = append(b.options.Source.Flags, peerFlag("a="+a.identity(t).String()))
	a.configure(t, `local.forward = ["0=b:80"]`)
	a.start(t)
	b.configure(t, fmt.Sprintf(`local.expose = ["80=%s"]`, echoTCP(t)))
	b.start(t)
	talk := func(at string) error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		text := strings.Repeat("some text ", 20_000)
		wrote := make(chan error, 1)
		go func() {
			_, err := io.WriteString(c, text)
			wrote <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
		}()
		got, err := io.ReadAll(c)
		if failed := <-wrote; err == nil && errors.Is(failed, syscall.ECONNRESET) {
			err = failed // the system tells of a reset once, and then of an end
		}
		if err == nil && string(got) != text {
			err = fmt.Errorf("%d of %d bytes came back", len(got), len(text))
		}
		return err
	}
	at := a.doors(t)[0].Listen
	if err := talk(at); err != nil {
		t.Error(err)
	}
	_, port, _ := net.SplitHostPort(at)
	a.hangUp(t, fmt.Sprintf(`local.forward = ["%s=b:81"]`, port))
	a.log.wait("key=local.forward")
	if err := talk(at); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("nothing listens there: %v", err)
	}
	b.hangUp(t, fmt.Sprintf(`local.expose = ["81=%s@nobody"]`, echoTCP(t)))
	b.log.wait("key=local.expose")
	if err := talk(at); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("exposed to somebody else: %v", err)
	}
	b.hangUp(t, fmt.Sprintf(`local.expose = ["81=%s@a"]`, echoTCP(t)))
	b.log.wait("key=local.expose")
	if err := talk(at); err != nil {
		t.Error(err)
	}
	status, err := b.client.Status(t.Context())
	if err != nil || status.Counters["local_not_allowed"] != 1 {
		t.Errorf("%v, %v", status.Counters["local_not_allowed"], err)
	}
}

// TestLocalTaken: a port that is taken is an error at the start, which leaves nothing open.
func TestLocalTaken(t *testing.T) {
	taken := echoTCP(t)
	host, _ := lan(t)
	m := newMachine(t, host)
	m.configure(t, fmt.Sprintf("local.expose = [\"80\"]\nlocal.socks = %q", taken))
	if err := Run(t.Context(), m.options); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), taken) {
		t.Fatalf("got %v", err)
	}
	m.configure(t, "")
	m.start(t)
	if list := m.doors(t); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestLocalCommand: the doors of a command close with it.
func TestLocalCommand(t *testing.T) {
	host, _ := lan(t)
	m := newMachine(t, host).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan proxy.Status, 1), make(chan error, 1)
	go func() { done <- m.keep(ctx, "80", ready) }()
	if s := <-ready; s.Listen != ":80" {
		t.Errorf("%+v", s)
	}
	if err := m.keep(t.Context(), "80=127.0.0.1:1", ready); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("the port twice: %v", err)
	}
	cancel()
	<-done
	m.log.wait("a port is no longer exposed")
}

// keep exposes a port as a command does.
func (m *machine) keep(ctx context.Context, spec string, ready chan<- proxy.Status) error {
	return m.client.Keep(ctx, control.KeepRequest{Kind: proxy.Expose, Spec: spec}, func(s proxy.Status) { ready <- s })
}
