package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/alias"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// A packet to 31 members, of which 8 are behind a relay, is read once and sealed 31 times; the relay gets
// what is for its members, and nothing more than once.
func TestLANOf32(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		const near, far, rounds = 23, 8, 50
		r := newTestNode(t, w.Host("r"), nil)
		a := newTestNode(t, w.Host("a"), nil)
		west, east := []*vnet.Host{a.host, r.host}, []*vnet.Host{r.host}
		var members []*testNode
		for k := range near + far {
			n := newTestNode(t, w.Host(fmt.Sprint("m", k)), nil)
			n.cfg.Relay = false
			n.cfg.Peers = []Peer{{Address: a.address0(), LAN: true}, {Address: r.address0()}}
			a.cfg.Peers = append(a.cfg.Peers, Peer{Address: n.address0(), LAN: true})
			r.cfg.Peers = append(r.cfg.Peers, Peer{Address: n.address0()})
			members = append(members, n)
			if k < near {
				west = append(west, n.host)
			} else {
				east = append(east, n.host)
			}
		}
		a.cfg.Peers, r.cfg.Peers = append(a.cfg.Peers, Peer{Address: r.address0()}), append(r.cfg.Peers, Peer{Address: a.address0()})
		s := lan(w, "west", 1, west...)
		lan(w, "east", 2, east...)
		all := append([]*testNode{a, r}, members...)
		startAll(all...)
		defer stopAll(all...)
		settle(10 * time.Second)
		if got := a.status().LAN; got.Members != near+far {
			t.Fatalf("%d members", got.Members)
		}
		if s := a.peer(members[near]); s.Path.Kind != PathRelay {
			t.Fatalf("%+v", s.Path)
		}
		tap := record(s)
		relay := netip.MustParseAddr("10.1.0.2")
		before := a.counter("tx_packets")
		for k := range rounds {
			a.shouts(broadcast, fmt.Sprint("round ", k, "."))
			settle(time.Millisecond)
		}
		settle(10 * time.Millisecond)
		got := a.status().Counters
		if got["lan_tx_packets"] != rounds || got["lan_tx_copies"] != rounds*(near+far) {
			t.Errorf("%d packets became %d", got["lan_tx_packets"], got["lan_tx_copies"])
		}
		if sent := got["tx_packets"] - before; sent < rounds*(near+far) || sent > rounds*(near+far)*105/100 {
			t.Errorf("%d packets were sealed, want %d", sent, rounds*(near+far))
		}
		size := len(groupMsg(broadcast, 0, 0, "round 00.")) + wire.SealedMin
		toRelay := 0
		for _, p := range tap.all() {
			if p.To.Addr() == relay && p.From.Addr() == netip.MustParseAddr("10.1.0.1") && (len(p.Data) == size || len(p.Data) == size-1) {
				toRelay++
			}
		}
		if toRelay != rounds*far {
			t.Errorf("the relay got %d packets, want %d", toRelay, rounds*far)
		}
		for _, n := range members {
			for k := range rounds {
				n.wantHears(a, fmt.Sprint("round ", k, "."), 1)
			}
		}
	})
}

// lanHot is a sender with members, without a network.
func lanHot(tb testing.TB, members, relayed int) (h *hot, send func()) {
	h = newHot(tb, 1)
	v := &lanView{chosen: map[*peer.Contact]*lanMember{}, rates: LANLimits{OutPackets: 1 << 40, OutBytes: 1 << 50}.filled().rates(members), echoes: newEchoes()}
	for k := range members {
		a, _, _, idb := sessions(tb)
		c := newContact(idb.Address())
		ep := link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(k)}), 8737)}
		if k < relayed {
			ep = link.Endpoint{Addr: netip.MustParseAddrPort("192.0.2.200:8737")}
		}
		line := new(peer.Line)
		line.Route.Store(&peer.Route{Session: a, Way: path.Way{Endpoint: ep}, Datagram: 1450, Large: 1 << 16, Trains: true, Line: line, PeerID: 1})
		c.Route.Store(line.Route.Load())
		m := &lanMember{contact: c}
		w := &lanWants{said: 2}
		w.groups[1] = map[[16]byte]struct{}{ssdp4.As16(): {}}
		m.wants.Store(w)
		v.members, v.chosen[c] = append(v.members, m), m
	}
	h.node.lan.view.Store(v)
	h.q.to, h.q.msg = anode.ULA(ssdp4.As16()), groupMsg(ssdp4, 7000, 7000, string(make([]byte, 200)))
	return h, func() {
		h.q.next = 0
		h.send()
		for _, m := range v.members { // nobody empties the inbox here
			m.contact.Route.Load().Session.Deactivate()
		}
		for len(h.node.inbox.authentic) > 0 {
			<-h.node.inbox.authentic
		}
	}
}

// Sending to a group allocates nothing, and what goes by one relay is one train.
func TestLANHotPathDoesNotAllocate(t *testing.T) {
	h, send := lanHot(t, 31, 8)
	if n := testing.AllocsPerRun(100, send); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w := h.out.w.(*countingWriter)
	if want := 101 * (31 - 8 + 1); w.trains != want {
		t.Errorf("%d trains, want %d", w.trains, want)
	}
	if got := h.node.counters[cLANCopies].Load(); got != 101*31 {
		t.Errorf("%d copies", got)
	}
}

func BenchmarkLANOf32(b *testing.B) {
	_, send := lanHot(b, 31, 8)
	b.ReportAllocs()
	for b.Loop() {
		send()
	}
}

// The aliases of added peers are known as soon as they are added, and gone when they are removed. One that
// is taken is moved, and shown so.
func TestAliases(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		prefix := netip.MustParsePrefix("10.77.0.0/24")
		a := newTestNode(t, w.Host("a"), nil)
		table := alias.New(prefix, a.address0().ULA())
		a.cfg.Aliases = table
		lan(w, "lan", 0, a.host)
		a.start()
		defer a.stop()
		first := newIdentity(t).Address()
		for table.Self() == alias.Of(prefix, first.ULA()) {
			first = newIdentity(t).Address()
		}
		twin := newIdentity(t).Address()
		for alias.Of(prefix, twin.ULA()) != alias.Of(prefix, first.ULA()) {
			twin = newIdentity(t).Address()
		}
		for _, x := range []anode.Address{first, twin} {
			if _, err := a.AddPeer(t.Context(), Peer{Address: x}); err != nil {
				t.Fatal(err)
			}
		}
		settle(time.Second)
		s := a.status()
		if s.LAN.Alias != table.Self().String() || s.LAN.Range != prefix.String() {
			t.Errorf("%+v", s.LAN)
		}
		var moved []anode.Address
		seen := map[string]bool{s.LAN.Alias: true}
		for _, p := range s.Peers {
			if p.Alias == "" || seen[p.Alias] {
				t.Errorf("%v has %q", p.ID, p.Alias)
			}
			seen[p.Alias] = true
			if p.AliasMoved {
				moved = append(moved, p.Address)
			}
		}
		if len(moved) != 1 || !slices.Contains([]anode.Address{first, twin}, moved[0]) {
			t.Fatalf("moved: %v", moved)
		}
		stays := first
		if moved[0] == first {
			stays = twin
		}
		if _, err := a.RemovePeer(t.Context(), stays); err != nil {
			t.Fatal(err)
		}
		if _, err := a.BlockPeer(t.Context(), newIdentity(t).Address(), true); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if _, ok := table.Alias(stays.ULA()); ok {
			t.Error("a removed peer has an alias")
		}
		for _, p := range a.status().Peers {
			if p.AliasMoved || p.Blocked && p.Alias != "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
