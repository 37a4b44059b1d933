package platform

import (
	"encoding/binary"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// peersOf makes n addresses of peers.
func peersOf(n int) map[netip.Addr]bool {
	m := make(map[netip.Addr]bool, n)
	for i := range n {
		a := ula.As16()
		binary.BigEndian.PutUint32(a[12:], uint32(i+2))
		m[netip.AddrFrom16(a)] = true
	}
	return m
}

// TestGuard reads the table with the system's own tool, and shows that nobody else can
// change it, and that it goes with its socket.
func TestGuard(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal("needs nft")
	}
	inSpace(t, func() {
		g, err := openGuard(7, ula)
		if err != nil {
			t.Error(err)
			return
		}
		defer g.close()
		out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
		t.Logf("%s", out)
		for _, want := range []string{
			"table ip6 anode_7 {", "flags owner",
			"type filter hook prerouting priority raw; policy accept;",
			"type filter hook postrouting priority raw; policy accept;",
			"ip6 daddr fd12:3456:7890::1 counter name \"to_us\" drop",
			"ip6 saddr fd12:3456:7890::1 ip6 daddr != ff00::/8 counter name \"as_us\" drop",
			"ip6 saddr @peers counter name \"as_peer\" drop",
			"ip6 daddr @peers counter name \"outside\" drop",
			`iif 7 accept`, `iif "lo" accept`, `oif 7 accept`, `oif "lo" accept`,
			"iifgroup 1634627428 accept", "oifgroup 1634627428 accept",
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q", want)
			}
		}
		g.conn.mu.Lock() // as while a change waits
		if c, err := g.counters(); err != nil || len(c) != len(guardDrops) {
			t.Errorf("counters during a change: %v, %v", c, err)
		}
		g.conn.mu.Unlock()
		for _, n := range []int{3, 10_000, 4000, 0, 5} {
			peers := peersOf(n)
			if err := g.set(peers); err != nil {
				t.Errorf("%d peers: %v", n, err)
			}
			out, _ := exec.Command("nft", "list", "set", "ip6", "anode_7", "peers").CombinedOutput()
			if got := strings.Count(string(out), "fd12:"); got != n {
				t.Errorf("%d peers, want %d", got, n)
			}
		}
		counters, err := g.counters()
		if err != nil || len(counters) != len(guardDrops) {
			t.Errorf("counters %v, %v", counters, err)
		}
		other, err := openGuard(8, ula)
		if err != nil {
			t.Error(err)
			return
		}
		for _, line := range []string{"flush ruleset", "delete table ip6 anode_7", "flush table ip6 anode_7", "flush set ip6 anode_7 peers"} {
			out, err := exec.Command("nft", strings.Fields(line)...).CombinedOutput()
			t.Logf("nft %s: %v %s", line, err, out)
		}
		out, _ = exec.Command("nft", "list", "ruleset").CombinedOutput()
		if n := strings.Count(string(out), "accept\n"); n != 12 || strings.Count(string(out), "fd12:") != 4+5 {
			t.Errorf("somebody else changed it:\n%s", out)
		}
		if err := openAgain(7); err == nil {
			t.Error("two guards for one interface")
		}
		g.close()
		other.close()
		if out, _ := exec.Command("nft", "list", "ruleset").CombinedOutput(); len(out) != 0 {
			t.Errorf("left behind:\n%s", out)
		}
		if err := g.set(peersOf(1)); err == nil {
			t.Error("a closed guard takes peers")
		}
	})
}

func openAgain(index int) error {
	g, err := openGuard(index, ula)
	if err == nil {
		g.close()
	}
	return err
}

// FuzzNetlink: whatever the kernel says, reading it ends well.
func FuzzNetlink(f *testing.F) {
	var e encoder
	e.message(1, 0, []byte{10, 0, 0, 0}, func() {
		e.text(2, "to_us")
		e.nest(4, func() { e.attr(2, 0, 0, 0, 0, 0, 0, 0, 9) })
	})
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		total := 0
		_ = eachMessage(b, func(_ header, body []byte) bool {
			total += len(body)
			parseCounter(body)
			_ = errnoOf(body)
			return true
		})
		if total > len(b) {
			t.Errorf("%d bytes of %d", total, len(b))
		}
	})
}

func TestCounterMessage(t *testing.T) {
	var e encoder
	e.message(1, 0, []byte{10, 0, 0, 0}, func() {
		e.text(2, "to_us")
		e.nest(4, func() { e.attr(2, 0, 0, 0, 0, 0, 0, 0, 9) })
	})
	err := eachMessage(e.b, func(h header, body []byte) bool {
		name, n, ok := parseCounter(body)
		if h.kind != 1 || h.seq != 1 || name != "to_us" || n != 9 || !ok {
			t.Errorf("%+v %q %d %v", h, name, n, ok)
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}
