package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// A peer that moves is reached at its new place within two seconds, whatever others send
// in its name.
func TestMovesUnderFlood(t *testing.T) {
	for _, flood := range []string{"nothing", "forged sealed", "replayed", "both"} {
		for _, move := range []string{"address", "port"} {
			t.Run(move+", "+flood, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					nat := &natted{Host: w.Host("a")}
					a := newTestNode(t, nat.Host, func(c *Config) { c.Network = nat })
					b := newTestNode(t, w.Host("b"), nil)
					adds(a, b)
					a.cfg.Peers[0].Endpoints = []wire.Endpoint{wire.UDP(ap("10.0.0.2:8737"))}
					s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
					i := a.host.Attach(s, netip.MustParsePrefix("10.0.0.1/24"))
					b.host.Attach(s, netip.MustParsePrefix("10.0.0.2/24"))
					eve := newSpoofer(t, w, s, "10.0.0.250/24")
					a.start()
					b.start()
					defer a.stop()
					defer b.stop()
					settle(2 * time.Second)
					replayed := signedPacket(t, a, b, a.peerID(), wire.EPCReq, wire.AppendEPC(nil, 9))
					k := 0
					attack := func(int) {
						for range 10 { // 200 a second
							k++
							from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(200 + k%8)}), uint16(2000+k%32))
							if flood == "forged sealed" || flood == "both" {
								eve.send(from, ap("10.0.0.2:8737"), forgedSealed(a, b, uint16(k*7919)))
							}
							if flood == "replayed" || flood == "both" {
								eve.send(from, ap("10.0.0.2:8737"), replayed)
							}
						}
					}
					flow(a, b, 2*time.Second, "before", attack)
					for n := range 3 {
						if move == "address" {
							i.SetAddrs(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(70 + n)}), 24))
						} else {
							nat.Rebind(t)
						}
						toA, toB := flow(a, b, 5*time.Second, fmt.Sprint("move ", n), attack)
						if toA > 2*time.Second || toB > time.Second {
							t.Errorf("move %d: silent for %v and %v", n, toA, toB)
						}
					}
				})
			})
		}
	}
}

// public is two nodes with public addresses behind routers, and a relay that both know.
func public(t *testing.T, w *vnet.World, change func(r *testNode)) *relayed {
	x := &relayed{a: newTestNode(t, w.Host("a"), nil), b: newTestNode(t, w.Host("b"), nil), r: newTestNode(t, w.Host("r"), nil)}
	router := w.Router("internet")
	for k, n := range x.nodes() {
		s := w.Segment(n.host.Name(), vnet.Link{Delay: 5 * time.Millisecond})
		net := [4]byte{51, 0, byte(k + 1), 254}
		router.Attach(s, netip.PrefixFrom(netip.AddrFrom4(net), 24))
		net[3] = 1
		n.host.Attach(s, netip.PrefixFrom(netip.AddrFrom4(net), 24))
		net[3] = 254
		n.host.Gateway(netip.AddrFrom4(net))
	}
	relay := []wire.Endpoint{wire.UDP(ap("51.0.3.1:8737"))}
	for _, n := range []*testNode{x.a, x.b} {
		other := x.b
		if n == x.b {
			other = x.a
		}
		n.cfg.Peers = []Peer{{Address: x.r.address0(), Name: "r", Endpoints: relay}, {Address: other.address0(), Name: other.host.Name()}}
		x.r.cfg.Peers = append(x.r.cfg.Peers, Peer{Address: n.address0(), Name: n.host.Name()})
	}
	if change != nil {
		change(x.r)
	}
	x.start()
	return x
}

// A relayed pair finds its direct path, goes back to the relay when that dies, and
// leaves it again.
func TestRelayToDirectAndBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := public(t, w, nil)
		defer x.stop()
		settle(2 * time.Second)
		flow(x.a, x.b, 5*time.Second, "first", nil)
		for _, n := range []*testNode{x.a, x.b} {
			other := x.b
			if n == x.b {
				other = x.a
			}
			if p := n.peer(other); p.Path.Kind != PathDirect {
				t.Errorf("%s: the path is %+v", n.host.Name(), p.Path)
			}
		}
		x.a.host.Route(netip.MustParsePrefix("51.0.2.0/24"), netip.MustParseAddr("51.0.1.99")) // nobody is there
		x.b.host.Route(netip.MustParsePrefix("51.0.1.0/24"), netip.MustParseAddr("51.0.2.99"))
		toA, toB := flow(x.a, x.b, 10*time.Second, "second", nil)
		if toA > 3*time.Second || toB > 3*time.Second {
			t.Errorf("the direct path died: silent for %v and %v", toA, toB)
		}
		if p := x.a.peer(x.b); p.Path.Kind != PathRelay || p.Path.Via == nil || *p.Path.Via != x.r.address0() {
			t.Errorf("the path is %+v", p.Path)
		}
		x.a.host.Route(netip.MustParsePrefix("51.0.2.0/25"), netip.MustParseAddr("51.0.1.254"))
		x.b.host.Route(netip.MustParsePrefix("51.0.1.0/25"), netip.MustParseAddr("51.0.2.254"))
		toA, toB = flow(x.a, x.b, 40*time.Second, "third", nil)
		if toA > time.Second || toB > time.Second {
			t.Errorf("the direct path is back: silent for %v and %v", toA, toB)
		}
		if p := x.a.peer(x.b); p.Path.Kind != PathDirect {
			t.Errorf("40 s later the path is %+v", p.Path)
		}
	})
}

// hopless is a host whose packets all say that no relay touched them.
type hopless struct{ *vnet.Host }

func (h hopless) Listen(port uint16) (link.Conn, error) {
	c, err := h.Host.Listen(port)
	return hoplessConn{c}, err
}

type hoplessConn struct{ link.Conn }

func (c hoplessConn) NewWriter() link.Writer { return hoplessWriter{c.Conn.NewWriter()} }

type hoplessWriter struct{ link.Writer }

func (w hoplessWriter) Write(ts []link.Train) (int, error) {
	for _, t := range ts {
		for b := t.Buf; len(b) > 0; b = b[min(t.Size, len(b)):] {
			b[0] = 0
		}
	}
	return w.Writer.Write(ts)
}

// A relay that hides itself is a relay all the same, and is left for the direct path.
func TestRelayThatHides(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, false)
		x.r.cfg.Network = hopless{x.r.host}
		x.start()
		defer x.stop()
		settle(2 * time.Second)
		flow(x.a, x.b, 3*time.Second, "first", nil)
		for _, n := range []*testNode{x.a, x.b} {
			other := x.b
			if n == x.b {
				other = x.a
			}
			if p := n.peer(other).Path; p.Kind != PathRelay || p.Via == nil || *p.Via != x.r.address0() {
				t.Errorf("%s: the path is %+v", n.host.Name(), p)
			}
		}
		if r, err := x.a.ping(x.b, time.Second); err != nil || r.Path.Kind != PathRelay {
			t.Errorf("ping: %+v, %v", r, err)
		}
	})
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := public(t, w, func(r *testNode) { r.cfg.Network = hopless{r.host} })
		defer x.stop()
		settle(2 * time.Second)
		flow(x.a, x.b, 5*time.Second, "first", nil)
		if p := x.a.peer(x.b).Path; p.Kind != PathDirect || p.Endpoint != "udp:51.0.2.1:8737" {
			t.Errorf("the path is %+v", p)
		}
	})
}

// What goes through a relay goes on within three seconds when a client moves, the NAT in
// front of it restarts, or the relay restarts.
func TestRelayFollows(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, x *relayed, nat *natted, i *vnet.Interface, k int)
	}{
		{"the client's port", func(t *testing.T, _ *relayed, nat *natted, _ *vnet.Interface, _ int) { nat.Rebind(t) }},
		{"the client's address", func(_ *testing.T, _ *relayed, _ *natted, i *vnet.Interface, k int) {
			i.SetAddrs(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(70 + k)}), 24))
		}},
		{"the relay restarts", func(_ *testing.T, x *relayed, _ *natted, _ *vnet.Interface, _ int) {
			x.r.stop()
			x.r.start()
		}},
		{"the relay restarts and the port", func(t *testing.T, x *relayed, nat *natted, _ *vnet.Interface, _ int) {
			x.r.stop()
			nat.Rebind(t)
			x.r.start()
		}},
	} {
		for _, idle := range []time.Duration{0, 30 * time.Minute} {
			t.Run(fmt.Sprint(c.name, ", idle ", idle), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					nat := &natted{Host: w.Host("a")}
					x := &relayed{a: newTestNode(t, nat.Host, func(c *Config) { c.Network = nat }), b: newTestNode(t, w.Host("b"), nil), r: newTestNode(t, w.Host("r"), nil)}
					adds(x.a, x.b, x.r)
					for k := range x.a.cfg.Peers {
						if x.a.cfg.Peers[k].Address == x.r.address0() {
							x.a.cfg.Peers[k].Endpoints = []wire.Endpoint{wire.UDP(ap("10.1.0.2:8737"))}
						}
					}
					x.west = w.Segment("west", vnet.Link{Delay: time.Millisecond})
					i := x.a.host.Attach(x.west, netip.MustParsePrefix("10.1.0.1/24"))
					x.r.host.Attach(x.west, netip.MustParsePrefix("10.1.0.2/24"))
					x.east = lan(w, "east", 2, x.b.host, x.r.host)
					x.start()
					defer x.stop()
					settle(2 * time.Second)
					flow(x.a, x.b, 3*time.Second, "before", nil)
					for k := range 2 {
						c.do(t, x, nat, i, k)
						settle(idle)
						toA, toB := flow(x.a, x.b, 8*time.Second, fmt.Sprint("after ", k), nil)
						if toA > 3*time.Second || toB > 3*time.Second {
							t.Errorf("change %d: silent for %v and %v", k, toA, toB)
						}
					}
				})
			})
		}
	}
}

// A client that has been silent for hours is still where the relay sends its packets.
func TestRelaysIdleClient(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, true)
		defer x.stop()
		x.meet(t)
		settle(5 * time.Hour)
		x.b.say(x.a, "after hours")
		settle(3 * time.Second)
		x.a.heard(x.b, "after hours", 1)
	})
}

// A packet crosses three relays at most.
func TestRelayHopLimit(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newRelayed(t, w, true)
		defer x.stop()
		x.meet(t)
		eve := newSpoofer(t, w, x.west, "10.1.0.200/24")
		for hop := range 6 {
			p := forgedSealed(x.a, x.b, 7)
			p[0] = byte(hop)
			before, dropped := x.r.counter("relayed_packets"), x.r.counter("drop_relay_hops")
			eve.send(ap("10.1.0.1:8737"), ap("10.1.0.2:8737"), p)
			settle(5 * time.Millisecond)
			relayed := x.r.counter("relayed_packets") - before
			if want := hop < hopLimit; (relayed > 0) != want || (x.r.counter("drop_relay_hops") > dropped) == want {
				t.Errorf("%d hops: relayed %d", hop, relayed)
			}
		}
	})
}

// One side sends and the other hardly answers: the sender's relay restarts, the sender
// moves, the receiver moves, and what is sent arrives again within three seconds.
func TestOneWayFlowByRelay(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, x *relayed, nats [2]*natted)
	}{
		{"the relay restarts", func(_ *testing.T, x *relayed, _ [2]*natted) { x.r.stop(); x.r.start() }},
		{"the sender moves", func(t *testing.T, _ *relayed, n [2]*natted) { n[0].Rebind(t) }},
		{"the receiver moves", func(t *testing.T, _ *relayed, n [2]*natted) { n[1].Rebind(t) }},
		{"both move", func(t *testing.T, _ *relayed, n [2]*natted) { n[0].Rebind(t); n[1].Rebind(t) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				nats := [2]*natted{{Host: w.Host("a")}, {Host: w.Host("b")}}
				x := &relayed{a: newTestNode(t, nats[0].Host, func(c *Config) { c.Network = nats[0] }),
					b: newTestNode(t, nats[1].Host, func(c *Config) { c.Network = nats[1] }), r: newTestNode(t, w.Host("r"), nil)}
				adds(x.a, x.b, x.r)
				for k, n := range []*testNode{x.a, x.b} {
					for i := range n.cfg.Peers {
						if n.cfg.Peers[i].Address == x.r.address0() {
							n.cfg.Peers[i].Endpoints = []wire.Endpoint{wire.UDP(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(k + 1), 0, 2}), 8737))}
						}
					}
				}
				lan(w, "west", 1, x.a.host, x.r.host)
				lan(w, "east", 2, x.b.host, x.r.host)
				x.start()
				defer x.stop()
				settle(2 * time.Second)
				k := 0
				send := func(d time.Duration) (silent time.Duration) {
					last := time.Now()
					n := len(x.b.dev.delivered())
					for range int(d / (50 * time.Millisecond)) {
						k++
						x.a.say(x.b, fmt.Sprint("n", k))
						settle(50 * time.Millisecond)
						if m := len(x.b.dev.delivered()); m > n {
							n, last = m, time.Now()
						}
						silent = max(silent, time.Since(last))
					}
					return silent
				}
				send(3 * time.Second)
				for range 3 {
					c.do(t, x, nats)
					if silent := send(8 * time.Second); silent > 3*time.Second {
						t.Errorf("nothing arrived for %v", silent)
					}
				}
			})
		})
	}
}

// A client that moves while nobody speaks tells its relay, and is reached through it
// when somebody does.
func TestIdleClientMoves(t *testing.T) {
	for _, idle := range []time.Duration{time.Second, time.Minute, 3 * time.Hour} {
		t.Run(fmt.Sprint(idle), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := &relayed{a: newTestNode(t, w.Host("a"), nil), b: newTestNode(t, w.Host("b"), nil), r: newTestNode(t, w.Host("r"), nil)}
				adds(x.a, x.b, x.r)
				west := w.Segment("west", vnet.Link{Delay: time.Millisecond})
				i := x.a.host.Attach(west, netip.MustParsePrefix("10.1.0.1/24"))
				x.r.host.Attach(west, netip.MustParsePrefix("10.1.0.2/24"))
				lan(w, "east", 2, x.b.host, x.r.host)
				x.start()
				defer x.stop()
				x.meet(t)
				for k := range 3 {
					settle(idle)
					i.SetAddrs(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(70 + k)}), 24))
					settle(idle)
					text := fmt.Sprint("are you still there? ", k)
					x.b.say(x.a, text)
					settle(4 * time.Second)
					x.b.say(x.a, text+" again")
					settle(time.Second)
					x.a.heard(x.b, text+" again", 1)
				}
			})
		})
	}
}

// Who stays away for a night is reached at once when it is back, at another place and
// with other keys.
func TestAwayForANight(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		adds(a, b)
		home := w.Segment("home", vnet.Link{Delay: time.Millisecond})
		i := a.host.Attach(home, netip.MustParsePrefix("10.0.0.1/24"))
		b.host.Attach(home, netip.MustParsePrefix("10.0.0.2/24"))
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		flow(a, b, 2*time.Second, "evening", nil)
		a.host.SetAsleep(true)
		for range 20 {
			b.say(a, "into the void")
			settle(time.Second)
		}
		settle(8 * time.Hour)
		i.SetAddrs(netip.MustParsePrefix("10.0.0.9/24"))
		a.host.SetAsleep(false)
		settle(time.Second)
		b.say(a, "good morning")
		a.say(b, "good morning")
		settle(2 * time.Second)
		a.heard(b, "good morning", 1)
		b.heard(a, "good morning", 1)
	})
}
