package overlay

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/vnet"
)

// shows waits until a node's status says of a relay what it should, and returns how long that
// took. Somebody looks once a second.
func (n *testNode) shows(relay *testNode, want RelayState, within time.Duration) time.Duration {
	n.t.Helper()
	start := time.Now()
	for n.zoneRelay(relay).State != want {
		if time.Since(start) > within {
			n.t.Fatalf("%s: after %v the relay is %s, want %s", n.host.Name(), within, n.zoneRelay(relay).State, want)
		}
		settle(time.Second)
	}
	return time.Since(start)
}

// A zone's only relay stops while nobody speaks: who looks at the status sees it within
// seconds, and also when it is back, however long it was away.
func TestOnlyRelayStops(t *testing.T) {
	for _, away := range []time.Duration{time.Minute, 2 * time.Hour} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newZoneWorld(t, w, testZone, 1)
			a := x.node(x.west, testZone, 1, 0).knows(testZone, x.file)
			relay := x.relays[0]
			defer stopAll(append(x.relays, a)...)
			settle(100 * time.Second)
			if r := a.zoneRelay(relay); r.State != RelayRegistered || r.LastHeard == nil {
				t.Fatalf("before: %+v", r)
			}
			stopped := a.clock.Now()
			relay.host.SetAsleep(true)
			settle(10 * time.Second)
			a.shows(relay, RelaySilent, 5*time.Second)
			if r := a.zoneRelay(relay); r.LastHeard == nil || r.LastHeard.After(stopped) {
				t.Errorf("a relay that stopped at %v was last heard at %v", stopped, r.LastHeard)
			}
			settle(away)
			relay.host.SetAsleep(false)
			a.shows(relay, RelayRegistered, 5*time.Second)
		})
	}
}

// Nobody looks, and nothing is sent: the node asks no more often than before.
func TestLooksAskSeldom(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a := x.node(x.west, testZone, 1, 0).knows(testZone, x.file)
		defer stopAll(append(x.relays, a)...)
		settle(100 * time.Second)
		tap := record(x.west)
		for range 1000 {
			a.status()
			settle(10 * time.Millisecond)
		}
		if n := len(tap.all()); n < 4 || n > 30 {
			t.Errorf("1000 looks in 10 s made %d packets", n)
		}
	})
}

// The zone's only relay dies under data: a peer that both ends added and that relays takes
// over within three seconds, both ways.
func TestFriendBridgesDeadRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a, b := x.node(x.west, testZone, 1, 0), x.node(x.east, testZone, 1, 0)
		friend := newTestNode(t, w.Host("friend"), nil)
		friend.host.Attach(x.public, netip.MustParsePrefix("198.51.100.77/24"))
		friend.host.Route(netip.MustParsePrefix("10.1.0.0/24"), netip.MustParseAddr("198.51.100.250"))
		friend.host.Route(netip.MustParsePrefix("10.2.0.0/24"), netip.MustParseAddr("198.51.100.251"))
		adds(a, b, friend)
		for _, n := range []*testNode{a, b} {
			for k := range n.cfg.Peers {
				if n.cfg.Peers[k].Address == friend.address0() {
					n.cfg.Peers[k].Endpoints = []wire.Endpoint{wire.UDP(netip.MustParseAddrPort("198.51.100.77:8737"))}
				}
			}
		}
		friend.start()
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b, friend)...)
		settle(2 * time.Second)
		if toA, toB := flow(a, b, 3*time.Second, "before", nil); toA > 300*time.Millisecond || toB > 300*time.Millisecond {
			t.Errorf("nothing to a for %v, to b for %v", toA, toB)
		}
		t.Log(a.peer(b).Path)
		toA, toB := flow(a, b, 8*time.Second, "dying", func(k int) {
			if k == 10 {
				x.relays[0].host.SetAsleep(true)
			}
		})
		t.Logf("the relay died: nothing to a for %v, to b for %v; now %+v", toA, toB, a.peer(b).Path)
		if toA > 3*time.Second || toB > 3*time.Second {
			t.Errorf("the relay died: nothing to a for %v, to b for %v", toA, toB)
		}
	})
}
