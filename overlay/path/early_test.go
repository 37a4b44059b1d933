package path

import (
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/overlay/mono"
)

// An answer to a request counts although the check has begun anew since: with a round trip that
// is longer than the time between requests it would never come in time.
func TestAnswerToTheCheckBefore(t *testing.T) {
	s := NewSet(ids())
	now := mono.At(time.Hour)
	w := numbered(1)
	s.Add(now, w, Told, false)
	first, _ := s.Requests(now)
	now = now.Add(300 * time.Millisecond)
	s.Punch(now, []Target{{Way: w, Origin: Told}}, 10, time.Second)
	s.Requests(now)
	now = now.Add(300 * time.Millisecond)
	if _, ok := s.Answered(now, first[0].ID, w.Endpoint, anode.Address{}, 0); !ok {
		t.Fatal("not taken")
	}
	if best, _ := s.Best(); best.RTT != 600*time.Millisecond {
		t.Errorf("a round trip of %v", best.RTT)
	}
	if _, ok := s.Answered(now, first[0].ID, w.Endpoint, anode.Address{}, 0); ok {
		t.Error("taken twice")
	}
}

// Where something comes from while a burst goes on, it goes on for longer: 5 requests in all
// where nothing came from.
func TestBurstGoesOnWhereItIsOpen(t *testing.T) {
	for _, open := range []bool{false, true} {
		s := NewSet(ids())
		now := mono.At(time.Hour)
		s.Punch(now, []Target{{Way: numbered(1), Origin: Told}}, 64, time.Second)
		n := 0
		for k := range 3000 {
			if open && k == 380 {
				s.Nudge(now, numbered(1))
			}
			due, _ := s.Requests(now)
			n += len(due)
			now = now.Add(time.Millisecond)
		}
		if want := map[bool]int{false: maxTries, true: openTries}[open]; n != want {
			t.Errorf("open %v: %d requests, want %d", open, n, want)
		}
	}
}

// The first probe may leave before anything is known of a way. Its answer proves the size; none
// changes nothing.
func TestEarlyProbe(t *testing.T) {
	now := mono.At(time.Hour)
	s := NewSearch(1450, ids())
	p, ok := s.Early(now)
	if !ok || p.Size != 1450 || p.Count != 1 || s.Proven() {
		t.Fatalf("%+v, %v", p, ok)
	}
	if rtt := s.Answered(now.Add(time.Second), p.ID, 1450); rtt != time.Second || !s.Proven() || s.Size() != 1450 {
		t.Errorf("%v, proven %v", rtt, s.Proven())
	}
	if _, ok := s.Early(now); ok {
		t.Error("another one, although it is proven")
	}
	s = NewSearch(8900, ids())
	if _, ok := s.Early(now); ok {
		t.Error("one that is too large for most ways")
	}
	s = NewSearch(1450, ids())
	s.Early(now)
	s.Try()
	if probes, _ := s.Due(now, 0, Traffic{}, false); len(probes) != 3 {
		t.Errorf("then %d probes", len(probes))
	}
}

// The first probes of a trial are sent again after a round trip, and a trial ends although none is
// answered.
func TestTrialAsksAgainSoon(t *testing.T) {
	s := NewSearch(1450, ids())
	s.Try()
	start := mono.At(time.Hour)
	var at []time.Duration
	for now := start; now.Sub(start) < 2*time.Second; now = now.Add(time.Millisecond) {
		if probes, _ := s.Due(now, 100*time.Millisecond, Traffic{}, false); len(probes) > 0 {
			at = append(at, now.Sub(start).Truncate(time.Millisecond))
		}
	}
	if want := []time.Duration{0, 125 * time.Millisecond, 375 * time.Millisecond, 725 * time.Millisecond}; len(at) < 4 || at[1] != want[1] || at[2] != want[2] || at[3] != want[3] {
		t.Errorf("probes at %v, want %v", at, want)
	}
}

// All machines of an address share one allowance.
func TestAllowanceOfAnAddress(t *testing.T) {
	var a Allowance
	var plans [15]Plan
	sent := 0
	for k := range 60 {
		now := mono.At(time.Hour).Add(time.Duration(k) * time.Second)
		for j := range plans {
			plans[j].Reset()
			sent += plans[j].Begin(now, 100, &a)
			for a.Proof(now) {
				sent++
			}
		}
	}
	if sent > 300 || sent < 200 {
		t.Errorf("%d requests in a minute", sent)
	}
}
