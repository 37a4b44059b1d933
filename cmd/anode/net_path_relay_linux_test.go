package main_test

import (
	"syscall"
	"testing"
	"time"

	"anodenet/overlay"
)

// TestNetRelayMoves: a TCP connection through a relay goes on when the client moves, when
// the relay restarts, and when the NAT in front of the client does.
//
//	c ── 10.0.1.0/24, eth1 ── router ── 10.0.3.0/24 ── r ── 10.0.4.0/24 ── d
//	 '── 10.0.2.0/24, eth2 ──'    c starts on eth1; eth2 takes 20 ms each way
func TestNetRelayMoves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		before func(router *host)
		happen func(c, router *host, restart func())
	}{
		{"the client moves to a slower network", nil, func(c, _ *host, _ func()) {
			c.ip("link set eth1 down", "route replace default via 10.0.2.1")
		}},
		{"the relay restarts", nil, func(_, _ *host, restart func()) { restart() }},
		{"the NAT restarts", func(router *host) { rebind(router, "eth3", 20001) },
			func(_, router *host, _ func()) { rebind(router, "eth3", 20002) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, router, r, d := newHost(t, "c"), newMachine(t, "router"), newHost(t, "r"), newHost(t, "d")
			router.sysctl("ipv4/ip_forward=1")
			join(1, router, client)
			slowLink(2, 20*time.Millisecond, router, client)
			join(3, router, r)
			join(4, r, d)
			client.ip("route add default via 10.0.1.1")
			r.ip("route add 10.0.0.0/16 via 10.0.3.1")
			onlyIPv4(client, r, d)
			if c.before != nil {
				c.before(router)
			}
			// r is not told where its clients are, and does not keep it.
			flags := append(quiet, "--peer", client.address.String(), "--peer", d.address.String())
			client.run(client.bin, "peers", "add", r.address.String(), "r", "--endpoint", "udp:10.0.3.2:8737", "--state", client.state())
			client.add(d)
			d.run(d.bin, "peers", "add", r.address.String(), "r", "--endpoint", "udp:10.0.4.1:8737", "--state", d.state())
			d.run(d.bin, "peers", "add", client.address.String(), "c", "--state", d.state())
			r.up(flags...)
			client.up(quiet...)
			d.up(quiet...)
			client.meets(d)
			d.meets(client)
			if p := client.peer(d); p.Path.Kind != overlay.PathRelay {
				t.Fatalf("c reaches d by %+v", p.Path)
			}

			const pace, limit = 500_000, 4 * time.Second // 3, and a margin
			all := []*stream{streaming(t, client, d, false, pace), streaming(t, client, d, true, pace)}
			time.Sleep(1500 * time.Millisecond)
			for _, s := range all {
				s.healthy(t, s.began.Add(slot), time.Second)
			}
			happened := time.Now()
			c.happen(client, router, func() {
				r.down(syscall.SIGKILL)
				r.launch(flags...)
			})
			time.Sleep(limit + 2*time.Second)
			for _, s := range all {
				s.healthy(t, happened, limit)
				s.stop()
			}
			sound(t, client, d)
		})
	}
}

// TestNetRelayLeft: two peers that talk through a relay talk directly as soon as they
// can, without any event on their machines.
//
//	a ── 9.0.1.0/24 ── router ── 9.0.2.0/24 ── b      it lets nothing pass between a and b
//	      r ── 9.0.3.0/24 ──'
func TestNetRelayLeft(t *testing.T) {
	t.Parallel()
	a, b, r := newHost(t, "a"), newHost(t, "b"), newHost(t, "r")
	router := newRouter(t, a, b, r)
	for i, h := range []*host{a, b, r} {
		// Public addresses: private ones are only tried on the same link.
		public(router, h, i+1)
	}
	router.nft(`table ip f { chain through { type filter hook forward priority 0; ip saddr 9.0.1.0/24 ip daddr 9.0.2.0/24 drop; ip saddr 9.0.2.0/24 ip daddr 9.0.1.0/24 drop; } }`)
	r.up(append(quiet, "--peer", a.address.String(), "--peer", b.address.String())...)
	a.up(append(quiet, "--peer", r.address.String()+"@udp:9.0.3.2:8737", "--peer", b.address.String())...)
	b.up(append(quiet, "--peer", r.address.String()+"@udp:9.0.3.2:8737", "--peer", a.address.String())...)
	a.meets(b)
	b.meets(a)
	p := a.pinging(b, 100*time.Millisecond, 100)
	time.Sleep(3 * time.Second)
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		if s := way[0].peer(way[1]); s.Path.Kind != overlay.PathRelay {
			t.Fatalf("%s reaches %s by %+v, which cannot be", way[0].name, way[1].name, s.Path)
		}
	}
	start := time.Now()
	router.nft(`table ip f { }`)
	direct := func(h, other *host) bool { return h.peer(other).Path.Kind == overlay.PathDirect }
	const limit = 10 * time.Second
	for time.Since(start) < limit && !(direct(a, b) && direct(b, a)) {
		time.Sleep(20 * time.Millisecond)
	}
	took := time.Since(start)
	p.stop()
	sent, answered := p.score(time.Time{}, time.Now())
	t.Logf("a reaches b by %+v %v after it can; %d of %d pings were answered", a.peer(b).Path, took, answered, sent)
	if took >= limit {
		t.Errorf("%v after they can reach each other, a reaches b by %+v and b reaches a by %+v", took, a.peer(b).Path, b.peer(a).Path)
	}
	if answered < sent-1 {
		t.Errorf("%d of %d pings were answered", answered, sent)
	}
}
