package overlay

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// reads waits for a datagram, or the error of a socket.
func reads(c net.Conn) (string, error) {
	b := make([]byte, 1<<16)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := c.Read(b)
	return string(b[:n]), err
}

// UDP of an adapter for a port without a socket is answered by an ICMPv6 error that quotes the
// packet, in each form that it comes in. What is no sound UDP is not.
func TestClosedPort(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), nil), newBareNode(t, w.Host("b"))
		adds(a, b)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		from, to := a.address0().ULA(), b.address0().ULA()
		udp := func(payload []byte, sum bool) []byte {
			u := binary.BigEndian.AppendUint16([]byte{4000 >> 8, 4000 & 0xff, 0, 53}, uint16(udpHeader+len(payload)))
			u = append(append(u, 0, 0), payload...)
			if sum {
				binary.BigEndian.PutUint16(u[6:], checksum(u, pseudoSum(&from, &to, protoUDP, len(u))))
			}
			return u
		}
		ip := func(t wire.Type, next byte, payload []byte) []byte {
			return wire.IP6Msg{Flow: 6<<28 | 1<<20, NextHeader: next, HopLimit: 63, Payload: payload}.Append([]byte{byte(t)})
		}
		long := bytes.Repeat([]byte("x"), 1200)
		icmp := make([]byte, 60)
		icmp[0], icmp[1] = icmpUnreachable, icmpPort
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, pseudoSum(&from, &to, protoICMP, len(icmp))))
		for name, x := range map[string]struct {
			msg     []byte
			payload []byte // nil: no answer
			flow    uint32
			hops    byte
		}{
			"DGRAM":       {wire.DgramMsg{Source: 4000, Destination: 53, Payload: []byte("odd")}.Append([]byte{byte(wire.Dgram)}), []byte("odd"), 6 << 28, 64},
			"IP6P":        {ip(wire.IP6P, protoUDP, udp([]byte("even"), false)), []byte("even"), 6<<28 | 1<<20, 63},
			"IP6":         {ip(wire.IP6, protoUDP, udp([]byte("even"), true)), []byte("even"), 6<<28 | 1<<20, 63},
			"long":        {ip(wire.IP6P, protoUDP, udp(long, false)), long, 6<<28 | 1<<20, 63},
			"no checksum": {ip(wire.IP6, protoUDP, udp([]byte("x"), false)), nil, 0, 0},
			"short":       {ip(wire.IP6, protoUDP, udp([]byte("xy"), true)[:9]), nil, 0, 0},
			"TCP":         {ip(wire.IP6, protoTCP, make([]byte, 20)), nil, 0, 0},
			"an error":    {ip(wire.IP6, protoICMP, icmp), nil, 0, 0},
		} {
			before := len(a.dev.delivered())
			a.dev.out <- outgoing{to, [][]byte{bytes.Clone(x.msg)}}
			settle(2 * time.Second)
			got := a.dev.delivered()[before:]
			if x.payload == nil {
				if len(got) != 0 {
					t.Errorf("%s: answered by % x", name, got[0].msg)
				}
				continue
			}
			if len(got) != 1 {
				t.Errorf("%s: %d answers", name, len(got))
				continue
			}
			m, err := wire.ParseIP6([]byte(got[0].msg)[1:])
			e := m.Payload
			if err != nil || m.NextHeader != protoICMP || e[0] != 1 || e[1] != 4 || checksum(e, pseudoSum(&to, &from, protoICMP, len(e))) != 0 {
				t.Errorf("%s: answered by % x, %v", name, got[0].msg, err)
				continue
			}
			q := e[8:]
			packet := binary.BigEndian.AppendUint32(nil, x.flow)
			packet = append(binary.BigEndian.AppendUint16(packet, uint16(8+len(x.payload))), protoUDP, x.hops)
			packet = append(append(append(packet, from[:]...), to[:]...), udp(x.payload, true)...)
			if want := packet[:min(len(packet), 1280-48)]; !bytes.Equal(q, want) {
				t.Errorf("%s: quotes\n% x\nnot\n% x", name, q, want)
			}
			if 40+len(e) > minMTU {
				t.Errorf("%s: %d bytes", name, 40+len(e))
			}
		}
	})
}

// A peer gets errors only so fast. A peer that is not let in gets none.
func TestClosedPortLimits(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, c := newTestNode(t, w.Host("a"), nil), newBareNode(t, w.Host("b")), newTestNode(t, w.Host("c"), nil)
		adds(a, b)
		c.cfg.Peers = []Peer{{Address: b.address0(), Name: "b"}} // b did not add c
		lan(w, "lan", 0, a.host, b.host, c.host)
		for _, n := range []*testNode{a, b, c} {
			n.start()
			defer n.stop()
		}
		asks := func(n *testNode) {
			msg := wire.DgramMsg{Source: 4000, Destination: 53, Payload: []byte("x")}.Append([]byte{byte(wire.Dgram)})
			n.dev.out <- outgoing{b.address0().ULA(), [][]byte{msg}}
		}
		asks(a)
		asks(c)
		settle(5 * time.Second)
		if got := len(a.dev.delivered()); got != 1 { // which came before the session was confirmed
			t.Errorf("%d errors at first", got)
		}
		before := len(a.dev.delivered())
		const many = 1000
		for range many {
			asks(a)
			asks(c)
		}
		settle(time.Second)
		if got := len(a.dev.delivered()) - before; got < 20 || got > 75 {
			t.Errorf("%d errors", got)
		}
		if got := len(c.dev.delivered()); got != 0 {
			t.Errorf("a stranger got %d", got)
		}
		sent, limited := b.counter("port_closed"), b.counter("drop_port_limited")
		if sent+limited != many+1 {
			t.Errorf("%d were sent and %d were not", sent, limited)
		}
		settle(time.Minute)
		before = len(a.dev.delivered())
		asks(a)
		settle(time.Second)
		if got := len(a.dev.delivered()) - before; got != 1 {
			t.Errorf("%d errors afterwards", got)
		}
	})
}

// A program that dialled a port where nothing listens reads "connection refused", once for
// each error, and goes on.
func TestSocketRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := barePair(t, w)
		defer a.stop()
		defer b.stop()
		c, err := a.Dial(t.Context(), "udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		loose, err := a.ListenPacket("udp", ":4000") // has no one peer, so no errors
		if err != nil {
			t.Fatal(err)
		}
		if _, err := loose.WriteTo([]byte("x"), &Addr{Peer: b.address0(), Port: 54}); err != nil {
			t.Fatal(err)
		}
		_ = loose.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, err := loose.ReadFrom(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the socket of many: %v", err)
		}
		start := time.Now()
		_, _ = c.Write([]byte("x"))
		if got, err := reads(c); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("read: %q, %v", got, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("after %v", took)
		}
		var op *net.OpError
		if got, err := reads(c); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &op) {
			t.Errorf("the second time: %q, %v", got, err)
		}
		s, err := b.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte("x"))
		if _, _, err := s.ReadFrom(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if _, err := s.WriteTo([]byte("answer"), c.LocalAddr()); err != nil {
			t.Error(err)
		}
		if got, err := reads(c); got != "answer" {
			t.Errorf("afterwards: %q, %v", got, err)
		}
	})
}

// Only an error that quotes what a socket sent is one of it: from its peer, with its ports, and
// after it has sent.
func TestSocketErrorsOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, c := newBareNode(t, w.Host("a")), newTestNode(t, w.Host("b"), nil), newTestNode(t, w.Host("c"), nil)
		adds(a, b, c)
		lan(w, "lan", 0, a.host, b.host, c.host)
		for _, n := range []*testNode{a, b, c} {
			n.start()
			defer n.stop()
		}
		s, err := a.Dial(t.Context(), "udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		near := s.LocalAddr().(*Addr).Port
		ula := func(n *testNode) *anode.ULA { return new(n.address0().ULA()) }
		// closed is the error of a node about a packet of ours.
		closed := func(by, to *testNode, near, far uint16) []byte {
			m := wire.DgramMsg{Source: near, Destination: far, Payload: []byte("x")}
			msg := appendClosed(nil, ula(a), ula(to), m.Append([]byte{byte(wire.Dgram)}), m)
			e := msg[1+wire.IP6Header:]
			e[2], e[3] = 0, 0
			binary.BigEndian.PutUint16(e[2:], checksum(e, pseudoSum(ula(by), ula(a), protoICMP, len(e))))
			return msg
		}
		change := func(at int, x byte) []byte {
			msg := closed(b, b, near, 53)
			msg[1+wire.IP6Header+at] = x
			e := msg[1+wire.IP6Header:]
			e[2], e[3] = 0, 0
			binary.BigEndian.PutUint16(e[2:], checksum(e, pseudoSum(ula(b), ula(a), protoICMP, len(e))))
			return msg
		}
		damaged := closed(b, b, near, 53)
		damaged[len(damaged)-1]++
		sends := func(by *testNode, msg []byte) {
			by.dev.out <- outgoing{*ula(a), [][]byte{bytes.Clone(msg)}}
			settle(time.Second)
		}
		is := func(what string, refused bool) {
			t.Helper()
			if _, err := reads(s); errors.Is(err, syscall.ECONNREFUSED) != refused {
				t.Errorf("%s: %v", what, err)
			}
		}
		sends(b, closed(b, b, near, 53))
		is("before anything was sent", false)
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			name    string
			by      *testNode
			msg     []byte
			refused bool
		}{
			{"of the peer", b, closed(b, b, near, 53), true},
			{"of another peer about its own address", c, closed(c, c, near, 53), false},
			{"of another peer", c, closed(c, b, near, 53), false},
			{"another port of the peer", b, closed(b, b, near, 54), false},
			{"another port of ours", b, closed(b, b, near+1, 53), false},
			{"another code", b, change(1, 1), false},
			{"another type", b, change(0, 3), false},
			{"about TCP", b, change(icmpHeader+6, protoTCP), false},
			{"not about ours", b, change(icmpHeader+8, 0xfc), false},
			{"damaged", b, damaged, false},
			{"short", b, closed(b, b, near, 53)[:50], false},
		} {
			sends(x.by, x.msg)
			is(x.name, x.refused)
		}
		for range 10 { // they do not pile up
			sends(b, closed(b, b, near, 53))
		}
		is("many", true)
		is("many, again", false)
	})
}
