package main_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// TestNetAttackScan: a local program that sends to hundreds of addresses that nobody has
// does not make a node flood the LAN, nor keep it from finding somebody who is there.
//
//	a ── 10.0.1.0/24 ── b, which a has added
//	      '── c, unknown to a
func TestNetAttackScan(t *testing.T) {
	t.Parallel()
	a, b, c := newHost(t, "a"), newHost(t, "b"), newHost(t, "c")
	join(1, a, b, c)
	a.add(b)
	b.add(a)
	// Nobody is to hear c, nor c anybody, before it is looked for.
	c.nft(`table inet f { chain in { type filter hook input priority 0; udp dport 8737 drop; } chain out { type filter hook output priority 0; udp dport 8737 drop; } }`)
	c.up(quiet...)
	a.up(quiet...)
	b.up(quiet...)
	a.meets(b)
	settled(a, b)
	for _, p := range a.status().Peers {
		if p.Address == c.address {
			t.Fatal("a knows c already")
		}
	}

	const scan, after = 3 * time.Second, 1500 * time.Millisecond
	lookups := func(scans bool) (v4, v6 int, found time.Duration) {
		cable := b.capture("eth1")
		start, sent := time.Now(), 0
		conn, err := in(a, func() (*net.UDPConn, error) { return net.ListenUDP("udp6", &net.UDPAddr{IP: a.ula[:]}) })
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		looked := make(chan time.Duration, 1)
		for i := 0; time.Since(start) < scan; i++ {
			if !scans {
				time.Sleep(scan)
				break
			}
			to := a.ula
			for k := 6; k < 16; k++ {
				to[k] = byte(rand.Uint32())
			}
			conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.AddrFrom16(to), 9)) // an error: no route, by now
			sent++
			if i == 200 { // a third of it
				c.nft(`table inet f { chain out { type filter hook output priority 0; udp dport 8737 ip daddr 10.0.1.255 drop; udp dport 8737 ip6 daddr ff02::1 drop; } }`)
				go func() {
					start := time.Now()
					p := a.pinging(c, 100*time.Millisecond, 100)
					for time.Since(start) < 5*time.Second {
						time.Sleep(10 * time.Millisecond)
						if _, answered := p.score(time.Time{}, time.Now()); answered > 0 {
							break
						}
					}
					looked <- time.Since(start)
				}()
			}
			time.Sleep(max(0, time.Duration(i)*5*time.Millisecond-time.Since(start)))
		}
		time.Sleep(after)
		if scans {
			found = <-looked
		}
		for _, f := range cable.stop() {
			h, _, err := wire.Parse(payload(f))
			if err != nil || h.Type != wire.Whois || h.Sender.Address != a.address {
				continue
			}
			switch {
			case f[0] == 0xff:
				v4++
			case f[0] == 0x33:
				v6++
			}
		}
		t.Logf("%d packets to nobody: %d broadcasts and %d multicasts of WHOIS", sent, v4, v6)
		return v4, v6, found
	}
	quiet4, quiet6, _ := lookups(false)
	v4, v6, found := lookups(true)
	const limit = 4*5 + 10 // 4 a second, and what may go at once
	if v4-quiet4 > limit || v6-quiet6 > limit {
		t.Errorf("a scan caused %d broadcasts and %d multicasts in %v, want at most %d of each; without, %d and %d", v4, v6, scan+after, limit, quiet4, quiet6)
	}
	t.Logf("a finds c after %v", found)
	if found > 3*time.Second {
		t.Errorf("beside the scan, c is found after %v", found)
	}
}

// TestNetAttackEvents: events of the system that change nothing cause nothing.
func TestNetAttackEvents(t *testing.T) {
	t.Parallel()
	a, b := upPair(t, quiet...)
	a.ip("addr add fd77::1/64 dev eth1 nodad valid_lft 3600 preferred_lft 1800", "link add other type veth peer name otherp")
	settled(a, b)
	time.Sleep(6 * time.Second) // beacons become rare
	const events, window = 8, 3 * time.Second
	var beacons0, plain0 int
	for _, c := range []struct {
		name string
		do   func(i int)
	}{
		{"nothing", func(int) {}},
		{"an address is announced again", func(int) { a.ip("addr change fd77::1/64 dev eth1 valid_lft 3600 preferred_lft 1800") }},
		{"a link that is down changes", func(i int) { a.ip("link set other alias x" + string(rune('a'+i))) }},
		{"a route comes and goes", func(int) {
			a.ip("route add 192.0.2.0/24 dev eth1", "route del 192.0.2.0/24 dev eth1")
		}},
	} {
		cable := b.capture("eth1")
		time.Sleep(300 * time.Millisecond)
		for i := range events {
			c.do(i)
			time.Sleep(window / events)
		}
		beacons, plain := 0, 0
		for _, f := range cable.stop() {
			p := payload(f)
			if h, _, err := wire.Parse(p); err == nil && h.Sender.ShortID() == a.id {
				plain++
				if f[0] == 0xff && h.Type == wire.EPI {
					beacons++
				}
			}
		}
		t.Logf("%s, %d times: %d broadcasts, %d unsealed packets", c.name, events, beacons, plain)
		switch {
		case c.name == "nothing":
			beacons0, plain0 = beacons, plain
		case beacons > beacons0+1 || plain > plain0+4:
			t.Errorf("%s, %d times in %v: %d broadcasts and %d unsealed packets; without, %d and %d", c.name, events, window, beacons, plain, beacons0, plain0)
		}
	}
}
