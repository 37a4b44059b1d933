package main_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNetDiscovery: machines that know each other's addresses and nothing of where
// the other is find each other, on every sort of LAN. The wanted time from the start
// to the first ping is 300 ms.
func TestNetDiscovery(t *testing.T) {
	const wanted = 300 * time.Millisecond
	for _, c := range []struct {
		name string
		link string // a sysctl of the link, or an address to be taken off
		way  string // how the endpoint begins
	}{
		{name: "both", way: "udp:"},
		{name: "IPv4 alone", link: "ipv6/conf/eth1/disable_ipv6=1", way: "udp:10.0.1."},
		{name: "IPv6 link-local alone", way: "udp:[fe80::"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			for i, h := range []*host{a, b} {
				switch {
				case c.link != "":
					h.sysctl(c.link)
				case c.way == "udp:[fe80::":
					h.ip(fmt.Sprintf("addr del 10.0.1.%d/24 dev eth1", i+1))
				}
			}
			for _, h := range []*host{a, b} {
				within(t, dialWait, "the link's addresses", func() bool {
					return !strings.Contains(h.run("ip", "-6", "addr"), "tentative")
				})
			}
			a.launch()
			b.launch()
			took := a.meets(b)
			t.Logf("both start, and a pings b after %v", took)
			if took > wanted {
				t.Logf("that is more than the wanted %v", wanted)
			}
			p := a.peer(b)
			if p.State != "up" || p.Path.Kind != "lan" || !strings.HasPrefix(p.Path.Endpoint, c.way) {
				t.Errorf("%+v", p)
			}
		})
	}
	t.Run("link up later", func(t *testing.T) {
		a, b := pair(t)
		a.ip("link set eth1 down")
		a.up()
		b.up()
		a.ip("link set eth1 up")
		t.Logf("the link comes up, and a pings b after %v", a.meets(b))
	})
	t.Run("added later", func(t *testing.T) {
		a, b := newHost(t, "a"), newHost(t, "b")
		join(1, a, b)
		a.up()
		b.up()
		a.add(b)
		b.add(a)
		t.Logf("they are added, and a pings b after %v", a.meets(b))
	})
	t.Run("without IPv6", func(t *testing.T) {
		a, b := pair(t)
		for _, h := range []*host{a, b} {
			h.sysctl("ipv6/conf/all/disable_ipv6=1")
			h.sysctl("ipv6/conf/default/disable_ipv6=1") // the adapter has it all the same
			h.up()
		}
		a.meets(b)
	})
	t.Run("in another zone", func(t *testing.T) {
		a, b := newHost(t, "a"), newMachine(t, "b")
		join(1, a, b)
		b.run(b.bin, "id", "--state", b.state(), "--zone", "deadbeef")
		b.identify()
		a.add(b)
		b.add(a)
		a.up()
		b.up()
		a.meets(b)
		b.meets(a)
		if !strings.HasPrefix(b.ula.String(), "fdde:adbe:ef") {
			t.Errorf("the ULA of b is %s", b.ula)
		}
	})
}

// TestNetRouted: across a router nobody hears beacons. One side is told where the other
// is, and the other learns it; the machines' own IPv6 networks are let alone.
//
//	a ── 10.0.1.0/24, fd77:1::/64 ── router ── 10.0.2.0/24, fd77:2::/64 ── b
func TestNetRouted(t *testing.T) {
	for _, c := range []struct{ name, endpoint string }{{"IPv4", "10.0.2.2"}, {"IPv6", "[fd77:2::2]"}} {
		t.Run(c.name, func(t *testing.T) {
			a, router, b := newHost(t, "a"), newMachine(t, "router"), newHost(t, "b")
			join(1, router, a)
			join(2, router, b)
			for i, h := range []*host{a, b} {
				dev := fmt.Sprintf("eth%d", i+1)
				router.ip(fmt.Sprintf("addr add fd77:%d::1/64 dev %s nodad", i+1, dev))
				h.ip(fmt.Sprintf("addr add fd77:%d::2/64 dev %s nodad", i+1, dev),
					fmt.Sprintf("route add default via 10.0.%d.1", i+1), fmt.Sprintf("-6 route add fd77::/16 via fd77:%d::1", i+1))
			}
			router.sysctl("ipv4/ip_forward=1")
			router.sysctl("ipv6/conf/all/forwarding=1")
			a.run(a.bin, "peers", "add", b.address.String(), "b", "--endpoint", "udp:"+c.endpoint+":8737", "--state", a.state())
			b.add(a)
			b.up()
			a.up()
			t.Logf("the first ping comes back after %v", a.meets(b))
			b.meets(a)
			// While the hosts look for their neighbours, a connection may have been quicker.
			within(t, 20*time.Second, "a direct path by UDP", func() bool {
				out := a.anode("ping", "b", "-c1")
				return strings.Contains(out, " ms, direct udp:"+c.endpoint+":8737\n")
			})
			for _, way := range [][2]*host{{a, b}, {b, a}} {
				if p := way[0].peer(way[1]); p.State != "up" || p.Path.Kind != "direct" {
					t.Errorf("%s: %+v", way[0].name, p)
				}
			}
			transfer(t, a, b, 8<<20)
			b.down(syscall.SIGKILL)
			b.up() // and it knows where a was
			b.meets(a)
			sound(t, a, b)
		})
	}
}

// TestNetPrograms: ordinary programs use the adapter.
func TestNetPrograms(t *testing.T) {
	for _, tool := range []string{"ping", "curl", "iperf3", "ssh", "sshd", "ssh-keygen"} {
		if _, err := exec.LookPath(tool); err != nil {
			need(t, tool)
		}
	}
	a, b := upPair(t)
	step(t, "ping", func(t *testing.T) {
		// Without -w it waits for the last reply for two round trips only.
		out := a.run("ping", "-6", "-n", "-c5", "-i0.02", "-w10", b.ula.String())
		for n := 1; n <= 5; n++ {
			if strings.Count(out, fmt.Sprintf(" icmp_seq=%d ", n)) != 1 {
				t.Error(out)
			}
		}
	}, a, b)
	step(t, "anode ping", func(t *testing.T) {
		out := a.anode("ping", "b", "-c3", "-i0.02")
		if !strings.Contains(out, "3 packets transmitted, 3 received, 0% packet loss") ||
			strings.Count(out, " udp:") != 3 || !strings.Contains(out, ":8737\n") {
			t.Error(out)
		}
	}, a, b)
	step(t, "curl", func(t *testing.T) {
		page := strings.Repeat("a page ", 100_000)
		go http.Serve(b.listen(80), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) }))
		if out := a.run("curl", "-sS", "--max-time", "20", "http://"+b.at(80)+"/"); out != page {
			t.Errorf("%d bytes instead of %d", len(out), len(page))
		}
	}, a, b)
	step(t, "iperf3", func(t *testing.T) {
		for _, mode := range []string{"", "-R", "--bidir -P2"} {
			rate := a.iperf(b, append(strings.Fields(mode), "-t1")...)
			t.Logf("iperf3 %s: %.2f Gbit/s", mode, rate/1e9)
			if rate < 10e6 {
				t.Errorf("iperf3 %s: %.0f bit/s", mode, rate)
			}
		}
	}, a, b)
	step(t, "ssh", func(t *testing.T) { ssh(t, a, b) }, a, b)
	sound(t, a, b)
}

// sshd runs an SSH server on the host's adapter, which lets root in with a key of a file; it returns the
// server's public key.
func (h *host) sshd(authorized string) (server *process, public string) {
	h.t.Helper()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd wants it
		h.t.Fatal(err)
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		h.t.Fatal(err)
	}
	key := filepath.Join(h.dir, "host")
	h.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	server = h.start(sshd, "-D", "-e", "-f", "/dev/null", "-h", key,
		"-o", "ListenAddress="+h.at(22), "-o", "AuthorizedKeysFile="+authorized, "-o", "PidFile=none",
		"-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes")
	within(h.t, dialWait, "sshd", func() bool { return strings.Contains(server.output(), "listening") })
	b, err := os.ReadFile(key + ".pub")
	if err != nil {
		h.t.Fatal(err)
	}
	return server, string(b)
}

// ssh logs in from a on b, and has files sent both ways.
func ssh(t *testing.T, a, b *host) {
	user := filepath.Join(a.dir, "user")
	a.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", user)
	server, public := b.sshd(user + ".pub")
	known := filepath.Join(a.dir, "known")
	if err := os.WriteFile(known, fmt.Appendf(nil, "%s %s", b.ula, public), 0o600); err != nil {
		t.Fatal(err)
	}
	out := a.run("ssh", "-F", "none", "-i", user, "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
		"root@"+b.ula.String(), `echo "$SSH_CONNECTION"; head -c 10000000 /dev/zero | sha256sum`)
	want := fmt.Sprintf("%s ", a.ula)
	if sum := fmt.Sprintf("%x", sha256.Sum256(make([]byte, 10_000_000))); !strings.HasPrefix(out, want) || !strings.Contains(out, sum) {
		t.Errorf("ssh says %s; want it from %sand %s", out, want, sum)
	}
	server.end(syscall.SIGTERM)
	if t.Failed() {
		t.Log(server.output())
	}
}

// TestNetStatus: status --json has every field that scripts were promised.
func TestNetStatus(t *testing.T) {
	a, b := upPair(t)
	nobody := newHost(t, "nobody")
	a.add(nobody)
	var status map[string]any
	a.decode(a.anode("status", "--json"), &status)
	fields := func(where string, v any, names string) map[string]any {
		m, ok := v.(map[string]any)
		if !ok {
			t.Fatalf("%s is %v", where, v)
		}
		for _, name := range strings.Fields(names) {
			if _, ok := m[name]; !ok {
				t.Errorf("%s has no %s", where, name)
			}
		}
		return m
	}
	fields("status", status, "schema address id ula zone version uptime_s tun listen peers counters")
	if status["schema"] != 1.0 || status["address"] != a.address.String() || status["id"] != a.id.String() || status["ula"] != a.ula.String() {
		t.Errorf("%v", status)
	}
	tun := fields("tun", status["tun"], "name mtu")
	if tun["name"] != "anode0" || tun["mtu"] != 1440.0 {
		t.Errorf("tun %v", tun)
	}
	peers, _ := status["peers"].([]any)
	if len(peers) != 2 {
		t.Fatalf("peers %v", status["peers"])
	}
	for i, want := range []struct {
		*host
		state, kind any
	}{{b, "up", "lan"}, {nobody, nil, "none"}} {
		where := fmt.Sprintf("peers[%d]", i)
		p := fields(where, peers[i], "address id ula name allowed state path rx_bytes tx_bytes last_seen")
		path := fields(where+".path", p["path"], "kind endpoint via rtt_ms mtu")
		if p["address"] != want.address.String() || p["name"] != want.name || p["allowed"] != true || path["kind"] != want.kind ||
			want.state != nil && p["state"] != want.state {
			t.Errorf("%s is %v", where, p)
		}
	}
	if c := fields("counters", status["counters"], "rx_packets tx_packets"); c["rx_packets"] == 0.0 {
		t.Errorf("counters %v", c)
	}
}

// TestNetVerbs: the exit codes of the verbs, and errors that say what to try.
func TestNetVerbs(t *testing.T) {
	a, b := upPair(t)
	away, stranger := newHost(t, "away"), newHost(t, "stranger")
	a.add(away)
	expect := func(code int, text string, args ...string) {
		t.Helper()
		out, got := a.tryAnode(args...)
		if got != code || !strings.Contains(out, text) {
			t.Errorf("anode %s: exit code %d, want %d; %q in:\n%s", strings.Join(args, " "), got, code, text, out)
		}
	}
	for _, text := range []string{"b", b.address.String(), b.ula.String(), b.id.String(), b.id.String()[:8]} {
		expect(0, "1 received", "ping", text, "-c1")
		expect(0, b.ula.String(), "ip", text)
		expect(0, b.address.String(), "whois", text)
	}
	expect(0, a.ula.String(), "ip")
	expect(0, a.address.String(), "id")
	expect(0, "away", "peers", "list")
	expect(0, `"schema": 1`, "peers", "list", "--json")
	expect(0, `"schema": 1`, "whois", "b", "--json")
	expect(0, "", "version")
	expect(0, "", "config", "example")
	expect(0, "complete", "completion", "bash")

	expect(1, "try:", "peers", "add", stranger.address.String(), "b") // a name that is taken
	expect(1, "", "peers", "add", a.address.String())                 // itself
	expect(1, "", "config", "check", "/nowhere.toml")

	for _, line := range []string{"pin b", "ping", "ping b c", "ping b -c -1", "ping b -s -1", "ping b -i 0", "ping b --nonsense", "peers frob", "peers add", "daemon --port 70000", "status now"} {
		expect(2, "try:", strings.Fields(line)...)
	}
	expect(2, "", "ping", "b", "-c1", "-s", "100000")

	mistyped := stranger.address.String()[:63]
	expect(2, "63", "peers", "add", mistyped) // characters, it says
	expect(2, "try:", "peers", "add", "axyz")
	expect(4, "try:", "ping", "nobody", "-c1")
	expect(4, "try:", "ip", "nobody")
	expect(4, "try:", "peers", "remove", "nobody")
	expect(4, "try:", "peers", "rename", stranger.address.String(), "x")
	expect(4, "try:", "whois", stranger.ula.String())
	expect(5, "try:", "ping", "away", "-c1", "-W0.5")
	expect(5, "try:", "ping", stranger.address.String(), "-c1", "-W0.5")

	expect(0, "renamed", "peers", "rename", "away", "renamed")
	expect(0, "blocked", "peers", "block", "renamed")
	expect(0, "removed", "peers", "remove", "renamed")
	expect(4, "", "peers", "remove", "renamed")

	expect(0, "stopped", "down")
	a.node.wait(dialWait)
	for _, line := range []string{"status", "ping b", "peers list", "down"} {
		expect(3, "try:", strings.Fields(line)...)
	}
	a.node = nil
}

// TestNetState: the verbs that need no daemon make and keep a state of their own, and
// all that list speak JSON.
func TestNetState(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	for _, c := range []struct {
		file string
		mode os.FileMode
	}{{"identity", 0o600}, {"", 0o700 | os.ModeDir}} {
		if info, err := os.Stat(filepath.Join(a.state(), c.file)); err != nil || info.Mode() != c.mode {
			t.Errorf("%s: %v, %v", c.file, info.Mode(), err)
		}
	}
	text := a.run(a.bin, "id", "--state", a.state())
	if !strings.Contains(text, a.address.String()) || !strings.Contains(text, a.ula.String()) {
		t.Error(text)
	}
	a.add(b)
	var book struct {
		Schema int
		Peers  []struct{ Address, Name string }
	}
	a.decode(a.run(a.bin, "peers", "list", "--json", "--state", a.state()), &book)
	if book.Schema != 1 || len(book.Peers) != 1 || book.Peers[0].Name != "b" || book.Peers[0].Address != b.address.String() {
		t.Errorf("%+v", book)
	}
	if err := os.Chmod(filepath.Join(a.state(), "identity"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := a.try(a.bin, "id", "--state", a.state())
	if code != 1 || strings.Contains(out, a.address.String()) {
		t.Errorf("an identity that others can read: exit code %d, %s", code, out)
	}
}

// TestNetSecret: with a network secret, only those who have it get a session.
func TestNetSecret(t *testing.T) {
	a, b, c := newHost(t, "a"), newHost(t, "b"), newHost(t, "c")
	hosts := []*host{a, b, c}
	join(1, hosts...)
	for _, h := range hosts {
		for _, other := range hosts {
			if other != h {
				h.add(other)
			}
		}
	}
	secret := filepath.Join(a.dir, "secret")
	a.run(a.bin, "config", "secret", secret)
	a.up("--set", "secret=file:"+secret)
	b.up("--set", "secret=file:"+secret)
	c.up()
	a.meets(b)
	b.meets(a)
	if out, code := c.tryAnode("ping", "a", "-c1", "-W2"); code != 5 {
		t.Errorf("without the secret: exit code %d, %s", code, out)
	}
}

// TestNetNoAdapter: a node without an adapter answers pings, and sends them.
func TestNetNoAdapter(t *testing.T) {
	a, b := pair(t)
	a.up()
	before := b.network()
	b.up("--tun", "none")
	a.meets(b)
	a.anode("ping", "b", "-c1")
	b.anode("ping", "a", "-c1")
	if after := b.network(); !slices.Equal(before, after) {
		t.Errorf("the network of b was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	var status map[string]any
	b.decode(b.anode("status", "--json"), &status)
	if tun, ok := status["tun"]; !ok || tun != nil {
		t.Errorf("tun is %v", tun)
	}
}

// TestNetCapture: a capture of the link holds nothing of what was sent, and what is
// captured is all of it.
func TestNetCapture(t *testing.T) {
	a, b := upPair(t)
	const marker = "The cable shall not see these words."
	cable, adapter := b.capture("eth1"), a.capture("anode0")
	const pages = 200
	go http.Serve(b.listen(80), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat(marker, pages)) }))
	if out := a.run("curl", "-sS", "--max-time", "20", "http://"+b.at(80)+"/"+strings.ReplaceAll(marker, " ", "+")); strings.Count(out, marker) != pages {
		t.Errorf("%d words came", strings.Count(out, marker))
	}
	a.run("ping", "-6", "-c2", "-i0.1", "-p", "5365637265745478", b.ula.String()) // SecretTx
	seen, inside := cable.stop(), adapter.stop()
	bytes := 0
	for _, p := range seen {
		bytes += len(p)
		for _, clear := range []string{marker, "shall", "HTTP/", "curl", "SecretTx", string(a.ula[:]), string(b.ula[:])} {
			if strings.Contains(string(p), clear) {
				t.Errorf("on the cable: %q", clear)
			}
		}
	}
	if bytes < pages*len(marker) {
		t.Errorf("%d bytes in %d packets were captured: that proves nothing", bytes, len(seen))
	}
	found := map[string]bool{} // the nodes answer pings themselves, so these are the sender's
	for _, p := range inside {
		for _, clear := range []string{"shall", "SecretTx", string(a.ula[:])} {
			if strings.Contains(string(p), clear) {
				found[clear] = true
			}
		}
	}
	if len(found) != 3 {
		t.Errorf("of the words, the capture found %q on the adapter: it cannot be trusted", slices.Collect(maps.Keys(found)))
	}
}
