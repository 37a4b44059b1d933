package main_test

import (
	"fmt"
	"syscall"
	"time"
)

// topology is one row of the matrix: where a and b are, and what must come of it.
type topology struct {
	name   string
	a, b   place
	want   way
	limit  time.Duration // for the direct path; 0: a second
	relays int           // 0: one
	change change        // what happens then
	always bool          // it is one of those that run with all tests
}

// way is how two hosts reach each other.
type way string

const (
	direct way = "direct"
	relay  way = "relay"
	none   way = "none"
)

// change is something that happens to a laboratory whose hosts are connected. Connections
// must survive it.
type change struct {
	do   func(l *laboratory) // nil: nothing happens
	idle bool                // no data flows meanwhile
}

// predicted is how long it may take where ports must be predicted.
const predicted = 3 * time.Second

// topologies is the matrix. It states what is possible, whether or not the program can do it
// yet.
var topologies = []topology{
	// Nothing in the way at one end.
	{name: "open-open", a: behind("router"), b: behind("router"), want: direct, always: true},
	{name: "open-home", a: behind("router"), b: behind("home"), want: direct},
	{name: "home-open", a: behind("home"), b: behind("router"), want: direct},
	{name: "open-cone", a: behind("router"), b: behind("cone"), want: direct},
	{name: "open-random", a: behind("router"), b: behind("random"), want: direct},
	{name: "random-open", a: behind("random"), b: behind("router"), want: direct},
	{name: "open-sequential", a: behind("router"), b: behind("sequential"), want: direct},
	{name: "open-carrier", a: behind("router"), b: behind("carrier", "home"), want: direct},
	{name: "open-firewall", a: behind("router"), b: behind("firewall"), want: direct},

	// NATs with one port for all destinations.
	{name: "home-home", a: behind("home"), b: behind("home"), want: direct, always: true},
	{name: "home-cone", a: behind("home"), b: behind("cone"), want: direct},
	{name: "cone-cone", a: behind("cone"), b: behind("cone"), want: direct},
	{name: "home-moved", a: behind("home"), b: behind("moved"), want: direct},
	{name: "known-known", a: behind("known"), b: behind("known"), want: direct},
	{name: "moved-moved", a: behind("moved"), b: behind("moved"), want: direct},
	{name: "home-trusting", a: behind("home"), b: behind("trusting"), want: direct},
	{name: "trusting-trusting", a: behind("trusting"), b: behind("trusting"), want: direct},
	{name: "home-firewall", a: behind("home"), b: behind("firewall"), want: direct},
	{name: "firewall-firewall", a: behind("firewall"), b: behind("firewall"), want: direct},

	// Symmetric NATs, random ones and such whose next port can be predicted.
	{name: "random-cone", a: behind("random"), b: behind("cone"), want: direct},
	{name: "random-home", a: behind("random"), b: behind("home"), want: relay, always: true},
	{name: "fully-home", a: behind("fully"), b: behind("home"), want: relay},
	{name: "random-moved", a: behind("random"), b: behind("moved"), want: relay},
	{name: "random-random", a: behind("random"), b: behind("random"), want: relay},
	{name: "random-known", a: behind("random"), b: behind("known"), want: direct},
	{name: "sequential-cone", a: behind("sequential"), b: behind("cone"), want: direct},
	{name: "sequential-home", a: behind("sequential"), b: behind("home"), want: direct, limit: predicted, always: true},
	{name: "home-sequential", a: behind("home"), b: behind("sequential"), want: direct, limit: predicted},
	{name: "sequential-moved", a: behind("sequential"), b: behind("moved"), want: direct, limit: predicted},
	{name: "sequential-256-home", a: behind("sequential-256"), b: behind("home"), want: direct, limit: predicted},
	{name: "sequential-sequential", a: behind("sequential"), b: behind("sequential"), want: direct, limit: predicted},
	{name: "sequential-random", a: behind("sequential"), b: behind("random"), want: relay},

	// Providers' NATs, and NATs behind NATs.
	{name: "carrier-home", a: behind("carrier", "home"), b: behind("home"), want: direct},
	{name: "home-carrier", a: behind("home"), b: behind("carrier", "home"), want: direct},
	{name: "carrier-carrier", a: behind("carrier", "home"), b: behind("carrier", "home"), want: direct},
	{name: "phone-home", a: behind("carrier"), b: behind("home"), want: direct},
	{name: "carrier-random-home", a: behind("carrier-random", "home"), b: behind("home"), want: relay},
	{name: "carrier-random-cone", a: behind("carrier-random", "home"), b: behind("cone"), want: direct},
	{name: "double-double", a: behind("home", "home"), b: behind("home", "home"), want: direct},
	{name: "neighbours", a: behind("carrier", "home"), b: place{shared: 1, boxes: []string{"home"}}, want: relay},
	{name: "neighbours-hairpin", a: behind("carrier-hairpin", "home"), b: place{shared: 1, boxes: []string{"home"}}, want: direct},

	// Both behind the same box.
	{name: "twins", a: behind("home"), b: place{shared: 1}, want: relay},
	{name: "twins-hairpin", a: behind("hairpin"), b: place{shared: 1}, want: direct},
	{name: "twins-routed", a: behind("home-between-lans"), b: place{shared: 1}, want: direct},
	{name: "same-lan-home", a: behind("home"), b: place{lan: true}, want: direct, always: true},
	{name: "same-lan-random", a: behind("random"), b: place{lan: true}, want: direct},

	// Boxes that open ports.
	{name: "upnp-random", a: behind("upnp"), b: behind("random"), want: direct},
	{name: "random-upnp", a: behind("random"), b: behind("upnp"), want: direct},
	{name: "upnp-upnp", a: behind("upnp"), b: behind("upnp"), want: direct},
	{name: "pcp-random", a: behind("pcp"), b: behind("random"), want: direct},

	// IPv6.
	{name: "ipv6-ipv4", a: only6("firewall"), b: behind("home"), want: relay},
	{name: "ipv6-ipv6", a: only6("firewall"), b: only6("firewall"), want: direct},
	{name: "random-random-ipv6", a: both("random"), b: both("random"), want: direct, always: true},
	{name: "random-ipv6-only", a: both("random"), b: only6("firewall"), want: direct},
	{name: "open-open-ipv6", a: both("router"), b: both("router"), want: direct},

	// Lines.
	{name: "open-open-loss", a: behind("router").by(lossy), b: behind("router"), want: direct, limit: 3 * time.Second},
	{name: "home-home-loss", a: behind("home").by(lossy), b: behind("home"), want: direct, limit: 3 * time.Second},
	{name: "random-random-loss", a: behind("random").by(lossy), b: behind("random"), want: relay},
	{name: "open-open-slow", a: behind("router").by(slow), b: behind("router").by(slow), want: direct, limit: 3 * time.Second},
	{name: "home-home-slow", a: behind("home").by(slow), b: behind("home").by(slow), want: direct, limit: 3 * time.Second},
	{name: "no-udp", a: behind("no-udp"), b: behind("router"), want: none},

	// Changes under load.
	{name: "relay-killed-direct", a: behind("router"), b: behind("router"), want: direct, change: change{do: killRelay}},
	{name: "relay-killed-of-two", a: behind("random"), b: behind("random"), relays: 2, want: relay, change: change{do: killRelay}},
	{name: "relay-restarted", a: behind("random"), b: behind("random"), want: relay, change: change{do: restartRelay}},
	{name: "address-changed-open", a: behind("router"), b: behind("router"), want: direct, change: change{do: changeAddress}},
	{name: "address-changed-home", a: behind("home"), b: behind("home"), want: direct, change: change{do: changeAddress}},
	{name: "address-changed-relay", a: behind("random"), b: behind("random"), want: relay, change: change{do: changeAddress}},
	{name: "moved-to-carrier", a: behind("home"), b: behind("home"), want: direct, change: moveTo("carrier", "home")},
	{name: "nat-rebooted-home", a: behind("home"), b: behind("home"), want: direct, change: change{do: rebootNAT}},
	{name: "nat-rebooted-open", a: behind("home"), b: behind("router"), want: direct, change: change{do: rebootNAT}},
	{name: "nat-rebooted-relay", a: behind("random"), b: behind("random"), want: relay, change: change{do: rebootNAT}},
	{name: "stopped-home", a: behind("home"), b: behind("home"), want: direct, change: stopFor(5 * time.Second)},
	{name: "stopped-relay", a: behind("random"), b: behind("random"), want: relay, change: stopFor(5 * time.Second)},
	{name: "peer-restarted", a: behind("home"), b: behind("home"), want: direct, change: change{do: restartPeer}},
	{name: "stopped-carrier", a: behind("home"), b: behind("carrier", "home"), want: direct, change: idly(stopFor(25 * time.Second))},
	{name: "silent-carrier", a: behind("home"), b: behind("carrier", "home"), want: direct, change: silence(25 * time.Second)},
}

// Places.

// behind is a place with IPv4, behind boxes, from the internet to the host.
func behind(boxes ...string) place { return place{boxes: boxes} }

// both has IPv6 too, whose firewall is the box's.
func both(box string) place { return place{boxes: []string{box}, v6: true} }

// only6 has IPv6 alone.
func only6(box string) place { return place{boxes: []string{box}, v6: true, no4: true} }

// by is the place with another line.
func (p place) by(l line) place {
	p.line = &l
	return p
}

var (
	lossy = line{delay: homeLine.delay, loss: 300} // a packet in three or four is lost, each way
	slow  = line{delay: 150 * time.Millisecond}    // 300 ms from one host to the other
)

// loss is what the lines lose of pings and their replies, in percent.
func (r topology) loss() float64 {
	arrives := 1.0
	for _, p := range []place{r.a, r.b} {
		if p.line != nil {
			arrives *= 1 - float64(p.line.loss)/1000
		}
	}
	return 100 * (1 - arrives*arrives)
}

// trip is the time of a round trip between a and b by a relay.
func (r topology) trip() time.Duration {
	d := 4 * centreLine.delay
	for _, p := range []place{r.a, r.b} {
		l := homeLine
		if p.line != nil {
			l = *p.line
		}
		d += 2 * l.delay
	}
	return d
}

// Changes.

// killRelay kills the relay that is in use, or the first one.
func killRelay(l *laboratory) {
	p, _ := l.peer(l.a, l.b)
	for _, r := range l.relays {
		if p.Path.Via == nil || *p.Path.Via == r.address {
			r.down(syscall.SIGKILL)
			return
		}
	}
}

func restartRelay(l *laboratory) {
	l.relays[0].down(syscall.SIGKILL)
	l.startRelay(l.relays[0])
}

func restartPeer(l *laboratory) {
	l.b.down(syscall.SIGKILL)
	l.startNode(l.b)
}

// changeAddress gives a another address of its network, without the old one.
func changeAddress(l *laboratory) {
	g := l.innermost(l.a)
	n := g.lans[0]
	old, now, gate := n.machines[0], n.prefix.Addr().As4(), n.prefix.Addr().Next()
	now[3] = 77
	l.a.ip(fmt.Sprintf("addr del %s/%d dev eth0", old, n.prefix.Bits()),
		fmt.Sprintf("addr add %d.%d.%d.%d/%d brd + dev eth0", now[0], now[1], now[2], now[3], n.prefix.Bits()),
		fmt.Sprintf("route replace default via %s dev eth0", gate))
}

// moveTo brings a to another place, by another interface.
func moveTo(boxes ...string) change {
	return change{do: func(l *laboratory) {
		p := behind(boxes...)
		chain := l.lay(p, firstRelay+len(l.relays), nil)
		for _, g := range chain {
			g.rule()
		}
		l.a.ip("link set eth0 down")
		l.connect(l.a, p, chain)
	}}
}

// rebootNAT has a's NAT forget everything, and give other ports from then on.
func rebootNAT(l *laboratory) { l.innermost(l.a).reboot() }

// stopFor stops b's daemon for a time.
func stopFor(d time.Duration) change {
	return change{do: func(l *laboratory) {
		daemon := l.b.node.cmd.Process
		daemon.Signal(syscall.SIGSTOP)
		time.Sleep(d)
		daemon.Signal(syscall.SIGCONT)
	}}
}

// idly is a change while no data flows.
func idly(c change) change {
	c.idle = true
	return c
}

// silence is a time in which nobody sends anything.
func silence(d time.Duration) change {
	return idly(change{do: func(*laboratory) { time.Sleep(d) }})
}
