package main_test

import (
	"slices"
	"strings"
	"time"
)

// blockage is a row of the second matrix: networks that let little through. The relay has a
// public address. It is started by "anode up --relay --zone IP", and a and b by
// "anode up --zone IP", with nothing else but the flags that the row names.
type blockage struct {
	name     string
	a, b     place
	nginx    bool // in front of the relay's zone file, on its port 80
	cable    bool // a and b are on a cable without IP addresses, and there is nothing else
	flags    []string
	want     way
	kind     string        // the transport of a's packets
	reasons  []string      // codes of a's reasons, one of which must be given; none: nothing is wrong
	changes  []transition  // under load
	pause    time.Duration // the longest in which an application may get nothing; 0: maxPause
	always   bool          // it is one of those that run with all tests
	hopeless bool          // a cannot reach the zone at all; the identity was made elsewhere
}

// transition is a change of what a network lets through, and what must come of it.
type transition struct {
	name   string
	do     func(l *laboratory)
	want   way
	kind   string
	within time.Duration // of the change
	quick  time.Duration // after which it happens
	slow   time.Duration // the same if there is time
}

// Limits of these rows. The first is that of a network where the node has not been before.
const (
	firstTime    = 3 * time.Second
	secondTime   = 2 * time.Second
	backToUDP    = 15 * time.Second
	fallBack     = 3 * time.Second
	steadyFor    = time.Second // the time that a path must last, to count as found
	blockedWait  = 20 * time.Second
	hopelessWait = 6 * time.Second
)

// byUDP, byTCP, ... are what paths are called in endpoints.
const (
	byUDP      = "udp"
	byTCP      = "tcp"
	byHTTP     = "http"
	byEthernet = "eth"
)

var blockages = []blockage{
	// UDP is dropped.
	{name: "udp-blocked", a: behind("no-udp"), b: behind("home"), want: relay, kind: byTCP, reasons: udpBlocked, always: true},
	{name: "udp-blocked-other", a: behind("home"), b: behind("no-udp"), want: relay, kind: byUDP, reasons: anyReason},
	{name: "udp-blocked-both", a: behind("no-udp"), b: behind("no-udp"), want: relay, kind: byTCP, reasons: udpBlocked},
	{name: "udp-blocked-open", a: behind("no-udp"), b: behind("router"), want: direct, kind: byTCP, reasons: anyReason},
	{name: "open-udp-blocked", a: behind("router"), b: behind("no-udp"), want: direct, kind: byTCP, reasons: anyReason},

	// The web is let through.
	{name: "only-80-443", a: behind("web"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "only-80-443-both", a: behind("web"), b: behind("web"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "only-80-443-open", a: behind("web"), b: behind("router"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "nginx", a: behind("web"), b: behind("home"), nginx: true, want: relay, kind: byHTTP, reasons: udpBlocked},

	// A proxy, and nothing else.
	{name: "proxy-only", a: behind("tinyproxy"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked, always: true},
	{name: "proxy-only-password", a: behind("tinyproxy-password"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-only-squid", a: behind("squid"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-only-squid-password", a: behind("squid-password"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-only-squid-digest", a: behind("squid-digest"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-only-both", a: behind("tinyproxy"), b: behind("squid"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-buffering", a: behind("buffering"), b: behind("home"), want: relay, kind: byHTTP, reasons: udpBlocked},
	{name: "proxy-nginx", a: behind("tinyproxy"), b: behind("home"), nginx: true, want: relay, kind: byHTTP, reasons: udpBlocked},

	// Nothing.
	{name: "captive-portal", a: behind("portal"), b: behind("home"), want: none, hopeless: true, reasons: []string{"captive_portal"},
		changes: []transition{{name: "portal opened", do: func(l *laboratory) { l.openPortal(l.a) }, want: direct, kind: byUDP, within: backToUDP, quick: time.Second, slow: 5 * time.Second}}},
	{name: "no-ip", cable: true, flags: []string{"--set", "link.ethernet=eth1"}, want: direct, kind: byEthernet, reasons: anyReason, always: true},

	// Firewalls that change their mind.
	{name: "udp-dies-after-20s", a: behind("home"), b: behind("home"), want: direct, kind: byUDP,
		changes: []transition{udpDies(relay, byTCP), udpWorks()}},
	{name: "udp-dies-open", a: behind("home"), b: behind("router"), want: direct, kind: byUDP, always: true,
		changes: []transition{udpDies(direct, byTCP), udpWorks()}},
	{name: "udp-dies-only-80", a: behind("home"), b: behind("home"), want: direct, kind: byUDP,
		changes: []transition{{name: "web alone", do: func(l *laboratory) { l.webAlone(l.a) }, want: relay, kind: byHTTP, within: fallBack, quick: 3 * time.Second, slow: 20 * time.Second}}},
	{name: "udp-works-after-20s", a: behind("no-udp"), b: behind("home"), want: relay, kind: byTCP, reasons: udpBlocked,
		changes: []transition{udpWorks()}},
	{name: "udp-works-relayed", a: behind("no-udp-random"), b: behind("random"), want: relay, kind: byTCP, reasons: udpBlocked,
		changes: []transition{{name: "UDP works", do: udpThrough, want: relay, kind: byUDP, within: backToUDP, quick: 3 * time.Second, slow: 20 * time.Second}}},

	// Firewalls that forget a connection, and say nothing or reset it.
	{name: "tcp-dies", a: behind("no-udp"), b: behind("home"), want: relay, kind: byTCP, reasons: udpBlocked, pause: deadFound,
		changes: []transition{tcpDies(relay, "drop")}},
	{name: "tcp-dies-direct", a: behind("no-udp"), b: behind("router"), want: direct, kind: byTCP, reasons: anyReason, pause: deadFound,
		changes: []transition{tcpDies(direct, "drop")}},
	{name: "tcp-reset", a: behind("no-udp"), b: behind("home"), want: relay, kind: byTCP, reasons: udpBlocked,
		changes: []transition{tcpDies(relay, "reject with tcp reset")}},
	{name: "tcp-reset-direct", a: behind("no-udp"), b: behind("router"), want: direct, kind: byTCP, reasons: anyReason,
		changes: []transition{tcpDies(direct, "reject with tcp reset")}},
}

// udpBlocked are what a says where nothing by UDP gets through to it, and it reaches b all the same.
var udpBlocked = []string{"udp_silent"}

// anyReason leaves it open what a says of its path.
var anyReason = []string{""}

func udpDies(want way, kind string) transition {
	return transition{name: "UDP dies", do: func(l *laboratory) { l.blockUDP(l.a, true) }, want: want, kind: kind, within: fallBack, quick: 3 * time.Second, slow: 20 * time.Second}
}

func udpWorks() transition {
	return transition{name: "UDP works", do: udpThrough, want: direct, kind: byUDP, within: backToUDP, quick: 3 * time.Second, slow: 20 * time.Second}
}

func udpThrough(l *laboratory) { l.blockUDP(l.a, false) }

// deadFound is how long a connection may say nothing until it counts as dead.
const deadFound = 10 * time.Second

// tcpDies has the box next to a do something to what belongs to the connections that are open, and let
// new ones through. Others must take their place.
func tcpDies(want way, what string) transition {
	do := func(l *laboratory) {
		before := l.a.connections()
		if len(before) == 0 {
			l.t.Error("a has no connection")
			return
		}
		ports := strings.Join(before, ", ")
		l.innermost(l.a).run("nft", table("inet cut", map[string][]string{
			"forward { type filter hook forward priority -1": {"tcp sport { " + ports + " } " + what, "tcp dport { " + ports + " } " + what},
		}))
		within(l.t, 2*deadFound, "another connection", func() bool {
			return slices.ContainsFunc(l.a.connections(), func(port string) bool { return !slices.Contains(before, port) })
		})
	}
	return transition{name: "connections end: " + what, do: do, want: want, kind: byTCP, within: fallBack, quick: 3 * time.Second, slow: 20 * time.Second}
}

// connections lists the ports of the host's connections to nodes.
func (h *host) connections() (ports []string) {
	h.t.Helper()
	for line := range strings.Lines(h.run("ss", "-Htn", "state", "established", "dport", "=", ":8737")) {
		if f := strings.Fields(line); len(f) >= 4 {
			ports = append(ports, f[2][strings.LastIndex(f[2], ":")+1:])
		}
	}
	return ports
}

// webAlone has the box next to a host let the web through alone.
func (l *laboratory) webAlone(h *host) {
	g := l.innermost(h)
	g.closed, g.lets = true, boxes["web"].lets
	g.rule()
}

// transport is how a host's packets for another one leave it.
func (l *laboratory) transport(h, other *host) string {
	p, ok := l.peer(h, other)
	if !ok {
		return ""
	}
	return kindOf(p.Path.Endpoint)
}
