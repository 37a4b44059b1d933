package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// sited is two nodes at sites of some kinds, and a relay that both added.
type sited struct {
	a, b, r *testNode
	sites   []*vnet.Site // of a and b
	relay   *vnet.Site
}

// oneWay is how long a packet takes between two sites.
const oneWay = 16 * time.Millisecond

// newSited makes and starts them. They reach the relay, and know nothing of each other.
func newSited(t *testing.T, w *vnet.World, a, b vnet.Kind, change func(*Config)) *sited {
	t.Helper()
	x := siteNodes(t, w, a, b, change)
	for _, n := range []*testNode{x.r, x.a, x.b} {
		n.start()
	}
	settle(3 * time.Second)
	return x
}

// siteNodes makes the nodes of newSited, without starting them.
func siteNodes(t *testing.T, w *vnet.World, a, b vnet.Kind, change func(*Config)) *sited {
	t.Helper()
	net := w.Internet(vnet.Link{Delay: oneWay / 2})
	r := net.Public("r")
	ha, hb, sites := net.Pair(a, b)
	x := &sited{a: newTestNode(t, ha, change), b: newTestNode(t, hb, change), r: newTestNode(t, r.Host, change), sites: sites, relay: r}
	adds(x.a, x.b, x.r)
	at := []wire.Endpoint{wire.UDP(netip.AddrPortFrom(addr(t, r.Host, netip.Addr.Is4), link.Port)), wire.UDP(netip.AddrPortFrom(addr(t, r.Host, netip.Addr.Is6), link.Port))}
	for _, n := range []*testNode{x.a, x.b} {
		for k, p := range n.cfg.Peers {
			if p.Address == x.r.address0() {
				n.cfg.Peers[k].Endpoints = at
			}
		}
	}
	return x
}

// newLined is newSited where the lines of both sites are bad ones, and that of the relay is short.
func newLined(t *testing.T, w *vnet.World, a, b vnet.Kind, line vnet.Link) *sited {
	t.Helper()
	x := siteNodes(t, w, a, b, nil)
	for _, s := range x.sites {
		s.Access.SetLink(line)
	}
	x.relay.Access.SetLink(vnet.Link{Delay: 2 * time.Millisecond})
	for _, n := range []*testNode{x.r, x.a, x.b} {
		n.start()
	}
	settle(10 * time.Second)
	return x
}

// addr is a host's first address of a kind.
func addr(t *testing.T, h *vnet.Host, kind func(netip.Addr) bool) netip.Addr {
	t.Helper()
	known, _ := h.State()
	for _, i := range known.Interfaces {
		for _, p := range i.Prefixes {
			if kind(p.Addr()) {
				return p.Addr()
			}
		}
	}
	t.Fatalf("%s has no such address", h.Name())
	return netip.Addr{}
}

func (x *sited) stop() {
	for _, n := range []*testNode{x.a, x.b, x.r} {
		n.stop()
	}
}

// usesDirect waits until a node sends to another directly, and returns how long that took.
func (n *testNode) usesDirect(to *testNode, most time.Duration) time.Duration {
	n.t.Helper()
	return n.waits(to, most, PathDirect, PathLAN)
}

// waits waits until packets to a peer take a path of one of some kinds.
func (n *testNode) waits(to *testNode, most time.Duration, kinds ...PathKind) time.Duration {
	n.t.Helper()
	for begin := time.Now(); ; settle(2 * time.Millisecond) {
		if slices.Contains(kinds, n.peer(to).Path.Kind) {
			return time.Since(begin)
		}
		if time.Since(begin) > most {
			n.t.Errorf("%s sends to %s by %v after %v, want %v: %+v", n.host.Name(), to.host.Name(), n.peer(to).Path.Kind, most, kinds, n.peer(to))
			return most
		}
	}
}

// pairsDirect are kinds of sites between which a direct way exists.
func pairsDirect() (list [][2]vnet.Kind) {
	for _, a := range []vnet.Kind{vnet.Open, vnet.Home, vnet.FullCone, vnet.Restricted, vnet.Masquerade, vnet.Carrier, vnet.Double, vnet.TwinsHairpin} {
		list = append(list, [2]vnet.Kind{a, a}, [2]vnet.Kind{a, vnet.Home})
	}
	for _, a := range []vnet.Kind{vnet.Open, vnet.Home, vnet.Carrier} {
		list = append(list, [2]vnet.Kind{a, vnet.SymmetricSequential}, [2]vnet.Kind{vnet.SymmetricSequential, a})
	}
	for _, a := range []vnet.Kind{vnet.Open, vnet.FullCone, vnet.Restricted} {
		list = append(list, [2]vnet.Kind{a, vnet.SymmetricRandom}, [2]vnet.Kind{vnet.SymmetricRandom, a})
	}
	return append(list, [2]vnet.Kind{vnet.SymmetricSequential, vnet.SymmetricSequential}, [2]vnet.Kind{vnet.IPv6Firewall, vnet.IPv6Firewall})
}

// The first packet goes by the relay, and soon all go directly, at both ends.
func TestDirectBetweenSites(t *testing.T) {
	const most = 300 * time.Millisecond
	for _, kinds := range pairsDirect() {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newSited(t, w, kinds[0], kinds[1], nil)
			defer x.stop()
			x.a.say(x.b, "first")
			if d := x.a.usesDirect(x.b, most) + x.b.usesDirect(x.a, most); d > most {
				t.Errorf("%v: direct after %v", kinds, d)
			}
			x.b.heard(x.a, "first", 1)
			x.a.say(x.b, "second")
			settle(100 * time.Millisecond)
			x.b.heard(x.a, "second", 1)
			if t.Failed() {
				t.Log(kinds)
			}
		})
	}
}

// sent counts the packets that a site sends to its outside, except those to the relay.
func (x *sited) sent(k int) func() int {
	relay := addr(x.a.t, x.r.host, netip.Addr.Is4)
	n, mu := 0, sync.Mutex{}
	x.sites[k].Access.Tap(func(p vnet.Packet) {
		mu.Lock()
		defer mu.Unlock()
		if p.From.Addr() == x.sites[k].NAT.Addr() && p.To.Addr() != relay {
			n++
		}
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		c := n
		n = 0
		return c
	}
}

// Where no direct way exists, the pair stays with its relay, and soon tries ever more
// seldom, while data flows.
func TestStaysRelayed(t *testing.T) {
	for _, kinds := range [][2]vnet.Kind{{vnet.SymmetricRandom, vnet.Home}, {vnet.SymmetricRandom, vnet.SymmetricRandom}, {vnet.SymmetricRandom, vnet.SymmetricSequential}, {vnet.Twins, vnet.Twins}} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newSited(t, w, kinds[0], kinds[1], nil)
			defer x.stop()
			sent := []func() int{x.sent(0)}
			if len(x.sites) > 1 {
				sent = append(sent, x.sent(1))
			}
			for minute := range 4 {
				toA, toB := flow(x.a, x.b, time.Minute, fmt.Sprint(kinds, minute), nil)
				if minute > 0 && max(toA, toB) > 200*time.Millisecond {
					t.Errorf("%v: nothing arrived for %v and %v", kinds, toA, toB)
				}
				for k, f := range sent {
					n := f()
					if n > 300 || minute > 0 && n >= 20 {
						t.Errorf("%v: site %d sent %d packets in minute %d", kinds, k, n, minute)
					}
				}
			}
			p := x.a.peer(x.b)
			if p.Path.Kind != PathRelay || p.Attempts == nil || p.Attempts.Last != peer.AttemptFailed && p.Attempts.Last != peer.AttemptNothing {
				t.Errorf("%v: %+v %+v", kinds, p.Path, p.Attempts)
			}
		})
	}
}

// picky is a host whose packets are dropped on the way where drop says so.
type picky struct {
	*vnet.Host
	drop func(to netip.AddrPort, size int) bool
}

func (h *picky) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(port)
	return &pickyConn{c, h}, err
}

type pickyConn struct {
	link.Conn
	host *picky
}

func (c *pickyConn) NewWriter() link.Writer { return &pickyWriter{c.Conn.NewWriter(), c.host} }

type pickyWriter struct {
	link.Writer
	host *picky
}

func (w *pickyWriter) Write(ts []link.Train) (int, error) {
	var rest []link.Train
	for _, t := range ts {
		if !w.host.drop(t.Endpoint.Addr, t.Size) {
			rest = append(rest, t)
		}
	}
	if len(rest) > 0 {
		if n, err := w.Writer.Write(rest); err != nil {
			return n, err
		}
	}
	return len(ts), nil
}

// dropping has what both nodes send dropped where drop says so, for packets that do not go
// to the relay.
type dropping struct {
	mu   sync.Mutex
	drop func(size int) bool
}

func (d *dropping) set(drop func(size int) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop = drop
}

func (d *dropping) network(relay netip.Addr) func(*Config) {
	return func(c *Config) {
		h, ok := c.Network.(*vnet.Host)
		if !ok || h.Name() == "r" {
			return
		}
		c.Network = &picky{h, func(to netip.AddrPort, size int) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return to.Addr() != relay && d.drop != nil && d.drop(size)
		}}
	}
}

// relayAt is the address of the relay of newSited.
var relayAt = netip.MustParseAddr("51.0.1.1")

// way returns what the status says of the ways to a peer that are direct, or not.
func (n *testNode) way(to *testNode, direct bool) (list []WayStatus) {
	for _, w := range n.peer(to).Ways {
		if (w.Via == nil) == direct {
			list = append(list, w)
		}
	}
	return list
}

// A direct way on which only small packets get through is not used while there is a relay,
// and the status says so. It is used once large ones do.
func TestDirectWayThatIsSmall(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		var d dropping
		d.set(func(size int) bool { return size > 800 })
		x := newSited(t, w, vnet.Home, vnet.Home, d.network(relayAt))
		defer x.stop()
		large := strings.Repeat("x", 1300)
		for k := range 100 {
			x.a.say(x.b, fmt.Sprint(large, k))
			settle(50 * time.Millisecond)
			if p := x.a.peer(x.b).Path; k > 3 && p.Kind != PathRelay {
				t.Fatalf("%+v after %d packets", p, k)
			}
		}
		x.b.heard(x.a, fmt.Sprint(large, 99), 1)
		small := 0
		for _, w := range x.a.way(x.b, true) {
			if w.State == WaySmall || w.State == WayUnproven {
				small++
			}
		}
		if p := x.a.peer(x.b); small != 1 || p.Attempts.Last != peer.AttemptSmall {
			t.Errorf("%+v, %+v", p.Ways, p.Attempts)
		}
		d.set(nil)
		flow(x.a, x.b, 2*time.Minute, "on", nil)
		if p := x.a.peer(x.b).Path; p.Kind != PathDirect {
			t.Errorf("%+v after large packets got through again", p)
		}
	})
}

// A direct way that begins to swallow large packets is left for the relay.
func TestDirectWayGetsSmall(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		var d dropping
		x := newSited(t, w, vnet.Home, vnet.Home, d.network(relayAt))
		defer x.stop()
		x.a.say(x.b, "first")
		x.a.usesDirect(x.b, time.Second)
		large := strings.Repeat("x", 1300)
		lost := 0
		for k := range 200 {
			if k == 50 {
				d.set(func(size int) bool { return size > 800 })
			}
			before := len(x.b.dev.delivered())
			x.a.say(x.b, fmt.Sprint(large, k))
			x.b.say(x.a, "small")
			settle(50 * time.Millisecond)
			if len(x.b.dev.delivered()) == before {
				lost++
			}
		}
		if p := x.a.peer(x.b).Path; p.Kind != PathRelay || lost > 60 {
			t.Errorf("%+v, %d of 200 lost", p, lost)
		}
	})
}

// When the direct way dies under data, the relay takes over within a second, and an attempt
// brings the direct way back.
func TestDirectWayCutUnderData(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		var d dropping
		x := newSited(t, w, vnet.Home, vnet.Home, d.network(relayAt))
		defer x.stop()
		x.a.say(x.b, "first")
		x.a.usesDirect(x.b, time.Second)
		flow(x.a, x.b, 5*time.Second, "before", nil)
		d.set(func(int) bool { return true })
		toA, toB := flow(x.a, x.b, 20*time.Second, "cut", nil)
		if max(toA, toB) > time.Second {
			t.Errorf("nothing arrived for %v and %v", toA, toB)
		}
		x.a.waits(x.b, 0, PathRelay)
		d.set(nil)
		toA, toB = flow(x.a, x.b, 20*time.Second, "mended", nil)
		if max(toA, toB) > 200*time.Millisecond {
			t.Errorf("nothing arrived for %v and %v after it was mended", toA, toB)
		}
		x.a.waits(x.b, time.Minute, PathDirect)
	})
}

// A NAT that reboots forgets every mapping. Data goes on within a second, directly within
// three.
func TestNATReboots(t *testing.T) {
	for _, kind := range []vnet.Kind{vnet.Home, vnet.Masquerade, vnet.Carrier} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newSited(t, w, kind, vnet.Home, nil)
			defer x.stop()
			x.a.say(x.b, "first")
			x.a.usesDirect(x.b, time.Second)
			flow(x.a, x.b, 5*time.Second, "before", nil)
			x.sites[0].Reboot()
			toA, toB := flow(x.a, x.b, 3*time.Second, "rebooted", nil)
			if max(toA, toB) > time.Second {
				t.Errorf("%s: nothing arrived for %v and %v", kind, toA, toB)
			}
			x.a.waits(x.b, 0, PathDirect)
			x.b.waits(x.a, 0, PathDirect)
		})
	}
}

// After a silence that is longer than a NAT remembers, the first packet goes by the relay,
// and nothing is lost.
func TestStaleDirectWay(t *testing.T) {
	for _, kind := range []vnet.Kind{vnet.Home, vnet.Carrier} {
		for _, pause := range []time.Duration{30 * time.Second, 5 * time.Minute, time.Hour} {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newSited(t, w, kind, kind, nil)
				defer x.stop()
				x.a.say(x.b, "first")
				x.a.usesDirect(x.b, time.Second)
				settle(pause)
				x.b.say(x.a, "again")
				settle(200 * time.Millisecond)
				x.a.heard(x.b, "again", 1)
				x.b.usesDirect(x.a, 300*time.Millisecond)
				if t.Failed() {
					t.Log(kind, pause)
				}
			})
		}
	}
}

// A peer that names a thousand endpoints has us send no more than the budget, and nothing to
// where it would harm.
func TestPeerNamesManyEndpoints(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newSited(t, w, vnet.Home, vnet.SymmetricRandom, nil)
		defer x.stop()
		x.a.say(x.b, "first")
		settle(time.Second)
		sent := x.sent(0)
		for minute := range 3 {
			for k := range 600 {
				p := wire.Punch{Attempt: uint32(minute*1000 + k + 1)}
				for j := range 255 {
					p.Endpoints = append(p.Endpoints, wire.UDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{60, byte(minute), byte(k), byte(j)}), 53)))
				}
				for _, e := range []string{"127.0.0.1:53", "224.0.0.1:53", "192.168.9.9:53", "255.255.255.255:53"} {
					p.Endpoints[k%8] = wire.UDP(ap(e))
				}
				x.b.seals(x.a, wire.NATTMsg{Mode: wire.NATTPunch, Options: p.Append(nil)}.Append([]byte{byte(wire.NATT)}))
				x.b.seals(x.a, wire.NATTMsg{Mode: wire.NATTPredict, Options: wire.Predict{Attempt: p.Attempt, Endpoint: p.Endpoints[9], Step: 1, Count: 255}.Append(nil)}.Append([]byte{byte(wire.NATT)}))
				x.b.seals(x.a, wire.EPIMsg{Endpoint: p.Endpoints[10]}.Append([]byte{byte(wire.EPI)}))
				settle(100 * time.Millisecond)
			}
			// Besides the attempts, EPI has a budget of its own: one check a second.
			if n := sent(); n > 300+8*5+60*5 {
				t.Errorf("%d packets in minute %d", n, minute)
			}
		}
		x.a.say(x.b, "still")
		settle(200 * time.Millisecond)
		x.b.heard(x.a, "still", 1)
		if n := len(x.a.way(x.b, true)); n > 40 {
			t.Errorf("%d ways are remembered", n)
		}
	})
}

// NAT_T from a stranger, and unsealed, has no effect.
func TestNATTRefused(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newSited(t, w, vnet.Home, vnet.Home, nil)
		defer x.stop()
		x.a.say(x.b, "first")
		settle(time.Second)
		rest := slices.DeleteFunc(slices.Clone(x.a.cfg.Peers), func(p Peer) bool { return p.Address == x.b.address0() })
		if _, _, err := x.a.SetFixed(t.Context(), rest); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		x.b.say(x.a, "as a stranger")
		settle(3 * time.Second)
		sent := x.sent(0)
		p := wire.Punch{Attempt: 7, Endpoints: []wire.Endpoint{wire.UDP(ap("60.1.1.1:53"))}}
		msg := wire.NATTMsg{Mode: wire.NATTPunch, Options: p.Append(nil)}.Append([]byte{byte(wire.NATT)})
		before := x.a.counter("drop_standing")
		x.b.seals(x.a, msg)
		settle(time.Second)
		if x.a.counter("drop_standing") == before {
			t.Error("not counted")
		}
		if n := sent(); n > 20 {
			t.Errorf("%d packets", n)
		}
		for _, w := range x.a.way(x.b, true) {
			if w.Endpoint == "udp:60.1.1.1:53" {
				t.Error("a stranger's endpoint was taken")
			}
		}
	})
}

// within reports whether a sends to b directly within a time, while a speaks.
func (x *sited) within(most time.Duration) bool {
	for began := time.Now(); time.Since(began) < most; settle(10 * time.Millisecond) {
		if time.Since(began)%(50*time.Millisecond) == 0 {
			x.a.say(x.b, "something")
		}
		if x.a.peer(x.b).Path.Kind == PathDirect {
			return true
		}
	}
	return false
}

// Where three packets of ten get lost on each line, a pair is direct within a second more often than not.
func TestDirectOnLossyLines(t *testing.T) {
	const runs, want = 40, 17
	n := 0
	for range runs {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newLined(t, w, vnet.Home, vnet.Home, vnet.Link{Delay: oneWay / 2, Loss: 0.3})
			defer x.stop()
			if x.within(time.Second) {
				n++
			}
		})
	}
	t.Logf("%d of %d", n, runs)
	if n < want {
		t.Errorf("%d of %d are direct within a second, want %d", n, runs, want)
	}
}

// With 300 ms from one host to the other, the direct way is used one and a half round trips by the
// relay, and one of its own, after the first packet.
func TestDirectOnSlowLines(t *testing.T) {
	const line = 150 * time.Millisecond
	for kinds, most := range map[[2]vnet.Kind]time.Duration{
		{vnet.Open, vnet.Open}: 8*line + 50*time.Millisecond, // the one that knows an endpoint that is open waits for nobody
		{vnet.Home, vnet.Home}: 10*line + 50*time.Millisecond,
	} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newLined(t, w, kinds[0], kinds[1], vnet.Link{Delay: line})
			defer x.stop()
			if !x.within(most) {
				t.Errorf("%v: not direct within %v: %+v", kinds, most, x.a.peer(x.b).Path)
			}
		})
	}
}

// A NAT whose ports are far apart, but evenly, is predicted, as long as they do not begin anew at the
// other end.
func TestLongSteps(t *testing.T) {
	for _, step := range []int{256, -1000} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := siteNodes(t, w, vnet.SymmetricSequential, vnet.Home, nil)
			x.sites[0].NAT.SetConfig(func(c *vnet.NATConfig) { c.Ports.Step, c.Ports.First = step, 40000 })
			for _, n := range []*testNode{x.r, x.a, x.b} {
				n.start()
			}
			settle(10 * time.Second)
			defer x.stop()
			if !x.within(time.Second) {
				t.Errorf("steps of %d: %+v, %+v", step, x.a.peer(x.b).Path, x.b.peer(x.a).Attempts)
			}
		})
	}
}
