package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/overlay/vnet"
)

// zoneWorld is relays on a public segment, and two sides whose hosts reach the relays and
// not each other.
type zoneWorld struct {
	t          *testing.T
	w          *vnet.World
	public     *vnet.Segment
	west, east *vnet.Segment
	relays     []*testNode
	file       *zone.File
	zone       anode.Zone
	hosts      int
}

const testZone = anode.Zone(0x00c0ffee)

// newZoneWorld makes one with a number of relays, which have started and serve a zone.
func newZoneWorld(t *testing.T, w *vnet.World, z anode.Zone, relays int) *zoneWorld {
	t.Helper()
	x := &zoneWorld{t: t, w: w, zone: z}
	x.public = w.Segment("public", vnet.Link{Delay: 8 * time.Millisecond})
	x.west, x.east = w.Segment("west", vnet.Link{}), w.Segment("east", vnet.Link{})
	for k, side := range []*vnet.Segment{x.west, x.east} {
		r := w.Router(fmt.Sprint("router", k))
		r.Attach(side, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.254/24", k+1)))
		r.Attach(x.public, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", 250+k)))
	}
	x.file = x.serve(z, relays)
	return x
}

// serve starts relays of a zone, and returns its file.
func (x *zoneWorld) serve(z anode.Zone, count int) *zone.File {
	var entries []string
	for range count {
		k := len(x.relays)
		n := newTestNode(x.t, x.w.Host(fmt.Sprint("relay", k)), func(c *Config) {
			c.Identity, c.RelayZones = identityIn(x.t, z), []anode.Zone{z}
		})
		n.host.Attach(x.public, netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", k+1)))
		n.host.Route(netip.MustParsePrefix("10.1.0.0/24"), netip.MustParseAddr("198.51.100.250"))
		n.host.Route(netip.MustParsePrefix("10.2.0.0/24"), netip.MustParseAddr("198.51.100.251"))
		x.relays = append(x.relays, n.start())
		entries = append(entries, fmt.Sprintf("198.51.100.%d:8737:0:%s", k+1, n.address0()))
	}
	return zoneFile(x.t, entries...)
}

func identityIn(t testing.TB, z anode.Zone) *anode.Identity {
	t.Helper()
	id, err := anode.NewIdentity(z)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// identityAt is one that a relay of so many serves.
func identityAt(t testing.TB, z anode.Zone, relays, index uint32) *anode.Identity {
	t.Helper()
	for {
		if id := identityIn(t, z); id.Address().Sum()%relays == index {
			return id
		}
	}
}

// node makes a node on a side whose own relay is that with an index.
func (x *zoneWorld) node(side *vnet.Segment, z anode.Zone, relays, index uint32) *testNode {
	x.t.Helper()
	x.hosts++
	n := newTestNode(x.t, x.w.Host(fmt.Sprint("node", x.hosts)), func(c *Config) { c.Identity = identityAt(x.t, z, relays, index) })
	net := 1
	if side == x.east {
		net = 2
	}
	n.host.Attach(side, netip.MustParsePrefix(fmt.Sprintf("10.%d.0.%d/24", net, x.hosts)))
	n.host.Gateway(netip.MustParseAddr(fmt.Sprintf("10.%d.0.254", net)))
	return n
}

// knows starts a node and gives it a zone's file.
func (n *testNode) knows(z anode.Zone, f *zone.File) *testNode {
	n.t.Helper()
	if n.Node == nil {
		n.start()
	}
	if err := n.SetZone(n.t.Context(), z, f); err != nil {
		n.t.Fatal(err)
	}
	return n
}

// zoneRelay returns a node's view of a relay of a zone.
func (n *testNode) zoneRelay(of *testNode) ZoneRelayStatus {
	n.t.Helper()
	for _, z := range n.status().Zones {
		for _, r := range z.Relays {
			if r.Address == of.address0() {
				return r
			}
		}
	}
	return ZoneRelayStatus{}
}

func stopAll(ns ...*testNode) {
	for _, n := range ns {
		n.stop()
	}
}
