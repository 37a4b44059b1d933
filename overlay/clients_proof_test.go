//go:build linux

package overlay

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// forgedPing is a PING with a made-up MAC of somebody who wants to register.
func forgedPing(from anode.Address, to anode.ID, body []byte) []byte {
	h := wire.Header{MAC: [8]byte{1, 2, 3}, Sender: wire.Party{Address: from}, Recipient: wire.Party{ID: to}, SenderPeer: 3, Type: wire.Ping}
	return h.Append(nil, body)
}

// A flood of PINGs in made-up names and from forged addresses of many networks does not keep
// newcomers out: they show where they are, which who forges addresses cannot.
func TestNewcomersDuringAFlood(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newZoneWorld(t, w, testZone, 1)
		relay := x.relays[0]
		eve := newSpoofer(t, w, x.public, "198.51.100.66/24")
		var names []anode.Address
		for range 50 {
			names = append(names, identityIn(t, testZone).Address())
		}
		a, b := x.node(x.west, testZone, 1, 0), x.node(x.east, testZone, 1, 0)
		defer stopAll(append(x.relays, a, b)...)
		at := netip.MustParseAddrPort("198.51.100.1:8737")
		const rate, seconds, starts = 5000, 7, 2
		for k := range rate * seconds {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, 7, byte(k % 200), 1}), 1000)
			eve.send(from, at, forgedPing(names[k%len(names)], relay.address0().ID(), []byte("12345678")))
			if k%50 == 49 {
				settle(50 * time.Second / rate)
			}
			if k == starts*rate {
				a.knows(testZone, x.file)
				b.knows(testZone, x.file)
			}
		}
		if relay.counter("drop_source_rate") == 0 {
			t.Error("the flood was none")
		}
		for _, n := range []*testNode{a, b} {
			if got := n.zoneRelay(relay); got.State != RelayRegistered {
				t.Errorf("%s is %s after %d s", n.host.Name(), got.State, seconds-starts)
			}
		}
	})
}

// A COOKIE is no larger than the PING that it answers, goes where that came from, and a PING
// with it is taken from there alone, in that name alone.
func TestProofOfPlace(t *testing.T) {
	w := newClientWorld(t)
	w.rx.now = w.now()
	r := w.client(testZone, "192.0.2.1")
	for w.rx.proofs.all.Allow(w.rx.now, netip.AddrFrom4([4]byte{9, byte(w.rx.now), 0, 1})) || w.rx.proofs.all.Allow(w.rx.now, r.ep.Addr.Addr()) {
	}
	list := w.sent(r.plain(wire.Ping, []byte("12345678")), r.ep)
	if len(list) != 1 || list[0].to != r.ep {
		t.Fatalf("after a PING under load: %v", types(list))
	}
	h, msg, err := wire.Parse(list[0].b)
	if err != nil || h.Type != wire.Cookie || len(list[0].b) > len(r.plain(wire.Ping, []byte("12345678"))) || string(msg[2:10]) != "12345678" {
		t.Fatalf("%+v %x, %v", h, msg, err)
	}
	proof := append([]byte("12345678"), msg[18:]...)
	other := w.client(testZone, "192.0.2.2")
	for _, x := range []struct {
		name string
		p    []byte
		from link.Endpoint
		want string
	}{
		{"from elsewhere", r.plain(wire.Ping, proof), elsewhere(r, 9), "COOKIE"},
		{"in another name", other.plain(wire.Ping, proof), r.ep, "COOKIE"},
		{"a wrong one", r.plain(wire.Ping, make([]byte, proofSize)), r.ep, "COOKIE"},
		{"too short for an answer", r.plain(wire.Ping, nil), r.ep, ""},
		{"the right one", r.plain(wire.Ping, proof), r.ep, "EPC_REQ"},
	} {
		got := types(w.sent(x.p, x.from))
		if x.want == "" && len(got) != 0 || x.want != "" && (len(got) != 1 || got[0] != x.want) {
			t.Errorf("%s: %v, want %s", x.name, got, x.want)
		}
	}
}

// One network whose machines show where they are uses up its own share, and not that of others.
func TestProvenFloodOfOneNetwork(t *testing.T) {
	w := newClientWorld(t)
	w.rx.now = w.now()
	x := &w.rx.proofs
	ping := func(r *remote) []byte {
		c := x.cookies.Make(w.rx.now.Duration(), endpointBytes(r.ep), r.local.Identity.Address())
		return r.plain(wire.Ping, append([]byte("12345678"), c[:]...))
	}
	eve := w.client(testZone, "203.0.113.5")
	p := ping(eve)
	p[2] ^= 1 // a wrong MAC, so that each costs a key agreement
	for k := range 1000 {
		w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: eve.ep})
		if k%100 == 0 {
			w.rx.now = w.rx.now.Add(time.Millisecond)
		}
	}
	if got := len(w.n.inbox.clients); got < 50 || got > 150 {
		t.Errorf("1000 PINGs with a cookie made %d events", got)
	}
	for len(w.n.inbox.clients) > 0 {
		<-w.n.inbox.clients
	}
	honest := w.client(testZone, "192.0.2.1")
	if got := types(w.sent(ping(honest), honest.ep)); len(got) != 1 || got[0] != "EPC_REQ" {
		t.Errorf("somebody of another network: %v", got)
	}
}

// What is forged in the name of a client costs newcomers nothing: neither events nor budget.
func TestForgedPingsOfClients(t *testing.T) {
	w := newClientWorld(t)
	r := w.registered("192.0.2.1")[0]
	w.rx.now = w.now()
	p := forgedPing(r.local.Identity.Address(), w.n.id, []byte("12345678"))
	for k := range 2000 {
		from := link.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, byte(k >> 8), byte(k), 1}), 1000)}
		w.rx.train(&link.Train{Buf: p, Size: len(p), Endpoint: from})
	}
	if got := len(w.n.inbox.unsigned) + len(w.n.inbox.clients); got != 0 || w.n.counters[dMAC].Load() != 2000 {
		t.Errorf("2000 forged PINGs of a client made %d events, %d were refused", got, w.n.counters[dMAC].Load())
	}
}
