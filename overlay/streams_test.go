package overlay

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// overTCP starts a node whose network lets no UDP through, and one that it can reach by TCP alone,
// on a port.
func overTCP(t *testing.T, w *vnet.World, port uint16, limit func(*vnet.Site)) (a, b *testNode, sites [2]*vnet.Site) {
	t.Helper()
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	sa, sb := net.Site("a", vnet.Home), net.Site("b", vnet.Open)
	limit(sa)
	a = newTestNode(t, sa.Host, nil)
	b = newTestNode(t, sb.Host, func(c *Config) { c.TCP = []uint16{port} })
	adds(a, b)
	at := netip.AddrPortFrom(addr(t, sb.Host, netip.Addr.Is4), port)
	a.cfg.Peers[0].Endpoints = []wire.Endpoint{wire.TCP(at)}
	return a.start(), b.start(), [2]*vnet.Site{sa, sb}
}

// byTCP checks that packets to a peer go by a connection.
func (n *testNode) byTCP(to *testNode) {
	n.t.Helper()
	if p := n.peer(to).Path; !strings.HasPrefix(p.Endpoint, "tcp:") {
		n.t.Errorf("%s reaches %s by %+v", n.host.Name(), to.host.Name(), p)
	}
}

// Where no UDP gets through, the first packet takes a connection, and so does the answer.
func TestTCPWithoutUDP(t *testing.T) {
	for name, c := range map[string]struct {
		port  uint16
		limit func(*vnet.Site)
	}{
		"no UDP":       {link.Port, func(s *vnet.Site) { s.DropUDP(true) }},
		"only the web": {443, func(s *vnet.Site) { s.DropUDP(true); s.AllowTCP(80, 443) }},
		"loss as well": {link.Port, func(s *vnet.Site) { s.DropUDP(true); s.SetLink(vnet.Link{Delay: oneWay / 2, Loss: 0.02}) }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, _ := overTCP(t, w, c.port, c.limit)
				defer a.stop()
				defer b.stop()
				a.say(b, "there")
				b.arrives(a, "there", 3*time.Second)
				b.say(a, "back")
				a.arrives(b, "back", time.Second)
				a.byTCP(b)
				b.byTCP(a)
				settle(5 * time.Minute)
				b.say(a, "later")
				a.arrives(b, "later", time.Second)
			})
		})
	}
}

// A connection that is dead is noticed by who has something to say, and another one takes its
// place.
func TestTCPConnectionDies(t *testing.T) {
	for name, kill := range map[string]func(a, b *testNode, sites [2]*vnet.Site){
		"the NAT forgets it": func(_, _ *testNode, sites [2]*vnet.Site) { sites[0].Reboot() },
		"the NAT moves":      func(_, _ *testNode, sites [2]*vnet.Site) { sites[0].Renumber() },
		"it is reset":        func(_, b *testNode, _ [2]*vnet.Site) { b.host.ResetStreams() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, sites := overTCP(t, w, link.Port, func(s *vnet.Site) { s.DropUDP(true) })
				defer a.stop()
				defer b.stop()
				a.say(b, "before")
				b.arrives(a, "before", 3*time.Second)
				settle(20 * time.Second)
				kill(a, b, sites)
				began := time.Now()
				for k := 0; ; k++ {
					a.say(b, "after")
					settle(100 * time.Millisecond)
					if got := b.dev.delivered(); len(got) > 0 && got[len(got)-1].msg == string(ip6("after")) {
						break
					}
					if time.Since(began) > 14*time.Second {
						t.Fatalf("nothing arrives after %v: %+v", time.Since(began), a.peer(b))
					}
				}
				t.Logf("repaired after %v", time.Since(began))
				a.byTCP(b)
			})
		})
	}
}

// Both sides open a connection to each other at the same moment: nothing is lost, the packets of both
// take one of the two from then on, and stay there.
func TestTCPBothDial(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		net := w.Internet(vnet.Link{Delay: oneWay / 2})
		sa, sb := net.Site("a", vnet.Open), net.Site("b", vnet.Open)
		sa.DropUDP(true)
		takes := func(c *Config) { c.TCP = []uint16{link.Port} }
		a, b := newTestNode(t, sa.Host, takes), newTestNode(t, sb.Host, takes)
		adds(a, b)
		for n, to := range map[*testNode]*testNode{a: b, b: a} {
			at := netip.AddrPortFrom(addr(t, to.host, netip.Addr.Is4), link.Port)
			n.cfg.Peers[0].Endpoints = []wire.Endpoint{wire.TCP(at)}
		}
		a.start()
		b.start()
		defer stopAll(a, b)
		a.say(b, "from a")
		b.say(a, "from b")
		b.arrives(a, "from a", 3*time.Second)
		a.arrives(b, "from b", 3*time.Second)
		if pause := converse(a, b, 20*time.Second, nil); pause > 200*time.Millisecond {
			t.Errorf("nothing comes for %v", pause)
		}
		ours, theirs := a.connection(b), b.connection(a)
		if (ours == 0) == (theirs == 0) {
			t.Errorf("a uses connection %d, b %d: not the same one, which one of them has opened", ours, theirs)
		}
		if pause := converse(a, b, 2*time.Minute, nil); pause > 200*time.Millisecond {
			t.Errorf("nothing comes for %v", pause)
		}
		if x, y := a.connection(b), b.connection(a); x != ours || y != theirs {
			t.Errorf("a uses connection %d, b %d, before it was %d and %d", x, y, ours, theirs)
		}
		if x, y := a.peer(b).PathAge, b.peer(a).PathAge; min(x, y) < 120 {
			t.Errorf("packets have taken their path for %v and %v s only", x, y)
		}
	})
}

// connection is that by which packets to a peer leave; 0: one that the node itself has opened.
func (n *testNode) connection(to *testNode) (conn uint32) {
	n.t.Helper()
	if err := n.call(n.t.Context(), func(l *loop) error {
		best, ok := l.peers.get(to.address0()).Best()
		if !ok || best.Endpoint.Kind != link.TCP {
			n.t.Errorf("%s reaches %s by %v", n.host.Name(), to.host.Name(), best.Endpoint)
		}
		conn = best.Endpoint.Conn
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
	return conn
}

// A connection that is reset is opened again at once, one that dies and says nothing in 10 s.
func TestTCPResetOrSilent(t *testing.T) {
	for name, c := range map[string]struct {
		kill func(b *testNode, sites [2]*vnet.Site)
		most time.Duration
	}{
		"reset":  {func(b *testNode, _ [2]*vnet.Site) { b.host.ResetStreams() }, 500 * time.Millisecond},
		"silent": {func(_ *testNode, sites [2]*vnet.Site) { sites[0].Reboot() }, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, sites := overTCP(t, w, link.Port, func(s *vnet.Site) { s.DropUDP(true) })
				defer stopAll(a, b)
				a.say(b, "before")
				b.arrives(a, "before", 3*time.Second)
				converse(a, b, 5*time.Second, nil)
				for round := range 3 {
					c.kill(b, sites)
					if pause := converse(a, b, 20*time.Second, nil); pause > c.most {
						t.Errorf("round %d: nothing comes for %v", round, pause)
					} else {
						t.Logf("round %d: a pause of %v", round, pause)
					}
					a.byTCP(b)
					b.byTCP(a)
				}
			})
		})
	}
}
