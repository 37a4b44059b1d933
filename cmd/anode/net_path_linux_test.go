package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// dataOverhead is what a packet of the adapter's grows by on a wire of UDP over IPv4: the
// sealed packet around it without what it need not repeat of the IPv6 header, and 28 bytes.
const dataOverhead = wire.SealedOverhead + wire.IP6Header - 40 + 28

// rightSize reports whether a status's MTU is what a path of so many bytes takes, or
// little less: the sizes that are asked for lie up to 40 bytes apart. Virtual links
// let through 4 bytes more than they say.
func rightSize(mtu, path int) bool {
	fits := path - dataOverhead
	return mtu >= fits-40 && mtu <= fits+4
}

// sizes waits until both hosts say what the path between them takes.
func sizes(t *testing.T, a, b *host, path int) {
	t.Helper()
	const limit = 3 * time.Second
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		mtu, start := 0, time.Now()
		for ; time.Since(start) < limit+time.Second; time.Sleep(20 * time.Millisecond) {
			if mtu = way[0].peer(way[1]).Path.MTU; rightSize(mtu, path) {
				break
			}
		}
		took := time.Since(start)
		t.Logf("%s to %s: on a path of %d, the status says %d after %v", way[0].name, way[1].name, path, mtu, took)
		if !rightSize(mtu, path) {
			t.Errorf("%s to %s: on a path of %d, the status says that %d bytes fit after %v, want %d", way[0].name, way[1].name, path, mtu, took, path-dataOverhead)
		}
	}
}

// fullSize checks that packets as long as the status says that they may be come through,
// each of them, both ways. Below 1280 bytes, which IPv6 promises, packets go in pieces.
func fullSize(t *testing.T, a, b *host) {
	t.Helper()
	for _, way := range [][2]*host{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		size := min(max(from.peer(to).Path.MTU, 1280), max(to.peer(from).Path.MTU, 1280))
		p := from.pinging(to, 20*time.Millisecond, size)
		p.atLeast(t, 50) // a second
		p.stop()
		sent, answered := p.score(time.Time{}, time.Now())
		t.Logf("%s to %s: %d of %d pings of %d bytes are answered", from.name, to.name, answered, sent, size)
		if answered != sent {
			t.Errorf("%s to %s: %d of %d pings of %d bytes are answered", from.name, to.name, answered, sent, size)
		}
	}
}

// TestNetPathSizes: where the two ends' links differ, or a router between them is narrower,
// nodes find what fits, and what they say that fits comes through.
func TestNetPathSizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		path  int // what it takes
		setup func(t *testing.T, a, b *host)
		flags []string
	}{
		{"1500 here and 1400 there", 1400, func(_ *testing.T, a, b *host) {
			join(1, a, b)
			b.ip("link set eth1 mtu 1400")
		}, nil},
		{"9000 here and 1500 there", 1500, func(_ *testing.T, a, b *host) {
			join(1, a, b)
			a.ip("link set eth1 mtu 9000")
		}, []string{"--set", "tun.mtu=8900"}},
		{"a router of 1300", 1300, func(t *testing.T, a, b *host) { routed(t, a, b, 1300, true) }, nil},
		{"a router of 1300 without ICMP", 1300, func(t *testing.T, a, b *host) { routed(t, a, b, 1300, false) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t, "a"), newHost(t, "b")
			c.setup(t, a, b)
			onlyIPv4(a, b)
			a.add(b)
			b.add(a)
			if strings.Contains(c.name, "router") {
				a.run(a.bin, "peers", "add", b.address.String(), "b", "--endpoint", "udp:10.0.2.2:8737", "--state", a.state())
			}
			a.up(c.flags...)
			b.up(c.flags...)
			a.meets(b)
			b.meets(a)
			sizes(t, a, b, c.path)
			fullSize(t, a, b)
			up, down := streaming(t, a, b, false, 4<<20), streaming(t, a, b, true, 4<<20)
			time.Sleep(2 * time.Second)
			for _, s := range []*stream{up, down} {
				s.healthy(t, s.began.Add(slot), time.Second)
				s.stop()
			}
			sound(t, a, b)
		})
	}
}

// routed puts a router between two hosts, narrower than their links.
func routed(t *testing.T, a, b *host, mtu int, icmp bool) (router *host) {
	t.Helper()
	router = newRouter(t, a, b)
	a.ip("route add default via 10.0.1.1")
	b.ip("route add default via 10.0.2.1")
	if !icmp {
		router.nft(`table ip n { chain out { type filter hook output priority 0; meta l4proto icmp drop; } }`)
	}
	narrowed(router, mtu)
	return router
}

// narrowed has a router take packets of a length at most, from either side.
func narrowed(router *host, mtu int) {
	router.t.Helper()
	for n := 1; n <= 2; n++ {
		router.ip(fmt.Sprintf("route replace 10.0.%d.0/24 dev eth%d mtu %d", n, n, mtu))
	}
}

// TestNetPathChanges: a path that shrinks under a transfer, and grows again, is measured
// anew with no event on either machine: what fits is known soon, nothing of that size is lost
// from then on, and the transfer goes on.
func TestNetPathChanges(t *testing.T) {
	t.Parallel()
	const limit = 4 * time.Second // 3, and a margin
	for _, icmp := range []bool{true, false} {
		name := "with ICMP"
		if !icmp {
			name = "without ICMP"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t, "a"), newHost(t, "b")
			router := routed(t, a, b, 1500, icmp)
			onlyIPv4(a, b)
			a.run(a.bin, "peers", "add", b.address.String(), "b", "--endpoint", "udp:10.0.2.2:8737", "--state", a.state())
			b.add(a)
			a.up()
			b.up()
			a.meets(b)
			b.meets(a)
			const fits = 1440 // the adapter's MTU, with which 1498 leave
			within(t, limit, "the size of the path", func() bool { return a.peer(b).Path.MTU == fits && b.peer(a).Path.MTU == fits })
			up, down := streaming(t, a, b, false, 4<<20), streaming(t, a, b, true, 4<<20)
			time.Sleep(time.Second)
			for _, s := range []*stream{up, down} {
				s.healthy(t, s.began.Add(slot), time.Second)
			}

			shrunk := time.Now()
			narrowed(router, 1300)
			sizes(t, a, b, 1300)
			fullSize(t, a, b)
			for _, s := range []*stream{up, down} {
				s.healthy(t, shrunk, limit)
			}

			grown := time.Now()
			narrowed(router, 1500)
			for _, way := range [][2]*host{{a, b}, {b, a}} {
				mtu := 0
				for mtu != fits && time.Since(grown) < limit+time.Second {
					mtu = way[0].peer(way[1]).Path.MTU
					time.Sleep(20 * time.Millisecond)
				}
				t.Logf("%s to %s: grown, the status says %d after %v", way[0].name, way[1].name, mtu, time.Since(grown))
				if mtu != fits {
					t.Errorf("%s to %s: %v after the path has grown, the status says that %d bytes fit, want %d", way[0].name, way[1].name, time.Since(grown), mtu, fits)
				}
			}
			fullSize(t, a, b)
			for _, s := range []*stream{up, down} {
				s.healthy(t, grown, limit)
				s.stop()
			}
			sound(t, a, b)
		})
	}
}
