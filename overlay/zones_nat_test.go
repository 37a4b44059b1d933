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
		if toA > 8*time.Second || toB > 8*time.Second {
			t.Errorf("nothing to a for %v, to b for %v", toA, toB)
		}
	})
}

// The relays of the zone are enough for two nodes to find a direct way, where there is one,
// within half a second of the first packet.
func TestZoneThenDirect(t *testing.T) {
	for _, kind := range vnet.Kinds() {
		direct := kind != vnet.UDPBlocked && kind != vnet.SymmetricRandom && kind != vnet.Twins
		if kind == vnet.UDPBlocked {
			continue
		}
		t.Run(string(kind), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newNATWorld(t, w, 2)
				a, b, _ := x.pair(kind, kind, 2)
				defer x.stop()
				settle(3 * time.Second)
				var first, found time.Duration
				for k := range 100 {
					if k%10 == 0 {
						a.say(b, "more")
					}
					settle(10 * time.Millisecond)
					if d := time.Duration(k+1) * 10 * time.Millisecond; first == 0 && len(b.dev.delivered()) > 0 {
						first = d
					} else if kind := a.peer(b).Path.Kind; found == 0 && (kind == PathDirect || kind == PathLAN) {
						found = d
					}
				}
				t.Logf("the first packet took %v, a direct way %v", first, found)
				if first == 0 || first > 150*time.Millisecond {
					t.Errorf("the first packet took %v", first)
				}
				if direct && (found == 0 || found > 500*time.Millisecond) {
					t.Errorf("a direct way took %v", found)
				}
			})
		})
	}
}

// A node that is idle behind a carrier's NAT, which forgets after ten seconds, can be
// reached at any time, and that costs less than a megabyte a day.
func TestZoneIdle(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newNATWorld(t, w, 2)
		a, b, sites := x.pair(vnet.Carrier, vnet.Home, 2)
		defer x.stop()
		settle(20 * time.Minute) // how long the NAT remembers is measured meanwhile
		tape := record(sites[0].Access)
		settle(time.Hour)
		bytes := 0
		for _, p := range tape.all() {
			bytes += len(p.Data) + 28
		}
		t.Logf("%d packets and %d bytes in an hour", len(tape.all()), bytes)
		if bytes > 1_000_000/24 {
			t.Errorf("%d bytes in an hour: more than a megabyte a day", bytes)
		}
		for k := range 10 {
			settle(7 * time.Minute)
			text := fmt.Sprint("ring ", k)
			b.say(a, text)
			settle(400 * time.Millisecond)
			a.heard(b, text, 1)
		}
	})
}

// A relay that starts anew knows nobody. Under data nobody waits for it longer than three
// seconds.
func TestZoneRelayRestarts(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newNATWorld(t, w, 1)
		a, b, _ := x.pair(vnet.SymmetricRandom, vnet.SymmetricRandom, 1)
		defer x.stop()
		settle(2 * time.Second)
		flow(a, b, 2*time.Second, "before", nil)
		toA, toB := flow(a, b, 6*time.Second, "after", func(k int) {
			if k == 5 {
				x.relays[0].stop()
				x.relays[0].start()
			}
		})
		t.Logf("nothing to a for %v, to b for %v", toA, toB)
		if toA > 3*time.Second || toB > 3*time.Second {
			t.Errorf("nothing to a for %v, to b for %v", toA, toB)
		}
	})
}

// Members of a zone that speak at once after their start, before they know how others see them,
// open a direct way as soon as they do.
func TestZoneDirectAtOnce(t *testing.T) {
	for _, relays := range []uint32{1, 2} {
		for _, wait := range []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond} {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newNATWorld(t, w, int(relays))
				a, b, _ := x.pair(vnet.Home, vnet.Home, relays)
				defer x.stop()
				settle(wait)
				began := time.Now()
				for k := 0; a.peer(b).Path.Kind != PathDirect && k < 300; k++ {
					if k%10 == 0 {
						a.say(b, "something")
					}
					settle(10 * time.Millisecond)
				}
				if d := time.Since(began); d > 400*time.Millisecond {
					t.Errorf("%d relays, %v after the start: direct after %v", relays, wait, d)
				}
			})
		}
	}
}
