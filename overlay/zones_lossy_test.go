package overlay

import (
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/vnet"
)

// loses has a segment lose the packets of some types that a relay sends itself.
func loses(s *vnet.Segment, relay *testNode, types ...wire.Type) {
	s.Meddle(func(p vnet.Packet) []vnet.Packet {
		h, _, err := wire.Parse(p.Data)
		if err == nil && h.Hop == 0 && h.Sender.ID == relay.address0().ID() || err == nil && h.Sender.Address == relay.address0() {
			for _, t := range types {
				if h.Type == t {
					return nil
				}
			}
		}
		return []vnet.Packet{p}
	})
}

// asks has a node check a way to another one.
func (n *testNode) asks(to *testNode, at string) {
	n.t.Helper()
	err := n.call(n.t.Context(), func(l *loop) error {
		p := l.peers.get(to.address0())
		p.Offer(l.now, path.Way{Endpoint: link.Endpoint{Addr: ap(at)}}, path.Stored)
		l.touch(p)
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// The two ways in which a relay proves that it is there make up for each other: if all answers
// to the checks of the way to it are lost, those to the registration do, and the other way
// round as soon as one comes through.
func TestZoneRelayAnswersOneQuestionAlone(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		loses(x.west, x.relays[0], wire.EPC)
		a, b := x.node(x.west, testZone, 1, 0), x.node(x.east, testZone, 1, 0)
		adds(a, b)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(30 * time.Second) // the checks of the way have failed
		b.say(a, "without a check")
		settle(300 * time.Millisecond)
		a.heard(b, "without a check", 1)
		a.say(b, "back")
		settle(300 * time.Millisecond)
		b.heard(a, "back", 1)
		if toA, toB := flow(a, b, 60*time.Second, "flow", nil); toA > 200*time.Millisecond || toB > 200*time.Millisecond {
			t.Errorf("nothing to a for %v, to b for %v", toA, toB)
		}
	})
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		loses(x.west, x.relays[0], wire.Pong, wire.EPC)
		a := x.node(x.west, testZone, 1, 0)
		a.knows(testZone, x.file)
		defer stopAll(append(x.relays, a)...)
		settle(10 * time.Second)
		if r := a.zoneRelay(x.relays[0]); r.State != RelaySilent {
			t.Fatalf("a relay that never answered is %s", r.State)
		}
		settle(2 * time.Minute) // it is asked seldom now
		x.west.Meddle(nil)
		a.asks(x.relays[0], "198.51.100.1:8737") // for whatever reason
		settle(time.Second)
		if r := a.zoneRelay(x.relays[0]); r.State != RelayRegistered {
			t.Errorf("a relay that answers again is %s", r.State)
		}
	})
}

// The zone's relays were away, and are asked seldom. Who has something to send has them asked at
// once, and is heard as soon as they are back.
func TestZoneRelaysAreAskedOnDemand(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 2)
		a, b := x.node(x.west, testZone, 2, 0), x.node(x.east, testZone, 2, 0)
		adds(a, b)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(2 * time.Second)
		x.west.Meddle(func(vnet.Packet) []vnet.Packet { return nil })
		settle(12 * time.Minute)
		tap := record(x.west)
		settle(5 * time.Minute)
		if n := len(tap.all()); n > 40 {
			t.Errorf("%d packets in five minutes in which nobody wants anything", n)
		}
		x.west.Meddle(nil)
		a.say(b, "are you there?")
		settle(time.Second)
		b.heard(a, "are you there?", 1)
	})
}
