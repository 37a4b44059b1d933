package link

import (
	"net/netip"
	"testing"
)

func TestSame(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	lan := Interface{Name: "lan", Index: 2, MTU: 1500, Multicast: true,
		Prefixes: []netip.Prefix{p("10.0.0.1/24"), p("fe80::1/64")}, Broadcast: []netip.Addr{a("10.0.0.255"), a("10.1.0.255")}}
	wifi := Interface{Name: "wifi", Index: 3, MTU: 1500}
	with := func(change func(*Interface)) Interface {
		i := lan
		change(&i)
		return i
	}
	for _, c := range []struct {
		name string
		a, b []Interface
		want bool
	}{
		{"none", nil, []Interface{}, true},
		{"the same", []Interface{lan, wifi}, []Interface{lan, wifi}, true},
		{"another order", []Interface{lan, wifi}, []Interface{wifi, lan}, true},
		{"addresses in another order", []Interface{lan}, []Interface{with(func(i *Interface) {
			i.Prefixes = []netip.Prefix{p("fe80::1/64"), p("10.0.0.1/24")}
			i.Broadcast = []netip.Addr{a("10.1.0.255"), a("10.0.0.255")}
		})}, true},
		{"one less", []Interface{lan, wifi}, []Interface{lan}, false},
		{"another", []Interface{lan}, []Interface{wifi}, false},
		{"twice the same", []Interface{lan, wifi}, []Interface{lan, lan}, false},
		{"twice the same first", []Interface{lan, lan}, []Interface{lan, wifi}, false},
		{"name", []Interface{lan}, []Interface{with(func(i *Interface) { i.Name = "eth0" })}, false},
		{"index", []Interface{lan}, []Interface{with(func(i *Interface) { i.Index = 9 })}, false},
		{"MTU", []Interface{lan}, []Interface{with(func(i *Interface) { i.MTU = 1400 })}, false},
		{"multicast", []Interface{lan}, []Interface{with(func(i *Interface) { i.Multicast = false })}, false},
		{"address", []Interface{lan}, []Interface{with(func(i *Interface) { i.Prefixes = []netip.Prefix{p("10.0.0.2/24"), p("fe80::1/64")} })}, false},
		{"prefix", []Interface{lan}, []Interface{with(func(i *Interface) { i.Prefixes = []netip.Prefix{p("10.0.0.1/25"), p("fe80::1/64")} })}, false},
		{"no address", []Interface{lan}, []Interface{with(func(i *Interface) { i.Prefixes = nil })}, false},
		{"broadcast", []Interface{lan}, []Interface{with(func(i *Interface) { i.Broadcast = i.Broadcast[:1] })}, false},
	} {
		if Same(c.a, c.b) != c.want || Same(c.b, c.a) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
	s := State{Interfaces: []Interface{lan, wifi}, Route4: Route{Via: a("10.0.0.9"), If: 2, Source: a("10.0.0.1")}}
	for name, change := range map[string]func(*State){
		"interfaces": func(s *State) { s.Interfaces = s.Interfaces[:1] },
		"router":     func(s *State) { s.Route4.Via = a("10.0.0.8") },
		"interface":  func(s *State) { s.Route4.If = 3 },
		"source":     func(s *State) { s.Route4.Source = a("10.1.0.1") },
		"IPv6":       func(s *State) { s.Route6.If = 2 },
	} {
		other := s
		if change(&other); s.Same(other) || !other.Same(other) {
			t.Errorf("another route or list (%s) is the same", name)
		}
	}
}

func TestBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.0.0.1/24": "10.0.0.255", "10.0.0.1/8": "10.255.255.255", "10.0.0.1/30": "10.0.0.3", "192.168.1.77/26": "192.168.1.127",
		"10.0.0.1/31": "", "10.0.0.1/32": "", "10.0.0.1/0": "", "fd00::1/64": "",
	} {
		got, ok := broadcastOf(netip.MustParsePrefix(prefix))
		if ok != (want != "") || ok && got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, %v", prefix, got, ok)
		}
	}
}
