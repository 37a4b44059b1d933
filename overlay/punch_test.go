package overlay

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// sited is two nodes at sites of some kinds, and a relay that both added.
type sited struct {
	a, b, r *testNode
	sites   []*vnet.Site
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
	x := &sited{a: newTestNode(t, ha, change), b: newTestNode(t, hb, change), r: newTestNode(t, r.Host, change), sites: sites}
	adds(x.a, x.b, x.r)
	at := netip.AddrPortFrom(addr4(t, r.Host), link.Port)
	for _, n := range []*testNode{x.a, x.b} {
		for k, p := range n.cfg.Peers {
			if p.Address == x.r.address0() {
				n.cfg.Peers[k].Endpoints = []wire.Endpoint{wire.UDP(at)}
			}
		}
	}
	return x
}

// addr4 is a host's first IPv4 address.
func addr4(t *testing.T, h *vnet.Host) netip.Addr {
	t.Helper()
	known, _ := h.State()
	for _, i := range known.Interfaces {
		for _, p := range i.Prefixes {
			if p.Addr().Is4() {
				return p.Addr()
			}
		}
	}
	t.Fatalf("%s has no IPv4 address", h.Name())
	return netip.Addr{}
}

func (x *sited) stop() {
	for _, n := range []*testNode{x.a, x.b, x.r} {
		n.stop()
	}
}
