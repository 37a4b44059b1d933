package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// What a NAT of each kind lets in, and whether it sends packets to its own outside back in, is
// measured as it is.
func TestReachFilteringAndHairpin(t *testing.T) {
	for _, c := range []struct {
		kind               vnet.Kind
		filtering, hairpin string
	}{
		{vnet.Open, "not_port_dependent", "unknown"},
		{vnet.Home, "address_port_dependent", "no"},
		{vnet.FullCone, "not_port_dependent", "no"},
		{vnet.Restricted, "not_port_dependent", "no"},
		{vnet.Masquerade, "address_port_dependent", "no"},
		{vnet.SymmetricRandom, "address_port_dependent", "no"},
		{vnet.SymmetricSequential, "address_port_dependent", "no"},
		{vnet.Carrier, "address_port_dependent", "no"},
		{vnet.Double, "address_port_dependent", "no"},
		{vnet.TwinsHairpin, "address_port_dependent", "yes"},
		{vnet.IPv6Firewall, "address_port_dependent", "unknown"},
		{vnet.UDPBlocked, "unknown", "unknown"},
	} {
		for relays := 1; relays <= 2; relays++ {
			t.Run(fmt.Sprint(c.kind, ", relays ", relays), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					x := newOuter(t, w, relays)
					a := x.site("a", c.kind)
					x.start()
					defer x.stop()
					settle(20 * time.Second)
					if s := a.reach(); s.Filtering != c.filtering || s.Hairpin != c.hairpin {
						t.Errorf("filtering %s, hairpin %s; want %s, %s", s.Filtering, s.Hairpin, c.filtering, c.hairpin)
					}
				})
			})
		}
	}
}

// All combinations of mapping, filtering and hairpinning of a NAT.
func TestReachFilteringOfNATs(t *testing.T) {
	all := []vnet.Behaviour{vnet.EndpointIndependent, vnet.AddressDependent, vnet.AddressAndPortDependent}
	for _, mapping := range all {
		for _, filtering := range all {
			for _, hairpin := range []vnet.Hairpinning{vnet.NoHairpin, vnet.HairpinExternal} {
				t.Run(fmt.Sprint(mapping, filtering, hairpin), func(t *testing.T) {
					bubble(t, func(t *testing.T, w *vnet.World) {
						x := behindNAT(t, w, vnet.NATConfig{Mapping: mapping, Filtering: filtering, Hairpin: hairpin, Ports: vnet.PortChoice{Order: vnet.Random}, Lifetime: time.Minute})
						a := x.nodes[0]
						x.start()
						defer x.stop()
						settle(20 * time.Second)
						r := a.reach()
						if port := r.Filtering == "address_port_dependent"; r.Filtering == "unknown" || port != (filtering == vnet.AddressAndPortDependent) {
							t.Errorf("filtering: %s", r.Filtering)
						}
						// A symmetric NAT that filters does not let two of its inside reach each other.
						if yes := hairpin != vnet.NoHairpin && (mapping == vnet.EndpointIndependent || filtering == vnet.EndpointIndependent); (r.Hairpin == "yes") != yes || r.Hairpin == "unknown" {
							t.Errorf("hairpin: %s", r.Hairpin)
						}
					})
				})
			}
		}
	}
}

// behindNAT makes two relays, and a node that reaches them through a NAT.
func behindNAT(t *testing.T, w *vnet.World, c vnet.NATConfig) *outer {
	x := &outer{t: t}
	public, lan := w.Segment("public", vnet.Link{Delay: 8 * time.Millisecond}), w.Segment("lan", vnet.Link{Delay: time.Millisecond})
	for k := range 2 {
		h := w.Host(fmt.Sprint("relay", k+1))
		h.Attach(public, netip.PrefixFrom(netip.AddrFrom4([4]byte{51, 0, 0, byte(k + 1)}), 24))
		x.relays = append(x.relays, newTestNode(t, h, nil))
	}
	router := w.Router("router")
	router.NAT(router.Attach(public, netip.MustParsePrefix("51.0.0.9/24")), c)
	router.Attach(lan, netip.MustParsePrefix("192.168.1.1/24"))
	h := w.Host("a")
	h.Attach(lan, netip.MustParsePrefix("192.168.1.9/24"))
	h.Gateway(netip.MustParseAddr("192.168.1.1"))
	x.add(&vnet.Site{Access: public, LAN: []*vnet.Segment{lan}}, h)
	return x
}

// A relay answers the long LINGER only where it came from, with no more bytes than it has, seldom
// for one host, and leaves no socket behind. One that does not know it leaves the kind unknown.
func TestAnswersElsewhereAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		tap := record(s)
		asked := 0
		for k := range 50 {
			p := signedPacket(t, b, a, b.peerID(), wire.Linger, wire.LingerMsg{Request: uint32(k), Elsewhere: true}.Append(nil))
			asked = len(p)
			b.call(t.Context(), func(l *loop) error { return l.shell.write(p, link.Endpoint{Addr: ap("10.0.0.1:8737")}) })
		}
		settle(time.Second)
		bytes, ports := 0, map[netip.AddrPort]bool{}
		for _, p := range tap.all() {
			if h, _, err := wire.Parse(p.Data); err == nil && h.Type == wire.NetID {
				bytes += len(p.Data)
				ports[p.From] = true
				if p.To != ap("10.0.0.2:8737") {
					t.Errorf("an answer to %v", p.To)
				}
			}
		}
		n := tap.count(wire.NetID)
		if n < 2 || n > 10 || bytes > n/2*asked || len(ports) != n/2+1 {
			t.Errorf("%d answers of %d bytes in all from %d ports to requests of %d", n, bytes, len(ports), asked)
		}
		if a.counter("drop_linger") != uint64(50-n/2) {
			t.Errorf("%d refused", a.counter("drop_linger"))
		}
	})
}

// A relay of an older version does not answer the long LINGER: then the kind is unknown, after few
// questions.
func TestFilteringUnknownToRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 1)
		a := x.site("a", vnet.FullCone)
		x.relays[0].cfg.Network = &deaf{x.relays[0].host}
		x.start()
		defer x.stop()
		tap := record(x.sites[0].LAN[0])
		settle(10 * time.Minute)
		long := 0
		for _, p := range tap.all() {
			if h, msg, err := wire.Parse(p.Data); err == nil && h.Type == wire.Linger && len(msg) == wire.ElsewhereSize && p.To.Addr() == endpointOf(x.relays[0], false).Addr.Addr() {
				long++
			}
		}
		if s := a.reach(); s.Filtering != "unknown" || long != filterTries {
			t.Errorf("filtering: %s, after %d questions", s.Filtering, long)
		}
	})
}

// deaf is a host whose node does not get the long LINGER.
type deaf struct{ *vnet.Host }

func (h *deaf) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(port)
	return deafConn{c}, err
}

type deafConn struct{ link.Conn }

func (c deafConn) Read(ts []link.Train) (int, error) {
	k, err := c.Conn.Read(ts)
	kept := slices.DeleteFunc(ts[:k], func(t link.Train) bool {
		h, msg, err := wire.Parse(t.Buf)
		return err == nil && t.Buf[1]&wire.FlagSealed == 0 && h.Type == wire.Linger && len(msg) == wire.ElsewhereSize
	})
	return len(kept), err
}

// What only looks like the answers changes nothing: another request, another peer, by a relay, no nonce.
func TestFilteringForged(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 2)
		a := x.site("a", vnet.FullCone)
		x.start()
		defer x.stop()
		settle(time.Second)
		a.call(t.Context(), func(l *loop) error {
			r := &l.reach
			w, ok := r.filterWitness()
			if !ok {
				t.Fatal("nobody can be asked")
			}
			f := &r.filtering
			f.peer, f.to, f.id, f.due = w.peer, w.at.Endpoint.Place(), 7, l.now.Add(time.Hour)
			elsewhere := func(p netip.AddrPort) link.Endpoint { return link.Endpoint{Addr: p} }
			other := x.relays[0].address0()
			if w.peer.Address == other {
				other = x.relays[1].address0()
			}
			for _, m := range []struct {
				message
				id uint32
			}{
				{message{peer: w.peer, from: elsewhere(netip.AddrPortFrom(f.to.Addr.Addr(), 999))}, 8},
				{message{peer: r.l.peers.get(other), from: elsewhere(ap("198.51.100.6:999"))}, 7},
				{message{peer: w.peer, from: elsewhere(netip.AddrPortFrom(f.to.Addr.Addr(), 999)), hop: 1}, 7},
			} {
				if r.filterSeen(&m.message, m.id) || f.kind != FilteringUnknown {
					t.Errorf("%+v counts", m)
				}
			}
			e := r.open(w.peer, w.at.Endpoint)
			r.hairpin.sock, r.hairpin.sent = e, 1
			if forged := e.nonce; e.isNonce(forged[:15]) || e.isNonce(nil) || !e.isNonce(forged[:]) {
				t.Error("the nonce is not compared as a whole")
			}
			r.hairpinDone(HairpinUnknown)
			return nil
		})
	})
}

// What the router mapped at an address at which nobody sees us is told to nobody, and the status
// says so. While nobody has said how it sees us, it is told.
func TestMappedElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 1)
		a := x.site("a", vnet.Double)
		mapped := ap("51.9.9.9:8737")
		set := func(list ...netip.AddrPort) (s Status) {
			var eps []link.Endpoint
			for _, m := range list {
				eps = append(eps, link.Endpoint{Addr: m})
			}
			if err := errors.Join(a.SetMapped(t.Context(), eps), a.SetPortmap(t.Context(), PortmapStatus{Code: "mapped", Protocol: "upnp"})); err != nil {
				t.Fatal(err)
			}
			return a.status()
		}
		x.start()
		defer x.stop()
		text := wire.UDP(mapped).String()
		if s := set(mapped); !slices.Contains(s.Reach.Public, text) || s.Network.Portmap.Code != "mapped" {
			t.Errorf("while nothing is known: %+v", s.Reach)
		}
		settle(2 * time.Second)
		if s := set(mapped); slices.Contains(s.Reach.Own, text) || len(s.Reach.Mapped) != 0 || !slices.Equal(s.Reach.Elsewhere, []string{text}) ||
			s.Network.Portmap.Code != PortmapElsewhere || !strings.Contains(s.Network.Portmap.Says, "51.9.9.9") {
			t.Errorf("%+v %+v", s.Reach, s.Network.Portmap)
		}
		seen, six := ap(strings.TrimPrefix(a.reach().Endpoint, "udp:")), ap("[2a0e::7]:8737")
		good := netip.AddrPortFrom(seen.Addr(), 4321)
		if s := set(good, six); !slices.Equal(s.Reach.Mapped, []string{wire.UDP(good).String(), wire.UDP(six).String()}) || s.Network.Portmap.Code != "mapped" || len(s.Reach.Elsewhere) != 0 {
			t.Errorf("%+v %+v", s.Reach, s.Network.Portmap)
		}
	})
}
