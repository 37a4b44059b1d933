package main_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
)

// TestNetAttackHonest: a stream between two clients of a relay keeps 90 % of its rate beside
// floods of nine thousand packets a second of every kind, at the relay and at a client. What the
// relay does with no limit to the stream is logged: beside the flood, and beside the same packets
// sent to nobody, since sending costs this machine's cores something as well.
//
//	a ── router ── b
//	 r ──'  '── evil
func TestNetAttackHonest(t *testing.T) {
	const rate, pace = 9000, 12_000_000
	during := 5 * slot
	if long() {
		during = 40 * slot
	}
	a, b, r, evil := newHost(t, "a"), newHost(t, "b"), newHost(t, "r"), newHost(t, "evil")
	onlyIPv4(a, b, r)
	router := newRouter(t, a, b, r, evil)
	for i, h := range []*host{a, b, r, evil} {
		h.ip(fmt.Sprintf("route add default via 10.0.%d.1", i+1))
	}
	// Only the relay joins a and b.
	router.nft(`table ip f { chain f { type filter hook forward priority 0; ip saddr 10.0.1.0/24 ip daddr 10.0.2.0/24 drop; ip saddr 10.0.2.0/24 ip daddr 10.0.1.0/24 drop } }`)
	r.up("--peer", a.address.String(), "--peer", b.address.String())
	at := r.address.String() + "@udp:10.0.3.2:8737"
	a.up("--peer", at, "--peer", b.address.String())
	b.up("--peer", at, "--peer", a.address.String())
	a.meets(b)
	b.meets(a)
	if p := a.peer(b); p.Path.Kind != overlay.PathRelay {
		t.Fatalf("a reaches b: %+v", p.Path)
	}

	s := streaming(t, a, b, false, pace)
	nobody := netip.MustParseAddrPort("10.0.3.2:9")
	all := floods(t, a, b, r, evil)
	for _, f := range all {
		kept := 0.0
		for try := 0; try < 3 && kept < 0.9; try++ { // other programs may share our cores
			time.Sleep(2 * slot)
			since, v := time.Now(), fire(evil, rate, f.next)
			time.Sleep(during)
			kept = s.share(since)
			t.Logf("%s: %d packets in %v, %.0f %% of the rate is kept", f.name, v.stop(), during, 100*kept)
		}
		if kept < 0.9 {
			t.Errorf("%s: only %.0f %% of the rate is kept; kB/s in each %v: %s", f.name, 100*kept, slot, s.rates(s.began))
		}
	}
	s.stop()
	if s.err != nil {
		t.Error(s.err)
	}
	if !long() {
		return
	}
	for _, f := range all {
		var quick, beside float64
		for range 3 {
			v := fire(evil, rate, func(i int) shot {
				x := f.next(i)
				x.to = nobody
				return x
			})
			quick += transfer(t, a, b, 1<<28)
			v.stop()
			v = fire(evil, rate, f.next)
			beside += transfer(t, a, b, 1<<28)
			v.stop()
		}
		t.Logf("%s: %.2f Gbit/s, %.2f beside packets to nobody: %.2f", f.name, beside/3, quick/3, beside/quick)
	}
}

// floodKind is one kind of packets that nobody should send.
type floodKind struct {
	name string
	next func(i int) shot
}

// floods are what evil can send to a relay r and its clients a and b.
func floods(t *testing.T, a, b, r, evil *host) []floodKind {
	t.Helper()
	rnd := rand.New(rand.NewPCG(7, 0))
	port := func(h *host, n int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("10.0.%d.2", n)), 8737)
	}
	pa, pb, pr := port(a, 1), port(b, 2), port(r, 3)
	everywhere := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(11 + rnd.IntN(80)), byte(rnd.Uint32()), byte(rnd.Uint32()), 1}), 8737)
	}
	cycle := func(all [][]byte, from func() netip.AddrPort, to netip.AddrPort) func(int) shot {
		return func(i int) shot { return shot{from(), to, all[i%len(all)]} }
	}
	fixed := func(p netip.AddrPort) func() netip.AddrPort { return func() netip.AddrPort { return p } }

	var registers, loops, nowhere, beacons [][]byte
	for i := range 256 {
		h := wire.Header{MAC: [8]byte{1}, Sender: wire.Party{Address: newIdentity(t).Address()}, Recipient: wire.Party{ID: r.id}, SenderPeer: 1, Type: wire.Ping}
		registers = append(registers, h.Append(nil, []byte("12345678")))
		beacons = append(beacons, beacon(h.Sender.Address))
		loop := sealedLike(rnd, a.id, b.id, byte(i))
		loop[0] = 15
		loops = append(loops, loop)
		nowhere = append(nowhere, sealedLike(rnd, a.id, anode.ID{byte(i), 1}, byte(i)))
	}
	id := newIdentity(t)
	o := newOutsider(evil, id, 1, r, pr.String())
	o.shakes()
	within(t, dialWait, "evil's session", o.connected)
	own := netip.AddrPortFrom(netip.MustParseAddr("10.0.4.2"), uint16(o.conn.LocalAddr().(*net.UDPAddr).Port))
	sealed := func(kind wire.Type, msg func(i int) []byte) func(int) shot {
		return func(i int) shot {
			o.mu.Lock()
			defer o.mu.Unlock()
			return shot{own, pr, o.sealed(kind, msg(i))}
		}
	}
	return []floodKind{
		{"rubbish in a client's name and place", cycle(rubbishOf(rnd, a.address, r.address, 2), fixed(pa), pr)},
		{"rubbish in the relay's name and place", cycle(rubbishOf(rnd, r.address, b.address, 2), fixed(pr), pb)},
		{"packets that look sealed, from everywhere", cycle([][]byte{sealedLike(rnd, a.id, b.id, 1)}, everywhere, pr)},
		{"packets for another client, in a client's place", cycle([][]byte{sealedLike(rnd, a.id, b.id, 1)}, fixed(pa), pr)},
		{"packets that go round, in a client's place", cycle(loops, fixed(pa), pr)},
		{"packets for nobody, in a client's place", cycle(nowhere, fixed(pa), pr)},
		{"registrations of made-up clients", cycle(registers, everywhere, pr)},
		{"beacons from everywhere", cycle(beacons, everywhere, pr)},
		{"HELLOs of strangers", cycle(strangersHellos(t, r.address, 1000), everywhere, pr)},
		{"sealed WHOIS of a stranger", sealed(wire.Whois, func(i int) []byte {
			return wire.WhoisMsg{Request: uint32(i), Kind: wire.WhoisID, ID: anode.ID{byte(i), byte(i >> 8)}}.Append(nil)
		})},
		{"sealed NETID_REQ of a stranger", sealed(wire.NetIDReq, func(int) []byte { return nil })},
		{"sealed PING of a stranger", sealed(wire.Ping, func(i int) []byte { return []byte{byte(i), byte(i >> 8)} })},
	}
}

// share is which part of its pace a stream has kept since a moment.
func (s *stream) share(since time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := int(since.Sub(s.began)/slot)+1, int(time.Since(s.began)/slot)
	came := 0
	for k := from; k < min(to, len(s.slots)); k++ {
		came += s.slots[k]
	}
	return float64(came) / (float64(to-from) * slot.Seconds() * float64(s.pace))
}
