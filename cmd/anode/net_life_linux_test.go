package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNetKill: whatever ends a daemon, nothing of it stays in the kernel, and what is
// orderly also says goodbye in order.
func TestNetKill(t *testing.T) {
	a, b := pair(t)
	b.up()
	before := a.network()
	for _, c := range []struct {
		name string
		end  func() int
		code int
	}{
		{"kill -9", func() int { return a.down(syscall.SIGKILL) }, -1},
		{"SIGTERM", func() int { return a.down(syscall.SIGTERM) }, 0},
		{"SIGINT", func() int { return a.down(syscall.SIGINT) }, 0},
		{"anode down", func() int {
			a.anode("down")
			return a.node.wait(dialWait)
		}, 0},
	} {
		step(t, c.name, func(t *testing.T) {
			a.up()
			a.meets(b)
			if slices.Equal(before, a.network()) {
				t.Error("the daemon is not seen in the kernel at all")
			}
			start := time.Now()
			if code := c.end(); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			t.Logf("gone after %v", time.Since(start))
			if after := a.network(); !slices.Equal(before, after) {
				t.Errorf("the network was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			if _, err := os.Lstat(a.socket()); c.code == 0 && err == nil {
				t.Error("the socket is still there")
			}
			a.node = nil
		}, a, b)
	}
}

// TestNetRestarts: a node that is killed again and again keeps its identity and its
// peers, and the other side, which goes on sending, has it back within two seconds.
func TestNetRestarts(t *testing.T) {
	const wanted = 2 * time.Second
	restarts := 20
	if long() {
		restarts = 100
	}
	a, b := upPair(t)
	address, book := a.address, a.decided()
	var worst, sum time.Duration
	for i := range restarts {
		s := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[i%2]
		a.down(s)
		a.launch()
		took := b.meets(a)
		worst, sum = max(worst, took), sum+took
	}
	t.Logf("%d restarts: the other side's pings come through again after %v on average, %v at most", restarts, sum/time.Duration(restarts), worst)
	if worst > wanted {
		t.Errorf("that is more than %v", wanted)
	}
	a.ready()
	a.identify()
	if a.address != address {
		t.Errorf("the address was %s and is %s", address, a.address)
	}
	if now := a.decided(); !slices.Equal(now, book) {
		t.Errorf("the peers were %q and are %q", book, now)
	}
	if n := len(b.status().Peers); n != 1 {
		t.Errorf("b has %d peers", n)
	}
}

// decided lists what people decided about the daemon's peers.
func (h *host) decided() (list []string) {
	h.t.Helper()
	for _, p := range h.status().Peers {
		list = append(list, fmt.Sprint(p.Address, p.Name, p.Allowed, p.Blocked))
	}
	return list
}

// TestNetSurvives: a connection outlives the restart of a daemon below it.
func TestNetSurvives(t *testing.T) {
	a, b := upPair(t)
	b.echoTCP(7)
	c, err := a.dial(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	talks := func() time.Duration {
		t.Helper()
		start := time.Now()
		c.SetDeadline(start.Add(20 * time.Second))
		data, buf := random(1, 100_000), make([]byte, 100_000)
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || !bytes.Equal(buf, data) {
			t.Fatalf("other bytes, or %v", err)
		}
		return time.Since(start)
	}
	talks()
	b.down(syscall.SIGKILL)
	b.up()
	t.Logf("b was restarted: an exchange on the old connection took %v", talks())
	a.down(syscall.SIGKILL)
	a.up()
	t.Logf("a was restarted: an exchange on the old connection took %v", talks())
}

// TestNetLinks: links that come and go, and addresses that change, stop a connection
// for a moment.
func TestNetLinks(t *testing.T) {
	const wanted = 5 * time.Second
	a, b := pair(t)
	for _, h := range []*host{a, b} {
		h.sysctl("ipv6/conf/eth1/disable_ipv6=1") // else the link-local address is always another way
	}
	a.up()
	b.up()
	a.meets(b)
	b.echoTCP(7)
	c, err := a.dial(b, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	back := func(t *testing.T) {
		t.Helper()
		took := a.meets(b)
		t.Logf("pings come through after %v", took)
		if took > wanted {
			t.Errorf("that is more than %v", wanted)
		}
		c.SetDeadline(time.Now().Add(30 * time.Second))
		data, buf := random(1, 50_000), make([]byte, 50_000)
		if _, err := c.Write(data); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil || !bytes.Equal(buf, data) {
			t.Errorf("the connection: other bytes, or %v", err)
		}
	}
	for _, s := range []struct {
		name string
		do   func()
	}{
		{"down and up", func() { a.ip("link set eth1 down", "link set eth1 up") }},
		{"another address", func() { a.ip("addr del 10.0.1.1/24 dev eth1", "addr add 10.0.1.11/24 brd + dev eth1") }},
		{"another network", func() {
			a.ip("addr del 10.0.1.11/24 dev eth1", "addr add 10.9.0.1/24 brd + dev eth1")
			b.ip("addr del 10.0.1.2/24 dev eth1", "addr add 10.9.0.2/24 brd + dev eth1")
		}},
		{"a second link, and the first one goes", func() {
			join(2, a, b)
			a.ip("link del eth1")
		}},
	} {
		step(t, s.name, func(t *testing.T) {
			s.do()
			back(t)
		}, a, b)
	}
}

// TestNetRefused: what stands in the way of a start is said, with what to try, and
// nothing is left behind.
func TestNetRefused(t *testing.T) {
	a, b := pair(t)
	refused := func(h *host, exit int, says string, flags ...string) {
		t.Helper()
		before := h.network()
		out, code := h.try(append([]string{h.bin, "daemon"}, flags...)...)
		if code != exit || !strings.Contains(out, says) || !strings.Contains(out, "try:") {
			t.Errorf("%v: exit code %d, want %d; %q and what to try in:\n%s", flags, code, exit, says, out)
		}
		if after := h.network(); !slices.Equal(before, after) {
			t.Errorf("%v: the network was\n%q\nand is\n%q", flags, before, after)
		}
	}
	other := func(h *host, n int) []string {
		return []string{"--state", fmt.Sprintf("%s/other%d", h.dir, n), "--socket", fmt.Sprintf("%s/other%d.sock", h.dir, n)}
	}

	port, err := in(b, func() (net.PacketConn, error) { return net.ListenPacket("udp", ":8737") })
	if err != nil {
		t.Fatal(err)
	}
	refused(b, 1, "8737", "--state", b.state(), "--socket", b.socket())
	b.up("--port", "0") // any other port will do, beacons are heard all the same
	port.Close()

	a.up()
	a.meets(b)
	refused(a, 1, "another", "--state", a.state(), "--socket", a.dir+"/else.sock", "--port", "0", "--tun", "else")
	refused(a, 1, "another daemon", "--state", a.dir+"/else", "--socket", a.socket(), "--port", "0", "--tun", "else")
	refused(a, 1, "8737", append(other(a, 1), "--tun", "else")...)
	refused(a, 1, "anode0", append(other(a, 2), "--port", "0")...)
	refused(a, 2, "nope", append(other(a, 3), "--port", "0", "--tun", "else", "--set", "tun.nope=1")...)
	refused(a, 2, "1279", append(other(a, 4), "--port", "0", "--tun", "else", "--set", "tun.mtu=1279")...)
	a.meets(b) // and the first daemon has not noticed
	a.start(append([]string{a.bin, "daemon", "--port", "0", "--tun", "else"}, other(a, 5)...)...)
	within(t, dialWait, "a second daemon with all things its own", func() bool {
		_, code := a.try(a.bin, "status", "--socket", a.dir+"/other5.sock")
		return code == 0
	})
}

// TestNetUp: anode up tells what it does, and cleans up after Ctrl-C.
func TestNetUp(t *testing.T) {
	a, b := pair(t)
	b.up()
	before := a.network()
	up := a.start(a.bin, "up", "--state", a.state(), "--socket", a.socket())
	a.meets(b)
	within(t, dialWait, "up to tell of b", func() bool { return strings.Contains(up.output(), "b ("+b.id.String()+") is connected") })
	if out := up.output(); !strings.Contains(out, a.address.String()) || !strings.Contains(out, a.ula.String()) {
		t.Error(out)
	}
	if code := up.end(syscall.SIGINT); code != 0 || !strings.Contains(up.output(), "Stopped") {
		t.Errorf("exit code %d, %s", code, up.output())
	}
	if after := a.network(); !slices.Equal(before, after) {
		t.Errorf("the network was\n%s\nand is\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// TestNetIdle: nodes with nothing to do are small, and sleep. Beacons and whatever
// else wakes them become ever rarer, so that soon there are seconds without a wakeup.
func TestNetIdle(t *testing.T) {
	const (
		wantedRSS = 30 << 10 // kB
		window    = 3 * time.Second
		limit     = time.Minute
		few       = 5 // switches of all threads in a window
	)
	a, b := upPair(t)
	a.run("ping", "-6", "-q", "-c3", "-i0.1", b.ula.String())
	switches := func(h *host) int { return h.proc("task/*/status", "voluntary_ctxt_switches") }
	var seen [][2]int
	for start := time.Now(); ; {
		a0, b0 := switches(a), switches(b)
		<-time.After(window)
		now := [2]int{switches(a) - a0, switches(b) - b0}
		seen = append(seen, now)
		if now[0] <= few && now[1] <= few {
			break
		}
		if time.Since(start) > limit {
			t.Errorf("no %v without wakeups in %v", window, limit)
			break
		}
	}
	t.Logf("context switches of a and b in each %v: %v", window, seen)
	for _, h := range []*host{a, b} {
		rss := h.resident()
		t.Logf("%s: %d kB resident", h.name, rss)
		if rss > wantedRSS {
			t.Errorf("%s: %d kB resident, want at most %d", h.name, rss, wantedRSS)
		}
	}
	if p := a.peer(b); p.State != "up" {
		t.Errorf("after that, b is %s", p.State)
	}
}
