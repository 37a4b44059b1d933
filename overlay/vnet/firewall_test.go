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

// guarded is a host a behind a router with a firewall, on IPv6, and two remotes.
type guarded struct {
	*Firewall
	t          *testing.T
	w          *World
	a          *node
	x1, x2, y1 *node // as with a NAT: another port, another address
	addr       map[*node]netip.AddrPort
}

func newGuarded(t *testing.T, w *World, c FirewallConfig) *guarded {
	t.Helper()
	g := &guarded{t: t, w: w, addr: make(map[*node]netip.AddrPort)}
	inside, outside := w.Segment("inside", Link{}), w.Segment("outside", Link{Delay: time.Millisecond})
	router := w.Router("router")
	router.Attach(inside, pfx("2001:db8:1::1/64"))
	g.Firewall = router.Attach(outside, pfx("2001:db8::1/64")).Firewall(c)
	socket := func(h *Host, addr string, port uint16) *node {
		n := listen(t, h, port)
		g.addr[n] = netip.AddrPortFrom(ip(addr), port)
		return n
	}
	host, x, y := w.Host("a"), w.Host("x"), w.Host("y")
	host.Attach(inside, pfx("2001:db8:1::2/64"))
	host.Gateway(ip("2001:db8:1::1"))
	x.Attach(outside, pfx("2001:db8::2/64"))
	y.Attach(outside, pfx("2001:db8::3/64"))
	for _, h := range []*Host{x, y} {
		h.Gateway(ip("2001:db8::1"))
	}
	g.a = socket(host, "2001:db8:1::2", 5000)
	g.x1, g.x2, g.y1 = socket(x, "2001:db8::2", 1000), socket(x, "2001:db8::2", 1001), socket(y, "2001:db8::3", 1000)
	return g
}

func (g *guarded) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

// reaches reports whether a packet from one node to another one arrives.
func (g *guarded) reaches(from, to *node) bool {
	g.t.Helper()
	before := len(to.got)
	if err := from.send("knock", link.Endpoint{Addr: g.addr[to]}); err != nil {
		g.t.Fatal(err)
	}
	g.settle()
	return len(to.got) > before
}

// Nothing comes in before something went out, and then only what the filtering lets in
// (RFC 6092, REC-14 to 18).
func TestFirewallFiltering(t *testing.T) {
	for filtering, want := range map[Behaviour][3]bool{
		EndpointIndependent:     {true, true, true},
		AddressDependent:        {true, true, false},
		AddressAndPortDependent: {true, false, false},
	} {
		t.Run(filtering.String(), func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				g := newGuarded(t, w, FirewallConfig{Filtering: filtering})
				remotes := []*node{g.x1, g.x2, g.y1}
				for _, r := range remotes {
					if g.reaches(r, g.a) {
						t.Errorf("%v came in unasked", g.addr[r])
					}
				}
				if !g.reaches(g.a, g.x1) {
					t.Fatal("nothing goes out")
				}
				if from := g.x1.got[0].from.Addr; from != g.addr[g.a] {
					t.Errorf("came from %v", from)
				}
				for k, r := range remotes {
					if got := g.reaches(r, g.a); got != want[k] {
						t.Errorf("%v came in: %v", g.addr[r], got)
					}
				}
			})
		})
	}
}

func TestFirewallLifetime(t *testing.T) {
	for _, inbound := range []bool{false, true} {
		in(t, func(t *testing.T, w *World) {
			g := newGuarded(t, w, FirewallConfig{Filtering: AddressAndPortDependent, Lifetime: 10 * time.Second, InboundRefresh: inbound})
			g.reaches(g.a, g.x1)
			for range 3 {
				time.Sleep(9 * time.Second)
				g.reaches(g.x1, g.a)
			}
			if got := g.reaches(g.x1, g.a); got != inbound {
				t.Errorf("renewed by answers: %v, want %v", got, inbound)
			}
			g.reaches(g.a, g.x1)
			time.Sleep(9 * time.Second)
			if !g.reaches(g.x1, g.a) {
				t.Error("it forgets before the lifetime is over")
			}
			g.Reboot()
			if g.reaches(g.x1, g.a) {
				t.Error("it forgets nothing")
			}
			g.SetConfig(func(c *FirewallConfig) { c.Lifetime = time.Minute })
			g.reaches(g.a, g.x1)
			time.Sleep(50 * time.Second)
			if !g.reaches(g.x1, g.a) {
				t.Error("the lifetime did not change")
			}
		})
	}
}

func TestFirewallPinholes(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		g := newGuarded(t, w, FirewallConfig{Filtering: AddressAndPortDependent})
		g.Pin(g.addr[g.a])
		if !g.reaches(g.x1, g.a) || !g.reaches(g.y1, g.a) {
			t.Error("a pinhole lets nobody in")
		}
		g.Unpin(g.addr[g.a])
		if g.reaches(g.x1, g.a) {
			t.Error("no pinhole is left, and somebody came in")
		}
	})
}

// UDP may be blocked as a whole or by ports, silently or not.
func TestFirewallBlocks(t *testing.T) {
	for _, c := range []struct {
		config FirewallConfig
		open   string // of the remotes
	}{
		{FirewallConfig{NoUDP: true}, ""},
		{FirewallConfig{NoUDP: true, Rejects: true}, ""},
		{FirewallConfig{NoUDP: true, Allow: []uint16{1001}}, "x2"},
		{FirewallConfig{Deny: []uint16{1000}}, "x2"},
		{FirewallConfig{Deny: []uint16{1001}, Rejects: true}, "x1 y1"},
	} {
		t.Run(fmt.Sprintf("%+v", c.config), func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				g := newGuarded(t, w, c.config)
				var told []ICMPError
				g.a.OnICMP(func(e ICMPError) { told = append(told, e) })
				open, rejected := []string{}, 0
				for _, r := range []struct {
					name string
					n    *node
				}{{"x1", g.x1}, {"x2", g.x2}, {"y1", g.y1}} {
					out, back := g.reaches(g.a, r.n), g.reaches(r.n, g.a)
					if out != back {
						t.Errorf("%s: out %v, back %v", r.name, out, back)
					}
					if out {
						open = append(open, r.name)
						continue
					}
					if c.config.Rejects {
						rejected++
					}
					if len(told) != rejected || rejected > 0 && told[rejected-1] != (ICMPError{Prohibited, 0, g.addr[g.a], g.addr[r.n]}) {
						t.Errorf("%s: errors %v", r.name, told)
					}
				}
				if got := fmt.Sprint(open); got != "["+c.open+"]" {
					t.Errorf("open are %v, want %q", got, c.open)
				}
			})
		})
	}
}

// ICMP errors come in if they are about what went out.
func TestFirewallErrors(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		g := newGuarded(t, w, FirewallConfig{Filtering: AddressAndPortDependent, Lifetime: 10 * time.Second})
		var told []ICMPError
		g.a.OnICMP(func(e ICMPError) { told = append(told, e) })
		closed := netip.AddrPortFrom(g.addr[g.x1].Addr(), 9)
		if err := g.a.send("x", link.Endpoint{Addr: closed}); err != nil {
			t.Fatal(err)
		}
		g.settle()
		if !slices.Equal(told, []ICMPError{{PortUnreachable, 0, g.addr[g.a], closed}}) {
			t.Errorf("errors %v", told)
		}
		w.mu.Lock()
		forged := packet{from: closed, to: g.addr[g.a], hops: 64, icmp: &ICMPError{Kind: PortUnreachable, From: g.addr[g.a], To: g.addr[g.y1]}}
		g.x1.ifs[0].transmit(forged, ip("2001:db8::1"))
		w.mu.Unlock()
		g.settle()
		if len(told) != 1 {
			t.Errorf("an error about nothing came in: %v", told)
		}
	})
}

// A firewall that remembers for a while does not remember for ever.
func TestFirewallMemory(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		g := newGuarded(t, w, FirewallConfig{Filtering: AddressAndPortDependent, Lifetime: 10 * time.Second})
		for port := range uint16(1000) {
			if err := g.a.send("x", link.Endpoint{Addr: netip.AddrPortFrom(g.addr[g.y1].Addr(), 2000+port)}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(g.flows.used); n > 300 {
			t.Errorf("%d flows, and 100 are alive", n)
		}
	})
}
