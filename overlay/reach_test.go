package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/vnet"
)

// outer is an internet with public relays, and nodes at sites that know all of them.
type outer struct {
	t      *testing.T
	net    *vnet.Internet
	relays []*testNode
	nodes  []*testNode
	sites  []*vnet.Site

	// of the first site's host, if it roams
	lan     *vnet.Interface
	lanAddr byte
}

// newOuter makes one with relays that run already; each way across takes twice half.
func newOuter(t *testing.T, w *vnet.World, relays int) *outer {
	x := &outer{t: t, net: w.Internet(vnet.Link{Delay: 8 * time.Millisecond})}
	for k := range relays {
		s := x.net.Public(fmt.Sprint("relay", k+1))
		x.relays = append(x.relays, newTestNode(t, s.Host, nil))
	}
	return x
}

// addrOf returns the public IPv4 or IPv6 endpoint of a relay.
func endpointOf(n *testNode, six bool) wire.Endpoint {
	st, _ := n.host.State()
	for _, i := range st.Interfaces {
		for _, p := range i.Prefixes {
			if p.Addr().Is6() == six && p.Addr().IsGlobalUnicast() {
				return wire.UDP(netip.AddrPortFrom(p.Addr(), 8737))
			}
		}
	}
	return wire.Endpoint{}
}

// site adds a node at a site of a kind.
func (x *outer) site(name string, k vnet.Kind) *testNode {
	s := x.net.Site(name, k)
	return x.add(s, s.Host)
}

// add adds a node on a host at a site.
func (x *outer) add(s *vnet.Site, h *vnet.Host) *testNode {
	n := newTestNode(x.t, h, func(c *Config) { c.Relay = false })
	x.nodes, x.sites = append(x.nodes, n), append(x.sites, s)
	for _, r := range x.relays {
		n.cfg.Peers = append(n.cfg.Peers, Peer{Address: r.address0(), Name: r.host.Name(), Endpoints: []wire.Endpoint{endpointOf(r, s.Kind == vnet.IPv6Firewall)}})
		r.cfg.Peers = append(r.cfg.Peers, Peer{Address: n.address0(), Name: h.Name()})
	}
	return n
}

// mobile adds a node at a site of a kind with a NAT, whose address on the LAN can change.
func (x *outer) mobile(w *vnet.World, name string, k vnet.Kind) *testNode {
	s := x.net.Site("router of "+name, k)
	h := w.Host(name)
	x.lanAddr = 100
	x.lan = h.Attach(s.LAN[0], netip.MustParsePrefix("192.168.1.99/24"))
	h.Gateway(netip.MustParseAddr("192.168.1.1"))
	return x.add(s, h)
}

// start starts all nodes; those at sites have added each other.
func (x *outer) start() {
	adds(x.nodes...)
	for _, n := range append(x.relays, x.nodes...) {
		n.start()
	}
}

func (x *outer) stop() {
	for _, n := range append(x.relays, x.nodes...) {
		n.stop()
	}
}

func (n *testNode) reach() ReachStatus {
	n.t.Helper()
	s, err := n.Reach(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// What a node tells of the NAT in front of it, with two relays and with one.
func TestReachMapping(t *testing.T) {
	for _, c := range []struct {
		kind          vnet.Kind
		two, one      path.MappingKind
		ports, ports1 path.PortKind
	}{
		{vnet.Open, path.None, path.None, path.PortsUnknown, path.PortsUnknown},
		{vnet.Home, path.Independent, path.Independent, path.Preserved, path.Preserved},
		{vnet.FullCone, path.Independent, path.Independent, path.Preserved, path.Preserved},
		{vnet.Masquerade, path.Independent, path.Independent, path.Preserved, path.Preserved},
		{vnet.SymmetricRandom, path.Dependent, path.Unknown, path.Random, path.Random},
		{vnet.SymmetricSequential, path.Dependent, path.Unknown, path.Sequential, path.Sequential},
		{vnet.Carrier, path.Independent, path.Unknown, path.Random, path.Random},
		{vnet.Double, path.Independent, path.Unknown, path.Random, path.Random},
		{vnet.UDPBlocked, path.Unknown, path.Unknown, path.PortsUnknown, path.PortsUnknown},
	} {
		for relays := 1; relays <= 2; relays++ {
			t.Run(fmt.Sprint(c.kind, ", relays ", relays), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					x := newOuter(t, w, relays)
					a := x.site("a", c.kind)
					x.start()
					defer x.stop()
					settle(2 * time.Second)
					kind, ports := c.two, c.ports
					if relays == 1 {
						kind, ports = c.one, c.ports1
					}
					s := a.reach()
					if s.Mapping != kind.String() || s.Ports != ports.String() {
						t.Errorf("mapping %s, ports %s; want %v, %v", s.Mapping, s.Ports, kind, ports)
					}
					if ports == path.Sequential && s.Step != 1 {
						t.Errorf("the step is %d", s.Step)
					}
					if c.kind != vnet.UDPBlocked && len(s.Seen) != relays {
						t.Errorf("seen: %+v", s.Seen)
					}
				})
			})
		}
	}
}

// until repeats a message until it arrives, and returns how long that took.
func (n *testNode) until(to *testNode, text string) time.Duration {
	const step, most = 20 * time.Millisecond, 20 * time.Second
	before := len(to.dev.delivered())
	for d := time.Duration(0); d < most; d += step {
		n.say(to, text)
		settle(step)
		for _, got := range to.dev.delivered()[before:] {
			if got.from == n.address0().ULA() {
				return d + step
			}
		}
	}
	return most
}

// traffic adds up what a site's host sends and receives, IP headers included.
func traffic(s *vnet.Segment) func() (bytes, packets int) {
	tap := record(s)
	return func() (bytes, packets int) {
		for _, p := range tap.all() {
			headers := 28
			if p.To.Addr().Is6() {
				headers = 48
			}
			bytes += len(p.Data) + headers
			packets++
		}
		return bytes, packets
	}
}

// Who has been idle behind a NAT or a firewall is reached at once through a relay, also where a
// mapping lives no longer than ten seconds; and being idle costs less than a megabyte a day.
func TestReachedAfterIdle(t *testing.T) {
	for _, kind := range []vnet.Kind{vnet.Home, vnet.Carrier, vnet.Double, vnet.SymmetricRandom, vnet.Masquerade, vnet.IPv6Firewall} {
		t.Run(string(kind), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newOuter(t, w, 1)
				a, b := x.site("a", kind), x.site("b", vnet.Open)
				x.start()
				defer x.stop()
				for _, idle := range []time.Duration{22 * time.Second, 3 * time.Minute, 10 * time.Minute, time.Hour} {
					settle(idle)
					if took := b.until(a, fmt.Sprint("after ", idle)); took > 2*time.Second {
						t.Errorf("after %v: reached in %v", idle, took)
					} else {
						t.Logf("after %v: reached in %v", idle, took)
					}
				}
				settle(5 * time.Minute)
				sum := traffic(x.sites[0].LAN[0])
				settle(6 * time.Hour)
				bytes, packets := sum()
				s := a.reach()
				t.Logf("%d bytes and %d packets a day; every %v s, lifetime %v s", 4*bytes, 4*packets, s.Keepalive, s.Lifetime)
				if 4*bytes > 1_000_000 {
					t.Errorf("%d bytes a day", 4*bytes)
				}
			})
		})
	}
}

// One relay tells the kind of a NAT by new sockets: also if the first of them got no answer, and
// again when the NAT has another address.
func TestReachMappingAfterLosses(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 1)
		a := x.site("a", vnet.Home)
		a.cfg.Network = &fewExtras{Host: a.host, lost: 2 * portTries}
		x.start()
		defer x.stop()
		kind := func(after time.Duration, want path.MappingKind) {
			t.Helper()
			settle(after)
			if s := a.reach(); s.Mapping != want.String() {
				t.Errorf("mapping %s, want %v", s.Mapping, want)
			}
		}
		kind(30*time.Second, path.Unknown)
		kind(6*time.Minute, path.Independent)
		x.sites[0].Renumber()
		kind(2*time.Minute, path.Independent)
	})
}

// fewExtras is a host whose first extra sockets hear nothing.
type fewExtras struct {
	*vnet.Host
	lost int
}

func (h *fewExtras) ListenExtra() (link.Conn, error) {
	c, err := h.Host.Listen(0)
	if h.lost--; err == nil && h.lost >= 0 {
		return silentConn{c}, nil
	}
	return c, err
}

// silentConn is a socket that hears nothing.
type silentConn struct{ link.Conn }

func (c silentConn) Read(ts []link.Train) (int, error) {
	for {
		if _, err := c.Conn.Read(ts); err != nil {
			return 0, err
		}
	}
}
