package vnet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/overlay/link"
)

var (
	pfx = netip.MustParsePrefix
	ip  = netip.MustParseAddr
	ll  = ip("ff02::1")
)

// in runs f in a bubble with a world of its own.
func in(t *testing.T, f func(t *testing.T, w *World)) {
	t.Helper()
	seed := Seed(t)
	synctest.Test(t, func(t *testing.T) {
		w := New(seed)
		defer w.Close()
		f(t, w)
	})
}

// node is a host with a socket, whose packets are kept.
type node struct {
	*Host
	t    testing.TB
	conn link.Conn
	w    link.Writer
	got  []received
	when []time.Time
}

func (n *node) read(c link.Conn) {
	ts := make([]link.Train, 64)
	for {
		k, err := c.Read(ts)
		if err != nil {
			return
		}
		for _, t := range ts[:k] {
			for b := t.Buf; ; {
				p := b[:min(t.Size, len(b))]
				b = b[len(p):]
				n.got = append(n.got, received{t.Endpoint, bytes.Clone(p)})
				n.when = append(n.when, time.Now())
				if len(b) == 0 {
					break
				}
			}
		}
	}
}

func listen(t testing.TB, h *Host, port uint16) *node {
	t.Helper()
	c, err := h.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Host: h, t: t, conn: c, w: c.NewWriter()}
	go n.read(c)
	return n
}

func (n *node) send(data string, e link.Endpoint) error {
	_, err := n.w.Write([]link.Train{{Buf: []byte(data), Size: len(data), Endpoint: e}})
	return err
}

// want checks what the node got since the last call, in order.
func (n *node) want(packets ...string) {
	n.t.Helper()
	time.Sleep(time.Minute)
	synctest.Wait()
	var got []string
	for _, r := range n.got {
		got = append(got, string(r.data))
	}
	if fmt.Sprint(got) != fmt.Sprint(packets) {
		n.t.Errorf("%s got %q, want %q; %v", n.name, got, packets, n.w.(*writer).conn.host.w.Counters())
	}
	n.got, n.when = nil, nil
}

func at(s string) link.Endpoint { return link.Endpoint{Addr: netip.MustParseAddrPort(s)} }

// lan makes hosts 10.0.0.1, fe80::1, fd01::1, and so on, on one segment.
func lan(t *testing.T, w *World, l Link, n int) (*Segment, []*node) {
	s := w.Segment("lan", l)
	var nodes []*node
	for i := range n {
		h := w.Host(string(rune('a' + i)))
		h.Attach(s, pfx(fmt.Sprintf("10.0.0.%d/24", i+1)), pfx(fmt.Sprintf("fe80::%d/64", i+1)), pfx(fmt.Sprintf("fd01::%d/64", i+1)))
		nodes = append(nodes, listen(t, h, link.Port))
	}
	return s, nodes
}

func TestUnicast(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{Delay: 3 * time.Millisecond}, 3)
		a, b, c := n[0], n[1], n[2]
		start := time.Now()
		for _, e := range []link.Endpoint{at("10.0.0.2:8737"), at("[fd01::2]:8737"),
			{Addr: netip.MustParseAddrPort("[fe80::2]:8737"), If: 2}} {
			if err := a.send("hello", e); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			r := b.got[len(b.got)-1]
			if r.from.Local != e.Addr.Addr() || r.from.If != 2 || r.from.Addr.Port() != link.Port {
				t.Errorf("came as %v", r.from)
			}
			if err := b.send("answer", r.from); err != nil {
				t.Error(err)
			}
		}
		if d := b.when[0].Sub(start); d != 3*time.Millisecond+Tick {
			t.Errorf("took %v", d)
		}
		b.want("hello", "hello", "hello")
		a.want("answer", "answer", "answer")
		c.want()
	})
}

func TestErrors(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{}, 2)
		a, b := n[0], n[1]
		for _, c := range []struct {
			e    link.Endpoint
			n    int
			want error
		}{
			{at("10.0.0.2:8737"), 1472, nil},
			{at("10.0.0.2:8737"), 1473, syscall.EMSGSIZE},
			{at("[fd01::2]:8737"), 1452, nil},
			{at("[fd01::2]:8737"), 1453, syscall.EMSGSIZE},
			{at("192.0.2.1:8737"), 1, syscall.ENETUNREACH},
			{at("[fe80::2]:8737"), 1, syscall.ENETUNREACH},
			{at("[ff02::1]:8737"), 1, syscall.ENETUNREACH},
			{at("255.255.255.255:8737"), 1, syscall.ENETUNREACH},
			{link.Endpoint{}, 1, link.ErrEndpoint},
			// What no longer fits is left to the system.
			{link.Endpoint{Addr: netip.MustParseAddrPort("10.0.0.2:8737"), Local: ip("10.9.9.9"), If: 9}, 4, nil},
		} {
			sent, err := a.w.Write([]link.Train{{Buf: make([]byte, c.n), Size: c.n, Endpoint: c.e}})
			if !errors.Is(err, c.want) || (sent == 1) != (c.want == nil) {
				t.Errorf("%d bytes to %v: %d, %v, want %v", c.n, c.e, sent, err, c.want)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(b.got) != 3 {
			t.Errorf("%d arrived", len(b.got))
		}
		if _, err := a.Listen(link.Port); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second Listen: %v", err)
		}
	})
}

func TestBroadcast(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		s, n := lan(t, w, Link{}, 3)
		other := listen(t, w.Host("other"), 0) // not on 8737, but it hears beacons
		other.Attach(s, pfx("10.0.0.9/24"), pfx("fe80::9/64"))
		bc, err := other.ListenBeacons()
		if err != nil {
			t.Fatal(err)
		}
		go other.read(bc)
		away := listen(t, w.Host("away"), link.Port)
		away.Attach(w.Segment("elsewhere", Link{}), pfx("10.0.0.3/24"), pfx("fe80::1/64"))
		for _, a := range []netip.Addr{ip("10.0.0.255"), limitedBroadcast, ll} {
			if err := n[0].send("beacon", link.Endpoint{Addr: netip.AddrPortFrom(a, link.Port), If: 2}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		for _, r := range n[1].got {
			want := ip("10.0.0.2")
			if r.from.Addr.Addr().Is6() {
				want = netip.Addr{}
			}
			if r.from.Local != want || r.from.If != 2 {
				t.Errorf("came as %v", r.from)
			}
			if err := n[1].send("answer", r.from); err != nil {
				t.Error(err)
			}
		}
		n[2].want("beacon", "beacon", "beacon")
		other.want("beacon", "beacon", "beacon")
		away.want()
		n[0].want("beacon", "beacon", "beacon", "answer", "answer", "answer")
		// The beacons' socket takes nobody's packets, and sends none.
		if err := n[0].send("x", at("10.0.0.9:8737")); err != nil {
			t.Error(err)
		}
		other.want()
		if _, err := bc.NewWriter().Write([]link.Train{{Endpoint: at("10.0.0.1:8737")}}); !errors.Is(err, link.ErrEndpoint) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestTrains(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{Delay: time.Millisecond}, 2)
		a := n[0].w
		if err := n[1].conn.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := n[1].Listen(1)
		if err != nil {
			t.Fatal(err)
		}
		e := at("10.0.0.2:1")
		if sent, err := a.Write([]link.Train{
			{Buf: []byte("aaabbbcc"), Size: 3, Endpoint: e},
			{Buf: []byte("dddd"), Size: 4, Endpoint: e},
			{Buf: nil, Size: 0, Endpoint: e},
			{Buf: []byte("ee"), Size: 2, Endpoint: e},
			{Buf: []byte("ff"), Size: 2, Endpoint: e},
		}); sent != 5 || err != nil {
			t.Fatal(sent, err)
		}
		time.Sleep(time.Second)
		ts := make([]link.Train, 3)
		got := ""
		for range 2 {
			k, err := c.Read(ts)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range ts[:k] {
				got += fmt.Sprintf("%s/%d ", x.Buf, x.Size)
			}
		}
		if want := "aaabbbcc/3 dddd/4 /0 eeff/2 "; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestChances(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		const n = 2000
		_, nodes := lan(t, w, Link{Delay: 10 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: .2, Duplicate: .1, Reorder: .1}, 2)
		for i := range n {
			if err := nodes[0].send(fmt.Sprint(i), at("10.0.0.2:8737")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		seen, overtaken, last := map[string]int{}, 0, -1
		for _, r := range nodes[1].got {
			seen[string(r.data)]++
			var i int
			fmt.Sscan(string(r.data), &i)
			if i < last {
				overtaken++
			}
			last = max(last, i)
		}
		// Five standard deviations and more on each side.
		if k := len(seen); k < n*70/100 || k > n*90/100 {
			t.Errorf("%d of %d arrived", k, n)
		}
		if k := len(nodes[1].got) - len(seen); k < n*4/100 || k > n*13/100 {
			t.Errorf("%d of %d came twice", k, n)
		}
		if overtaken < n*4/100 || overtaken > n*16/100 {
			t.Errorf("%d of %d were overtaken", overtaken, n)
		}
	})
}

func TestJitterKeepsOrder(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{Jitter: 50 * time.Millisecond}, 2)
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			if err := n[0].send(want[i], at("[fd01::2]:8737")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		n[1].want(want...)
	})
}

func TestRate(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		// 1000-byte packets, 8 ms each; ten fit.
		_, n := lan(t, w, Link{Rate: 1e6, Queue: 10000}, 2)
		start := time.Now()
		for range 20 {
			if err := n[0].send(string(make([]byte, 972)), at("10.0.0.2:8737")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(n[1].got) != 10 || w.Counters()["drop_queue"] != 10 {
			t.Fatalf("%d arrived, %v", len(n[1].got), w.Counters())
		}
		if d := n[1].when[9].Sub(start); d != 80*time.Millisecond+Tick {
			t.Errorf("the last after %v", d)
		}
	})
}

// TestRouters: two LANs behind two routers, with a link of a smaller MTU between.
func TestRouters(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		left, mid, right := w.Segment("left", Link{}), w.Segment("mid", Link{Delay: 20 * time.Millisecond}), w.Segment("right", Link{})
		mid.SetMTU(1400)
		a, b := w.Host("a"), w.Host("b")
		a.Attach(left, pfx("10.1.0.2/24"), pfx("2001:db8:1::2/64"))
		b.Attach(right, pfx("10.2.0.2/24"), pfx("2001:db8:2::2/64"))
		r1, r2 := w.Router("r1"), w.Router("r2")
		r1.Attach(left, pfx("10.1.0.1/24"), pfx("2001:db8:1::1/64"))
		r1.Attach(mid, pfx("192.0.2.1/30"), pfx("2001:db8::1/64"))
		r2.Attach(mid, pfx("192.0.2.2/30"), pfx("2001:db8::2/64"))
		r2.Attach(right, pfx("10.2.0.1/24"), pfx("2001:db8:2::1/64"))
		for h, via := range map[*Host][2]string{a: {"10.1.0.1", "2001:db8:1::1"}, b: {"10.2.0.1", "2001:db8:2::1"},
			r1: {"192.0.2.2", "2001:db8::2"}, r2: {"192.0.2.1", "2001:db8::1"}} {
			h.Gateway(ip(via[0]))
			h.Gateway(ip(via[1]))
		}
		na, nb := listen(t, a, link.Port), listen(t, b, link.Port)
		for _, e := range []string{"10.2.0.2:8737", "[2001:db8:2::2]:8737"} {
			if err := na.send("over there", at(e)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for _, r := range nb.got {
			if err := nb.send("and back", r.from); err != nil {
				t.Error(err)
			}
		}
		nb.want("over there", "over there")
		na.want("and back", "and back")

		if err := na.send(string(make([]byte, 1400)), at("10.2.0.2:8737")); err != nil {
			t.Error(err)
		}
		// Neither router knows this one: each sends it to the other.
		if err := na.send("lost", at("198.51.100.1:8737")); err != nil {
			t.Error(err)
		}
		if err := na.send("flood", at("10.2.0.255:8737")); err != nil {
			t.Error(err)
		}
		nb.want()
		if c := w.Counters(); c["drop_too_big"] != 1 || c["drop_hops"] != 1 || c["drop_broadcast"] != 1 {
			t.Errorf("counters %v", c)
		}
	})
}

func TestSleepAndLinks(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		s, n := lan(t, w, Link{Delay: time.Millisecond}, 2)
		a, b := n[0], n[1]
		changes := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		known, err := b.State()
		if err != nil {
			t.Fatal(err)
		}
		var last link.State
		go func() { done <- b.Watch(ctx, known, func(s link.State) { changes, last = changes+1, s }) }()
		synctest.Wait()
		wantChanges := func(k int) {
			t.Helper()
			synctest.Wait()
			if changes != k {
				t.Errorf("%d changes seen, want %d", changes, k)
			}
		}
		say := func(text string) {
			t.Helper()
			if err := a.send(text, at("10.0.0.2:8737")); err != nil {
				t.Error(err)
			}
		}
		b.SetAsleep(true)
		wantChanges(0)
		say("not heard")
		b.want()
		if err := b.send("not said", at("10.0.0.1:8737")); err != nil {
			t.Error(err)
		}
		a.want()
		b.SetAsleep(false)
		wantChanges(0) // no link is another
		say("heard")
		b.want("heard")

		i := b.ifs[0]
		i.SetUp(false)
		wantChanges(1)
		say("not heard")
		b.want()
		if err := b.send("x", at("10.0.0.1:8737")); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("down: %v", err)
		}
		if len(last.Interfaces) != 0 {
			t.Errorf("interfaces %v", last.Interfaces)
		}
		i.SetUp(true)
		wantChanges(2)
		i.SetAddrs(pfx("10.0.0.77/24"))
		wantChanges(3)
		say("nobody's")
		if err := a.send("moved", at("10.0.0.77:8737")); err != nil {
			t.Error(err)
		}
		b.want("moved")
		if w.Counters()["drop_no_neighbour"] != 1 {
			t.Errorf("counters %v", w.Counters())
		}
		say("on its way")
		i.Move(w.Segment("cafe", Link{}), pfx("10.5.0.2/24"))
		wantChanges(4)
		b.want()
		list := last.Interfaces
		if len(list) != 1 || list[0].Prefixes[0] != pfx("10.5.0.2/24") || list[0].Broadcast[0] != ip("10.5.0.255") || list[0].Multicast {
			t.Errorf("interfaces %+v", list)
		}
		s.SetMTU(1280)
		wantChanges(4)
		b.Route(pfx("10.9.0.0/16"), ip("10.5.0.9")) // not the default
		wantChanges(4)
		b.Gateway(ip("10.5.0.1"))
		wantChanges(5)
		if want := (link.Route{Via: ip("10.5.0.1"), If: i.Index(), Source: ip("10.5.0.2")}); last.Route4 != want || last.Route6 != (link.Route{}) {
			t.Errorf("routes %v, %v; want %v", last.Route4, last.Route6, want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSameAgain: a seed decides all, whatever the scheduler does.
func TestSameAgain(t *testing.T) {
	run := func(seed uint64) (sum [32]byte) {
		synctest.Test(t, func(t *testing.T) {
			w := New(seed)
			defer w.Close()
			s, n := lan(t, w, Link{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: .1, Duplicate: .1, Reorder: .2, Rate: 50e6}, 5)
			h := sha256.New()
			s.Tap(func(p Packet) { fmt.Fprintf(h, "%v %s\n", p, p.Data) })
			// Everyone sends to everyone from two goroutines, at the same moments.
			for i, x := range n {
				for g := range 2 {
					wr := x.conn.NewWriter()
					go func() {
						for k := range 50 {
							var ts []link.Train
							for j := range n {
								b := fmt.Appendf(nil, "%d.%d.%d to %d", i, g, k, j)
								ts = append(ts, link.Train{Buf: b, Size: 3, Endpoint: at(fmt.Sprintf("10.0.0.%d:8737", j+1))})
							}
							wr.Write(ts)
							time.Sleep(time.Millisecond)
						}
					}()
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, x := range n {
				for i, r := range x.got {
					fmt.Fprintf(h, "%s %v %v %s\n", x.name, x.when[i].UnixNano(), r.from, r.data)
				}
			}
			fmt.Fprint(h, w.Counters())
			sum = [32]byte(h.Sum(nil))
		})
		return sum
	}
	seed := Seed(t)
	first := run(seed)
	for range 5 {
		if run(seed) != first {
			t.Fatal("another run gave something else")
		}
	}
	if run(seed+1) == first {
		t.Error("another seed gave the same")
	}
}

func TestTap(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		s, n := lan(t, w, Link{Loss: 1}, 2)
		var seen []string
		s.Tap(func(p Packet) { seen = append(seen, fmt.Sprintf("%v>%v %s", p.From, p.To, p.Data)) })
		if err := n[0].send("secret", at("10.0.0.2:8737")); err != nil {
			t.Fatal(err)
		}
		n[1].want()
		if len(seen) != 1 || seen[0] != "10.0.0.1:8737>10.0.0.2:8737 secret" {
			t.Errorf("tapped %q", seen)
		}
	})
}

// Somebody in the middle alters, redirects, reflects, delays and drops.
func TestMeddle(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		s, n := lan(t, w, Link{Loss: 1, Delay: time.Millisecond}, 3)
		s.Meddle(func(p Packet) []Packet {
			back, aside, late := p, p, p
			back.From, back.To = p.To, p.From
			aside.To, aside.Data = netip.MustParseAddrPort("10.0.0.3:8737"), []byte("aside")
			late.At, late.Data = p.At.Add(time.Hour), []byte("late")
			return []Packet{back, aside, late}
		})
		if err := n[0].send("x", at("10.0.0.2:8737")); err != nil {
			t.Fatal(err)
		}
		n[0].want("x")
		n[2].want("aside")
		if c := w.Counters(); c["delivered"] != 2 {
			t.Errorf("%v before the late one comes", c)
		}
		time.Sleep(time.Hour)
		n[1].want("late")
		s.Meddle(nil)
		s.SetLink(Link{})
		if err := n[0].send("as it is", at("10.0.0.2:8737")); err != nil {
			t.Fatal(err)
		}
		n[1].want("as it is")
	})
}

func TestCloseWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(1)
		_, n := lan(t, w, Link{}, 1)
		w.Close()
		synctest.Wait()
		if err := n[0].send("x", at("10.0.0.1:1")); !errors.Is(err, link.ErrClosed) {
			t.Errorf("write: %v", err)
		}
		if _, err := n[0].conn.Read(make([]link.Train, 1)); !errors.Is(err, link.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if _, err := n[0].Listen(0); err == nil {
			t.Error("a socket in a closed world")
		}
		w.Close()
	})
}

func TestQueueIsBounded(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{}, 2)
		c, err := n[1].Listen(1)
		if err != nil {
			t.Fatal(err)
		}
		for range QueueSize + 10 {
			if err := n[0].send("x", at("10.0.0.2:1")); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if c.Counters()["rx_dropped"] != 10 {
			t.Errorf("counters %v", c.Counters())
		}
	})
}

// TestLinks: what one interface sends can fare worse than the segment's other packets,
// and a link may drop what is larger than it admits.
func TestLinks(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		s, n := lan(t, w, Link{}, 2)
		a, b := n[0], n[1]
		eth := a.ifs[0]
		if eth.Index() != 2 || a.conn.LocalPort() != link.Port || a.conn.Rung() != link.RungGSO {
			t.Errorf("interface %d, port %d, rung %s", eth.Index(), a.conn.LocalPort(), a.conn.Rung())
		}
		eth.SetLink(&Link{MTU: 1300})
		for _, size := range []int{1272, 1273} {
			if err := a.send(string(make([]byte, size)), at("10.0.0.2:8737")); err != nil {
				t.Error(err)
			}
		}
		b.want(string(make([]byte, 1272)))
		if c := w.Counters(); c["drop_link_mtu"] != 1 {
			t.Errorf("counters %v", c)
		}
		eth.SetLink(&Link{Loss: 1})
		if err := a.send("lost", at("10.0.0.2:8737")); err != nil {
			t.Error(err)
		}
		if err := b.send("heard", at("10.0.0.1:8737")); err != nil {
			t.Error(err)
		}
		b.want()
		a.want("heard")
		eth.SetLink(nil)
		if err := a.send("as the segment", at("10.0.0.2:8737")); err != nil {
			t.Error(err)
		}
		b.want("as the segment")
		s.SetLink(Link{Loss: 1})
		if err := b.send("lost", at("10.0.0.1:8737")); err != nil {
			t.Error(err)
		}
		a.want()
		if c := w.Counters(); c["drop_loss"] != 2 {
			t.Errorf("counters %v", c)
		}
	})
}

// TestSource: the address to send from, where several would do.
func TestSource(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h, s := w.Host("h"), w.Segment("s", Link{})
		one := h.Attach(s, pfx("10.0.0.1/24"), pfx("10.1.0.1/24"), pfx("fe80::1/64"))
		two := h.Attach(w.Segment("other", Link{}), pfx("fd01::1/64"), pfx("10.2.0.1/24"))
		h.Gateway(ip("fe80::9"))
		for _, c := range []struct {
			i    *Interface
			next string
			want string
		}{
			{one, "10.0.0.7", "10.0.0.1"},
			{one, "10.1.0.7", "10.1.0.1"},
			{one, "10.9.0.7", "10.0.0.1"},
			{one, "fe80::7", "fe80::1"},
			{one, "ff02::1", "fe80::1"},
			{one, "fd09::1", "fd01::1"}, // of another interface
			{two, "fd09::1", "fd01::1"},
			{two, "fe80::7", "invalid IP"},
		} {
			if got := h.source(c.i, ip(c.next)); got.String() != c.want {
				t.Errorf("to %s by %s from %v, want %s", c.next, c.i.name, got, c.want)
			}
		}
		if _, err := h.find(link.Endpoint{Addr: netip.MustParseAddrPort("[fe80::7]:1"), If: two.Index()}); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("without an address: %v", err)
		}
		two.SetUp(false)
		if _, err := h.find(link.Endpoint{Addr: netip.MustParseAddrPort("[fe80::7]:1"), If: two.Index()}); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("down: %v", err)
		}
	})
}
