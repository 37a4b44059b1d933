package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

// bareNetwork is a host's network, for a node in the test's process that is told where its
// peer is.
type bareNetwork struct {
	link.System
	h *host
}

// Listen implements link.Network.
func (n *bareNetwork) Listen(port uint16) (link.Conn, error) {
	return in(n.h, func() (link.Conn, error) { return n.System.Listen(port) })
}

// ListenBeacons implements link.Network.
func (n *bareNetwork) ListenBeacons() (link.Conn, error) { return nil, io.EOF }

// State implements link.Network.
func (n *bareNetwork) State() (link.State, error) { return link.State{}, nil }

// bareNode runs a node without an adapter on a host until the test ends. It has added another
// host, which it reaches at an address.
func bareNode(t *testing.T, h *host, id *anode.Identity, other *host, at string) *overlay.Node {
	t.Helper()
	there := wire.UDP(netip.AddrPortFrom(netip.MustParseAddr(at), link.Port))
	b, _, err := book.Open(id.Address(), book.NewMemory(), []book.Entry{{Address: other.address, Name: other.name, Endpoints: []wire.Endpoint{there}}})
	if err != nil {
		t.Fatal(err)
	}
	n, err := overlay.New(overlay.Config{Identity: id, Book: b, Network: &bareNetwork{h: h}, Port: link.Port})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

// answerNames is a DNS server that knows one address of all names.
func answerNames(s net.PacketConn, a netip.Addr) {
	for buf := make([]byte, 1500); ; {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
			continue
		}
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AAAAResource{AAAA: a.As16()},
		}}
		if b, err := m.Pack(); err == nil {
			_, _ = s.WriteTo(b, from)
		}
	}
}

// echoDatagrams sends back what comes.
func echoDatagrams(s net.PacketConn) {
	for buf := make([]byte, 1<<16); ; {
		n, from, err := s.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = s.WriteTo(buf[:n], from)
	}
}

// TestNetSockets has programs of a machine with an adapter exchange datagrams with a node
// that has none, and the other way round.
func TestNetSockets(t *testing.T) {
	if _, err := exec.LookPath("dig"); err != nil {
		need(t, "dig")
	}
	a, m := newHost(t, "a"), newMachine(t, "m")
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	m.address, m.ula = id.Address(), id.Address().ULA()
	join(1, a, m)
	a.add(m)
	a.up()
	n := bareNode(t, m, id, a, "10.0.1.1")

	names, err := n.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	go answerNames(names, m.ula.Addr())
	within(t, dialWait, "a session", func() bool { // the node begins it
		c, err := n.Dial(t.Context(), "udp", "a:9")
		if err == nil {
			_, err = c.Write([]byte("x"))
			c.Close()
		}
		return err == nil && a.pings(m)
	})
	step(t, "dig", func(t *testing.T) {
		if out := a.run("dig", "+short", "+timeout=5", "@"+m.ula.String(), "AAAA", "web.example"); strings.TrimSpace(out) != m.ula.String() {
			t.Errorf("%q", out)
		}
	}, a)

	echoed, err := n.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	go echoDatagrams(echoed)
	there, err := in(a, func() (net.PacketConn, error) { return net.ListenPacket("udp6", a.at(7)) })
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	go echoDatagrams(there)
	for name, dial := range map[string]func() (net.Conn, error){
		"the adapter's": func() (net.Conn, error) {
			return in(a, func() (net.Conn, error) { return net.Dial("udp6", m.at(7)) })
		},
		"the node's": func() (net.Conn, error) { return n.Dial(t.Context(), "udp", "a:7") },
	} {
		step(t, name, func(t *testing.T) {
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, size := range []int{0, 1, 100, 1201, 1392} {
				want := bytes.Repeat([]byte(fmt.Sprint(size)), size)[:size]
				if _, err := c.Write(want); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(dialWait))
				got := make([]byte, 1<<16)
				if k, err := c.Read(got); err != nil || !bytes.Equal(got[:k], want) {
					t.Errorf("%d bytes: %d came back, %v", size, k, err)
				}
			}
		})
	}
	for line := range strings.Lines(a.run("nstat", "-asz", "UdpInCsumErrors", "Udp6InCsumErrors")) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasSuffix(f[0], "CsumErrors") && f[1] != "0" {
			t.Errorf("wrong checksums: %s", line)
		}
	}
}
