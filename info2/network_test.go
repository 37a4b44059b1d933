package info2

import (
	"testing"
	"time"
)

// TestNetworks: without faults everybody gets every message once.
func TestNetworks(t *testing.T) {
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
			if got := len(n.core.prunable()); got > linksHigh || size > linksLow && got < linksLow {
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
