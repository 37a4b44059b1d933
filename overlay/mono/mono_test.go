package mono

import (
	"net/netip"
	"testing"
	"time"
)

func TestTime(t *testing.T) {
	var unset Time
	now := At(5 * time.Second)
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"the zero value is infinitely long ago", now.Sub(unset) == Forever},
		{"a difference", now.Sub(At(2*time.Second)) == 3*time.Second},
		{"a sum", now.Add(time.Second) == At(6*time.Second)},
		{"never stays never", Never.Add(time.Hour) == Never},
		{"0 is never due", Due(0) == Never && Due(1) == 1},
		{"the origin has happened", At(0).Happened() && At(-1).Happened()},
		{"the zero value and never have not", !unset.Happened() && !Never.Happened()},
	} {
		if !c.ok {
			t.Error(c.name)
		}
	}
}

func TestBucket(t *testing.T) {
	r := Rate{PerSecond: 2, Burst: 3}
	var b Bucket
	now := At(0)
	take := func(want int) {
		t.Helper()
		got := 0
		for range 10 {
			if b.Allow(now, r) {
				got++
			}
		}
		if got != want {
			t.Errorf("at %d: %d of 10 allowed, want %d", now, got, want)
		}
	}
	take(3)
	if next := b.Next(now, r); next != now.Add(500*time.Millisecond+1) {
		t.Errorf("next token at %d", next)
	}
	third := Rate{PerSecond: 3, Burst: 1}
	var c Bucket
	for at := now; at < now.Add(time.Minute); at = c.Next(at, third) {
		if !c.Allow(at, third) {
			t.Fatalf("no token when Next said, at %d", at)
		}
	}
	now = now.Add(time.Second)
	take(2)
	now = now.Add(time.Hour)
	if next := b.Next(now, r); next != now {
		t.Errorf("a full bucket has a token at %d, not now (%d)", next, now)
	}
	take(3)
	now = now.Add(-time.Minute) // a clock that goes backward gives nothing away
	take(0)
	now = now.Add(time.Minute)
	take(0)
	if b.Take(now.Add(time.Hour), 3.5, r) {
		t.Error("more than a burst was allowed at once")
	}
}

func TestNetworks(t *testing.T) {
	n := Networks{Each: Rate{1, 2}, Total: Rate{10, 50}, Prefix: Site}
	now := At(0)
	allowed := func(addrs ...string) (k int) {
		for _, a := range addrs {
			if n.Allow(now, netip.MustParseAddr(a)) {
				k++
			}
		}
		return k
	}
	if k := allowed("192.0.2.1", "192.0.2.200", "192.0.2.3", "::ffff:192.0.2.4"); k != 2 {
		t.Errorf("%d of one /24 allowed, want 2", k)
	}
	if k := allowed("2001:db8::1", "2001:db8:0:ff::1", "2001:db8:0:1::1"); k != 2 {
		t.Errorf("%d of one /56 allowed, want 2", k)
	}
	k := 0
	for i := range 200 {
		if n.Allow(now, netip.AddrFrom4([4]byte{10, byte(i), 0, 1})) {
			k++
		}
	}
	if k > 46 || k < 40 {
		t.Errorf("%d allowed after 4 of a total of 50", k)
	}
	if n.Allow(now.Add(time.Hour), netip.Addr{}) != true {
		t.Error("an invalid address is a network like any other")
	}
	if Host(netip.MustParseAddr("fe80::1%eth0")) != netip.MustParseAddr("fe80::") {
		t.Error("a zone is no part of a network")
	}
}

// The cost of one more packet does not grow with the number of networks seen.
func BenchmarkNetworks(b *testing.B) {
	n := Networks{Each: Rate{200, 100}, Total: Rate{1000, 500}, Prefix: Host}
	now := At(0)
	for i := range b.N {
		n.Allow(now, netip.AddrFrom4([4]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}))
		now++
	}
}
