package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

func TestTwoNodesOnALAN(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		tap := record(s)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "hello")
		settle(100 * time.Millisecond)
		b.heard(a, "hello", 1)
		b.say(a, "good day")
		settle(100 * time.Millisecond)
		a.heard(b, "good day", 1)

		r, err := a.ping(b, time.Second)
		if err != nil || r.Path.Kind != PathLAN || r.Size != 40 || r.RTT < 2*time.Millisecond || r.RTT > 5*time.Millisecond {
			t.Errorf("ping: %+v, %v", r, err)
		}
		p := a.peer(b)
		if p.State != StateUp || p.Path.Kind != PathLAN || p.Path.Endpoint != "udp:10.0.0.2:8737" || p.Path.MTU != 1440 || !p.Allowed {
			t.Errorf("status: %+v", p)
		}
		for _, p := range tap.all() {
			if bytes.Contains(p.Data, []byte("hello")) || bytes.Contains(p.Data, []byte("good day")) {
				t.Errorf("readable on the link: %v", p)
			}
		}
	})
}

// The first packet of a pair that has just started, before any beacon was answered,
// arrives after one handshake.
func TestFirstPacketIsFast(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(0)
		a.say(b, "now")
		settle(20 * time.Millisecond)
		b.heard(a, "now", 1)
	})
}

func TestBothAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		for i := range 20 {
			a.say(b, fmt.Sprint("a", i))
			b.say(a, fmt.Sprint("b", i))
			settle(time.Duration(i) * 100 * time.Microsecond)
		}
		settle(time.Second)
		for i := range 20 {
			b.heard(a, fmt.Sprint("a", i), 1)
			a.heard(b, fmt.Sprint("b", i), 1)
		}
	})
}

func TestLossyLink(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		s.SetLink(vnet.Link{Delay: 20 * time.Millisecond, Loss: 0.3, Duplicate: 0.2, Reorder: 0.2})
		settle(time.Second)
		a.say(b, "first")
		settle(20 * time.Second)
		if p := a.peer(b); p.State != StateUp {
			t.Fatalf("not up on a lossy link: %+v", p)
		}
		for i := range 200 {
			a.say(b, fmt.Sprint("n", i))
			settle(50 * time.Millisecond)
		}
		got := map[string]int{}
		for _, d := range b.dev.delivered() {
			got[d.msg]++
		}
		for m, n := range got {
			if n != 1 {
				t.Errorf("%q was delivered %d times", m, n)
			}
		}
		if len(got) < 100 {
			t.Errorf("%d of 200 arrived at 30 %% loss", len(got))
		}
	})
}

// A peer that restarts has lost its sessions; the other side notices within 2 s.
func TestRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		settle(time.Second)
		a.say(b, "before")
		settle(100 * time.Millisecond)
		b.heard(a, "before", 1)
		for i := range 100 {
			b.stop()
			b.start()
			settle(100 * time.Millisecond)
			for k := range 20 { // something sends all the time
				a.say(b, fmt.Sprint(i, " after ", k))
				settle(100 * time.Millisecond)
			}
			b.heard(a, fmt.Sprint(i, " after ", 19), 1)
			if t.Failed() {
				break
			}
		}
		a.stop()
		b.stop()
	})
}

// The side that restarted has peers and endpoints from its store, and none of its own
// configuration.
func TestRestartFromStore(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		if _, err := b.AddPeer(t.Context(), Peer{Address: a.address0(), Name: "a"}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		a.say(b, "before")
		settle(time.Second)
		b.stop()
		b.cfg.Peers = nil
		b.start()
		settle(10 * time.Millisecond)
		a.say(b, "lost")
		settle(400 * time.Millisecond)
		a.say(b, "after")
		settle(100 * time.Millisecond)
		b.heard(a, "after", 1)
		a.stop()
		b.stop()
	})
}

func TestClockSetBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		settle(time.Second)
		a.say(b, "one")
		settle(100 * time.Millisecond)
		a.stop()
		a.clock.set(-1000*time.Hour, 0)
		a.start()
		settle(time.Second)
		a.say(b, "two")
		settle(2 * time.Second)
		b.heard(a, "two", 1)
		a.stop()
		b.stop()
	})
}

// While nobody speaks there is nothing but beacons, ever more seldom.
func TestIdleIsQuiet(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "hello")
		settle(10 * time.Minute)
		tap := record(s)
		settle(24 * time.Hour)
		if n := len(tap.all()); n > 2*2*24*4+8 {
			t.Errorf("%d packets in a day of silence", n)
		}
		a.say(b, "still there?")
		settle(100 * time.Millisecond)
		b.heard(a, "still there?", 1)
	})
}

func TestRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		r := newTestNode(t, w.Host("r"), nil)
		adds(a, b, r)
		tap := record(lan(w, "west", 1, a.host, r.host))
		lan(w, "east", 2, b.host, r.host)
		for _, n := range []*testNode{a, b, r} {
			n.start()
			defer n.stop()
		}
		settle(2 * time.Second)
		a.say(b, "across")
		settle(time.Second)
		b.heard(a, "across", 1)
		b.say(a, "back")
		settle(time.Second)
		a.heard(b, "back", 1)
		reply, err := a.ping(b, time.Second)
		if err != nil || reply.Path.Kind != PathRelay || reply.Hops != 1 || reply.Path.Via == nil || *reply.Path.Via != r.address0() {
			t.Errorf("ping: %+v, %v", reply, err)
		}
		if r.counter("relayed_packets") == 0 {
			t.Error("the relay counted nothing")
		}
		for _, d := range r.dev.delivered() {
			t.Errorf("the relay's own adapter got %q", d.msg)
		}
		for _, p := range tap.all() {
			if bytes.Contains(p.Data, []byte("across")) {
				t.Errorf("readable on the link: %v", p)
			}
		}
	})
}

// A node does not forward for those that it has not added, nor when told not to.
func TestRelayRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		knows func(r, a, b *testNode)
	}{
		{"sender not added", func(r, a, b *testNode) { r.cfg.Peers = []Peer{{Address: b.address0()}} }},
		{"recipient not added", func(r, a, b *testNode) { r.cfg.Peers = []Peer{{Address: a.address0()}} }},
		{"off", func(r, a, b *testNode) { r.cfg.Relay = false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a := newTestNode(t, w.Host("a"), nil)
				b := newTestNode(t, w.Host("b"), nil)
				r := newTestNode(t, w.Host("r"), nil)
				adds(a, b, r)
				c.knows(r, a, b)
				lan(w, "west", 1, a.host, r.host)
				lan(w, "east", 2, b.host, r.host)
				for _, n := range []*testNode{a, b, r} {
					n.start()
					defer n.stop()
				}
				settle(2 * time.Second)
				a.say(b, "across")
				settle(10 * time.Second)
				b.heard(a, "across", 0)
				if n := r.counter("relayed_packets"); n != 0 {
					t.Errorf("%d packets relayed", n)
				}
				if got := a.dev.answers(); len(got) == 0 || got[0].what != "no route" {
					t.Errorf("the sender's apps were told %v", got)
				}
			})
		})
	}
}

// A ULA is all that an app knows. Its owner is found on the LAN though nobody added
// it, and may ping and be pinged; what else it sends is marked as not trusted.
func TestStrangerOnTheLAN(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		if p := a.peer(b); p.Allowed || p.LastSeen == nil || p.State != StateIdle {
			t.Errorf("a stranger's beacon was not remembered: %+v", p)
		}
		got, err := a.ResolveULA(t.Context(), b.address0().ULA())
		if err != nil || got != b.address0() {
			t.Fatalf("resolved %v, %v", got, err)
		}
		a.say(b, "who are you")
		settle(time.Second)
		b.heard(a, "who are you", 1)
		if d := b.dev.delivered(); len(d) > 0 && d[0].trusted {
			t.Error("a stranger's packet was marked as trusted")
		}
		if len(a.dev.tracked) == 0 {
			t.Error("the flow to a stranger was not tracked")
		}
		if _, err := a.ping(b, time.Second); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		b.stop()
		settle(time.Second)
		nobody := newIdentity(t).Address()
		a.sayTo(nobody.ULA(), "hello?")
		a.say(b, "hello?")
		if _, err := a.ping(b, 20*time.Second); !errors.Is(err, ErrUnreachable) {
			t.Errorf("ping: %v", err)
		}
		settle(time.Minute)
		want := map[anode.ULA]bool{nobody.ULA(): true, b.address0().ULA(): true}
		for _, e := range a.dev.answers() {
			if e.what == "no route" {
				delete(want, e.to)
			}
		}
		if len(want) > 0 {
			t.Errorf("no ICMPv6 error for %v", want)
		}
		if s := a.peer(b).State; s != StateUnreachable {
			t.Errorf("state %q", s)
		}
		if _, err := a.ResolveID(t.Context(), nobody.ID()); !errors.Is(err, ErrUnknownPeer) {
			t.Errorf("resolve: %v", err)
		}
		b.start()
		defer b.stop()
		settle(time.Second)
		a.say(b, "there you are")
		settle(time.Second)
		b.heard(a, "there you are", 1)
	})
}

// A peer that goes away in mid-session is not sent to for ever: the apps are told, and
// it is back as soon as it is heard.
func TestPeerGoesAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		settle(time.Second)
		a.say(b, "one")
		settle(time.Second)
		b.stop()
		for range 7 {
			a.say(b, "into the void")
			settle(time.Second)
		}
		if e := a.dev.answers(); len(e) == 0 || e[0].what != "no route" {
			t.Errorf("our apps were told %v", e)
		}
		if s := a.peer(b).State; s == StateUp {
			t.Errorf("state %q", s)
		}
		b.start()
		defer b.stop()
		settle(2 * time.Second)
		a.say(b, "back?")
		settle(time.Second)
		b.heard(a, "back?", 1)
		if s := a.peer(b).State; s != StateUp {
			t.Errorf("state %q", s)
		}
	})
}

// The same without a restart: the link is cut and mended within the life of the keys.
func TestLinkCutAndMended(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "one")
		settle(time.Second)
		s.SetLink(vnet.Link{Loss: 1})
		for range 30 {
			a.say(b, "into the void")
			settle(time.Second)
		}
		s.SetLink(vnet.Link{Delay: time.Millisecond})
		b.say(a, "hello again")
		settle(3 * time.Second)
		a.heard(b, "hello again", 1)
		a.say(b, "yes")
		settle(time.Second)
		b.heard(a, "yes", 1)
	})
}

func TestBlocked(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, _ := pair(t, w)
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "one")
		settle(time.Second)
		b.heard(a, "one", 1)
		if _, err := b.BlockPeer(t.Context(), a.address0(), true); err != nil {
			t.Fatal(err)
		}
		a.say(b, "two")
		settle(10 * time.Second)
		a.say(b, "three")
		b.say(a, "four")
		settle(10 * time.Second)
		b.heard(a, "two", 0)
		b.heard(a, "three", 0)
		a.heard(b, "four", 0)
		if s := b.peer(a).State; s != StateBlocked {
			t.Errorf("state %q", s)
		}
		start := time.Now()
		if _, err := b.ping(a, 5*time.Second); !errors.Is(err, ErrBlocked) || time.Since(start) > time.Second {
			t.Errorf("ping of a blocked peer: %v after %v", err, time.Since(start))
		}
		if e := b.dev.answers(); len(e) == 0 || e[0].what != "prohibited" {
			t.Errorf("our apps were told %v", e)
		}
		if _, err := b.BlockPeer(t.Context(), a.address0(), false); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		a.say(b, "five")
		settle(5 * time.Second)
		b.heard(a, "five", 1)
	})
}

// The host moves to another address in mid-session: its packets say so, and the old
// path is left once the new one has answered.
func TestRoaming(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		b := newTestNode(t, w.Host("b"), nil)
		adds(a, b)
		s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
		i := a.host.Attach(s, netip.MustParsePrefix("10.0.0.1/24"))
		b.host.Attach(s, netip.MustParsePrefix("10.0.0.2/24"))
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Second)
		a.say(b, "one")
		settle(time.Second)
		i.SetAddrs(netip.MustParsePrefix("10.0.0.77/24"))
		settle(time.Second)
		a.say(b, "two")
		settle(500 * time.Millisecond)
		b.heard(a, "two", 1)
		b.say(a, "three")
		settle(3 * time.Second)
		b.say(a, "four")
		settle(100 * time.Millisecond)
		a.heard(b, "four", 1)
		if e := b.peer(a).Path.Endpoint; e != "udp:10.0.0.77:8737" {
			t.Errorf("the path is %q", e)
		}
	})
}

// A path that silently takes less than its interfaces say is measured, and what
// does not fit is answered or cut up.
func TestNarrowPath(t *testing.T) {
	for _, mtu := range []int{1400, 1280} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				a, b, s := pair(t, w)
				defer a.stop()
				defer b.stop()
				s.SetLink(vnet.Link{Delay: time.Millisecond, MTU: mtu})
				settle(time.Second)
				a.say(b, "small")
				settle(1500 * time.Millisecond)
				b.heard(a, "small", 1)
				full := string(bytes.Repeat([]byte{'x'}, 1440-40))
				a.say(b, full)
				settle(time.Second)
				b.heard(a, full, 0)
				e := a.dev.answers()
				if len(e) != 1 || e[0].what != "too big" || e[0].mtu > mtu-28-mtuOverhead && e[0].mtu > minMTU || e[0].mtu < minMTU {
					t.Fatalf("our apps were told %v", e)
				}
				fits := string(bytes.Repeat([]byte{'y'}, e[0].mtu-40))
				a.say(b, fits)
				settle(time.Second)
				b.heard(a, fits, 1)
			})
		})
	}
}

// A host whose trains vanish on the way, as with some drivers: it finds out, and sends
// single packets from then on. One whose trains arrive stays as it is.
func TestTrainsThatVanish(t *testing.T) {
	for _, broken := range []bool{true, false} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			h := w.Host("a")
			a := newTestNode(t, h, func(c *Config) { c.Network = &trainEater{Host: h, broken: broken} })
			b := newTestNode(t, w.Host("b"), nil)
			adds(a, b)
			lan(w, "lan", 0, h, b.host)
			a.start()
			b.start()
			defer a.stop()
			defer b.stop()
			settle(time.Second)
			a.say(b, "one")
			settle(3 * time.Second)
			r := a.index.byULA(b.address0().ULA()).Route.Load()
			if r == nil || r.Trains == broken {
				t.Errorf("route %+v, broken %v", r, broken)
			}
			a.dev.out <- outgoing{b.address0().ULA(), [][]byte{ip6("x1"), ip6("x2"), ip6("x3")}}
			settle(100 * time.Millisecond)
			b.heard(a, "x3", 1)
			if x := b.index.byULA(a.address0().ULA()).Route.Load(); x == nil || !x.Trains {
				t.Error("the other side sends single packets too")
			}
			if a.status().Rung != link.RungGSO {
				t.Error("one way changed the whole node")
			}
		})
	}
}

// trainEater is a host whose trains vanish.
type trainEater struct {
	*vnet.Host
	broken bool
}

func (e *trainEater) Listen(port uint16) (link.Conn, error) {
	c, err := e.Host.Listen(port)
	return &eaterConn{Conn: c, broken: e.broken}, err
}

type eaterConn struct {
	link.Conn
	broken bool
}

func (c *eaterConn) Rung() string { return link.RungGSO }

func (c *eaterConn) NewWriter() link.Writer { return &eaterWriter{c.Conn.NewWriter(), c} }

type eaterWriter struct {
	link.Writer
	c *eaterConn
}

func (w *eaterWriter) Write(ts []link.Train) (int, error) {
	var left []link.Train
	for _, t := range ts {
		if !w.c.broken || t.Packets() == 1 {
			left = append(left, t)
		}
	}
	if _, err := w.Writer.Write(left); err != nil {
		return 0, err
	}
	return len(ts), nil
}

// Of one machine two nodes: the second has another port, and hears beacons as well.
func TestTwoNodesOnOneHost(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		h := w.Host("h")
		a := newTestNode(t, h, func(c *Config) { c.Port = 0 })
		b := newTestNode(t, w.Host("b"), nil)
		adds(a, b)
		lan(w, "lan", 0, h, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		if a.conns[0].LocalPort() == link.Port {
			t.Fatal("wanted another port")
		}
		settle(time.Second)
		b.say(a, "found you")
		settle(time.Second)
		a.heard(b, "found you", 1)
	})
}

func TestNetworkSecret(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		secret := [32]byte{1, 2, 3}
		a := newTestNode(t, w.Host("a"), func(c *Config) { c.PSK = secret })
		b := newTestNode(t, w.Host("b"), func(c *Config) { c.PSK = secret })
		c := newTestNode(t, w.Host("c"), nil)
		adds(a, b, c)
		lan(w, "lan", 0, a.host, b.host, c.host)
		for _, n := range []*testNode{a, b, c} {
			n.start()
			defer n.stop()
		}
		settle(time.Second)
		a.say(b, "secret")
		a.say(c, "not for you")
		c.say(a, "let me in")
		settle(5 * time.Second)
		b.heard(a, "secret", 1)
		c.heard(a, "not for you", 0)
		a.heard(c, "let me in", 0)
	})
}
