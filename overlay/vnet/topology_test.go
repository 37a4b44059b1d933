package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/overlay/link"
)

// lab is an internet with a node on each host of a pair, and a public one with several
// sockets that tells them how they are seen.
type lab struct {
	t     *testing.T
	w     *World
	net   *Internet
	relay *Site
	eyes  []*node // one address, two ports
}

func newLab(t *testing.T, w *World, l Link) *lab {
	x := &lab{t: t, w: w, net: w.Internet(l)}
	x.relay = x.net.Public("relay")
	for _, port := range []uint16{link.Port, link.Port + 1} {
		x.eyes = append(x.eyes, listen(t, x.relay.Host, port))
	}
	return x
}

// eye is an endpoint of the relay that a host can reach.
func (x *lab) eye(h *Host, port uint16) netip.AddrPort {
	for _, p := range x.relay.edge.prefixes {
		if _, err := h.find(link.Endpoint{Addr: netip.AddrPortFrom(p.Addr(), port)}); err == nil {
			return netip.AddrPortFrom(p.Addr(), port)
		}
	}
	x.t.Fatalf("%s has no way to the relay", h.name)
	return netip.AddrPort{}
}

// seen returns the endpoint at which the relay's socket k sees a node, which sends it a packet.
func (x *lab) seen(n *node, k int) netip.AddrPort {
	x.t.Helper()
	eye := x.eyes[k]
	before := len(eye.got)
	if err := n.send("hello", link.Endpoint{Addr: x.eye(n.Host, eye.conn.LocalPort())}); err != nil {
		x.t.Fatal(err)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	if len(eye.got) == before {
		return netip.AddrPort{}
	}
	return eye.got[before].from.Addr
}

// punch has both nodes send to where the relay sees the other one, and later to where
// something came from, and answer what they get. It reports whether both got an answer.
func (x *lab) punch(a, b *node) bool {
	toA, toB := x.seen(a, 0), x.seen(b, 0)
	if !toA.IsValid() || !toB.IsValid() || toA.Addr().Is4() != toB.Addr().Is4() {
		return false
	}
	nodes, to := []*node{a, b}, []link.Endpoint{{Addr: toB}, {Addr: toA}}
	answered := [2]bool{}
	done := [2]int{len(a.got), len(b.got)}
	for range 6 {
		for k, n := range nodes {
			n.send("knock", to[k])
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		for k, n := range nodes {
			got := n.got[done[k]:]
			done[k] += len(got)
			for _, r := range got {
				to[k] = r.from
				if string(r.data) == "knock" {
					n.send("answer", r.from)
				} else {
					answered[k] = true
				}
			}
		}
	}
	return answered[0] && answered[1]
}

// class is what a plain hole puncher meets: nobody gets through to "none"; "hard" and
// "port" cannot meet, nor can two that are "hard"; everybody reaches "easy".
func class(k Kind) string {
	switch k {
	case Open, FullCone, Restricted:
		return "easy"
	case SymmetricRandom, SymmetricSequential:
		return "hard"
	case UDPBlocked:
		return "none"
	case IPv6Firewall:
		return "six"
	}
	return "port"
}

func meets(a, b Kind) bool {
	ca, cb := class(a), class(b)
	switch {
	case ca == "none" || cb == "none" || (ca == "six") != (cb == "six"):
		return false
	case a == Twins && b == Twins:
		return false
	case ca == "hard":
		return cb == "easy"
	case cb == "hard":
		return ca == "easy"
	}
	return true
}

// A plain hole puncher between each kind and each other.
func TestPunchMatrix(t *testing.T) {
	for _, a := range Kinds() {
		for _, b := range Kinds() {
			t.Run(fmt.Sprintf("%s, %s", a, b), func(t *testing.T) {
				in(t, func(t *testing.T, w *World) {
					x := newLab(t, w, Link{Delay: 8 * time.Millisecond})
					ha, hb, _ := x.net.Pair(a, b)
					na, nb := listen(t, ha, link.Port), listen(t, hb, link.Port)
					if got, want := x.punch(na, nb), meets(a, b); got != want {
						t.Errorf("direct: %v, want %v; %v", got, want, w.Counters())
					}
				})
			})
		}
	}
}

// What the relay sees of each kind.
func TestKinds(t *testing.T) {
	type facts struct {
		preserved bool          // the outside port is the inside one
		step      int           // from the first remote's to the second's port; -1: random
		lifetime  time.Duration // without packets; 0: for ever
	}
	const home, ever = homeLifetime, time.Duration(0)
	want := map[Kind]facts{
		Open: {true, 0, ever}, Home: {true, 0, home}, FullCone: {true, 0, home}, Restricted: {true, 0, home},
		Masquerade: {true, 0, home}, SymmetricRandom: {false, -1, home}, SymmetricSequential: {false, 1, home},
		Carrier: {false, 0, carrierLifetime}, Double: {false, 0, carrierLifetime}, Twins: {true, 0, home},
		TwinsHairpin: {true, 0, home}, IPv6Firewall: {true, 0, home},
	}
	for _, k := range Kinds() {
		t.Run(string(k), func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				x := newLab(t, w, Link{})
				s := x.net.Site("a", k)
				n := listen(t, s.Host, link.Port)
				first, second := x.seen(n, 0), x.seen(n, 1)
				if k == UDPBlocked {
					if first.IsValid() {
						t.Errorf("seen as %v", first)
					}
					return
				}
				f := want[k]
				if got := first.Port() == link.Port; got != f.preserved || first.Addr() != second.Addr() {
					t.Errorf("seen as %v and %v", first, second)
				}
				if got := int(second.Port()) - int(first.Port()); got != f.step && f.step >= 0 || got == 0 && f.step < 0 {
					t.Errorf("seen as %v and %v", first, second)
				}
				x.lives(n, f.lifetime)
			})
		})
	}
}

// lives checks how long after its last packet a node is reached by the relay.
func (x *lab) lives(n *node, lifetime time.Duration) {
	x.t.Helper()
	var outside netip.AddrPort
	reached := func(after time.Duration) bool {
		time.Sleep(after - time.Second)
		before := len(n.got)
		x.eyes[0].send("still there?", link.Endpoint{Addr: outside})
		time.Sleep(time.Second)
		synctest.Wait()
		return len(n.got) > before
	}
	if lifetime == 0 {
		if outside = x.seen(n, 0); !reached(time.Hour) {
			x.t.Error("not reached after an hour")
		}
		return
	}
	if outside = x.seen(n, 0); reached(lifetime + time.Second) {
		x.t.Errorf("reached after %v", lifetime)
	}
	if outside = x.seen(n, 0); !reached(lifetime * 6 / 10) {
		x.t.Errorf("not reached before %v", lifetime)
	}
	if got, want := reached(lifetime*6/10), lifetime == homeLifetime; got != want {
		x.t.Errorf("renewed by what came in: %v", got)
	}
}

// All kinds get another public address, and those with a memory forget it.
func TestRebootAndRenumber(t *testing.T) {
	for _, k := range append(Kinds(), "") {
		t.Run(string(k), func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				x := newLab(t, w, Link{})
				var s *Site
				if k == "" {
					s = x.net.Public("a")
				} else {
					s = x.net.Site("a", k)
				}
				n := listen(t, s.Host, link.Port)
				old := x.seen(n, 0)
				if k == UDPBlocked {
					s.Renumber()
					return
				}
				answered := func() bool {
					before := len(n.got)
					x.eyes[0].send("hello", link.Endpoint{Addr: old})
					time.Sleep(time.Second)
					synctest.Wait()
					return len(n.got) > before
				}
				if !answered() {
					t.Errorf("no way back to %v", old)
				}
				s.Reboot()
				if got, want := answered(), k == Open || k == ""; got != want {
					t.Errorf("after a reboot reached: %v", got)
				}
				s.Renumber()
				e := x.seen(n, 0)
				if !e.IsValid() || e.Addr() == old.Addr() {
					t.Errorf("seen as %v, before as %v", e, old)
				}
				if answered() {
					t.Error("still reached by the old address")
				}
				old = e
				if !answered() {
					t.Errorf("no way back to %v", e)
				}
			})
		})
	}
}

// Twins share an address, and no LAN; hosts that join do.
func TestTwinsAndJoin(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		x := newLab(t, w, Link{})
		s := x.net.Site("a", TwinsHairpin)
		a, b := listen(t, s.Hosts[0], link.Port), listen(t, s.Hosts[1], link.Port)
		ea, eb := x.seen(a, 0), x.seen(b, 0)
		if ea.Addr() != eb.Addr() || ea == eb || len(s.LAN) != 2 {
			t.Errorf("seen as %v and %v", ea, eb)
		}
		h, err := s.Join("c")
		if err != nil {
			t.Fatal(err)
		}
		c := listen(t, h, link.Port)
		addr := func(n *node) netip.AddrPort { return netip.AddrPortFrom(n.ifs[0].prefixes[0].Addr(), link.Port) }
		c.send("to a", link.Endpoint{Addr: addr(a)})
		c.send("to b", link.Endpoint{Addr: addr(b)})
		a.want("to a")
		b.want()
		if _, err := x.net.Site("d", Open).Join("e"); err == nil {
			t.Error("joined where there is no LAN")
		}
	})
}

// Links of 300 ms and 30 % loss.
func TestBadLink(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		x := newLab(t, w, Link{})
		s := x.net.Site("a", Home)
		s.SetLink(Link{Delay: 300 * time.Millisecond, Loss: .3})
		n := listen(t, s.Host, link.Port)
		to := link.Endpoint{Addr: x.eye(n.Host, link.Port)}
		start := time.Now()
		for range 1000 {
			n.send("x", to)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		eye := x.eyes[0]
		if k := len(eye.got); k < 600 || k > 800 { // more than six standard deviations
			t.Errorf("%d of 1000 arrived", k)
		}
		if d := eye.when[0].Sub(start); d < 300*time.Millisecond || d > 310*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

// The names are stable.
func TestKindNames(t *testing.T) {
	want := []Kind{"open", "home", "full-cone", "restricted", "masquerade", "symmetric-random", "symmetric-sequential",
		"carrier", "double", "twins", "twins-hairpin", "ipv6-firewall", "udp-blocked"}
	if got := Kinds(); !slices.Equal(got, want) {
		t.Errorf("kinds %q", got)
	}
}

// A seed decides what NATs do, too.
func TestSitesRepeat(t *testing.T) {
	run := func(seed uint64) (tape []string) {
		synctest.Test(t, func(t *testing.T) {
			w := New(seed)
			defer w.Close()
			x := newLab(t, w, Link{Delay: time.Millisecond, Jitter: time.Millisecond})
			a, b, sites := x.net.Pair(SymmetricRandom, Carrier)
			sites[1].Access.Tap(func(p Packet) { tape = append(tape, p.String()) })
			x.punch(listen(t, a, link.Port), listen(t, b, link.Port))
			w.Close() // so that no tap is called any more
		})
		return tape
	}
	first := run(1)
	if len(first) < 5 {
		t.Errorf("only %q", first)
	}
	for range 3 {
		if again := run(1); !slices.Equal(first, again) {
			t.Fatalf("another run gave\n%q\nnot\n%q", again, first)
		}
	}
	if slices.Equal(first, run(2)) {
		t.Error("another seed gave the same")
	}
}

// A packet that crosses the internet costs no memory, once its mapping is made.
func TestForwardingAllocatesNothing(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		x := newLab(t, w, Link{Delay: time.Millisecond})
		s := x.net.Site("a", Double)
		inside := listen(t, s.Host, link.Port)
		x.seen(inside, 0)
		eye := x.eye(s.Host, link.Port)
		p := packet{from: netip.AddrPortFrom(s.Host.ifs[0].prefixes[0].Addr(), link.Port), to: eye, data: []byte("hello"), hops: 64}
		path, err := s.Host.find(link.Endpoint{Addr: eye})
		if err != nil {
			t.Fatal(err)
		}
		hops := 0
		w.mu.Lock()
		defer w.mu.Unlock()
		if n := testing.AllocsPerRun(100, func() {
			s.Host.send(p, path)
			for len(w.events) > 0 && w.events[0].to.host != x.relay.Host {
				w.happen(w.events.pop())
				hops++
			}
			e := w.events.pop() // the socket's queue may grow
			*e = event{}
			w.free = append(w.free, e)
		}); n != 0 || hops != 101*3 {
			t.Errorf("%v allocations, %d hops", n, hops)
		}
	})
}
