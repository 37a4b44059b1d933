package overlay

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// choosers starts a node at home, and one on the internet at an endpoint of UDP that the first one
// was given, where it takes connections as well.
func choosers(t *testing.T, w *vnet.World, change func(a, b *vnet.Site)) (a, b *testNode, sites [2]*vnet.Site) {
	t.Helper()
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	sa, sb := net.Site("a", vnet.Home), net.Site("b", vnet.Open)
	if change != nil {
		change(sa, sb)
	}
	a = newTestNode(t, sa.Host, nil)
	b = newTestNode(t, sb.Host, func(c *Config) { c.TCP = []uint16{link.Port} })
	adds(a, b)
	at := netip.AddrPortFrom(addr(t, sb.Host, netip.Addr.Is4), link.Port)
	a.cfg.Peers[0].Endpoints = []wire.Endpoint{wire.UDP(at)}
	return a.start(), b.start(), [2]*vnet.Site{sa, sb}
}

// another starts a third node, beside b, that a adds only now.
func (n *testNode) another(w *vnet.World, b *testNode) *testNode {
	n.t.Helper()
	at := netip.AddrPortFrom(addr(n.t, b.host, netip.Addr.Is4), 8738)
	c := newTestNode(n.t, b.host, func(c *Config) { c.Port, c.TCP = 8738, []uint16{8738} })
	adds(c, n)
	c.start()
	if _, err := n.AddPeer(n.t.Context(), Peer{Address: c.address0(), Name: "c", Endpoints: []wire.Endpoint{wire.UDP(at)}}); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// by returns the transport that packets to a peer take.
func (n *testNode) by(to *testNode) string {
	n.t.Helper()
	kind, _, _ := strings.Cut(n.peer(to).Path.Endpoint, ":")
	return kind
}

// converse sends a message each way every 50 ms, and returns the longest pause in what arrives at
// either side.
func converse(a, b *testNode, d time.Duration, stop func() bool) (pause time.Duration) {
	last := map[*testNode]time.Time{a: time.Now(), b: time.Now()}
	had := map[*testNode]int{a: len(a.dev.delivered()), b: len(b.dev.delivered())}
	for began := time.Now(); time.Since(began) < d && (stop == nil || !stop()); {
		a.say(b, "x")
		b.say(a, "x")
		settle(50 * time.Millisecond)
		for _, n := range []*testNode{a, b} {
			if k := len(n.dev.delivered()); k > had[n] {
				had[n], last[n] = k, time.Now()
			}
			pause = max(pause, time.Since(last[n]))
		}
	}
	return pause
}

// Where UDP is dropped, a connection is opened to where UDP was given; the next one on this
// network is opened at once.
func TestChoiceFirstPacket(t *testing.T) {
	for name, change := range map[string]func(a, b *vnet.Site){
		"here":  func(a, _ *vnet.Site) { a.DropUDP(true) },
		"there": func(_, b *vnet.Site) { b.DropUDP(true) },
		"both":  func(a, b *vnet.Site) { a.DropUDP(true); b.DropUDP(true) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, _ := choosers(t, w, change)
				defer a.stop()
				defer b.stop()
				a.say(b, "there")
				b.arrives(a, "there", 3*time.Second)
				is := a.by(b)
				if is != "tcp" {
					t.Errorf("path is %q", is)
				}
				c := a.another(w, b)
				defer c.stop()
				settle(time.Minute)
				a.say(c, "again")
				c.arrives(a, "again", time.Second)
			})
		})
	}
}

// Where UDP answers, no connection is opened.
func TestChoiceUDP(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := choosers(t, w, nil)
		defer a.stop()
		defer b.stop()
		a.say(b, "there")
		b.arrives(a, "there", time.Second)
		converse(a, b, 20*time.Second, nil)
		settle(10 * time.Minute)
		a.say(b, "later")
		b.arrives(a, "later", time.Second)
		if n := b.host.Streams() + a.host.Streams(); n != 0 {
			t.Errorf("%d connections", n)
		}
		if by := a.by(b); by != "udp" {
			t.Errorf("path is %q", by)
		}
	})
}

// UDP is dropped after a while, and comes back: what flows pauses only for a moment, and the path is
// UDP again soon.
func TestChoiceFollowsUDP(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, sites := choosers(t, w, nil)
		defer a.stop()
		defer b.stop()
		a.say(b, "first")
		b.arrives(a, "first", time.Second)
		converse(a, b, 20*time.Second, nil)
		for round := range 3 {
			sites[round%2].DropUDP(true)
			if pause := converse(a, b, 20*time.Second, nil); pause > 2*time.Second {
				t.Errorf("round %d: without UDP, nothing comes for %v", round, pause)
			}
			if x, y := a.by(b), b.by(a); x != "tcp" || y != "tcp" {
				t.Errorf("round %d: paths without UDP are %s and %s", round, x, y)
			}
			sites[round%2].DropUDP(false)
			began := time.Now()
			pause := converse(a, b, 20*time.Second, func() bool { return a.by(b) == "udp" && b.by(a) == "udp" })
			if pause > 200*time.Millisecond || time.Since(began) > 15*time.Second {
				t.Errorf("round %d: back on UDP after %v, with a pause of %v", round, time.Since(began), pause)
			}
			t.Logf("round %d: back on UDP after %v", round, time.Since(began))
			converse(a, b, 5*time.Second, nil)
		}
	})
}

// A firewall that lets UDP through for 3 s now and then does no harm.
func TestChoiceFlapping(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, sites := choosers(t, w, func(a, _ *vnet.Site) { a.DropUDP(true) })
		defer a.stop()
		defer b.stop()
		a.say(b, "first")
		b.arrives(a, "first", 3*time.Second)
		for round := range 10 {
			sites[0].DropUDP(round%2 == 1)
			if pause := converse(a, b, 3*time.Second, nil); pause > 200*time.Millisecond {
				t.Errorf("round %d: nothing comes for %v", round, pause)
			}
			if by := a.by(b); by != "tcp" {
				t.Errorf("round %d: the path is %s", round, by)
			}
		}
	})
}

// While nothing is said, a connection costs next to nothing.
func TestChoiceIdle(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, sites := choosers(t, w, func(a, _ *vnet.Site) { a.DropUDP(true) })
		defer a.stop()
		defer b.stop()
		a.say(b, "first")
		b.arrives(a, "first", 3*time.Second)
		settle(5 * time.Minute)
		tape := record(sites[0].Access)
		settle(10 * time.Minute)
		n := len(tape.all())
		t.Logf("%d packets in ten minutes", n)
		if n > 100 {
			t.Errorf("%d packets in ten minutes", n)
		}
		a.say(b, "later")
		b.arrives(a, "later", time.Second)
	})
}

// zoneWithTCP starts a relay of a zone that takes TCP as well, and two of its clients, who added each
// other: the network of the first lets no UDP through.
func zoneWithTCP(t *testing.T, w *vnet.World, kb vnet.Kind) (a, b, r *testNode, sa *vnet.Site) {
	t.Helper()
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	sr, sa, sb := net.Site("relay", vnet.Open), net.Site("a", vnet.Home), net.Site("b", kb)
	sa.DropUDP(true)
	r = newTestNode(t, sr.Host, func(c *Config) {
		c.Identity, c.RelayZones, c.TCP = identityIn(t, testZone), []anode.Zone{testZone}, []uint16{443}
	}).start()
	f := zoneFile(t, fmt.Sprintf("%s:8737:443:%s", addr(t, sr.Host, netip.Addr.Is4), r.address0()))
	a = newTestNode(t, sa.Host, func(c *Config) { c.Identity = identityIn(t, testZone) })
	b = newTestNode(t, sb.Host, func(c *Config) { c.Identity = identityIn(t, testZone) })
	adds(a, b)
	a.knows(testZone, f)
	b.knows(testZone, f)
	return a, b, r, sa
}

// A relay of a zone is reached by TCP by one side, and by UDP by the other.
func TestChoiceRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, r, sa := zoneWithTCP(t, w, vnet.Home)
		defer r.stop()
		defer a.stop()
		defer b.stop()
		a.say(b, "there")
		b.arrives(a, "there", 3*time.Second)
		b.say(a, "back")
		a.arrives(b, "back", time.Second)
		if p := a.peer(b).Path; p.Kind != PathRelay || !strings.HasPrefix(p.Endpoint, "tcp:") {
			t.Errorf("a reaches b by %+v", p)
		}
		if p := b.peer(a).Path; p.Kind != PathRelay || !strings.HasPrefix(p.Endpoint, "udp:") {
			t.Errorf("b reaches a by %+v", p)
		}
		settle(20 * time.Minute)
		b.say(a, "later")
		a.arrives(b, "later", time.Second)
		sa.DropUDP(false)
		began := time.Now()
		pause := converse(a, b, 20*time.Second, func() bool { return a.peer(b).Path.Kind == PathDirect && b.peer(a).Path.Kind == PathDirect })
		if took := time.Since(began); took > 15*time.Second || pause > 300*time.Millisecond {
			t.Errorf("with UDP the path is direct after %v, with a pause of %v", took, pause)
		}
		if by := a.by(b); by != "udp" {
			t.Errorf("with UDP the path is %s", by)
		}
		sa.DropUDP(true)
		if pause := converse(a, b, 20*time.Second, nil); pause > 3*time.Second {
			t.Errorf("without UDP, nothing comes for %v", pause)
		}
		if by := a.by(b); by != "tcp" {
			t.Errorf("without UDP the path is %s", by)
		}
	})
}

// The relay is reached by UDP again soon after it is let through, where no direct way is to be had.
func TestChoiceRelayBackOnUDP(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, r, sa := zoneWithTCP(t, w, vnet.SymmetricRandom)
		defer r.stop()
		defer a.stop()
		defer b.stop()
		a.say(b, "there")
		b.arrives(a, "there", 3*time.Second)
		converse(a, b, 30*time.Second, nil)
		for round := range 3 {
			if by := a.by(b); by != "tcp" {
				t.Errorf("round %d: without UDP the path is %s", round, by)
			}
			sa.DropUDP(false)
			began := time.Now()
			pause := converse(a, b, 20*time.Second, func() bool { return a.by(b) == "udp" })
			if took := time.Since(began); took > 15*time.Second || pause > 200*time.Millisecond {
				t.Errorf("round %d: back on UDP after %v, with a pause of %v", round, took, pause)
			}
			converse(a, b, 5*time.Second, nil)
			sa.DropUDP(true)
			converse(a, b, 20*time.Second, nil)
		}
	})
}

// asksAll has a node check all its ways to another.
func (n *testNode) asksAll(to *testNode) {
	n.t.Helper()
	if err := n.call(n.t.Context(), func(l *loop) error {
		p := l.peers.get(to.address0())
		p.LinksChanged(l.now)
		l.touch(p)
		return nil
	}); err != nil {
		n.t.Fatal(err)
	}
}

// A client reaches its relay by both families of addresses. However often it asks along both, what it
// sends is forwarded.
func TestRelayOfTwoFamilies(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		net := w.Internet(vnet.Link{Delay: oneWay / 2})
		sr, sa, sb := net.Public("relay"), net.Public("a"), net.Site("b", vnet.SymmetricRandom)
		r := newTestNode(t, sr.Host, func(c *Config) {
			c.Identity, c.RelayZones = identityIn(t, testZone), []anode.Zone{testZone}
		}).start()
		global6 := func(ip netip.Addr) bool { return ip.Is6() && ip.IsGlobalUnicast() }
		f := zoneFile(t, fmt.Sprintf("%s,%s:8737:0:%s", addr(t, sr.Host, netip.Addr.Is4), addr(t, sr.Host, global6), r.address0()))
		inZone := func(c *Config) { c.Identity = identityIn(t, testZone) }
		a, b := newTestNode(t, sa.Host, inZone), newTestNode(t, sb.Host, inZone)
		adds(a, b)
		a.knows(testZone, f)
		b.knows(testZone, f)
		defer stopAll(r, a, b)
		a.say(b, "there")
		b.arrives(a, "there", 3*time.Second)
		for round := range 20 {
			a.asksAll(r)
			if pause := converse(a, b, 2*time.Second, nil); pause > 200*time.Millisecond {
				t.Errorf("round %d: nothing comes for %v", round, pause)
			}
		}
	})
}

// Firewalls that let UDP through for 3 s now and then do no harm to what goes by a relay either.
func TestChoiceRelayFlapping(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, r, sa := zoneWithTCP(t, w, vnet.SymmetricRandom)
		defer r.stop()
		defer a.stop()
		defer b.stop()
		a.say(b, "there")
		b.arrives(a, "there", 3*time.Second)
		converse(a, b, 5*time.Second, nil)
		for round := range 10 {
			sa.DropUDP(round%2 == 1)
			if pause := converse(a, b, 3*time.Second, nil); pause > 200*time.Millisecond {
				t.Errorf("round %d: nothing comes for %v", round, pause)
			}
			if by := a.by(b); by != "tcp" {
				t.Errorf("round %d: the path is %s", round, by)
			}
		}
	})
}

// A firewall drops everything for a while, and has forgotten the connections then, or forgets them
// with no pause: nothing says so, and another connection takes over.
func TestChoiceDeadConnection(t *testing.T) {
	for _, c := range []struct{ pause, most time.Duration }{{0, 10 * time.Second}, {30 * time.Second, 6 * time.Second}} {
		t.Run(c.pause.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, sites := choosers(t, w, func(a, _ *vnet.Site) { a.DropUDP(true) })
				defer a.stop()
				defer b.stop()
				a.say(b, "first")
				b.arrives(a, "first", 3*time.Second)
				converse(a, b, 5*time.Second, nil)
				if c.pause > 0 {
					sites[0].AllowTCP(1)
					converse(a, b, c.pause, nil)
				}
				sites[0].Firewall.SetConfig(func(c *vnet.FirewallConfig) { c.Open = false })
				sites[0].Firewall.Reboot()
				sites[0].AllowTCP()
				if pause := converse(a, b, 20*time.Second, nil); pause > c.most {
					t.Errorf("nothing comes for %v", pause)
				}
				if by := a.by(b); by != "tcp" {
					t.Errorf("the path is %s", by)
				}
			})
		})
	}
}

// homeAndOpen starts a relay of a zone, a node at home, and one on the internet, both in the zone. They
// know of each other nothing but addresses.
func homeAndOpen(t *testing.T, w *vnet.World, change func(home, open *vnet.Site)) (r, home, open *testNode, sites [2]*vnet.Site) {
	t.Helper()
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	sr, sh, so := net.Site("relay", vnet.Open), net.Site("home", vnet.Home), net.Site("open", vnet.Open)
	change(sh, so)
	r = newTestNode(t, sr.Host, func(c *Config) {
		c.Identity, c.RelayZones, c.TCP = identityIn(t, testZone), []anode.Zone{testZone}, []uint16{443}
	}).start()
	f := zoneFile(t, fmt.Sprintf("%s:8737:443:%s", addr(t, sr.Host, netip.Addr.Is4), r.address0()))
	inZone := func(c *Config) { c.Identity, c.TCP = identityIn(t, testZone), []uint16{8738} }
	home, open = newTestNode(t, sh.Host, inZone), newTestNode(t, so.Host, inZone)
	adds(home, open)
	home.knows(testZone, f)
	open.knows(testZone, f)
	return r, home, open, [2]*vnet.Site{sh, so}
}

// Who is on the internet says by the relay on which port it takes connections: where UDP gets no
// answer, the other side opens one, whoever of both begins to speak.
func TestChoiceTold(t *testing.T) {
	for _, c := range []struct {
		name      string
		blocked   func(home, open *vnet.Site)
		homeFirst bool
	}{
		{"home begins", func(home, _ *vnet.Site) { home.DropUDP(true) }, true},
		{"open begins", func(home, _ *vnet.Site) { home.DropUDP(true) }, false},
		{"UDP is blocked in front of the open one", func(_, open *vnet.Site) { open.DropUDP(true) }, true},
		{"UDP dies", func(_, _ *vnet.Site) {}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				r, home, open, sites := homeAndOpen(t, w, c.blocked)
				defer r.stop()
				defer home.stop()
				defer open.stop()
				from, to := home, open
				if !c.homeFirst {
					from, to = open, home
				}
				from.say(to, "there")
				to.arrives(from, "there", 3*time.Second)
				converse(home, open, 10*time.Second, nil)
				if c.name == "UDP dies" {
					sites[0].DropUDP(true)
					if pause := converse(home, open, 3*time.Second, nil); pause > 2*time.Second {
						t.Errorf("without UDP, nothing comes for %v", pause)
					}
				}
				for _, n := range [][2]*testNode{{home, open}, {open, home}} {
					if p := n[0].peer(n[1]).Path; p.Kind != PathDirect || !strings.HasPrefix(p.Endpoint, "tcp:") {
						t.Errorf("%s has the path %+v", n[0].host.Name(), p)
					}
				}
			})
		})
	}
}

// A node that starts again remembers in which network UDP got no answer, and in which it did.
func TestChoiceRemembers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, sites := choosers(t, w, func(_, b *vnet.Site) { b.DropUDP(true) })
		defer func() { a.stop() }()
		defer b.stop()
		for round, blocked := range []bool{true, true, false, false} {
			sites[1].DropUDP(blocked)
			if round > 0 {
				a.stop()
				a.start()
			}
			settle(time.Second) // of the last run nothing is under way
			if known := a.status().Transports.UDPSilent; known != (round == 1 || round == 2) {
				t.Errorf("round %d: UDP is known to be silent: %v", round, known)
			}
			limit := 3 * time.Second
			if round > 0 {
				limit = time.Second
			}
			a.say(b, fmt.Sprint(round))
			b.arrives(a, fmt.Sprint(round), limit)
			converse(a, b, 30*time.Second, nil)
		}
	})
}

// Where a proxy alone is known to lead out, no connection waits for UDP; if UDP works after all, it
// is used.
func TestChoiceExpectsSilence(t *testing.T) {
	for name, dropped := range map[string]bool{"UDP is dropped": true, "UDP works": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, _ := choosers(t, w, func(a, _ *vnet.Site) { a.DropUDP(dropped) })
				defer a.stop()
				defer b.stop()
				if err := a.ExpectSilence(t.Context()); err != nil {
					t.Fatal(err)
				}
				a.say(b, "there")
				b.arrives(a, "there", time.Second)
				converse(a, b, 10*time.Second, nil)
				if is, want := a.by(b), map[bool]string{true: "tcp", false: "udp"}[dropped]; is != want {
					t.Errorf("path is %q", is)
				}
			})
		})
	}
}
