package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/overlay/link"
)

// home is two hosts behind a NAT, and two servers outside with two sockets each.
type home struct {
	*NAT
	t      *testing.T
	w      *World
	router *Host
	inside *Segment
	out    *Segment
	a, b   *node
	remote map[string]*node // by endpoint: 203.0.113.{1,2}:{1000,1001}
}

const (
	x1 = "203.0.113.1:1000"
	x2 = "203.0.113.1:1001" // another port of the same address
	y1 = "203.0.113.2:1000" // another address
)

func newHome(t *testing.T, w *World, c NATConfig) *home {
	t.Helper()
	h := &home{t: t, w: w, remote: make(map[string]*node)}
	h.inside, h.out = w.Segment("inside", Link{Delay: time.Millisecond}), w.Segment("outside", Link{Delay: time.Millisecond})
	h.router = w.Router("nat")
	h.router.Attach(h.inside, pfx("10.0.0.1/24"))
	h.NAT = h.router.NAT(h.router.Attach(h.out, pfx("203.0.113.100/24")), c)
	h.a, h.b = h.insider("a", "10.0.0.2/24", 5000), h.insider("b", "10.0.0.3/24", 5000)
	for _, addr := range []string{"203.0.113.1", "203.0.113.2"} {
		server := w.Host(addr)
		server.Attach(h.out, pfx(addr+"/24"))
		for _, port := range []uint16{1000, 1001} {
			h.remote[fmt.Sprintf("%s:%d", addr, port)] = listen(t, server, port)
		}
	}
	return h
}

func (h *home) insider(name, addr string, port uint16) *node {
	host := h.w.Host(name)
	host.Attach(h.inside, pfx(addr))
	host.Gateway(ip("10.0.0.1"))
	return listen(h.t, host, port)
}

// another opens another socket on the host of n.
func (h *home) another(n *node, port uint16) *node { return listen(h.t, n.Host, port) }

func (h *home) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

// seen returns the endpoint at which a remote sees an inside node, which sends it a packet for this.
func (h *home) seen(from *node, remote string) netip.AddrPort {
	h.t.Helper()
	r := h.remote[remote]
	before := len(r.got)
	if err := from.send("hello", at(remote)); err != nil {
		h.t.Fatal(err)
	}
	h.settle()
	if len(r.got) == before {
		return netip.AddrPort{}
	}
	return r.got[len(r.got)-1].from.Addr
}

// reaches reports whether a packet from a node to an endpoint arrives at another one.
func (h *home) reaches(from *node, to netip.AddrPort, at *node) bool {
	h.t.Helper()
	before := len(at.got)
	if err := from.send("knock", link.Endpoint{Addr: to}); err != nil {
		h.t.Fatal(err)
	}
	h.settle()
	return len(at.got) > before
}

// admitted returns which remotes reach the node by an outside endpoint.
func (h *home) admitted(n *node, outside netip.AddrPort) string {
	var list []string
	for _, r := range [][2]string{{"address", y1}, {"port", x2}, {"same", x1}} {
		if h.reaches(h.remote[r[1]], outside, n) {
			list = append(list, r[0])
		}
	}
	return strings.Join(list, " ")
}

var behaviours = []Behaviour{EndpointIndependent, AddressDependent, AddressAndPortDependent}

// RFC 4787, 4.1 and 5: which remotes see the same outside endpoint, and which may answer.
func TestNATMappingAndFiltering(t *testing.T) {
	mapped := map[Behaviour]string{EndpointIndependent: "A A A", AddressDependent: "A A B", AddressAndPortDependent: "A B C"}
	admits := map[Behaviour]string{EndpointIndependent: "address port same", AddressDependent: "port same", AddressAndPortDependent: "same"}
	for _, mapping := range behaviours {
		for _, filtering := range behaviours {
			for _, order := range []PortOrder{Random, Sequential, Contiguous} {
				t.Run(fmt.Sprintf("%v mapping, %v filtering, order %d", mapping, filtering, order), func(t *testing.T) {
					in(t, func(t *testing.T, w *World) {
						h := newHome(t, w, NATConfig{Mapping: mapping, Filtering: filtering, Ports: PortChoice{Order: order}})
						first := h.seen(h.a, x1)
						if got := h.admitted(h.a, first); got != admits[filtering] {
							t.Errorf("admits %q, want %q", got, admits[filtering])
						}
						letters := map[netip.AddrPort]string{}
						var got []string
						for _, remote := range []string{x1, x2, y1} {
							e := h.seen(h.a, remote)
							if letters[e] == "" {
								letters[e] = string(rune('A' + len(letters)))
							}
							got = append(got, letters[e])
							if e.Addr() != ip("203.0.113.100") {
								t.Errorf("seen as %v", e)
							}
						}
						if s := strings.Join(got, " "); s != mapped[mapping] {
							t.Errorf("mapped to %s, want %s", s, mapped[mapping])
						}
						if e := h.seen(h.b, x1); letters[e] != "" {
							t.Errorf("the other host has %v too", e)
						}
					})
				})
			}
		}
	}
}

// RFC 4787, 4.2.
func TestNATPorts(t *testing.T) {
	for _, c := range []struct {
		name   string
		config NATConfig
		check  func(t *testing.T, h *home)
	}{
		{"preserving, and the next one on collision", NATConfig{}, func(t *testing.T, h *home) {
			h.wantPort(h.seen(h.a, x1), 5000)
			h.wantPort(h.seen(h.b, x1), 5001)
			h.wantPort(h.seen(h.another(h.a, 5001), x1), 5002)
			h.wantPort(h.seen(h.another(h.a, 80), x1), 80)
		}},
		{"preserving, and random on collision", NATConfig{Ports: PortChoice{Fallback: Random, Low: 40000, High: 40999}}, func(t *testing.T, h *home) {
			h.wantPort(h.seen(h.a, x1), 5000)
			if e := h.seen(h.b, x1); e.Port() < 40000 || e.Port() > 40999 {
				t.Errorf("seen as %v", e)
			}
		}},
		{"preserving keeps parity on collision", NATConfig{Ports: PortChoice{Parity: true}}, func(t *testing.T, h *home) {
			h.wantPort(h.seen(h.a, x1), 5000)
			h.wantPort(h.seen(h.b, x1), 5002)
		}},
		{"preserving leaves the router's own sockets alone", NATConfig{}, func(t *testing.T, h *home) {
			own := listen(t, h.router, 5000)
			h.wantPort(h.seen(h.a, x1), 5001)
			if !h.reaches(h.remote[x1], netip.MustParseAddrPort("203.0.113.100:5000"), own) {
				t.Error("the router's own socket is not reached")
			}
			if !h.reaches(h.a, netip.MustParseAddrPort("203.0.113.100:5000"), own) {
				t.Error("the router's own socket is not reached from the inside")
			}
			if !h.reaches(own, netip.MustParseAddrPort(x1), h.remote[x1]) {
				t.Error("the router's own socket reaches nobody")
			}
		}},
		{"shared ports: each remote sees the same", NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent, Shared: true}, func(t *testing.T, h *home) {
			for _, r := range []string{x1, x2} {
				h.wantPort(h.seen(h.a, r), 5000)
			}
			h.wantPort(h.seen(h.b, y1), 5000) // another host, and no collision
			h.wantPort(h.seen(h.b, x1), 5001)
			if !h.reaches(h.remote[y1], netip.MustParseAddrPort("203.0.113.100:5000"), h.b) ||
				!h.reaches(h.remote[x2], netip.MustParseAddrPort("203.0.113.100:5000"), h.a) {
				t.Error("answers go astray")
			}
		}},
		{"sequential", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Sequential, Step: 3}}, func(t *testing.T, h *home) {
			port := h.seen(h.a, x1).Port()
			h.wantPort(h.seen(h.a, x2), following(port, 3))
			h.wantPort(h.seen(h.b, x1), following(port, 6))
			h.wantPort(h.seen(h.a, y1), following(port, 9))
		}},
		{"sequential, downward", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Sequential, Step: -2}}, func(t *testing.T, h *home) {
			port := h.seen(h.a, x1).Port()
			h.wantPort(h.seen(h.a, x2), following(port, -2))
			h.wantPort(h.seen(h.a, y1), following(port, -4))
		}},
		{"sequential with parity", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Sequential, Parity: true}}, func(t *testing.T, h *home) {
			port := h.seen(h.a, x1).Port()
			h.wantPort(h.seen(h.a, x2), following(port, 2))
			if odd := h.seen(h.another(h.a, 5001), x1).Port(); port%2 != 0 || odd%2 != 1 {
				t.Errorf("ports %d and %d", port, odd)
			}
		}},
		{"sequential skips what is taken", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Sequential, Low: 2000, High: 2003}}, func(t *testing.T, h *home) {
			if !h.Forward(netip.MustParseAddrPort("10.0.0.9:9"), 2001) {
				t.Error("not forwarded")
			}
			var ports []uint16
			for _, r := range []string{x1, x2, y1} {
				ports = append(ports, h.seen(h.a, r).Port())
			}
			slices.Sort(ports)
			if fmt.Sprint(ports) != "[2000 2002 2003]" {
				t.Errorf("ports %v", ports)
			}
			if e := h.seen(h.b, x1); e.IsValid() || h.w.Counters()["drop_nat_no_port"] != 1 {
				t.Errorf("seen as %v when all ports are taken, %v", e, h.w.Counters())
			}
		}},
		{"sequential leaves no port unused", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Sequential, Step: 2, Low: 2000, High: 2003}}, func(t *testing.T, h *home) {
			used := map[uint16]bool{}
			for k, r := range []string{x1, x2, y1, "203.0.113.2:1001"} {
				used[h.seen(h.a, r).Port()] = true
				if len(used) != k+1 {
					t.Errorf("ports %v", used)
				}
			}
		}},
		{"contiguous for each host", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Contiguous}}, func(t *testing.T, h *home) {
			a, b := h.seen(h.a, x1).Port(), h.seen(h.b, x1).Port()
			h.wantPort(h.seen(h.a, x2), following(a, 1))
			h.wantPort(h.seen(h.b, x2), following(b, 1))
			h.wantPort(h.seen(h.a, y1), following(a, 2))
		}},
		{"random", NATConfig{Mapping: AddressAndPortDependent, Ports: PortChoice{Order: Random}}, func(t *testing.T, h *home) {
			a, b, c := h.seen(h.a, x1).Port(), h.seen(h.a, x2).Port(), h.seen(h.a, y1).Port()
			if b-a == c-b {
				t.Errorf("ports %d, %d, %d", a, b, c)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *World) { c.check(t, newHome(t, w, c.config)) })
		})
	}
}

func (h *home) wantPort(e netip.AddrPort, port uint16) {
	h.t.Helper()
	if e.Port() != port {
		h.t.Errorf("seen as %v, want port %d", e, port)
	}
}

// following is the port a number of ports later in 1024 to 65535, around the end.
func following(port uint16, n int) uint16 {
	const size = 65536 - 1024
	return uint16((int(port)-1024+n+size)%size + 1024)
}

// RFC 4787, 6.
func TestNATHairpin(t *testing.T) {
	for _, c := range []struct {
		name      string
		hairpin   Hairpinning
		filtering Behaviour
		opened    bool   // b sent to a's outside endpoint before
		from      string // as what a is seen; empty: nothing arrives
	}{
		{"none", NoHairpin, EndpointIndependent, true, ""},
		{"internal", HairpinInternal, EndpointIndependent, false, "10.0.0.2:5000"},
		{"external", HairpinExternal, EndpointIndependent, false, "203.0.113.100:5000"},
		{"filtered", HairpinExternal, AddressAndPortDependent, false, ""},
		{"filtered, and let in", HairpinExternal, AddressAndPortDependent, true, "203.0.113.100:5000"},
		{"internal, filtered, and let in", HairpinInternal, AddressAndPortDependent, true, "10.0.0.2:5000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				h := newHome(t, w, NATConfig{Hairpin: c.hairpin, Filtering: c.filtering})
				a, b := h.seen(h.a, x1), h.seen(h.b, x1)
				if c.opened {
					h.reaches(h.b, a, h.a)
				}
				if got := h.reaches(h.a, b, h.b); got != (c.from != "") {
					t.Errorf("arrived: %v; %v", got, w.Counters())
				} else if got && h.b.got[len(h.b.got)-1].from.Addr.String() != c.from {
					t.Errorf("from %v", h.b.got[len(h.b.got)-1].from)
				}
			})
		})
	}
}

// RFC 4787, 4.3.
func TestNATLifetime(t *testing.T) {
	for _, c := range []struct {
		name    string
		inbound bool // renews
		// A packet each 8 s for 80 s, with a lifetime of 10 s.
		do    func(h *home, e netip.AddrPort)
		alive bool
	}{
		{"renewed from the inside", false, func(h *home, e netip.AddrPort) { h.seen(h.a, x1) }, true},
		{"not renewed from the outside", false, func(h *home, e netip.AddrPort) { h.reaches(h.remote[x1], e, h.a) }, false},
		{"renewed from the outside", true, func(h *home, e netip.AddrPort) { h.reaches(h.remote[x1], e, h.a) }, true},
		{"not renewed by what is filtered", true, func(h *home, e netip.AddrPort) { h.reaches(h.remote[y1], e, h.a) }, false},
		{"the right to answer ends by itself", true, func(h *home, e netip.AddrPort) { h.seen(h.a, y1) }, false},
		{"silence", true, func(h *home, e netip.AddrPort) {}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				h := newHome(t, w, NATConfig{Filtering: AddressAndPortDependent, Lifetime: 10 * time.Second, InboundRefresh: c.inbound})
				e := h.seen(h.a, x1)
				for range 10 {
					time.Sleep(8 * time.Second)
					c.do(h, e)
				}
				if got := h.reaches(h.remote[x1], e, h.a); got != c.alive {
					t.Errorf("answers arrive: %v", got)
				}
			})
		})
	}
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Ports: PortChoice{Order: Sequential}, Lifetime: 10 * time.Second})
		first := h.seen(h.a, x1)
		time.Sleep(9 * time.Second)
		if e := h.seen(h.a, y1); e != first {
			t.Errorf("after 9 s seen as %v, not %v", e, first)
		}
		time.Sleep(10 * time.Second)
		if n := h.Mappings(); n != 0 {
			t.Errorf("%d mappings", n)
		}
		h.wantPort(h.seen(h.a, x1), following(first.Port(), 1))
	})
}

func TestNATLimit(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Limit: 2})
		second := h.another(h.a, 6000)
		a, b := h.seen(h.a, x1), h.seen(second, x1)
		h.seen(h.a, x1) // so that the other one is the oldest
		h.seen(h.b, x1)
		if n := h.Mappings(); n != 2 {
			t.Errorf("%d mappings", n)
		}
		if !h.reaches(h.remote[x1], a, h.a) || h.reaches(h.remote[x1], b, second) {
			t.Error("the wrong mapping went")
		}
	})
}

func TestNATReboot(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Ports: PortChoice{Order: Random}})
		server := h.another(h.b, 80)
		if !h.Forward(netip.MustParseAddrPort("10.0.0.3:80"), 8080) {
			t.Fatal("not forwarded")
		}
		if _, ok := h.Map(netip.MustParseAddrPort("10.0.0.3:5000"), 7000, 0); !ok {
			t.Fatal("not mapped")
		}
		old := h.seen(h.a, x1)
		h.Reboot()
		if h.reaches(h.remote[x1], old, h.a) || h.reaches(h.remote[x1], netip.MustParseAddrPort("203.0.113.100:7000"), h.b) {
			t.Error("a mapping is still there")
		}
		if !h.reaches(h.remote[x1], netip.MustParseAddrPort("203.0.113.100:8080"), server) {
			t.Error("what was configured is gone")
		}
		if e := h.seen(h.a, x1); e == old || e.Addr() != old.Addr() {
			t.Errorf("seen as %v, before as %v", e, old)
		}
		h.Reboot(pfx("203.0.113.101/24"))
		if e := h.seen(h.a, x1); e.Addr() != ip("203.0.113.101") || h.Addr() != e.Addr() {
			t.Errorf("with a new address seen as %v", e)
		}
		if !h.reaches(h.remote[x1], netip.MustParseAddrPort("203.0.113.101:8080"), server) {
			t.Error("what was configured did not move")
		}
		// Without a reboot too.
		h.outside.SetAddrs(pfx("203.0.113.102/24"))
		if e := h.seen(h.a, x1); e.Addr() != ip("203.0.113.102") {
			t.Errorf("seen as %v", e)
		}
	})
}

func TestNATPooling(t *testing.T) {
	for _, pooling := range []Pooling{Paired, Arbitrary} {
		in(t, func(t *testing.T, w *World) {
			h := newHome(t, w, NATConfig{Mapping: AddressAndPortDependent, Pooling: pooling, Ports: PortChoice{Order: Random}})
			h.outside.SetAddrs(pfx("203.0.113.100/24"), pfx("203.0.113.101/24"))
			of := map[netip.Addr]int{}
			for port := range uint16(20) {
				e := h.seen(h.another(h.a, 6000+port), x1)
				of[e.Addr()]++
			}
			if want := map[Pooling]int{Paired: 1, Arbitrary: 2}[pooling]; len(of) != want {
				t.Errorf("pooling %d: %v", pooling, of)
			}
			if b := h.seen(h.b, x1).Addr(); pooling == Paired && of[b] != 0 {
				t.Errorf("both hosts have %v", b)
			}
		})
	}
}

// What PCP does: everyone comes in, and what goes out has the same port.
func TestNATMap(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Mapping: AddressAndPortDependent, Filtering: AddressAndPortDependent,
			Ports: PortChoice{Order: Random}, Lifetime: 10 * time.Second})
		a, b := netip.MustParseAddrPort("10.0.0.2:5000"), netip.MustParseAddrPort("10.0.0.3:5000")
		e, ok := h.Map(a, 7000, time.Minute)
		if want := netip.MustParseAddrPort("203.0.113.100:7000"); !ok || e != want {
			t.Fatalf("mapped to %v, %v", e, ok)
		}
		other, ok := h.Map(b, 7000, time.Minute)
		if !ok || other == e || other.Addr() != e.Addr() {
			t.Errorf("the other host is mapped to %v, %v", other, ok)
		}
		time.Sleep(30 * time.Second)
		if got := h.admitted(h.a, e); got != "address port same" {
			t.Errorf("admits %q", got)
		}
		if !h.reaches(h.remote[x1], other, h.b) {
			t.Error("the other host is not reached")
		}
		for _, r := range []string{x1, y1} {
			if got := h.seen(h.a, r); got != e {
				t.Errorf("seen as %v", got)
			}
		}
		if again, ok := h.Map(a, 9, time.Minute); !ok || again != e {
			t.Errorf("renewed as %v, %v", again, ok)
		}
		time.Sleep(31 * time.Second)
		if !h.reaches(h.remote[y1], e, h.a) || h.reaches(h.remote[y1], other, h.b) {
			t.Error("the wrong mapping ended")
		}
		if n := h.Mappings(); n != 1 {
			t.Errorf("%d mappings", n)
		}
		h.Unmap(a)
		if h.reaches(h.remote[y1], e, h.a) {
			t.Error("the mapping did not end")
		}
		if got := h.seen(h.a, x1); got == e {
			t.Error("the port is still used")
		}
	})
	// A mapping that is there already keeps its port.
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Filtering: AddressAndPortDependent, Ports: PortChoice{Order: Random}, Lifetime: 10 * time.Second})
		e := h.seen(h.a, x1)
		if got, ok := h.Map(netip.MustParseAddrPort("10.0.0.2:5000"), 7000, 0); !ok || got != e {
			t.Errorf("mapped to %v, %v", got, ok)
		}
		time.Sleep(time.Hour)
		if got := h.admitted(h.a, e); got != "address port same" || h.seen(h.a, y1) != e {
			t.Errorf("admits %q", got)
		}
	})
}

// RFC 4787, 10: errors about what was translated are translated back.
func TestNATErrors(t *testing.T) {
	for _, silent := range []bool{false, true} {
		in(t, func(t *testing.T, w *World) {
			h := newHome(t, w, NATConfig{Ports: PortChoice{Order: Random}, NoICMP: silent})
			var inner, outer []ICMPError
			h.a.OnICMP(func(e ICMPError) { inner = append(inner, e) })
			h.remote[x1].OnICMP(func(e ICMPError) { outer = append(outer, e) })
			want := func(got *[]ICMPError, list ...ICMPError) {
				t.Helper()
				h.settle()
				if silent {
					list = nil
				}
				if !slices.Equal(*got, list) {
					t.Errorf("got %v, want %v", *got, list)
				}
				*got = nil
			}
			a, x := netip.MustParseAddrPort("10.0.0.2:5000"), netip.MustParseAddrPort(x1)
			e := h.seen(h.a, x1)
			// The router itself cannot pass it on, and a router further on.
			h.out.SetMTU(1400)
			if err := h.a.send(string(make([]byte, 1400)), at(x1)); err != nil {
				t.Fatal(err)
			}
			want(&inner, ICMPError{TooBig, 1400, a, x})
			far := w.Router("far")
			far.Attach(h.out, pfx("203.0.113.50/24"))
			narrow := w.Segment("narrow", Link{})
			narrow.SetMTU(1300)
			far.Attach(narrow, pfx("198.51.100.1/24"))
			h.router.Gateway(ip("203.0.113.50"))
			to := netip.MustParseAddrPort("198.51.100.2:1")
			if err := h.a.send(string(make([]byte, 1300)), link.Endpoint{Addr: to}); err != nil {
				t.Fatal(err)
			}
			want(&inner, ICMPError{TooBig, 1300, a, to})
			if err := h.a.send("x", link.Endpoint{Addr: to}); err != nil {
				t.Fatal(err)
			}
			want(&inner, ICMPError{HostUnreachable, 0, a, to})
			closed := netip.AddrPortFrom(x.Addr(), 9)
			if err := h.a.send("x", link.Endpoint{Addr: closed}); err != nil {
				t.Fatal(err)
			}
			want(&inner, ICMPError{PortUnreachable, 0, a, closed})
			// From the inside, about what came in.
			h.a.conn.Close()
			if err := h.remote[x1].send("x", link.Endpoint{Addr: e}); err != nil {
				t.Fatal(err)
			}
			want(&outer, ICMPError{PortUnreachable, 0, x, e})
		})
	}
}

// An error about a packet that took the hairpin speaks of what its sender knows.
func TestNATHairpinError(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Hairpin: HairpinExternal})
		var got []ICMPError
		h.a.OnICMP(func(e ICMPError) { got = append(got, e) })
		b := h.seen(h.b, x1)
		h.b.conn.Close()
		if err := h.a.send("x", link.Endpoint{Addr: b}); err != nil {
			t.Fatal(err)
		}
		h.settle()
		if want := (ICMPError{PortUnreachable, 0, netip.MustParseAddrPort("10.0.0.2:5000"), b}); !slices.Equal(got, []ICMPError{want}) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// The NAT of a carrier behind that of a home, each with its own behaviour.
func TestNATBehindNAT(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Filtering: AddressAndPortDependent, Ports: PortChoice{Order: Sequential}})
		inner := w.Router("home")
		nat := inner.NAT(inner.Attach(h.inside, pfx("10.0.0.50/24")), NATConfig{Filtering: EndpointIndependent})
		inner.Gateway(ip("10.0.0.1"))
		lan := w.Segment("lan", Link{})
		inner.Attach(lan, pfx("192.168.0.1/24"))
		host := w.Host("c")
		host.Attach(lan, pfx("192.168.0.2/24"))
		host.Gateway(ip("192.168.0.1"))
		c := listen(t, host, 5000)
		port := h.seen(h.a, x1).Port()
		e := h.seen(c, x1)
		h.wantPort(e, following(port, 1))
		if got := h.admitted(c, e); got != "same" {
			t.Errorf("admits %q", got)
		}
		// Who is between the NATs sees the home's address, and nothing of the inside.
		if !h.reaches(h.b, netip.MustParseAddrPort("10.0.0.50:5000"), c) || !h.reaches(c, netip.MustParseAddrPort("10.0.0.3:5000"), h.b) {
			t.Error("the home is not reached by its own outside address")
		}
		if got := h.b.got[len(h.b.got)-1].from.Addr.Addr(); got != nat.Addr() {
			t.Errorf("came from %v", got)
		}
		h.b.Route(pfx("192.168.0.0/24"), ip("10.0.0.50"))
		if h.reaches(h.b, netip.MustParseAddrPort("192.168.0.2:5000"), c) {
			t.Error("an inside address is reached from the outside")
		}
	})
}

// Inside hosts of different segments reach each other, unless they are isolated.
func TestNATIsolation(t *testing.T) {
	for _, isolated := range []bool{false, true} {
		in(t, func(t *testing.T, w *World) {
			h := newHome(t, w, NATConfig{Isolated: isolated, Hairpin: HairpinExternal})
			guests := w.Segment("guests", Link{})
			h.router.Attach(guests, pfx("10.1.0.1/24"))
			host := w.Host("guest")
			host.Attach(guests, pfx("10.1.0.2/24"))
			host.Gateway(ip("10.1.0.1"))
			g := listen(t, host, 5000)
			if got := h.reaches(h.a, netip.MustParseAddrPort("10.1.0.2:5000"), g); got == isolated {
				t.Errorf("isolated %v: reached %v", isolated, got)
			}
			if e := h.seen(g, x1); !h.reaches(h.a, e, g) {
				t.Error("not reached by hairpin")
			}
		})
	}
}

// IPv6 passes a NAT as it is.
func TestNATLeavesIPv6(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		h := newHome(t, w, NATConfig{Filtering: AddressAndPortDependent})
		h.router.ifs[0].SetAddrs(pfx("10.0.0.1/24"), pfx("2001:db8:1::1/64"))
		h.outside.SetAddrs(pfx("203.0.113.100/24"), pfx("2001:db8::1/64"))
		h.a.ifs[0].SetAddrs(pfx("10.0.0.2/24"), pfx("2001:db8:1::2/64"))
		h.a.Gateway(ip("2001:db8:1::1"))
		r := h.remote[x1]
		r.ifs[0].SetAddrs(pfx("203.0.113.1/24"), pfx("2001:db8::2/64"))
		r.Gateway(ip("2001:db8::1"))
		if !h.reaches(r, netip.MustParseAddrPort("[2001:db8:1::2]:5000"), h.a) ||
			!h.reaches(h.a, netip.MustParseAddrPort("[2001:db8::2]:1000"), r) {
			t.Error("not reached")
		}
		if from := r.got[len(r.got)-1].from.Addr; from != netip.MustParseAddrPort("[2001:db8:1::2]:5000") {
			t.Errorf("came from %v", from)
		}
	})
}
