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
