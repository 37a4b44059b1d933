package main_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// TestNetResolvedCapture: while a node comes up, joins, is asked, is asked 50,000 times a second, while
// resolved restarts, and after the node's end, no query leaves that concerns us, and all other names are
// looked up at the servers that had them before.
//
//	north -- eth2 -- names -- eth1 -- lan: 10.0.1.2, has .lan and what is in 10.in-addr.arpa
//	                       '- eth3 -- provider: 10.0.3.2, has all else
func TestNetResolvedCapture(t *testing.T) { eachDebian(t, resolvedCapture) }

func resolvedCapture(t *testing.T, d debian) {
	r, north, provider := newResolving(t, d), newMachine(t, "north"), newMachine(t, "provider")
	join(2, r.host, north)
	join(3, r.host, provider)
	r.sysctl("ipv6/conf/eth3/disable_ipv6=1")
	provider.answersAll("10.0.3.2:53")
	r.splitNames()
	w, atPeer := r.listenAll(namesSuffix, captureReverse), north.listenAll(namesSuffix, captureReverse)
	others, etc, before := r.others(), r.watchEtc(), w.others(r)

	north.fresh()
	r.fresh()
	link := north.invites("guest").Link
	r.anode("join", link, "--as", "north")
	within(t, namesFresh, "resolved to be told", func() bool { return r.names().Resolver.Applied })
	if v := r.names().Domains; !slices.Contains(v, captureReverse) {
		t.Fatalf("the zones are %v", v)
	}
	ours := func() {
		t.Helper()
		r.everyLookup("x.north."+namesSuffix, north.ula.String())
		for _, args := range [][]string{
			{"getent", "hosts", north.ula.String()}, {"getent", "hosts", r.ula.String()}, {"getent", "ahosts", "nobody." + namesSuffix},
			{"getent", "ahosts", "self." + namesSuffix}, {"ping", "-c1", "-W2", "north." + namesSuffix},
			{"dig", "+tries=1", "+time=2", "north." + namesSuffix, "ANY"}, {"dig", "+tries=1", "+time=2", "north." + namesSuffix, "MX"}, {"dig", "+tries=1", "+time=2", namesSuffix, "NS"},
			{"dig", "+tries=1", "+time=2", "+tcp", "north." + namesSuffix, "AAAA"},
		} {
			r.try(args...)
		}
	}
	ours()
	w.same(t, "while the node runs", before, w.others(r))
	r.stopResolved()
	r.launchResolved()
	within(t, reapplied, "resolved after its restart", func() bool { _, code := r.try("resolvectl", "status"); return code == 0 })
	within(t, reapplied, "resolved to be told again", func() bool { return strings.Contains(r.run("resolvectl", "domain", "anode0"), namesSuffix) })
	r.splitNames()
	ours()
	w.same(t, "after a restart of resolved", before, w.others(r))
	stop := r.flood(t, r.names().Server, 64)
	for range 10 { // an answer may get lost in the flood, and must not be looked for elsewhere
		r.soon("getent", "ahosts", "north."+namesSuffix)
		r.soon("getent", "ahosts", "nobody."+namesSuffix)
	}
	if n := stop(); n < 10000 {
		t.Errorf("only %d queries a second", n)
	}
	if n := r.names().Counters["dns_refused"]; n > 0 {
		t.Errorf("we were asked for %d names that are not ours", n)
	}
	if now := r.others(); now != others {
		t.Errorf("resolved's other settings were\n%s\nand are\n%s", others, now)
	}
	asked := len(w.heard(0))
	for _, p := range atPeer.heard(0) {
		if p.link == adapterLink {
			t.Errorf("it came to the peer: %v", p)
		}
	}
	// What a peer asks passes the adapter: the watch is not deaf.
	if got := north.dig(r.names().Server, "self."+namesSuffix, "AAAA"); !strings.HasPrefix(got, "nothing") {
		t.Errorf("a peer asked and got %s", got)
	}
	peers := w.heard(asked)
	if !slices.ContainsFunc(peers, func(p spotted) bool { return p.link == adapterLink && !p.out && p.ours }) {
		t.Error("the query of a peer was not heard")
	}
	if i := slices.IndexFunc(peers, func(p spotted) bool { return p.link == adapterLink && p.out }); i >= 0 {
		t.Errorf("the query of a peer was answered: %v", peers[i])
	}
	ends := len(w.heard(0))
	r.down(syscall.SIGTERM)
	w.same(t, "after the node's end", before, w.others(r))
	for _, p := range slices.Concat(w.heard(0)[:asked], w.heard(ends)) {
		if why := p.wrong(); why != "" {
			t.Errorf("%s: %v", why, p)
		}
	}
	if n := w.lost(); n > 0 {
		t.Errorf("%d packets were not heard", n)
	}
	etc.untouched(t)
}

// captureReverse is the zone of new nodes, as "anode dns" says it.
const captureReverse = "0.0.0.0.0.0.0.0.d.f.ip6.arpa"

// splitNames gives each of the cables a server.
func (r *resolving) splitNames() {
	r.t.Helper()
	for _, args := range [][]string{
		{"dns", "eth1", "10.0.1.2"}, {"domain", "eth1", "lan", "~10.in-addr.arpa"}, {"default-route", "eth1", "no"},
		{"dns", "eth3", "10.0.3.2"}, {"default-route", "eth3", "yes"},
	} {
		r.run(append([]string{"resolvectl"}, args...)...)
	}
}

// wrong says what is wrong with a packet that was heard; "": nothing.
func (p spotted) wrong() string {
	upstream := p.link == "eth1" && p.with(netip.MustParseAddrPort("10.0.1.2:53")) || p.link == "eth3" && p.with(netip.MustParseAddrPort("10.0.3.2:53"))
	// LLMNR, by which resolved asks whether the machine's name is free. It does so on the adapter too, if it
	// sees that before we have told it otherwise. It does not come to the peer.
	multicast := p.to.Port() == 5355 && p.to.Addr().IsMulticast()
	switch {
	case p.link == adapterLink && !multicast:
		return "it passes the adapter"
	case p.ours:
		return "a name of ours leaves"
	case !upstream && !multicast:
		return "this is no server of before"
	}
	return ""
}

// with reports whether the packet is to or from somebody.
func (p spotted) with(server netip.AddrPort) bool { return p.from == server || p.to == server }

// asks are the servers that a question went to.
type asks map[string]bool // "eth1 10.0.1.2:53 printer.lan. AAAA"

// others looks names up that are not ours, and returns who was asked for them.
func (w *nameWatch) others(r *resolving) asks {
	r.t.Helper()
	r.run("resolvectl", "flush-caches")
	mark := len(w.heard(0))
	for _, args := range [][]string{
		{"getent", "ahosts", "www.example.com"}, {"getent", "ahosts", "printer.lan"}, {"getent", "ahosts", "printer"}, {"getent", "ahosts", "anode.example"},
		{"getent", "ahosts", "internal.example"}, {"getent", "hosts", "10.0.1.9"}, {"getent", "hosts", "192.0.2.7"}, {"getent", "hosts", "2001:db8::7"}, {"getent", "hosts", "fdff::7"},
		{"dig", "+tries=1", "+time=2", "example.com", "MX"}, {"dig", "+tries=1", "+time=2", "other.internal", "AAAA"}, {"dig", "+tries=1", "+time=2", "internal", "SOA"},
		{"dig", "+tries=1", "+time=2", "notanode.internal", "AAAA"}, {r.musl, "musl.example"},
	} {
		r.try(args...)
	}
	found := make(asks)
	for _, p := range w.heard(mark) {
		if p.out && p.to.Port() == 53 {
			found[p.link+" "+p.to.String()+" "+p.question] = true
		}
	}
	return found
}

// same reports an error if others were asked than before.
func (w *nameWatch) same(t *testing.T, when string, before, now asks) {
	t.Helper()
	if len(before) < 12 {
		t.Fatalf("only these were heard: %v", slices.Sorted(maps.Keys(before)))
	}
	if !maps.Equal(before, now) {
		t.Errorf("%s: asked before were\n%s\nand now\n%s", when, strings.Join(slices.Sorted(maps.Keys(before)), "\n"), strings.Join(slices.Sorted(maps.Keys(now)), "\n"))
	}
}

// TestSpotted: a watch that hears nothing wrong must be able to.
func TestSpotted(t *testing.T) {
	server := netip.MustParseAddrPort("10.0.3.2:53")
	for _, c := range []struct {
		p    spotted
		want string
	}{
		{spotted{link: "eth3", to: server}, ""},
		{spotted{link: "eth3", from: server}, ""},
		{spotted{link: "eth3", to: server, ours: true}, "a name of ours leaves"},
		{spotted{link: "eth1", to: server}, "this is no server of before"},
		{spotted{link: adapterLink, to: server}, "it passes the adapter"},
	} {
		if got := c.p.wrong(); got != c.want {
			t.Errorf("%v: %q, want %q", c.p, got, c.want)
		}
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("north.anode.internal."), Type: dnsmessage.TypeAAAA}}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	packet := append([]byte{0x60, 39: 1, 40: 0xc0, 41: 0, 42: 0, 43: 53, 44: 0, 47: 0}, b...)
	packet[6] = 17
	if p := parseSpotted(packet); p.question != "north.anode.internal. AAAA" || p.to.Port() != 53 {
		t.Errorf("%v", p)
	}
}
