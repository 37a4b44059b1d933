package control

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"anodenet/anode"
	"anodenet/cmd/internal/proxy"
)

// echoDatagrams answers datagrams, and returns where.
func echoDatagrams(t *testing.T) string {
	t.Helper()
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo(b[:n], from)
		}
	}()
	return p.LocalAddr().String()
}

// TestDatagrams: each datagram stays one, an empty one too.
func TestDatagrams(t *testing.T) {
	peer := newAddress(t)
	c, _, _ := serveLocal(t, &fakeNetwork{to: echoDatagrams(t)}, peer)
	d, err := c.OpenDatagrams(t.Context(), peer, 53)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 0, 1400, 9000, 60000} {
		want := bytes.Repeat([]byte{byte(n + 1)}, n)
		if err := d.Send(want); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Receive(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	if err := d.Send(make([]byte, proxy.MostDatagram+1)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("too long: %v", err)
	}
	d.Close()
	if _, err := d.Receive(); err == nil {
		t.Error("it receives after its end")
	}
}

// TestDatagramsRefused: what the peer says about a closed port comes back in words, and so does
// the end of the daemon.
func TestDatagramsRefused(t *testing.T) {
	p, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.Close() // now nobody listens there
	peer := newAddress(t)
	n := &fakeNetwork{to: p.LocalAddr().String()}
	c, _, end := serveLocal(t, n, peer)
	d, err := c.OpenDatagrams(t.Context(), peer, 53)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Send([]byte("x")); err != nil {
		t.Fatal(err)
	}
	var remote *Error
	for range 2 { // and so for ever
		if _, err := d.Receive(); !errors.As(err, &remote) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("%v", err)
		}
	}
	if _, err := c.OpenDatagrams(t.Context(), anode.Address{}, 53); !errors.As(err, &remote) {
		t.Errorf("no address: %v", err)
	}
	n.to = echoDatagrams(t)
	if d, err = c.OpenDatagrams(t.Context(), peer, 53); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	end()
	if _, err := d.Receive(); err == nil {
		t.Error("it receives although the daemon ended")
	}
}
