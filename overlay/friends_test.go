package overlay

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
	"anodenet/overlay/vnet"
)

// toFriends has a node show itself to friends alone.
func toFriends(c *Config) { c.Discovery.Friends = true }

// dual attaches hosts to a segment by IPv4 and by link-local IPv6.
func dual(w *vnet.World, hosts ...*vnet.Host) *vnet.Segment {
	s := w.Segment("lan", vnet.Link{Delay: time.Millisecond})
	for k, h := range hosts {
		h.Attach(s, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(k + 1)}), 24),
			netip.MustParsePrefix(fmt.Sprintf("fe80::%d/64", k+1)))
	}
	return s
}

// toAll are the packets that everybody on the link gets.
func toAll(t *tape) (list []vnet.Packet) {
	for _, p := range t.all() {
		if a := p.To.Addr(); a.IsMulticast() || a.Is4() && a.As4()[3] == 255 {
			list = append(list, p)
		}
	}
	return list
}

// announced returns what a packet announces to friends.
func announced(t *testing.T, packet []byte) (m wire.FriendsMsg, ok bool) {
	t.Helper()
	h, msg, err := wire.Parse(packet)
	if err != nil || h.Type != wire.Friends {
		return m, false
	}
	if want := (wire.Header{Type: wire.Friends}); h != want {
		t.Errorf("the header says %+v", h)
	}
	if m, err = wire.ParseFriends(msg); err != nil {
		t.Fatal(err)
	}
	return m, true
}

// Two peers meet on a LAN if one shows itself to friends alone, and if both do, whatever comes first.
func TestFriendsMeet(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Discovery
	}{
		{"both", Discovery{Friends: true}, Discovery{Friends: true}},
		{"one", Discovery{Friends: true}, Discovery{}},
		{"the other is silent", Discovery{Friends: true}, Discovery{Off: true}},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", c.name, late), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					a := newTestNode(t, w.Host("a"), func(x *Config) { x.Discovery = c.a })
					b := newTestNode(t, w.Host("b"), func(x *Config) { x.Discovery = c.b })
					adds(a, b)
					dual(w, a.host, b.host)
					first, second := a.start(), b
					if late {
						settle(time.Minute)
					}
					second.start()
					defer first.stop()
					defer second.stop()
					if late && c.b.Off { // nobody says anything for minutes, until a's next announcement
						settle(10 * time.Minute)
					}
					settle(5 * time.Second)
					for _, n := range []*testNode{a, b} {
						if n.status().Counters["control_rx"] == 0 {
							t.Error("nothing authentic has come")
						}
					}
					a.say(b, "hello")
					settle(time.Second)
					b.heard(a, "hello", 1)
				})
			})
		}
	}
}

// A peer that both sides add while they run is found.
func TestFriendsAddedLater(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), toFriends), newTestNode(t, w.Host("b"), toFriends)
		dual(w, a.host, b.host)
		a.start()
		b.start()
		defer a.stop()
		defer b.stop()
		settle(time.Hour)
		for _, pair := range [][2]*testNode{{a, b}, {b, a}} {
			if _, err := pair[0].AddPeer(t.Context(), Peer{Address: pair[1].address0()}); err != nil {
				t.Fatal(err)
			}
			settle(time.Second)
		}
		settle(4 * time.Second)
		a.say(b, "hello")
		settle(time.Second)
		b.heard(a, "hello", 1)
	})
}

// What a stranger on the LAN gets, also if it asks, has nothing of us in it, and nothing that comes twice.
func TestFriendsTellStrangersNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), toFriends), newTestNode(t, w.Host("b"), toFriends)
		stranger := newTestNode(t, w.Host("stranger"), nil)
		adds(a, b)
		s := dual(w, a.host, b.host, stranger.host)
		tap := record(s)
		for _, n := range []*testNode{a, b, stranger} {
			n.start()
			defer n.stop()
		}
		settle(time.Second)
		if _, err := stranger.ResolveULA(t.Context(), a.address0().ULA()); err == nil {
			t.Error("whoever asks for its ULA is answered")
		}
		_, _ = a.ResolveULA(t.Context(), newIdentity(t).Address().ULA()) // it must not ask all
		a.say(b, "hello")
		settle(time.Hour)
		if stranger.heardOf(a) || stranger.heardOf(b) || a.heardOf(stranger) {
			t.Error("strangers have heard of each other")
		}
		seen, families := map[[8]byte]bool{}, map[bool]int{}
		for _, p := range toAll(tap) {
			if p.From.Addr().Compare(netip.MustParseAddr("10.0.0.3")) == 0 || p.From.Addr() == netip.MustParseAddr("fe80::3") {
				continue
			}
			m, ok := announced(t, p.Data)
			if !ok || len(m.Tags) != wire.MaxFriends {
				t.Fatalf("%x is no announcement to friends, or not filled up", p.Data)
			}
			families[p.To.Addr().Is4()]++
			for _, x := range append(slices.Clone(m.Tags), wire.FriendTag(m.Salt)) {
				if seen[x] {
					t.Errorf("%x comes twice", x)
				}
				seen[x] = true
			}
		}
		if families[true] < 8 || families[false] < 8 {
			t.Errorf("announcements by IPv4 and IPv6: %v", families)
		}
		for _, p := range tap.all() { // whatever the stranger could see: to all, or to itself
			to := p.To.Addr()
			if !to.IsMulticast() && to != netip.MustParseAddr("10.0.0.255") && to != netip.MustParseAddr("10.0.0.3") && to != netip.MustParseAddr("fe80::3") {
				continue
			}
			if p.From.Addr() == netip.MustParseAddr("10.0.0.3") || p.From.Addr() == netip.MustParseAddr("fe80::3") {
				continue
			}
			for _, n := range []*testNode{a, b} {
				address, u, id := n.address0(), n.address0().ULA(), n.address0().ID()
				x := address.X()
				for what, secret := range map[string][]byte{"address": address[:], "key": x[:], "ULA": u[:], "short ID": id[:]} {
					if bytes.Contains(p.Data, secret) {
						t.Errorf("the %s of %s is in %x to %v", what, n.host.Name(), p.Data, p.To)
					}
				}
			}
		}
		if a.status().Counters["drop_hidden"] == 0 {
			t.Error("nothing of the stranger's was counted")
		}
	})
}

// An announcement that somebody sends again from an address of its own makes nobody answer; from that of
// the sender, a friend alone, and seldom.
func TestFriendsReplayed(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), toFriends), newTestNode(t, w.Host("b"), toFriends)
		adds(a, b)
		s := dual(w, a.host, b.host)
		tap := record(s)
		eve := newSpoofer(t, w, s, "10.0.0.250/24")
		a.start()
		settle(time.Second)
		a.stop()
		var packet []byte
		for _, p := range toAll(tap) {
			if p.From == ap("10.0.0.1:8737") {
				packet = p.Data
			}
		}
		if packet == nil {
			t.Fatal("nothing was announced")
		}
		b.start()
		defer b.stop()
		settle(time.Second)
		sent := func(to string) (n int) {
			for _, p := range tap.all() {
				if p.To.Addr() == netip.MustParseAddr(to) && p.From.Addr() == netip.MustParseAddr("10.0.0.2") {
					n++
				}
			}
			return n
		}
		for range 1000 {
			eve.send(ap("10.0.0.250:8737"), ap("10.0.0.255:8737"), packet)
			settle(10 * time.Millisecond)
		}
		if n := sent("10.0.0.250"); n != 0 {
			t.Errorf("%d packets went to who repeats it", n)
		}
		if b.status().Counters["drop_friends"] == 0 || b.status().Counters["drop_budget"] == 0 {
			t.Error("nothing was counted")
		}
		before := sent("10.0.0.1")
		eve.send(ap("10.0.0.1:8737"), ap("10.0.0.2:8737"), packet)
		settle(10 * time.Second)
		if n := sent("10.0.0.1") - before; n == 0 || n > 20 {
			t.Errorf("%d packets went to the place of the friend", n)
		}
	})
}

// Announcements that are malformed, or made up in masses from many addresses, cost a bounded number of tags, and
// are counted. A friend is found when it is over.
func TestFriendsHostile(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), toFriends), newTestNode(t, w.Host("b"), toFriends)
		adds(a, b)
		s := dual(w, a.host, b.host)
		eve := newSpoofer(t, w, s, "10.0.0.250/24")
		b.start()
		defer b.stop()
		settle(time.Second)
		send := func(from netip.AddrPort, h wire.Header, msg []byte) {
			eve.send(from, ap("10.0.0.255:8737"), h.Append(nil, msg))
		}
		made := func() []byte {
			m := wire.FriendsMsg{Tags: make([]wire.FriendTag, wire.MaxFriends)}
			rand.Read(m.Salt[:])
			return m.Append(nil)
		}
		counted := func(name string, f func()) uint64 {
			before := b.status().Counters[name]
			f()
			settle(100 * time.Millisecond)
			return b.status().Counters[name] - before
		}
		bad := [][]byte{nil, made()[:20], append(made(), 0), append(made()[:8], 0), append(made()[:8], 255)}
		if n := counted("drop_message", func() {
			for _, m := range bad {
				send(ap("10.0.0.250:8737"), wire.Header{Type: wire.Friends}, m)
			}
		}); n != uint64(len(bad)) {
			t.Errorf("%d of %d malformed ones were counted", n, len(bad))
		}
		headers := []wire.Header{{Type: wire.Friends, Hop: 1}, {Type: wire.Friends, Sender: wire.Party{ID: a.address0().ID()}}, {Type: wire.Friends, Sender: wire.Party{Address: a.address0()}}}
		if n := counted("drop_reflection", func() {
			for _, h := range headers {
				send(ap("10.0.0.250:8737"), h, made())
			}
		}); n != uint64(len(headers)) {
			t.Errorf("%d of %d with a wrong header were counted", n, len(headers))
		}
		looked := counted("drop_friends", func() {
			for k := range 3000 {
				from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + k%50)}), 8737)
				send(from, wire.Header{Type: wire.Friends}, made())
				if k%3 == 0 {
					settle(time.Millisecond)
				}
			}
		})
		if limit := uint64(friendsTotal.Burst + 2*friendsTotal.PerSecond); looked == 0 || looked > limit {
			t.Errorf("%d of 3000 were looked at in a second, want 1 to %d", looked, limit)
		}
		a.start()
		defer a.stop()
		settle(10 * time.Second)
		a.say(b, "hello")
		settle(time.Second)
		b.heard(a, "hello", 1)
	})
}

// However many peers there are, an announcement is of few packets, has everybody in it now and then, and no more
// than some are tried for one.
func TestFriendsAreManyPeers(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b := newTestNode(t, w.Host("a"), toFriends), newTestNode(t, w.Host("b"), toFriends)
		adds(a, b)
		for range friendsTried {
			a.cfg.Peers = append(a.cfg.Peers, Peer{Address: newIdentity(t).Address()})
		}
		s := lan(w, "lan", 0, a.host, b.host)
		tap := record(s)
		a.start()
		defer a.stop()
		settle(100 * time.Millisecond)
		if n := len(toAll(tap)); n != friendsPackets {
			t.Errorf("the first announcement has %d packets, want %d", n, friendsPackets)
		}
		b.start()
		defer b.stop()
		settle(time.Hour)
		a.say(b, "hello")
		settle(time.Second)
		b.heard(a, "hello", 1)
		err := a.call(t.Context(), func(l *loop) error {
			all := l.beacon.friends(1 << 20)
			if some := l.beacon.friends(friendsTried); len(all) != friendsTried+1 || len(some) != friendsTried {
				t.Errorf("%d of %d are tried", len(some), len(all))
			}
			if slices.ContainsFunc(all, func(p *peer.Peer) bool { return p.Standing() < book.Added }) {
				t.Error("a stranger is among them")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Frames have a source too: that of the MAC.
func TestFriendsSource(t *testing.T) {
	i := link.Interface{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.1.2/24"), netip.MustParsePrefix("10.0.0.2/8"),
		netip.MustParsePrefix("2001:db8::2/64"), netip.MustParsePrefix("fe80::2/64")}}
	for to, want := range map[string]string{"10.255.255.255": "10.0.0.2", "192.168.1.255": "192.168.1.2", "ff02::1": "fe80::2"} {
		if from := sourceTo(i, netip.MustParseAddr(to)); from != netip.MustParseAddr(want) {
			t.Errorf("to %s from %v, want %s", to, from, want)
		}
	}
	if from := sourceTo(link.Interface{}, allNodes); from.IsValid() {
		t.Errorf("without an address, from %v", from)
	}
	n := mono.Networks{Each: friendsEach, Total: friendsTotal, Prefix: func(a netip.Addr) netip.Addr { return a }}
	if allowed := 0; true {
		for range 100 {
			if n.Allow(1, netip.MustParseAddr("fe80::1")) {
				allowed++
			}
		}
		if allowed != int(friendsEach.Burst) || !n.Allow(1, netip.MustParseAddr("fe80::2")) {
			t.Errorf("%d of one address are looked at, or none of its neighbour", allowed)
		}
	}
}
