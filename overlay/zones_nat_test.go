package overlay

import (
	"fmt"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/overlay/vnet"
)

// natWorld is an internet with relays of a zone, and nodes at sites.
type natWorld struct {
	t      *testing.T
	net    *vnet.Internet
	relays []*testNode
	nodes  []*testNode
	file   *zone.File
}

func newNATWorld(t *testing.T, w *vnet.World, relays int) *natWorld {
	t.Helper()
	x := &natWorld{t: t, net: w.Internet(vnet.Link{Delay: 8 * time.Millisecond})}
	var entries []string
	for k := range relays {
		s := x.net.Public(fmt.Sprint("relay", k))
		n := newTestNode(t, s.Host, func(c *Config) {
			c.Identity, c.RelayZones = identityIn(t, testZone), []anode.Zone{testZone}
		}).start()
		x.relays = append(x.relays, n)
		var ips string
		state, err := s.Host.State()
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range state.Interfaces {
			for _, p := range i.Prefixes {
				if ips != "" {
					ips += ","
				}
				ips += p.Addr().String()
			}
		}
		entries = append(entries, fmt.Sprintf("%s:8737:0:%s", ips, n.address0()))
	}
	x.file = zoneFile(t, entries...)
	return x
}

// pair starts a node at each of two sites, which have added each other.
func (x *natWorld) pair(a, b vnet.Kind, relays uint32) (m, n *testNode, sites []*vnet.Site) {
	x.t.Helper()
	h, k, sites := x.net.Pair(a, b)
	m = newTestNode(x.t, h, func(c *Config) { c.Identity = identityAt(x.t, testZone, relays, 0) })
	n = newTestNode(x.t, k, func(c *Config) { c.Identity = identityAt(x.t, testZone, relays, relays-1) })
	adds(m, n)
	m.knows(testZone, x.file)
	n.knows(testZone, x.file)
	x.nodes = append(x.nodes, m, n)
	return m, n, sites
}

func (x *natWorld) stop() { stopAll(append(x.relays, x.nodes...)...) }

// Behind every kind of NAT two nodes reach each other by the relays of their zone, at
// once and both ways.
func TestZoneBehindNATs(t *testing.T) {
	for _, kind := range vnet.Kinds() {
		if kind == vnet.UDPBlocked {
			continue // nothing but TCP leaves
		}
		t.Run(string(kind), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newNATWorld(t, w, 2)
				a, b, _ := x.pair(kind, kind, 2)
				defer x.stop()
				settle(2 * time.Second)
				a.say(b, "to b")
				settle(300 * time.Millisecond)
				b.heard(a, "to b", 1)
				b.say(a, "to a")
				settle(300 * time.Millisecond)
				a.heard(b, "to a", 1)
			})
		})
	}
}

// A NAT that forgets everything, or has another address, interrupts what goes through a
// relay for less than three seconds.
func TestZoneNATReboots(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*vnet.Site)
	}{{"rebooted", (*vnet.Site).Reboot}, {"renumbered", (*vnet.Site).Renumber}} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newNATWorld(t, w, 2)
				a, b, sites := x.pair(vnet.SymmetricRandom, vnet.SymmetricRandom, 2)
				defer x.stop()
				settle(2 * time.Second)
				flow(a, b, 3*time.Second, "before", nil)
				toA, toB := flow(a, b, 8*time.Second, "after", func(k int) {
					if k == 5 {
						c.change(sites[0])
					}
				})
				t.Logf("nothing to a for %v, to b for %v", toA, toB)
				if toA > 3*time.Second || toB > 3*time.Second {
					t.Errorf("nothing to a for %v, to b for %v", toA, toB)
				}
			})
		})
	}
}

// Loss of 30 percent keeps nobody from registering, and from speaking.
func TestZoneWithLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newNATWorld(t, w, 2)
		a, b, sites := x.pair(vnet.SymmetricRandom, vnet.SymmetricRandom, 2)
		defer x.stop()
		for _, s := range sites {
			s.SetLink(vnet.Link{Delay: 8 * time.Millisecond, Loss: 0.3})
		}
		settle(10 * time.Second)
		got := len(b.dev.delivered())
		toA, toB := flow(a, b, 60*time.Second, "lossy", nil)
		got = len(b.dev.delivered()) - got
		t.Logf("%d of 1200 arrive; nothing to a for %v, to b for %v", got, toA, toB)
		if got < 400 {
			t.Errorf("%d of 1200 messages arrive with a loss of 30 %% at both ends", got)
		}
	})
}
