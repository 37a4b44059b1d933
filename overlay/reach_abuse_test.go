package overlay

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// Forged, unasked and reflected answers change nothing; they are counted.
func TestReachForged(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 2)
		a := x.site("a", vnet.FullCone)
		x.start()
		defer x.stop()
		settle(3 * time.Second)
		before := a.reach()
		bogus := wire.NetIDMsg{Request: 7, Endpoint: wire.UDP(ap("198.51.100.66:6666"))}.Append(nil)
		// A relay says what it was not asked for, and from another place than it was asked at.
		unasked := signedPacket(t, x.relays[0], a, x.relays[0].peerID(), wire.NetID, bogus)
		at := netip.MustParseAddrPort(strings.TrimPrefix(before.Endpoint, "udp:"))
		for _, from := range []*testNode{x.relays[0], x.relays[1]} {
			from.call(t.Context(), func(l *loop) error { return l.shell.write(bytes.Clone(unasked), link.Endpoint{Addr: at}) })
		}
		// Somebody without the key.
		forged := bytes.Clone(unasked)
		forged[3] ^= 1
		x.relays[1].call(t.Context(), func(l *loop) error { return l.shell.write(forged, link.Endpoint{Addr: at}) })
		settle(time.Second)
		after := a.reach()
		if a.counter("drop_netid") < 2 || a.counter("drop_mac") == 0 {
			t.Errorf("counted: %v", a.status().Counters)
		}
		if after.Endpoint != before.Endpoint || !slices.Equal(after.Own, before.Own) || len(after.Seen) != len(before.Seen) {
			t.Errorf("%+v became %+v", before, after)
		}
	})
}

// liar is a host whose node says of everybody that it is at another endpoint.
type liar struct {
	*vnet.Host
	sign func([]byte)
}

func (h *liar) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(port)
	return liarConn{c, h}, err
}

type liarConn struct {
	link.Conn
	h *liar
}

func (c liarConn) NewWriter() link.Writer { return liarWriter{c.Conn.NewWriter(), c.h} }

type liarWriter struct {
	link.Writer
	h *liar
}

func (w liarWriter) Write(ts []link.Train) (int, error) {
	for k := range ts {
		t := &ts[k]
		if h, msg, err := wire.Parse(t.Buf); err == nil && len(t.Buf) == t.Size && h.Type == wire.NetID {
			x, _ := wire.ParseNetID(msg)
			x.Endpoint = wire.UDP(ap("198.51.100.66:6666"))
			b := append(bytes.Clone(t.Buf[:len(t.Buf)-len(msg)]), x.Append(nil)...)
			w.h.sign(b)
			t.Buf, t.Size = b, len(b)
		}
	}
	return w.Writer.Write(ts)
}

// A friend that lies costs a candidate, and not what the others see.
func TestReachLiar(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 3)
		a := x.site("a", vnet.Home)
		r := x.relays[2]
		k, err := seal.SharedKey(r.cfg.Identity, a.address0())
		if err != nil {
			t.Fatal(err)
		}
		mac := seal.NewMAC(k)
		r.cfg.Network = &liar{r.host, func(b []byte) { mac.Sign(b, new(seal.Scratch)) }}
		x.start()
		defer x.stop()
		settle(5 * time.Minute)
		s := a.reach()
		lies := 0
		for _, seen := range s.Seen {
			if seen.Endpoint == "udp:198.51.100.66:6666" {
				lies++
			}
		}
		if lies != 1 || len(s.Seen) != 3 || s.Mapping != "independent" || s.Endpoint == "udp:198.51.100.66:6666" {
			t.Errorf("%+v", s)
		}
		if n := a.counter("rebound"); n != 0 {
			t.Errorf("it was believed %d times", n)
		}
	})
}

// Of LINGERs one of each peer waits, only added peers may send them, and they are answered after
// the delay, once.
func TestLingerBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		c := newTestNode(t, w.Host("c"), nil)
		c.host.Attach(s, netip.MustParsePrefix("10.0.0.3/24"))
		c.start()
		defer c.stop()
		settle(time.Second)
		to := link.Endpoint{Addr: ap("10.0.0.1:8737")}
		tap := record(s)
		for _, n := range []*testNode{b, c} {
			for k := range 20 {
				p := signedPacket(t, n, a, n.peerID(), wire.Linger, wire.LingerMsg{Request: uint32(k), Delay: 100 * time.Second}.Append(nil))
				n.call(t.Context(), func(l *loop) error { return l.shell.write(p, to) })
			}
		}
		settle(99 * time.Second)
		if n := tap.count(wire.NetID); n != 0 {
			t.Errorf("%d early answers", n)
		}
		settle(2 * time.Second)
		if n := tap.count(wire.NetID); n != 1 {
			t.Errorf("%d answers", n)
		}
		if n := a.counter("drop_linger"); n != 19 {
			t.Errorf("%d refused", n)
		}
		if n := a.counter("drop_standing"); n != 20 {
			t.Errorf("%d of a stranger", n)
		}
	})
}

// count counts the unsealed packets of a type.
func (t *tape) count(typ wire.Type) (n int) {
	for _, p := range t.all() {
		if h, _, err := wire.Parse(p.Data); err == nil && p.Data[1] != wire.FlagSealed && h.Type == typ {
			n++
		}
	}
	return n
}

// A STUN server tells the mapping where nobody else can; answers that it did not give count for
// nothing.
func TestSTUN(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 0)
		a := x.site("a", vnet.Carrier)
		s := x.net.Public("stun")
		conn, err := s.Host.Listen(3478)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		requests := 0
		go func() {
			trains, out := make([]link.Train, 4), conn.NewWriter()
			for {
				k, err := conn.Read(trains)
				if err != nil {
					return
				}
				for _, q := range trains[:k] {
					requests++
					good := stunReply(q.Buf, q.Endpoint.Addr)
					bad := bytes.Clone(good)
					bad[10] ^= 1 // another transaction
					for _, b := range [][]byte{bad, good[:24], good, good} {
						out.Write([]link.Train{{Buf: b, Size: len(b), Endpoint: q.Endpoint}})
					}
				}
			}
		}()
		x.start()
		defer x.stop()
		server := endpointOf(&testNode{host: s.Host}, false).Addr
		if err := a.SetSTUN(t.Context(), []netip.AddrPort{netip.AddrPortFrom(server.Addr(), 3478)}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		r := a.reach()
		if requests != 1 || len(r.Seen) != 1 || r.Seen[0].By != nil || len(r.Public) != 1 || r.Public[0] != r.Seen[0].Endpoint || r.Endpoint != r.Seen[0].Endpoint {
			t.Errorf("%d requests; %+v", requests, r)
		}
		if a.counter("drop_stun")+a.counter("drop_short") < 2 {
			t.Errorf("counters: %v", a.status().Counters)
		}
		settle(time.Hour)
		if requests > 35 {
			t.Errorf("%d requests in an hour", requests)
		}
	})
}

// stunReply is a Binding success response with another attribute in front.
func stunReply(q []byte, to netip.AddrPort) []byte {
	b := append([]byte{1, 1, 0, 24}, q[4:20]...)
	b = append(b, 0x80, 0x22, 0, 5, 'o', 'u', 'r', 's', '!', 0, 0, 0)
	b = append(b, 0, 0x20, 0, 8, 0, 1, byte(to.Port()>>8)^0x21, byte(to.Port())^0x12)
	ip := to.Addr().As4()
	for k := range ip {
		b = append(b, ip[k]^stunCookie[k])
	}
	return b
}

func FuzzParseBinding(f *testing.F) {
	f.Add(stunReply(appendBinding(nil, stunID{1, 2, 3}), ap("192.0.2.1:8737")))
	f.Add(appendBinding(nil, stunID{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, seen, ok := parseBinding(b)
		if ok && (!seen.Addr().IsValid() || !bytes.Equal(id[:], b[8:20])) {
			t.Errorf("%v %v", id, seen)
		}
	})
}

// A peer that is removed while something is measured with its help takes the measurement with it,
// which begins anew with another one, and no socket stays open.
func TestReachForgets(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 2)
		a := x.site("a", vnet.Home)
		known := a.cfg.Peers
		a.cfg.Peers = nil
		x.start()
		defer x.stop()
		for _, p := range known {
			if _, err := a.AddPeer(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		var measures anode.Address
		for range 60 {
			settle(time.Second)
			a.call(t.Context(), func(l *loop) error {
				if f := &l.reach.lifetime; f.sock != nil && f.step >= 0 {
					measures = f.from.Address
				}
				return nil
			})
			if !measures.IsZero() {
				break
			}
		}
		if _, err := a.RemovePeer(t.Context(), measures); err != nil {
			t.Fatal(err)
		}
		a.call(t.Context(), func(l *loop) error {
			if n := len(l.reach.extras.list); n != 0 || l.reach.lifetime.sock != nil {
				t.Errorf("%d sockets are open", n)
			}
			return nil
		})
		settle(20 * time.Minute)
		if s := a.reach(); s.Lifetime == 0 {
			t.Errorf("nothing was measured: %+v", s)
		}
		a.call(t.Context(), func(l *loop) error {
			if n := len(l.reach.extras.list); n != 0 {
				t.Errorf("%d sockets are open", n)
			}
			return nil
		})
	})
}

// STUN servers at addresses that are no other machine's, as DNS may say, are not asked.
func TestSTUNServersElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 0)
		a := x.site("a", vnet.Home)
		x.start()
		defer x.stop()
		list := []netip.AddrPort{ap("127.0.0.1:53"), ap("255.255.255.255:53"), ap("224.0.0.1:53"), ap("[ff02::1]:53"), ap("[::1]:53"), ap("192.0.2.1:0"),
			netip.AddrPortFrom(a.address0().ULA().Addr(), 53)}
		for _, server := range list {
			if err := a.SetSTUN(t.Context(), []netip.AddrPort{server}); err != nil {
				t.Fatal(err)
			}
			a.call(t.Context(), func(l *loop) error {
				if len(l.reach.stun.list) != 0 {
					t.Errorf("%v is asked", server)
				}
				return nil
			})
		}
	})
}
