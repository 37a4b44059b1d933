package alias_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"anodenet/anode"
	"anodenet/overlay/alias"
)

// ula returns an address with a short ID.
func ula(id uint64) (u anode.ULA) {
	u[0] = 0xfd
	binary.BigEndian.PutUint64(u[8:], id)
	return u
}

func TestAliasesAreTheSameEverywhere(t *testing.T) {
	a, b := ula(0x0123456789abcdef), ula(77)
	left, right := alias.New(alias.Range, a), alias.New(alias.Range, b)
	left.Set([]anode.ULA{b})
	right.Set([]anode.ULA{a})
	for _, side := range []struct {
		table *alias.Table
		peer  anode.ULA
		other *alias.Table
	}{{left, b, right}, {right, a, left}} {
		got, ok := side.table.Alias(side.peer)
		if !ok || netip.AddrFrom4(got) != side.other.Self() {
			t.Errorf("the peer is %v here and %v at home", netip.AddrFrom4(got), side.other.Self())
		}
		if u, ok := side.table.Peer(got); !ok || u != side.peer {
			t.Errorf("%v leads to %v", got, u)
		}
		if side.table.Moved(side.peer) {
			t.Error("moved without a clash")
		}
	}
	if got := alias.Of(alias.Range, b); got != netip.MustParseAddr("100.64.0.78") {
		t.Errorf("77 is %v", got)
	}
	alias := left.Self().As4()
	for _, paused := range []bool{true, false} {
		right.Pause(paused)
		_, out := right.Alias(a)
		if _, in := right.Peer(alias); in == paused || out == paused {
			t.Errorf("paused %v: %v, %v", paused, in, out)
		}
	}
	if got := left.Broadcast(); got != netip.MustParseAddr("100.127.255.255") {
		t.Errorf("broadcast is %v", got)
	}
}

// Peers that would have the same alias, ours among them, get different ones, whatever order they come in.
func TestClashes(t *testing.T) {
	p := netip.MustParsePrefix("10.1.2.0/24")
	self := ula(5)
	peers := []anode.ULA{ula(5 + 254), ula(6), ula(6 + 254), ula(253), ula(253 + 254), ula(100)}
	first := alias.New(p, self)
	first.Set(peers)
	for i, j := 0, len(peers)-1; i < j; i, j = i+1, j-1 {
		peers[i], peers[j] = peers[j], peers[i]
	}
	second := alias.New(p, self)
	second.Set(peers)
	seen := map[[4]byte]bool{first.Self().As4(): true, p.Addr().As4(): true, first.Broadcast().As4(): true}
	moved := 0
	for _, u := range peers {
		a, ok := first.Alias(u)
		if !ok || seen[a] || !p.Contains(netip.AddrFrom4(a)) {
			t.Errorf("%v has %v, %v", u, a, ok)
		}
		seen[a] = true
		if b, _ := second.Alias(u); a != b {
			t.Errorf("%v has %v or %v, by the order of peers", u, a, b)
		}
		if first.Moved(u) {
			moved++
		}
	}
	if moved != 3 {
		t.Errorf("%d peers moved, 3 clash", moved)
	}
}

func TestFullRange(t *testing.T) {
	table := alias.New(netip.MustParsePrefix("10.0.0.0/24"), ula(1))
	var peers []anode.ULA
	for i := range 400 {
		peers = append(peers, ula(uint64(i)))
	}
	table.Set(peers)
	n := 0
	for _, u := range peers {
		if _, ok := table.Alias(u); ok {
			n++
		}
	}
	if n != 253 {
		t.Errorf("%d of 253 aliases are given", n)
	}
}

func TestCheckRange(t *testing.T) {
	for _, s := range []string{"100.64.0.0/10", "10.0.0.0/8", "192.168.7.0/24", "198.18.0.0/15"} {
		if err := alias.CheckRange(netip.MustParsePrefix(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"8.0.0.0/8", "100.64.1.0/10", "10.0.0.0/25", "fd00::/16", "127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0"} {
		if err := alias.CheckRange(netip.MustParsePrefix(s)); !errors.Is(err, alias.ErrRange) {
			t.Errorf("%s: %v", s, err)
		}
	}
}
