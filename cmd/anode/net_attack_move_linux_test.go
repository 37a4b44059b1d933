package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestNetAttackMove: a peer that gets another address is back at once, also while
// somebody off the path forges packets in its name, a hundred a second.
//
//	n ── 10.0.1.0/24 ── router ── 10.0.2.0/24 ── b
//	      evil ── 10.0.3.0/24 ──'
func TestNetAttackMove(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second // 2, and a margin
	for _, c := range []struct {
		name  string
		setup func(router *host)
		move  func(t *testing.T, router, b *host, to int)
	}{
		{
			"another address", func(*host) {},
			func(_ *testing.T, _, b *host, to int) {
				b.ip("addr flush dev eth2", fmt.Sprintf("addr add 10.0.2.%d/24 brd + dev eth2", to), "route add default via 10.0.2.1")
			},
		},
		{
			"another port of a NAT", func(router *host) { rebind(router, "eth1", 20000) },
			func(_ *testing.T, router, _ *host, to int) { rebind(router, "eth1", 20000+to) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n, b, evil := newHost(t, "n"), newHost(t, "b"), newMachine(t, "evil")
			router := newRouter(t, n, b, evil)
			for i, h := range []*host{n, b, evil} {
				h.ip(fmt.Sprintf("route add default via 10.0.%d.1", i+1))
			}
			n.add(b)
			b.run(b.bin, "peers", "add", n.address.String(), "n", "--endpoint", "udp:10.0.1.2:8737", "--state", b.state())
			c.setup(router)
			n.up(quiet...)
			b.up(quiet...)
			b.meets(n)
			n.meets(b)

			r := rand.New(rand.NewPCG(1, 0))
			for i, attack := range []bool{false, true} {
				name, forged := "without forged packets", (*volley)(nil)
				if attack {
					name = "with 100 forged packets a second"
					forged = fire(evil, 100, func(int) shot {
						// Not from port 8737, whose place in the NAT is b's.
						from := netip.AddrPortFrom(netip.MustParseAddr("10.0.3.2"), 9737)
						return shot{from, netip.MustParseAddrPort("10.0.1.2:8737"), sealedLike(r, b.id, n.id, 0)}
					})
					time.Sleep(1500 * time.Millisecond)
				}
				// b sends little, so that what is forged outweighs it.
				out, back := n.pinging(b, 50*time.Millisecond, 100), b.pinging(n, 250*time.Millisecond, 100)
				time.Sleep(500 * time.Millisecond)
				c.move(t, router, b, 20+i)
				start := time.Now() // what ip and nft take is not the node's
				time.Sleep(limit + time.Second)
				end := time.Now()
				if attack {
					t.Logf("%d packets were forged", forged.stop())
				}
				for _, p := range []struct {
					way string
					*pinger
				}{{"n to b", out}, {"b to n", back}} {
					p.stop()
					silence := p.silence(start, end)
					t.Logf("%s, %s: no ping comes through for %v", name, p.way, silence)
					if silence > limit {
						sent, answered := p.score(start, end)
						t.Errorf("%s, %s: no ping comes through for %v, want at most %v; %d of %d were answered", name, p.way, silence, limit, answered, sent)
					}
				}
			}
		})
	}
}

// rebind has a router translate the addresses of what leaves by an interface, and gives a
// node behind it a port of its own. What it knew of connections is gone: it restarted.
func rebind(router *host, dev string, port int) {
	router.t.Helper()
	router.nft(fmt.Sprintf(`table ip nat { chain out { type nat hook postrouting priority 100; oifname %q udp sport 8737 masquerade to :%d; oifname %q masquerade; } }`, dev, port, dev))
	_, err := in(router, func() (struct{}, error) {
		return struct{}{}, netlink.ConntrackTableFlush(netlink.ConntrackTable)
	})
	if err != nil {
		router.t.Fatal(err)
	}
}
