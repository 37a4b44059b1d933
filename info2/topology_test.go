package info2

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// TestEarlyEnd: a host that closes our link early rests for a minute, then two;
// one that has kept it for long is not to blame.
func TestEarlyEnd(t *testing.T) {
	b := newBench(t)
	a := ip("10.0.0.2")
	for i, c := range []struct{ stays, rests time.Duration }{
		{settleTime, pauseShort}, {settleTime, 2 * pauseShort}, {young, askAgain}, {settleTime, pauseShort},
	} {
		b.core.topology.filling = true
		b.core.hosts.add(b.now, a, netip.Addr{})
		b.core.pump(b.now)
		b.act()
		id, _ := b.answerDial()
		b.pass(c.stays)
		b.eof(id)
		if rests := b.core.hosts.byAddr[a].next.Sub(b.now); rests != c.rests {
			t.Errorf("%d: rests for %v, want %v", i, rests, c.rests)
		}
		b.pass(c.rests - time.Second)
		if len(b.dials) != 0 {
			t.Errorf("%d: dialled too early", i)
		}
		b.pass(time.Second)
	}
}

// TestDialBudget: five at once at first, then one a second, never more than
// four under way; a failure rests for 15 minutes, then 30.
func TestDialBudget(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		b.core.hosts.add(b.now, netip.AddrFrom4([4]byte{20, byte(i), 0, 1}), netip.Addr{})
	}
	b.core.pump(b.now)
	b.act()
	if len(b.dials) != dialsAtOnce {
		t.Fatalf("%d dials at once", len(b.dials))
	}
	tried := make(map[netip.Addr][]time.Duration)
	count := 0
	for range 3 * 3600 {
		for _, d := range b.dials {
			count++
			tried[d.addr] = append(tried[d.addr], b.now.Sub(t0))
			b.core.dialed(b.now, d.id, netip.Addr{}, errSim)
		}
		b.dials = nil
		b.pass(time.Second)
		if limit := int(b.now.Sub(t0).Seconds()) + int(dialBurst); count > limit {
			t.Fatalf("%d dials after %v", count, b.now.Sub(t0))
		}
	}
	for a, at := range tried {
		if len(at) != hearsayTries || at[1]-at[0] < pauseFirst || at[2]-at[1] < 2*pauseFirst {
			t.Errorf("%v dialled at %v", a, at)
		}
	}
	if len(tried) != 20 {
		t.Errorf("%d hosts tried", len(tried))
	}
}

// TestNeverDialled has the addresses that are refused, and who may name private
// ones.
func TestNeverDialled(t *testing.T) {
	b := newBench(t)
	b.core.reach.learn(here)
	for _, a := range []string{
		"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"::", "::1", "ff02::1", "10.0.0.1",
	} {
		if b.core.reach.dialable(ip(a)) {
			t.Errorf("%s would be dialled", a)
		}
		if err := b.core.connect(b.now, ip(a)); err == nil {
			t.Errorf("connect to %s", a)
		}
	}
	for _, c := range []struct {
		teller, addr string
		may          bool
	}{
		{"10.0.0.2", "10.9.0.1", true}, {"198.51.100.1", "10.9.0.1", false}, {"192.168.1.2", "10.9.0.1", false},
		{"10.0.0.2", "198.51.100.1", true}, {"fd00::1", "fd12::1", true}, {"2001:db8::1", "fd12::1", false},
		{"172.16.0.1", "172.31.0.1", true}, {"172.32.0.1", "172.31.0.1", false}, {"100.64.0.1", "100.100.0.1", true},
	} {
		if got := mayTell(ip(c.teller), ip(c.addr)); got != c.may {
			t.Errorf("%s names %s: %v", c.teller, c.addr, got)
		}
	}
	b.core.wake(b.now)
	if !b.core.reach.dialable(here) {
		t.Error("what was our address is never dialled again, though the network has changed")
	}
	b.core.reach.loopback = true
	if !b.core.reach.dialable(ip("127.0.0.1")) {
		t.Error("loopback is not dialled though allowed")
	}
}

// TestPrune: more than seven links for 20 s lose the least useful, never a friend.
func TestPrune(t *testing.T) {
	b := newBench(t)
	b.core.hosts.setFriends([]netip.Addr{ip("10.0.1.2")})
	var ids []linkID
	for i := range 10 {
		ids = append(ids, b.join(fmt.Sprintf("10.0.1.%d", i)))
	}
	for i, id := range ids {
		if i != 2 && i != 5 { // these two bring nothing
			for n := range 4 {
				b.recv(id, fmt.Sprintf("SEND %d x\n\n", 100+10*i+n))
			}
		}
	}
	for _, id := range ids[7:9] { // and these only what is known
		for n := range 4 {
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 100+n))
		}
	}
	b.pass(settleTime - time.Second)
	if len(b.closed) != 0 {
		t.Fatalf("closed %v at once", b.closed)
	}
	b.pass(2 * time.Second)
	if len(b.closed) != 3 || !b.closed[ids[5]] || !b.closed[ids[7]] || !b.closed[ids[8]] {
		t.Errorf("closed %v of %v", b.closed, ids)
	}
	if len(b.core.links.settled()) != linksHigh {
		t.Errorf("%d links", len(b.core.links.settled()))
	}
}

// TestNewcomers find a place in a full network; but strangers who keep coming
// cannot take the links that we chose.
func TestNewcomers(t *testing.T) {
	b := newBench(t)
	var ours []linkID
	for i := range 3 {
		_ = b.core.connect(b.now, netip.AddrFrom4([4]byte{20, byte(i), 0, 1}))
		b.pass(2 * time.Second)
		id, _ := b.answerDial()
		ours = append(ours, id)
	}
	var strangers []linkID
	for i := range 40 {
		strangers = append(strangers, b.join(netip.AddrFrom4([4]byte{30, byte(i), 0, 1}).String()))
		// The old ones are of middling use.
		for n, id := range strangers[:min(i, 4)] {
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 1000*n+i))
			b.recv(id, fmt.Sprintf("SEND %d x\n\n", 1000*n+i))
		}
		b.pass(settleTime + time.Second)
		if i > 4 && b.closed[strangers[i]] {
			t.Fatalf("stranger %d has found no place", i)
		}
	}
	for _, id := range ours {
		if b.closed[id] {
			t.Error("strangers have taken the place of a link that we chose")
		}
	}
	if n := len(b.core.links.settled()); n != linksHigh {
		t.Errorf("%d links", n)
	}
}
