package main_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNetHosts reaches a peer by the name of its machine alone, across a router, and again
// after the name has another address. b is not told where a is. The daemon of a has a hosts
// file of its own, and no DNS.
//
//	a ── 10.0.1.0/24 ── router ── 10.0.2.0/24 ── b
func TestNetHosts(t *testing.T) {
	if _, err := exec.LookPath("unshare"); err != nil {
		need(t, "unshare")
	}
	const patience = 45 * time.Second // longer than a name rests after two failures
	a, router, b := newHost(t, "a"), newMachine(t, "router"), newHost(t, "b")
	join(1, router, a)
	join(2, router, b)
	a.ip("route add default via 10.0.1.1")
	b.ip("route add default via 10.0.2.1")
	router.sysctl("ipv4/ip_forward=1")
	b.add(a)
	b.up()

	hosts, dns := a.dir+"/hosts", a.dir+"/resolv.conf"
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(hosts, "10.0.2.99 home.test\n127.0.0.1 self.test\n")
	write(dns, "nameserver 127.0.0.1\n") // nobody listens there
	a.run(a.bin, "peers", "add", b.address.String()+"@home.test", "b", "--state", a.state())
	a.node = a.start("unshare", "--mount", "sh", "-ec", `mount --bind "$1" /etc/hosts; mount --bind "$2" /etc/resolv.conf; shift 2; exec "$@"`,
		"sh", hosts, dns, a.bin, "daemon", "--state", a.state(), "--socket", a.socket())
	a.ready()
	shows := func(line ...string) {
		t.Helper()
		text := strings.Join(line, "\t")
		within(t, patience, text, func() bool {
			return slices.Contains(strings.Split(a.anode("peers", "endpoints", "b", "--tsv"), "\n"), text)
		})
	}
	shows("udp:home.test:8737", "given")
	shows("udp:10.0.2.99:8737", "address of home.test")
	if a.pings(b) {
		t.Fatal("a reaches b at an address that nobody has")
	}
	write(hosts, "10.0.2.2 home.test\n127.0.0.1 self.test\n")
	began := time.Now()
	within(t, patience, "the new address", func() bool { return a.pings(b) })
	t.Logf("the name has another address, and a pings b after %v", time.Since(began))
	shows("udp:10.0.2.2:8737", "address of home.test")
	if p := a.peer(b); p.Path.Endpoint != "udp:10.0.2.2:8737" {
		t.Errorf("%+v", p)
	}

	a.anode("peers", "endpoints", "add", "b", "self.test", "nowhere.test:1")
	shows("udp:self.test:8737", "given, no address of it can be that of another machine")
	shows("udp:nowhere.test:1", "given, DNS cannot be asked, or answers with an error")
	a.anode("peers", "endpoints", "remove", "b", "self.test", "nowhere.test:1", "home.test")
	if out := a.anode("peers", "endpoints", "b"); strings.Contains(out, ".test") {
		t.Error(out)
	}
	if !a.pings(b) {
		t.Error("a path that works has gone with the name")
	}
	sound(t, a, b)
}
