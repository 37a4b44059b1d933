package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/anode/zone"
	"anodenet/overlay/vnet"
)

// zoneFile makes the file of a zone out of its zr entries.
func zoneFile(t testing.TB, relays ...string) *zone.File {
	t.Helper()
	b := []byte("n=test\nd=test\nc=a@example.net\nr=1\nttl=60\n")
	for i, r := range relays {
		b = fmt.Appendf(b, "zr.%x=%s\n", i, r)
	}
	f, err := zone.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The node asks for the file of its own zone and those of its peers, and not for one that
// it has.
func TestZonesAreWanted(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		var wanted []anode.Zone
		a := newTestNode(t, w.Host("a"), func(c *Config) {
			c.Identity, _ = anode.NewIdentity(7)
			c.WantZone = func(z anode.Zone) { wanted = append(wanted, z) }
		})
		other, _ := anode.NewIdentity(8)
		local, _ := anode.NewIdentity(0)
		a.cfg.Peers = []Peer{{Address: other.Address(), Name: "other"}, {Address: local.Address(), Name: "local"}}
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		settle(time.Second)
		if got := fmt.Sprint(wanted); got != "[00000007 00000008]" {
			t.Errorf("wanted at the start: %s", got)
		}
		if err := a.SetZone(t.Context(), 8, zoneFile(t, "192.0.2.1:1:1:x")); err != nil {
			t.Fatal(err)
		}
		settle(2 * wantEvery)
		more, _ := anode.NewIdentity(8)
		if _, err := a.AddPeer(t.Context(), Peer{Address: more.Address(), Name: "more"}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if len(wanted) != 2 {
			t.Errorf("wanted at last: %v", wanted)
		}
		s := a.status()
		if len(s.Zones) != 1 || s.Zones[0].Zone != 8 || s.Zones[0].Own || s.Zones[0].Total != 1 {
			t.Errorf("zones: %+v", s.Zones)
		}
	})
}

// For a peer that nobody here wants to reach no zone file is fetched: whoever comes could choose
// from where.
func TestZonesOfStrangersAreNotWanted(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		var wanted []anode.Zone
		a := newTestNode(t, w.Host("a"), func(c *Config) { c.WantZone = func(z anode.Zone) { wanted = append(wanted, z) } })
		b := newTestNode(t, w.Host("b"), func(c *Config) { c.Identity = identityIn(t, 9) })
		b.cfg.Peers = []Peer{{Address: a.address0(), Name: "a"}}
		lan(w, "lan", 0, a.host, b.host)
		a.start()
		defer a.stop()
		b.start()
		settle(time.Second)
		if _, err := b.ping(a, time.Second); err != nil {
			t.Fatal(err)
		}
		b.stop()
		a.call(t.Context(), func(l *loop) error { // as when it leaves a HELLO of ours unanswered
			l.shell.Seek(l.peers.get(b.address0()))
			return nil
		})
		if len(wanted) != 0 {
			t.Errorf("a stranger has the files of the zones %v fetched", wanted)
		}
		for range 10 {
			a.say(b, "where are you?")
			settle(time.Second)
		}
		if fmt.Sprint(wanted) != "[00000009]" {
			t.Errorf("the zone of a peer that somebody here looks for: wanted %v", wanted)
		}
	})
}

// Zone 0 has no relays, and too many zones are refused.
func TestZonesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a := newTestNode(t, w.Host("a"), nil)
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		f := zoneFile(t)
		if err := a.SetZone(t.Context(), 0, f); !errors.Is(err, ErrZones) {
			t.Errorf("zone 0: %v", err)
		}
		for z := range anode.Zone(MaxZones) {
			if err := a.SetZone(t.Context(), z+1, f); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.SetZone(t.Context(), MaxZones+1, f); !errors.Is(err, ErrZones) {
			t.Errorf("one zone too many: %v", err)
		}
		if err := a.SetZone(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		if err := a.SetZone(t.Context(), MaxZones+1, f); err != nil {
			t.Errorf("after one was forgotten: %v", err)
		}
		if err := a.SetRelayZones(t.Context(), make([]anode.Zone, 1)); !errors.Is(err, ErrZones) {
			t.Errorf("relaying for zone 0: %v", err)
		}
		if err := a.SetRelayZones(t.Context(), []anode.Zone{4, 5}); err != nil {
			t.Error(err)
		}
		if got := a.status().Relaying.Zones; len(got) != 2 {
			t.Errorf("relaying for %v", got)
		}
	})
}

// Two nodes that cannot reach each other speak through the zone's relay, with nothing
// configured except the zone file and each other's address.
func TestZoneRelay(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a, b := x.node(x.west, testZone, 1, 0), x.node(x.east, testZone, 1, 0)
		adds(a, b)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(time.Second)
		for _, n := range []*testNode{a, b} {
			if r := n.zoneRelay(x.relays[0]); r.State != RelayRegistered || !r.Own || r.Endpoint != "udp:198.51.100.1:8737" || r.RTT < 15 {
				t.Errorf("%s and its relay: %+v", n.host.Name(), r)
			}
		}
		r := x.relays[0].status()
		if r.Relaying.Clients != 2 || len(r.Peers) != 0 {
			t.Errorf("the relay has %d clients and peers %+v", r.Relaying.Clients, r.Peers)
		}
		a.say(b, "over")
		settle(200 * time.Millisecond)
		b.heard(a, "over", 1)
		b.say(a, "back")
		settle(200 * time.Millisecond)
		a.heard(b, "back", 1)
		if p := a.peer(b); p.Path.Kind != PathRelay || *p.Path.Via != x.relays[0].address0() || p.State != StateUp {
			t.Errorf("a's view of b: %+v", p)
		}
		if s := a.status(); len(s.Peers) != 1 {
			t.Errorf("a's peers: %+v", s.Peers)
		}
		if got := x.relays[0].status().Relaying; got.Packets == 0 || got.Bytes == 0 {
			t.Errorf("relayed: %+v", got)
		}
	})
}

// The first packet between registered nodes takes no longer than two round trips and the
// packet itself.
func TestZoneFirstPacket(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 2)
		a, b := x.node(x.west, testZone, 2, 0), x.node(x.east, testZone, 2, 1)
		adds(a, b)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(time.Second)
		const trip = 2 * 16 * time.Millisecond // by the relay
		a.say(b, "first")
		start := time.Now()
		for len(b.dev.delivered()) == 0 && time.Since(start) < 2*time.Second {
			settle(time.Millisecond)
		}
		// To the relay of b, that a does not know yet, a round trip more.
		t.Logf("the first packet took %v", time.Since(start))
		if d := time.Since(start); d > 3*trip+trip/2 {
			t.Errorf("the first packet took %v, and a round trip takes %v", d, trip)
		}
		b.heard(a, "first", 1)
	})
}

// A relay dies under data: both ends go to the next one within three seconds, and are
// registered with the first one again when it is back.
func TestZoneRelayDies(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 3)
		a, b := x.node(x.west, testZone, 3, 1), x.node(x.east, testZone, 3, 1)
		adds(a, b)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		first, second := x.relays[1], x.relays[2]
		defer stopAll(append(x.relays, a, b)...)
		settle(time.Second)
		if toA, toB := flow(a, b, 3*time.Second, "before", nil); toA > 300*time.Millisecond || toB > 300*time.Millisecond {
			t.Errorf("nothing to a for %v, to b for %v", toA, toB)
		}
		toA, toB := flow(a, b, 6*time.Second, "dying", func(k int) {
			if k == 10 {
				first.host.SetAsleep(true)
			}
		})
		t.Logf("the relay died: nothing to a for %v, to b for %v", toA, toB)
		if toA > 3*time.Second || toB > 3*time.Second {
			t.Errorf("the relay died: nothing to a for %v, to b for %v", toA, toB)
		}
		for _, n := range []*testNode{a, b} {
			if r := n.zoneRelay(second); r.State != RelayRegistered || !r.Own {
				t.Errorf("%s and the second relay: %+v", n.host.Name(), r)
			}
			if r := n.zoneRelay(first); r.State != RelaySilent || r.Own {
				t.Errorf("%s and the first relay: %+v", n.host.Name(), r)
			}
		}
		first.host.SetAsleep(false)
		toA, toB = flow(a, b, 30*time.Second, "back", nil)
		if toA > 300*time.Millisecond || toB > 300*time.Millisecond {
			t.Errorf("the relay came back: nothing to a for %v, to b for %v", toA, toB)
		}
		for _, n := range []*testNode{a, b} {
			if r := n.zoneRelay(first); r.State != RelayRegistered || !r.Own {
				t.Errorf("%s and the first relay when it is back: %+v", n.host.Name(), r)
			}
		}
	})
}

// Who starts while a relay is down finds a peer at the next one.
func TestZoneRelayIsDownFromTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 2)
		x.relays[0].host.SetAsleep(true)
		a, b := x.node(x.west, testZone, 2, 0), x.node(x.east, testZone, 2, 0)
		adds(a, b)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(5 * time.Second)
		a.knows(testZone, x.file)
		settle(100 * time.Millisecond)
		a.say(b, "early")
		settle(3 * time.Second)
		b.heard(a, "early", 1)
	})
}

// A ULA that was never seen is found within the zone, and the peer behind it is a stranger.
func TestZoneWhois(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 2)
		a, b := x.node(x.west, testZone, 2, 0), x.node(x.east, testZone, 2, 1)
		a.knows(testZone, x.file)
		b.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b)...)
		settle(time.Second)
		a.say(b, "hello stranger")
		settle(500 * time.Millisecond)
		b.heard(a, "hello stranger", 1)
		if d := b.dev.delivered(); len(d) != 1 || d[0].trusted {
			t.Errorf("b got %+v", d)
		}
		if p := a.peer(b); p.Allowed || p.State != StateUp {
			t.Errorf("b is a stranger to a: %+v", p)
		}
		if _, err := a.ping(b, time.Second); err != nil {
			t.Errorf("ping: %v", err)
		}
		id, err := a.ResolveID(t.Context(), x.relays[0].address0().ID())
		if err != nil || id != x.relays[0].address0() {
			t.Errorf("a relay by its short ID: %v, %v", id, err)
		}
	})
}

// Nobody has a ULA: the relay says so, and programs get an answer in the end.
func TestZoneWhoisNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a := x.node(x.west, testZone, 1, 0).knows(testZone, x.file)
		defer stopAll(append(x.relays, a)...)
		settle(time.Second)
		nobody := identityIn(t, testZone).Address()
		for range 20 {
			a.sayTo(nobody.ULA(), "anybody?")
		}
		public := record(x.public)
		settle(6 * time.Second)
		if got := a.dev.answers(); len(got) != 20 || got[0].what != "no route" {
			t.Errorf("answers: %v", got)
		}
		if n := public.from("10.1.0.1"); n > 8 {
			t.Errorf("%d packets to the relay for one address that nobody has", n)
		}
		public.reset()
		a.sayTo(nobody.ULA(), "and now?")
		settle(time.Second)
		if got := a.dev.answers(); len(got) != 21 || public.from("10.1.0.1") > 1 {
			t.Errorf("asked again at once: %d answers, %d packets", len(got), public.from("10.1.0.1"))
		}
	})
}

// The relay's own adapter finds the clients that are registered with it.
func TestZoneRelaySpeaks(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a := x.node(x.west, testZone, 1, 0).knows(testZone, x.file)
		r := x.relays[0].knows(testZone, x.file)
		defer stopAll(r, a)
		settle(time.Second)
		r.say(a, "from the relay")
		settle(500 * time.Millisecond)
		a.heard(r, "from the relay", 1)
		a.say(r, "to the relay")
		settle(500 * time.Millisecond)
		r.heard(a, "to the relay", 1)
		if p := a.status().Peers; len(p) != 0 {
			t.Errorf("the relay is among a's peers: %+v", p)
		}
		settle(time.Minute)
		if got := r.status().Relaying.Clients; got != 1 {
			t.Errorf("%d clients", got)
		}
	})
}

// Nodes of two zones speak by the relay of the one that is spoken to. Its relay has the
// other one as a guest.
func TestTwoZones(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		const other = anode.Zone(0x0badcafe)
		x := newZoneWorld(t, w, testZone, 1)
		second := x.serve(other, 1)
		a, b := x.node(x.west, testZone, 1, 0), x.node(x.east, other, 1, 0)
		c := x.node(x.east, 0, 1, 0)
		adds(a, b, c)
		for _, n := range []*testNode{a, b} {
			n.knows(testZone, x.file).knows(other, second)
		}
		c.knows(testZone, x.file)
		defer stopAll(append(x.relays, a, b, c)...)
		settle(time.Second)
		a.say(b, "across")
		settle(500 * time.Millisecond)
		b.heard(a, "across", 1)
		b.say(a, "back")
		settle(500 * time.Millisecond)
		a.heard(b, "back", 1)
		c.say(a, "from zone 0")
		settle(500 * time.Millisecond)
		a.heard(c, "from zone 0", 1)
		if s := a.status().Zones; len(s) != 2 || !s[0].Own || s[0].Zone != testZone {
			t.Errorf("zones of a: %+v", s)
		}
	})
}

// Two guests do not get to use a relay between themselves.
func TestGuestsAreNotServed(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		const other = anode.Zone(0x0badcafe)
		x := newZoneWorld(t, w, testZone, 1)
		a, b := x.node(x.west, other, 1, 0), x.node(x.east, other, 1, 0)
		adds(a, b)
		for _, n := range []*testNode{a, b} {
			n.knows(other, x.file) // it names a relay that does not serve that zone
		}
		defer stopAll(append(x.relays, a, b)...)
		settle(time.Second)
		a.say(b, "free ride")
		settle(10 * time.Second)
		b.heard(a, "free ride", 0)
		r := x.relays[0]
		if r.status().Relaying.Clients != 2 || r.counter("drop_relay_refused") == 0 || r.counter("relayed_packets") != 0 {
			t.Errorf("the relay: %+v, %v", r.status().Relaying, r.status().Counters)
		}
	})
}

// A relay that the zone file has at another address from now on is found there, and one
// that it does not name any more is not used.
func TestZoneFileChanges(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 2)
		a := x.node(x.west, testZone, 2, 0)
		moved, gone := x.relays[0], x.relays[1]
		stale := zoneFile(t, fmt.Sprint("198.51.100.77:8737:0:", moved.address0()), fmt.Sprint("198.51.100.2:8737:0:", gone.address0()))
		a.knows(testZone, stale)
		defer stopAll(append(x.relays, a)...)
		settle(5 * time.Second)
		if r := a.zoneRelay(moved); r.State != RelaySilent {
			t.Errorf("a relay where nobody is: %+v", r)
		}
		if r := a.zoneRelay(gone); r.State != RelayRegistered || !r.Own {
			t.Errorf("the other relay: %+v", r)
		}
		a.knows(testZone, zoneFile(t, fmt.Sprint("198.51.100.1:8737:0:", moved.address0())))
		settle(30 * time.Second)
		if r := a.zoneRelay(moved); r.State != RelayRegistered || !r.Own || r.Endpoint != "udp:198.51.100.1:8737" {
			t.Errorf("the relay at its new address: %+v", r)
		}
		if s := a.status().Zones; len(s) != 1 || len(s[0].Relays) != 1 || s[0].Total != 1 {
			t.Errorf("zones: %+v", s)
		}
		a.knows(testZone, nil)
		settle(time.Second)
		if s := a.status().Zones; len(s) != 0 {
			t.Errorf("zones after the last one was forgotten: %+v", s)
		}
	})
}

// The relays of a zone are registered with each other, each with the one that serves its
// address, and stay so.
func TestZoneRelaysAmongThemselves(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 3)
		for _, r := range x.relays {
			r.knows(testZone, x.file)
		}
		a := x.node(x.west, testZone, 3, 0).knows(testZone, x.file)
		defer stopAll(append(x.relays, a)...)
		settle(time.Second)
		for minute := range 20 {
			settle(time.Minute)
			for k, r := range x.relays {
				for _, z := range r.status().Zones {
					for _, other := range z.Relays {
						if other.State != RelayRegistered {
							t.Fatalf("after %d minutes relay %d and its relay: %+v", minute, k, other)
						}
					}
				}
			}
		}
		want := 0
		for _, r := range x.relays {
			for _, z := range r.status().Zones {
				want += len(z.Relays)
			}
		}
		got := 0
		for _, r := range x.relays {
			got += r.status().Relaying.Clients
		}
		if want += len(a.status().Zones[0].Relays); got < want {
			t.Errorf("the relays have %d clients, want %d", got, want)
		}
	})
}

// A relay that answers in the name of other endpoints, again and again, has nothing sent there,
// however many peers are spoken with through it.
func TestZoneRelayNamesOthers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		a := x.node(x.west, testZone, 1, 0)
		nodes := []*testNode{a}
		for range 5 {
			b := x.node(x.east, testZone, 1, 0)
			adds(a, b)
			nodes = append(nodes, b.knows(testZone, x.file))
		}
		a.knows(testZone, x.file)
		defer stopAll(append(x.relays, nodes...)...)
		settle(time.Second)
		for _, b := range nodes[1:] {
			a.say(b, "hello")
		}
		settle(time.Second)
		eve := newSpoofer(t, w, x.west, "10.1.0.200/24")
		relay, tap := x.relays[0], record(x.west)
		for k := range 100 {
			var nonce []byte
			a.call(t.Context(), func(l *loop) error {
				nonce = bytes.Clone(l.zones.relays[relay.address0()].nonce[:])
				return nil
			})
			victim := netip.AddrPortFrom(netip.MustParseAddr("198.51.100.66"), uint16(1000+k))
			eve.send(victim, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.1"), 8737), signedPacket(t, relay, a, relay.peerID(), wire.Pong, nonce))
			settle(200 * time.Millisecond)
		}
		sent := 0
		for _, p := range tap.all() {
			if p.To.Addr() == netip.MustParseAddr("198.51.100.66") {
				sent++
			}
		}
		if sent != 0 {
			t.Errorf("%d packets went where 100 PONGs seemed to come from", sent)
		}
		if r := a.zoneRelay(relay); r.State != RelayRegistered {
			t.Errorf("the relay: %+v", r)
		}
	})
}

// The file of a peer's zone does not have packets sent into networks behind our own firewall; that
// of our own zone does.
func TestZoneRelayOnPrivateAddress(t *testing.T) {
	for _, own := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *vnet.World) {
			x := newZoneWorld(t, w, testZone, 0)
			z := testZone
			if !own {
				z++
			}
			a := x.node(x.west, z, 1, 0).knows(testZone, zoneFile(t, fmt.Sprintf("10.2.0.9:53:0:%s", identityIn(t, testZone).Address())))
			defer a.stop()
			tap := record(x.west)
			if _, err := a.AddPeer(t.Context(), Peer{Address: identityIn(t, testZone).Address(), Name: "b"}); err != nil {
				t.Fatal(err)
			}
			settle(5 * time.Second)
			sent := 0
			for _, p := range tap.all() {
				if p.To.Addr() == netip.MustParseAddr("10.2.0.9") {
					sent++
				}
			}
			if (sent > 0) != own {
				t.Errorf("own zone %v: %d packets", own, sent)
			}
		})
	}
}
