package vnet

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/overlay/link"
)

// What a host learns of an endpoint that does not answer, across a NAT.
func TestDiagnose(t *testing.T) {
	for _, c := range []struct {
		name, to string
		change   func(h *home)
		want     link.Symptom
	}{
		{"it answers nothing", x1, nil, link.Silence},
		{"closed port", "203.0.113.1:9", nil, link.PortClosed},
		{"closed port of a neighbour", "10.0.0.3:9", nil, link.PortClosed},
		{"no neighbour", "10.0.0.77:9", nil, link.NoHost},
		{"nobody outside", "203.0.113.77:9", nil, link.NoHost},
		{"no route", "198.51.100.1:9", nil, link.NoHost},
		{"rejected", x1, func(h *home) { h.outside.Firewall(FirewallConfig{NoUDP: true, Rejects: true}) }, link.Rejected},
		{"dropped", x1, func(h *home) { h.outside.Firewall(FirewallConfig{NoUDP: true}) }, link.Silence},
		{"the NAT drops errors", "203.0.113.1:9", func(h *home) { h.SetConfig(func(c *NATConfig) { c.NoICMP = true }) }, link.Silence},
		{"errors get lost", "203.0.113.1:9", func(h *home) { h.remote[x1].ifs[0].SetLink(&Link{Loss: 1}) }, link.Silence},
		{"refused", x1, func(h *home) { h.a.SetRefuses(true) }, link.SendRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *World) {
				h := newHome(t, w, NATConfig{Ports: PortChoice{Order: Random}})
				if c.change != nil {
					c.change(h)
				}
				start := time.Now()
				if got := h.a.Diagnose(t.Context(), at(c.to)); got != c.want {
					t.Errorf("got %d, want %d; %v", got, c.want, w.Counters())
				}
				if took := time.Since(start); c.want == link.Silence && took != diagnoseFor || c.want != link.Silence && took > time.Second {
					t.Errorf("took %v", took)
				}
				if len(h.a.probes) != 0 {
					t.Error("its port is still taken")
				}
			})
		})
	}
}

func TestICMPKinds(t *testing.T) {
	for k, want := range map[ICMPKind]string{PortUnreachable: "port unreachable", HostUnreachable: "host unreachable",
		Prohibited: "prohibited", TooBig: "too big", 0: "unknown"} {
		if k.String() != want {
			t.Errorf("%d is %q", k, k)
		}
	}
	if TooBig.symptom() != link.Silence {
		t.Error("a packet that is too big looks like something else")
	}
}

// There are no errors about errors, nor about what went to many.
func TestNoErrorsAboutErrors(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		_, n := lan(t, w, Link{}, 2)
		w.mu.Lock()
		a := n[0].ifs[0]
		small := packet{from: netip.MustParseAddrPort("10.0.0.1:8737"), hops: 64, data: make([]byte, 2000)}
		for _, to := range []string{"10.0.0.2:8737", "[ff02::1]:8737", "255.255.255.255:8737"} {
			small.to = netip.MustParseAddrPort(to)
			a.transmit(small, small.to.Addr())
		}
		nobody := packet{from: small.from, to: netip.MustParseAddrPort("10.0.0.77:8737"), hops: 64, icmp: &ICMPError{Kind: TooBig}}
		a.transmit(nobody, nobody.to.Addr())
		w.mu.Unlock()
		n[1].want()
		if c := w.Counters(); c["icmp_errors"] != 1 || c["drop_too_big"] != 3 || c["drop_no_neighbour"] != 1 {
			t.Errorf("counters %v", c)
		}
	})
}

// A link-local gateway is no reason to send from a link-local address, which no router
// forwards.
func TestLinkLocalGateway(t *testing.T) {
	in(t, func(t *testing.T, w *World) {
		lan := w.Segment("lan", Link{})
		a, r := w.Host("a"), w.Router("r")
		a.Attach(lan, pfx("fe80::2/64"), pfx("2001:db8:1::2/64"))
		a.Gateway(ip("fe80::1"))
		r.Attach(lan, pfx("fe80::1/64"), pfx("2001:db8:1::1/64"))
		other := w.Segment("other", Link{})
		r.Attach(other, pfx("2001:db8:2::1/64"))
		if got := a.Diagnose(t.Context(), at("[2001:db8:2::9]:1")); got != link.NoHost {
			t.Errorf("got %d; %v", got, w.Counters())
		}
		b := w.Host("b")
		b.Attach(other, pfx("2001:db8:2::9/64"))
		b.Gateway(ip("2001:db8:2::1"))
		if got := a.Diagnose(t.Context(), at("[2001:db8:2::9]:1")); got != link.PortClosed {
			t.Errorf("got %d; %v", got, w.Counters())
		}
	})
}
