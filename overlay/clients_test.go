//go:build linux

package overlay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// clientWorld is a relay of a zone without a network, and clients that tests speak for.
type clientWorld struct{ *scaleWorld }

func newClientWorld(tb testing.TB) clientWorld {
	w := clientWorld{newScaleWorld(tb, 1)}
	w.n.setRelayZones([]anode.Zone{testZone})
	w.wire.take()
	return w
}

// client makes one that is at an address, and has said nothing yet.
func (w clientWorld) client(z anode.Zone, at string) *remote {
	r := &remote{tb: w.tb, local: &seal.Local{Identity: identityIn(w.tb, z), PeerID: 3}, node: w.n.address, ep: link.Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr(at), link.Port)}}
	key, err := seal.SharedKey(r.local.Identity, w.n.address)
	if err != nil {
		w.tb.Fatal(err)
	}
	r.mac = seal.NewMAC(key)
	w.by[r.ep.Addr] = r
	return r
}

// registered makes clients and has them register.
func (w clientWorld) registered(at ...string) (list []*remote) {
	w.tb.Helper()
	for _, a := range at {
		r := w.client(testZone, a)
		w.feed(r.plain(wire.Ping, []byte("hi")), r.ep)
		w.answer()
		if r.pongs != 1 {
			w.tb.Fatalf("%s has %d PONGs, want 1", a, r.pongs)
		}
		list = append(list, r)
	}
	return list
}

// packet is a sealed packet as a client sends it to another, to one of its machines.
func packet(from, to *remote, machine uint8, size int) []byte {
	p := make([]byte, wire.SealedMin+size)
	h := wire.NewSealedHeader(from.local.Identity.Address().ID(), to.local.Identity.Address().ID(), from.local.PeerID, machine)
	copy(p, h[:])
	return p
}

// sent is what the relay writes after a packet.
func (w clientWorld) sent(p []byte, from link.Endpoint) []sentPacket {
	w.wire.take()
	w.feed(slices.Clone(p), from)
	return w.wire.take()
}

func types(list []sentPacket) (names []string) {
	for _, s := range list {
		if h, _, err := wire.Parse(s.b); err == nil {
			names = append(names, h.Type.String())
		} else {
			names = append(names, "sealed")
		}
	}
	return names
}

func elsewhere(r *remote, port uint16) link.Endpoint {
	return link.Endpoint{Addr: netip.AddrPortFrom(r.ep.Addr.Addr(), port)}
}

// A PING is answered when the client has answered a check where it says it is, and not
// before; from then on by the lane alone.
func TestClientRegisters(t *testing.T) {
	w := newClientWorld(t)
	r := w.client(testZone, "192.0.2.1")
	list := w.sent(r.plain(wire.Ping, []byte("hi")), r.ep)
	if got := types(list); !slices.Equal(got, []string{"EPC_REQ"}) || list[0].to != r.ep {
		t.Fatalf("after a PING: %v to %v", got, list)
	}
	answer := r.take(w.clock, list[0].b)[0]
	if got := w.sent(answer, elsewhere(r, 9)); len(got) != 0 || w.n.clients.count != 0 {
		t.Errorf("an EPC from elsewhere: %v, %d clients", types(got), w.n.clients.count)
	}
	list = w.sent(answer, r.ep)
	if got := types(list); !slices.Equal(got, []string{"PONG"}) || w.n.clients.count != 1 || !bytes.HasSuffix(list[0].b, []byte("hi")) {
		t.Errorf("after the EPC: %v, %d clients", got, w.n.clients.count)
	}
	if got := w.sent(answer, r.ep); len(got) != 0 {
		t.Errorf("the EPC again: %v", types(got))
	}
	p := r.plain(wire.Ping, []byte("again"))
	w.wire.take()
	w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: r.ep})
	if n := len(w.n.inbox.clients) + len(w.n.inbox.unsigned) + len(w.n.inbox.authentic); n != 0 {
		t.Errorf("a PING that keeps a client registered made %d events", n)
	}
	w.rx.answers.flush()
	if got := types(w.wire.take()); !slices.Equal(got, []string{"PONG"}) {
		t.Errorf("a PING that keeps a client registered: %v", got)
	}
}

// A PING that was recorded moves nobody, wherever it is sent from.
func TestReplayedPing(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	ping := b.plain(wire.Ping, []byte("recorded"))
	answers := 0
	for k := range 200 {
		answers += len(w.sent(ping, elsewhere(b, uint16(1000+k))))
		w.clock.advance(10 * time.Millisecond)
	}
	if answers > 60 {
		t.Errorf("200 replayed PINGs had %d answers", answers)
	}
	got := w.sent(packet(a, b, 0, 100), a.ep)
	if len(got) != 1 || got[0].to != b.ep {
		t.Errorf("after the replays packets to b go to %v", got)
	}
	if n := w.n.clients.count; n != 2 {
		t.Errorf("%d clients", n)
	}
}

// What a relay forwards to another does not register anybody at the relay's place.
func TestPingByARelay(t *testing.T) {
	w := newClientWorld(t)
	other := w.registered("198.51.100.2")[0] // another relay of the zone
	eve := w.client(testZone, "203.0.113.9")
	for _, p := range [][]byte{eve.plain(wire.Ping, nil), eve.plain(wire.EPCReq, wire.AppendEPC(nil, 1))} {
		p[0] = 1
		for _, s := range w.sent(p, other.ep) {
			for _, q := range eve.take(w.clock, s.b) {
				q[0] = 1
				w.sent(q, other.ep)
			}
		}
	}
	if b := w.n.clients.at(placeOf(other.ep)); b == nil || b.client.address != other.local.Identity.Address() {
		t.Error("a relay lost its place to somebody behind it")
	}
	if c := w.n.clients.count; c != 1 {
		t.Errorf("%d clients", c)
	}
}

// Only what bears the ID of the client at the place where it comes from is forwarded, and
// never back.
func TestForgedSources(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2", "203.0.113.3")
	a, b, c := list[0], list[1], list[2]
	nobody := w.client(testZone, "192.0.2.77")
	full := signedBy(c, wire.Party{Address: b.local.Identity.Address()})
	for _, x := range []struct {
		name string
		p    []byte
		from link.Endpoint
		want int
	}{
		{"a to b", packet(a, b, 0, 64), a.ep, 1},
		{"a to b, full addresses", signedBy(a, wire.Party{Address: b.local.Identity.Address()}), a.ep, 1},
		{"in the name of c", packet(c, b, 0, 64), a.ep, 0},
		{"in the name of c, full address", full, a.ep, 0},
		{"from another port", packet(a, b, 0, 64), elsewhere(a, 99), 0},
		{"from nobody", packet(nobody, b, 0, 64), nobody.ep, 0},
		{"to nobody", packet(a, nobody, 0, 64), a.ep, 0},
		{"back", packet(a, a, 0, 64), a.ep, 0},
	} {
		got := w.sent(x.p, x.from)
		if len(got) != x.want || x.want == 1 && got[0].to != b.ep {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	p := packet(a, b, 0, 64)
	for hops := range 5 {
		p[0] = byte(hops)
		if got := len(w.sent(p, a.ep)); got != 1 && hops < hopLimit || got != 0 && hops >= hopLimit {
			t.Errorf("a packet after %d hops was forwarded %d times", hops, got)
		}
	}
}

// signedBy is an unsealed packet with full addresses.
func signedBy(r *remote, to wire.Party) []byte {
	h := wire.Header{Sender: wire.Party{Address: r.local.Identity.Address()}, Recipient: to, SenderPeer: 3, Type: wire.Hello}
	return h.Append(nil, make([]byte, 90))
}

// Machines of one address are told apart (draft 3.4), and one that moves is followed.
func TestClientMachines(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	second := &remote{tb: t, local: &seal.Local{Identity: b.local.Identity, PeerID: 5}, node: b.node, mac: b.mac, ep: elsewhere(b, 55)}
	w.by[second.ep.Addr] = second
	w.feed(second.plain(wire.Ping, nil), second.ep)
	w.answer()
	to := func(machine uint8) link.Endpoint {
		t.Helper()
		got := w.sent(packet(a, b, machine, 64), a.ep)
		if len(got) != 1 {
			t.Fatalf("%d packets for machine %d", len(got), machine)
		}
		return got[0].to
	}
	if to(3) != b.ep || to(5) != second.ep || to(0) != second.ep || to(9) != second.ep {
		t.Errorf("machine 3 is at %v, 5 at %v, any at %v, an unknown one at %v", to(3), to(5), to(0), to(9))
	}
	delete(w.by, b.ep.Addr)
	b.ep = elsewhere(b, 66)
	w.by[b.ep.Addr] = b
	w.feed(b.plain(wire.Ping, nil), b.ep)
	w.answer()
	if to(3) != b.ep || to(5) != second.ep {
		t.Errorf("after it moved machine 3 is at %v, 5 at %v", to(3), to(5))
	}
	if n := w.n.clients.count; n != 2 {
		t.Errorf("%d clients", n)
	}
}

// A client that has two ways to the relay asks along both, and sends by either: wherever the relay
// reaches it, what comes from where it was before is forwarded. From a third place nothing is.
func TestClientOfTwoPlaces(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	first, second, third := b.ep, elsewhere(b, 55), elsewhere(b, 66)
	ask := func(at link.Endpoint) {
		b.ep = at
		w.by[at.Addr] = b
		w.feed(b.plain(wire.EPCReq, wire.AppendEPC(nil, 1)), at)
		w.answer()
	}
	for round, x := range []struct {
		wait    time.Duration // before it asks
		asks    link.Endpoint
		at, was link.Endpoint // afterwards
	}{
		{0, second, second, first},
		{0, first, second, first}, // it was heard at the second a moment ago
		{3 * time.Second, first, first, second},
		{0, third, third, first},
	} {
		w.run(x.wait)
		ask(x.asks)
		got := w.sent(packet(a, b, 3, 64), a.ep)
		if len(got) != 1 || got[0].to != x.at {
			t.Errorf("round %d: %d packets go to where it is, %v", round, len(got), x.at)
		}
		for _, from := range []link.Endpoint{first, second, third} {
			want := 0
			if from == x.at || from == x.was {
				want = 1
			}
			if got := w.sent(packet(b, a, 3, 64), from); len(got) != want {
				t.Errorf("round %d: of a packet from %v, %d are forwarded, want %d", round, from, len(got), want)
			}
		}
		w.run(300 * time.Millisecond)
	}
	// Where it was is somebody else's now.
	c := w.client(testZone, "192.0.2.9")
	c.ep = first
	w.by[c.ep.Addr] = c
	w.feed(c.plain(wire.Ping, nil), c.ep)
	w.answer()
	if got := w.sent(packet(b, a, 3, 64), c.ep); len(got) != 0 {
		t.Errorf("in its name from where another is: %v", got)
	}
	if got := w.sent(packet(a, b, 3, 64), a.ep); len(got) != 1 || got[0].to != third {
		t.Errorf("packets to it go to %v, want %v", got, third)
	}
	if n := w.n.clients.count; n != 3 {
		t.Errorf("%d clients", n)
	}
}

// A client that is silent is forgotten; one whose packets are relayed is not, and neither
// are those that send PINGs. Packets in its name from elsewhere are no sign of life.
func TestClientExpires(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2", "203.0.113.3")
	pings, talks, silent := list[0], list[1], list[2]
	for range 40 {
		w.run(10 * time.Second)
		w.feed(pings.plain(wire.Ping, nil), pings.ep)
		w.feed(packet(talks, pings, 0, 10), talks.ep)
		w.feed(packet(silent, pings, 0, 10), elsewhere(silent, 1))
	}
	for _, x := range []struct {
		name string
		r    *remote
		want bool
	}{{"one that sends PINGs", pings, true}, {"one that speaks", talks, true}, {"a silent one", silent, false}} {
		a := x.r.local.Identity.Address()
		if got := w.n.clients.get(&a) != nil; got != x.want {
			t.Errorf("%s is registered: %v", x.name, got)
		}
	}
	before := len(w.l.clients.list)
	for range 40 {
		w.run(10 * time.Second)
	}
	if len(w.l.clients.list) != 0 || w.n.clients.count != 0 || w.l.clients.tick() != mono.Never {
		t.Errorf("%d clients of %d are left", len(w.l.clients.list), before)
	}
}

// A flood of PINGs in the names of addresses that do not exist costs a bounded number of
// key agreements, and takes nothing from those who are registered.
func TestRegisterFlood(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	forwarded, pongs := 0, 0
	const seconds, perSecond = 2, 10000
	for k := range seconds * perSecond {
		w.clock.advance(time.Second / perSecond)
		h := wire.Header{MAC: [8]byte{1}, Sender: wire.Party{Address: zoned(scaleAddress(k % 500))}, Recipient: wire.Party{Address: w.n.address}, SenderPeer: 1, Type: wire.Ping}
		ep := link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(100 + k%50), byte(k >> 8), byte(k), 1}), 1)}
		if got := w.sent(h.Append(nil, nil), ep); len(got) != 0 {
			t.Fatalf("a forged PING was answered by %v", types(got))
		}
		if k%100 == 0 {
			forwarded += len(w.sent(packet(a, b, 0, 500), a.ep))
		}
		if k%perSecond == 0 {
			pongs += len(w.sent(b.plain(wire.Ping, nil), b.ep))
		}
	}
	if forwarded != seconds*perSecond/100 || pongs != seconds {
		t.Errorf("of %d packets %d were forwarded, of %d PINGs %d answered", seconds*perSecond/100, forwarded, seconds, pongs)
	}
	if n := w.n.counters[dMAC].Load(); n == 0 || n > 2000*(seconds+1)+500 {
		t.Errorf("%d key agreements in %d s", n, seconds)
	}
	late := w.client(testZone, "203.0.113.200")
	for range 20 {
		w.run(time.Second)
		w.feed(late.plain(wire.Ping, nil), late.ep)
		w.answer()
	}
	if late.pongs == 0 {
		t.Error("after the flood nobody can register")
	}
}

// zoned puts an address into the zone of the tests.
func zoned(a anode.Address) anode.Address {
	binary.BigEndian.PutUint32(a[1:], uint32(testZone))
	return a
}

// One site that registers as many addresses as it can does not keep others out.
func TestClientsOfOneSite(t *testing.T) {
	w := newClientWorld(t)
	s := &w.l.clients
	s.most = 100
	join := func(k int, from string) bool {
		c := s.add(zoned(scaleAddress(k)), [32]byte{byte(k)}, netip.MustParseAddr(from))
		if c != nil {
			s.x.moor(c, 1, placeOf(link.Endpoint{Addr: netip.AddrPortFrom(netip.MustParseAddr(from), uint16(1+k))}), w.now())
		}
		return c != nil
	}
	for k := range 150 {
		if got := join(k, "192.0.2.1"); got != (k < 100) {
			t.Fatalf("client %d of one site: %v", k, got)
		}
	}
	for k := range 40 {
		if !join(1000+k, "198.51.100.1") {
			t.Fatalf("client %d of another site is kept out", k)
		}
	}
	if len(s.list) != 100 || s.x.count != 100 || s.sites[siteOf(netip.MustParseAddr("198.51.100.7"))] != 40 {
		t.Errorf("%d clients, %d somewhere, sites %v", len(s.list), s.x.count, s.sites)
	}
	for k := range 100 {
		join(2000+k, "198.51.100.1")
	}
	if n := s.sites[siteOf(netip.MustParseAddr("192.0.2.7"))]; n < 49 {
		t.Errorf("the first site has %d places left", n)
	}
}

// One site that registers guests does not keep the guests of others out, and guests take no
// places of members.
func TestGuestsOfOneSite(t *testing.T) {
	w := newClientWorld(t)
	s := &w.l.clients
	s.most = 100
	join := func(a anode.Address, from string) bool {
		return s.add(a, [32]byte{}, netip.MustParseAddr(from)) != nil
	}
	for k := range 10 {
		if !join(zoned(scaleAddress(1000+k)), "203.0.113.1") {
			t.Fatalf("member %d is kept out", k)
		}
	}
	for k := range 40 {
		if got := join(scaleAddress(k), "192.0.2.1"); got != (k < 25) {
			t.Fatalf("guest %d of one site: %v", k, got)
		}
	}
	for k := range 5 {
		if !join(scaleAddress(100+k), "198.51.100.1") {
			t.Fatalf("guest %d of another site is kept out", k)
		}
	}
	if n := s.sites[siteOf(netip.MustParseAddr("203.0.113.1"))]; s.guests != 25 || n != 10 {
		t.Errorf("%d guests, and %d of 10 members", s.guests, n)
	}
}

// The limits of one client leave others alone, and that of all holds for all of them.
func TestClientLimits(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2", "203.0.113.3")
	a, b, c := list[0], list[1], list[2]
	const size = 1000
	send := func(from, to *remote, count int) (n int) {
		for range count {
			w.clock.advance(time.Millisecond)
			n += len(w.sent(packet(from, to, 0, size-wire.SealedMin), from.ep))
		}
		return n
	}
	w.n.setLimits(RelayLimits{ClientBytes: 100_000}) // 100 packets a second
	if n := send(a, b, 10_000); n < 990 || n > 1030 {
		t.Errorf("%d packets in 10 s with 100 a second allowed", n)
	}
	if n := send(c, b, 100); n < 15 {
		t.Errorf("another client had %d packets in 100 ms", n)
	}
	if n := w.n.counters[dClientLimit].Load(); n < 8900 {
		t.Errorf("%d packets are counted as beyond the limit", n)
	}
	w.clock.advance(time.Minute)
	w.n.setLimits(RelayLimits{ClientPackets: 50})
	if n := send(a, b, 10_000); n < 490 || n > 520 {
		t.Errorf("%d packets in 10 s with 50 a second allowed", n)
	}
	w.clock.advance(time.Minute)
	w.n.setLimits(RelayLimits{TotalBytes: 200_000})
	n := 0
	for range 5000 {
		n += send(a, b, 1) + send(c, b, 1)
	}
	if n < 1950 || n > 2100 {
		t.Errorf("%d packets of two clients in 10 s with 200 a second allowed", n)
	}
	if w.n.counters[dTotalLimit].Load() == 0 {
		t.Error("none is counted as beyond the limit of all")
	}
	w.n.setLimits(RelayLimits{})
	if n := send(a, b, 1000); n != 1000 {
		t.Errorf("%d of 1000 packets without limits", n)
	}
}

// A client that people block is forgotten with every address of its key, and does not
// come back.
func TestBlockedClient(t *testing.T) {
	w := newClientWorld(t)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	change, err := w.n.book.Block(b.local.Identity.Address())
	if err != nil {
		t.Fatal(err)
	}
	w.l.follow(change)
	w.feed(b.plain(wire.Ping, nil), b.ep)
	w.answer()
	if got := w.sent(packet(a, b, 0, 64), a.ep); len(got) != 0 {
		t.Errorf("packets to a blocked client: %v", got)
	}
	if got := w.sent(packet(b, a, 0, 64), b.ep); len(got) != 0 {
		t.Errorf("packets from a blocked client: %v", got)
	}
	if n := w.n.clients.count; n != 1 {
		t.Errorf("%d clients", n)
	}
}

// FuzzRelay has a relay take what a client may send: nothing is written to any place where
// nobody is registered.
func FuzzRelay(f *testing.F) {
	w := newClientWorld(f)
	list := w.registered("192.0.2.1", "198.51.100.2")
	a, b := list[0], list[1]
	known := map[netip.AddrPort]bool{a.ep.Addr: true, b.ep.Addr: true}
	f.Add(packet(a, b, 0, 10))
	f.Add(a.plain(wire.Ping, []byte("x")))
	f.Add(a.plain(wire.Whois, wire.WhoisMsg{Kind: wire.WhoisID}.Append(nil)))
	f.Add(signedBy(a, wire.Party{Address: b.local.Identity.Address()}))
	f.Fuzz(func(t *testing.T, p []byte) {
		w.clock.advance(time.Millisecond)
		for _, s := range w.sent(p, a.ep) {
			if !known[s.to.Addr] {
				t.Errorf("%x made the relay write to %v", p, s.to)
			}
		}
	})
}
