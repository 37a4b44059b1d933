package info2

import (
	"net/netip"
	"testing"
	"time"
)

// TestNetworks: without faults everybody gets every message once.
func TestNetworks(t *testing.T) {
	t.Parallel()
	for _, size := range []int{5, 50, 500} {
		s := newSim(t, uint64(size))
		s.grow(size)
		s.run(3 * time.Minute)
		links := s.links()
		before := s.total(MessagesOut)
		list := s.talk(40, 1500*time.Millisecond)
		s.run(30 * time.Second)
		f := s.figures(list, before, float64(len(links)+len(s.links()))/2)
		t.Logf("%d servents, %d links: %v", size, len(links), f)
		for _, n := range s.nodes {
			if got := len(n.core.links.settled()); got > linksHigh || size > linksLow && got < linksLow {
				t.Errorf("%v has %d links", n.addr, got)
			}
		}
		if len(list) != 40 || f.delivered != 1 || f.twice != 0 {
			t.Errorf("%d servents: %d said; not everybody got every message once", size, len(list))
		}
		if f.median > 2*time.Second || f.perLink >= 1.3 {
			t.Errorf("%d servents: too slow or too much", size)
		}
	}
}

// TestFailingLinks: with 5 % of the links failing every minute.
func TestFailingLinks(t *testing.T) {
	t.Parallel()
	for _, size := range []int{50, 500} {
		s := newSim(t, uint64(size))
		s.grow(size)
		s.run(3 * time.Minute)
		var stop bool
		s.failLinks(0.05, &stop)
		s.run(time.Minute)
		links := s.links()
		before := s.total(MessagesOut)
		list := s.talk(60, 1500*time.Millisecond)
		s.run(30 * time.Second)
		stop = true
		f := s.figures(list, before, float64(len(links)+len(s.links()))/2)
		t.Logf("%d servents, %d links: %v", size, len(links), f)
		if len(list) != 60 || f.delivered < 0.999 || f.twice != 0 || f.median > 2*time.Second || f.perLink >= 1.3 {
			t.Errorf("%d servents: out of bounds", size)
		}
	}
}

// TestOneSeed: servents that know only the address of one make a network, by
// asking each other.
func TestOneSeed(t *testing.T) {
	s := newSim(t, 7)
	first := s.addNode(0)
	for i := 1; i < 50; i++ {
		s.after(time.Duration(i)*time.Second, func() {
			n := s.addNode(i)
			n.core.hosts.add(s.now, first.addr, netip.Addr{})
			n.core.pump(s.now)
			s.act(n)
		})
	}
	s.run(30 * time.Minute)
	links := s.links()
	before := s.total(MessagesOut)
	list := s.talk(20, 2*time.Second)
	s.run(30 * time.Second)
	f := s.figures(list, before, float64(len(links)))
	t.Logf("%d links: %v", len(links), f)
	if len(list) != 20 || f.delivered != 1 || f.twice != 0 {
		t.Error("not one network")
	}
	for _, n := range s.nodes {
		lasting := n.core.links.count(func(l *link) bool { return l.counts() && s.now.Sub(l.opened) >= settleTime })
		if lasting > linksHigh {
			t.Errorf("%v has %d links", n.addr, lasting)
		}
	}
}

// TestPartition: two halves that cannot reach each other for twenty minutes are
// one network again, by themselves.
func TestPartition(t *testing.T) {
	s := newSim(t, 11)
	s.grow(50)
	s.run(5 * time.Minute)
	s.blocked = func(a, b netip.Addr) bool { return a.As4()[1]%2 != b.As4()[1]%2 }
	for _, c := range s.links() {
		if s.blocked(c.a.node.addr, c.b.node.addr) {
			s.snap(c)
		}
	}
	s.run(20 * time.Minute)
	list := s.talk(10, 2*time.Second)
	s.run(10 * time.Second)
	halves := s.figures(list, 0, 1)
	s.blocked = func(a, b netip.Addr) bool { return false }
	s.run(time.Hour)
	before := s.total(MessagesOut)
	links := s.links()
	list = s.talk(10, 2*time.Second)
	s.run(10 * time.Second)
	healed := s.figures(list, before, float64(len(links)))
	t.Logf("apart: %v", halves)
	t.Logf("healed: %v", healed)
	if halves.delivered > 0.6 || healed.delivered != 1 || healed.twice != 0 {
		t.Error("the partition was none, or did not heal")
	}
}

// TestSlowLinks: links whose other end reads nothing lose their own messages and
// nobody else's, hold at most 64 KiB, and end.
func TestSlowLinks(t *testing.T) {
	s := newSim(t, 13)
	s.grow(50)
	s.run(3 * time.Minute)
	for i, c := range s.links() {
		if i%5 == 0 {
			c.a.stuck = true // what a sends does not arrive, and sent never comes
		}
	}
	list := s.talk(60, time.Second)
	for _, n := range s.nodes {
		for _, l := range n.core.links.list {
			if l.out.box.bytes > queueMax {
				t.Errorf("%d bytes queued", l.out.box.bytes)
			}
		}
	}
	s.run(time.Minute)
	f := s.figures(list, 0, 1)
	t.Logf("%v, %d links ended as stalled", f, s.total(Stalled))
	if f.delivered != 1 || f.twice != 0 || f.median > 2*time.Second || s.total(Stalled) == 0 {
		t.Error("a slow link held up others")
	}
}

// checkBounds: nothing in a core grows without end.
func checkBounds(t *testing.T, n *simNode) {
	t.Helper()
	c := n.core
	if len(c.flood.memory.queue) > rememberMax || len(c.flood.memory.texts) > rememberMax || len(c.sources.byAddr) > sourcesMax ||
		len(c.hosts.byAddr) > hearsayMax+verifiedMax+8 || len(c.links.list) > connsMax+2*dialsAtOnce || len(c.neighbours.list) > neighboursMax ||
		len(c.topology.wanted) > connsMax || len(c.topology.checks) > connsMax {
		t.Errorf("%v holds more than its bounds", n.addr)
	}
	for _, l := range c.links.list {
		if l.out.box.bytes > queueMax || len(l.in.buf) > 2*maxFrame || len(l.out.box.served) > 2*connsMax+1 {
			t.Errorf("%v: a link holds more than its bounds", n.addr)
		}
	}
}
