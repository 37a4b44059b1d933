package main_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay"
)

// TestNetAttackHints: a neighbour who names false endpoints of a peer, many a second, does
// not keep a node from reaching that peer by a relay.
//
//	a ── 10.0.1.0/24 ── r ── 10.0.2.0/24, 60 ms each way ── b
//	      '── evil
func TestNetAttackHints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		shot func(t *testing.T, recorded [][]byte, b *host) []byte
	}{
		{"beacons", func(_ *testing.T, _ [][]byte, b *host) []byte { return beacon(b.address) }},
		{"packets of the peer, again", func(t *testing.T, recorded [][]byte, b *host) []byte {
			// b's own, which a relay passed on, hop count and all put back.
			for _, p := range recorded {
				h, _, err := wire.Parse(payload(p))
				if err == nil && h.Sender.ShortID() == b.id && h.MAC != [8]byte{} && (h.Type == wire.EPCReq || h.Type == wire.Hello) {
					again := bytes.Clone(payload(p))
					again[0] = 0
					return again
				}
			}
			t.Fatal("nothing of b was recorded")
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, r, b, evil := newHost(t, "a"), newHost(t, "r"), newHost(t, "b"), newMachine(t, "evil")
			join(1, r, a, evil)
			slowLink(2, 60*time.Millisecond, r, b)
			r.up("--peer", a.address.String(), "--peer", b.address.String())
			flags := []string{"--peer", r.address.String() + "@udp:10.0.1.1:8737", "--peer", b.address.String()}
			b.up("--peer", r.address.String()+"@udp:10.0.2.1:8737", "--peer", a.address.String())
			cable := a.capture("eth1")
			a.up(flags...)
			t.Logf("without an attack, a reaches b after %v", a.meets(b))
			p := a.pinging(b, 100*time.Millisecond, 100)
			time.Sleep(time.Second)
			p.stop()
			if sent, answered := p.score(time.Time{}, time.Now()); answered != sent {
				t.Errorf("without an attack, %d of %d pings are answered", answered, sent)
			}
			lie := c.shot(t, cable.stop(), b)

			a.down(9)
			const ports, rate = 64, 190
			hints := fire(evil, rate, func(i int) shot {
				from := netip.AddrPortFrom(netip.MustParseAddr("10.0.1.3"), uint16(30000+i%ports))
				return shot{from, netip.MustParseAddrPort("10.0.1.2:8737"), lie}
			})
			time.Sleep(200 * time.Millisecond)
			a.up(flags...)
			start := time.Now()
			p = a.pinging(b, 100*time.Millisecond, 100)
			time.Sleep(8 * time.Second)
			within(t, 20*time.Second, "50 pings", func() bool { // a busy machine sends fewer in that time
				sent, _ := p.score(start.Add(2*time.Second), time.Now())
				return sent >= 50
			})
			p.stop()
			end := time.Now()
			status := a.peer(b)
			t.Logf("%d packets were sent; a reaches b: %+v", hints.stop(), status)
			// The first second or two are for finding the relay.
			sent, answered := p.score(start.Add(2*time.Second), end)
			if answered < sent-1 || sent < 50 {
				t.Errorf("with false endpoints, %d of %d pings are answered", answered, sent)
			}
			if status.Path.Kind != overlay.PathRelay {
				t.Errorf("a reaches b by %+v", status.Path)
			}
		})
	}
}

// TestNetAttackReflector: an added peer that names a third party's endpoints has few
// packets sent there.
func TestNetAttackReflector(t *testing.T) {
	t.Parallel()
	n, evil, third := newHost(t, "n"), newMachine(t, "evil"), newMachine(t, "third")
	join(1, n, evil, third)
	id := newIdentity(t)
	n.run(n.bin, "peers", "add", id.Address().String(), "evil", "--state", n.state())
	n.up()
	o := newOutsider(evil, id, 1, n, "10.0.1.1:8737")
	o.meets()
	time.Sleep(time.Second) // beacons become rare

	const count, limit = 5000, 100
	cable, start := third.capture("eth1"), time.Now()
	for i := range count {
		e := wire.UDP(netip.AddrPortFrom(netip.MustParseAddr("10.0.1.3"), uint16(1024+i)))
		o.say(wire.EPI, wire.EPIMsg{Endpoint: e}.Append(nil))
		if i%5 == 0 {
			time.Sleep(max(0, time.Duration(i)*time.Millisecond-time.Since(start)))
		}
	}
	time.Sleep(time.Second)
	got := 0
	for _, p := range cable.stop() {
		if len(p) >= 34 && p[12] == 8 && p[13] == 0 && bytes.Equal(p[26:34], []byte{10, 0, 1, 1, 10, 0, 1, 3}) {
			got++
		}
	}
	t.Logf("%d endpoints of a third party were named; it got %d packets", count, got)
	if got >= limit {
		t.Errorf("a third party got %d packets for %d endpoints named, want under %d", got, count, limit)
	}
	if !o.connected() {
		t.Error("the session with the peer is gone")
	}
}

// TestNetAttackHop: a relay that writes 0 into the hop byte of what it passes on is still
// known to be one.
//
//	a ── eth1 ── r ── eth2 ── b      r's system clears the byte
func TestNetAttackHop(t *testing.T) {
	t.Parallel()
	for _, honest := range []bool{true, false} {
		name := "a relay that lies"
		if honest {
			name = "an honest relay"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, r, b := newHost(t, "a"), newHost(t, "r"), newHost(t, "b")
			join(1, r, a)
			join(2, r, b)
			if !honest {
				r.nft(`table ip m { chain out { type filter hook output priority 0; udp sport 8737 @th,64,8 set 0 udp checksum set 0; } }`)
			}
			onlyIPv4(a, r, b) // the rule sees no other
			r.up("--set", "link.rung=plain", "--peer", a.address.String(), "--peer", b.address.String())
			a.up("--peer", r.address.String()+"@udp:10.0.1.1:8737", "--peer", b.address.String())
			b.up("--peer", r.address.String()+"@udp:10.0.2.1:8737", "--peer", a.address.String())
			a.meets(b)
			cable := a.capture("eth1")
			p := a.pinging(b, 50*time.Millisecond, 100)
			time.Sleep(3 * time.Second)
			p.stop()
			hops := 0
			for _, f := range cable.stop() {
				if u := payload(f); wire.IsSealed(u) && wire.SealedSender(u) == b.id && u[0] != 0 {
					hops++
				}
			}
			if honest == (hops == 0) {
				t.Fatalf("%d packets of b had a hop count: the relay is not what the test wants", hops)
			}
			sent, answered := p.score(time.Time{}, time.Now())
			if answered < sent*9/10 {
				t.Errorf("%d of %d pings are answered", answered, sent)
			}
			for _, way := range [][2]*host{{a, b}, {b, a}} {
				s := way[0].peer(way[1])
				if s.Path.Kind != overlay.PathRelay || s.Path.Via == nil || *s.Path.Via != r.address {
					t.Errorf("%s says that it reaches %s by %+v, want relay", way[0].name, way[1].name, s.Path)
				}
			}
		})
	}
}
