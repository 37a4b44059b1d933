package overlay

import (
	"net/netip"
	"testing"
	"time"

	"anodenet/overlay/mono"
)

// Whoever has any number of clients at one site leaves most of the places of late answers to
// others; each of many sites gets some; and what was answered counts no more.
func TestLateAnswersAreShared(t *testing.T) {
	var a lateAnswers
	fill := func(s site) (got int) {
		for range 2 * maxLateAnswers {
			if a.add(lateAnswer{client: &client{site: s}, due: mono.At(time.Second)}) {
				got++
			}
		}
		return got
	}
	first := fill(1)
	if first < maxLateAnswers/16 || first > maxLateAnswers/8 {
		t.Errorf("one site has %d of %d places", first, maxLateAnswers)
	}
	for s := range site(20) {
		fill(s + 2)
	}
	if got := fill(1000); got == 0 {
		t.Error("after a flood of 20 sites another site has no place")
	}
	for _, ok := a.take(mono.At(2 * time.Second)); ok; _, ok = a.take(mono.At(2 * time.Second)) {
	}
	if len(a.sites) != 0 || len(a.of) != 0 {
		t.Errorf("after all answers %d sites and %d clients are counted", len(a.sites), len(a.of))
	}
	if again := fill(1); again != first {
		t.Errorf("after all answers a site has %d places, and before %d", again, first)
	}
}

// Strangers take half of the places of peers at most, and one site of them a part of those.
func TestStrangersLingersAreShared(t *testing.T) {
	var g linger
	fill := func(s netip.Addr) (got int) {
		for range maxLate {
			if g.room(s) {
				g.note(s, 1)
				got++
			}
		}
		return got
	}
	site := func(k int) netip.Addr { return netip.AddrFrom4([4]byte{192, byte(k >> 8), byte(k), 0}) }
	if got := fill(site(0)); got < 8 || got > maxLate/2/lateShare {
		t.Errorf("one site has %d places", got)
	}
	for k := range 20 {
		fill(site(k + 1))
	}
	if got := fill(site(1000)); got == 0 {
		t.Error("after a flood of 20 sites another site has no place")
	}
	for k := range maxLate {
		fill(site(k + 2000))
	}
	if g.count != maxLate/2 || !g.room(netip.Addr{}) {
		t.Errorf("strangers have %d places, want %d", g.count, maxLate/2)
	}
}
