package info2

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestReadBudget: pieces and bytes count, whatever they mean; who sends a byte at a
// time is cut off, and its bytes cost no more than others'.
func TestReadBudget(t *testing.T) {
	for _, c := range []struct {
		name  string
		piece string
		every time.Duration
		cut   bool
	}{
		{"5500 one-byte segments a second", "A", time.Second / 5500, true},
		{"the same of newlines", "\n", time.Second / 5500, true},
		{"full segments", strings.Repeat("\n", 1400), time.Second / 20, true},
		{"somebody who types", "\nA", time.Second / 15, false},
		{"messages at the rate that is allowed, in ten pieces each", "SEND 1 a", time.Second / 20, false},
	} {
		b := newBench(t)
		b.core.topology.closed = true
		id := b.join("10.0.0.2")
		events := 0
		for b.now.Sub(t0) < 30*time.Second && !b.closed[id] {
			b.recv(id, c.piece)
			b.pass(c.every)
			events++
			if events%100 == 0 && !c.cut {
				b.pass(2 * silence) // a message's end
			}
		}
		if b.closed[id] != c.cut || (b.core.fx.counters[FloodersCut] == 1) != c.cut {
			t.Errorf("%s: closed %v after %d pieces: %v", c.name, b.closed[id], events, b.core.fx.counters.nonZero())
		}
		if c.cut && events > 1000 {
			t.Errorf("%s: %d pieces were taken", c.name, events)
		}
		if _, ok := b.core.accepted(b.now, ip("10.0.0.2"), here); ok == c.cut {
			t.Errorf("%s: accepted again: %v", c.name, ok)
		}
	}
}

// TestFloodersBanned by address, over many connections; and the table of
// sources keeps its bound, the banned ones last to go.
func TestFloodersBanned(t *testing.T) {
	b := newBench(t)
	var banned bool
	for i := range 200 {
		id, ok := b.core.accepted(b.now, ip("10.0.0.2"), here)
		if !ok {
			banned = b.core.fx.counters[FloodersCut] == 1
			break
		}
		b.recv(id, helloLine+fmt.Sprintf("SEND %d x\n\nSEND %d y\n\nSEND %d z\n\nSEND %d zz\n\nSEND %d zzz\n\n", i, 1000+i, 2000+i, 3000+i, 4000+i))
		b.eof(id)
		b.pass(100 * time.Millisecond)
	}
	if !banned {
		t.Errorf("not banned: %v", b.core.fx.counters.nonZero())
	}
	for i := range 3000 {
		b.core.sources.get(b.now.Add(time.Second), netip.AddrFrom4([4]byte{30, byte(i >> 8), byte(i), 1}))
	}
	if !b.core.sources.get(b.now.Add(2*time.Second), ip("10.0.0.2")).isBanned(b.now) || len(b.core.sources.byAddr) > sourcesMax {
		t.Error("many others made us forget the ban, or the table grew")
	}
	b.pass(banFor)
	if _, ok := b.core.accepted(b.now, ip("10.0.0.2"), here); !ok {
		t.Error("banned for ever")
	}
}
