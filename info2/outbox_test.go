package info2

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestFairQueue: a neighbour with a thousand waiting messages delays another's,
// and ours, by one message each.
func TestFairQueue(t *testing.T) {
	var o outbox
	text := []byte(strings.Repeat("x", 40))
	for range 1000 {
		o.push(outgoing{from: 7, due: t0, data: text})
	}
	o.push(outgoing{from: 8, due: t0.Add(time.Second), data: []byte("theirs")})
	o.push(outgoing{from: ownMessage, due: t0.Add(time.Second), data: []byte("ours")})
	o.push(outgoing{from: protocol, due: t0.Add(time.Second), data: []byte("protocol")})
	var order []string
	for range 6 {
		m, ok := o.pop(t0.Add(2 * time.Second))
		if !ok {
			t.Fatal("nothing")
		}
		order = append(order, string(m.data[:4]))
	}
	if !slices.Contains(order[:1], "prot") || !slices.Contains(order[:4], "thei") || !slices.Contains(order[:4], "ours") {
		t.Errorf("order %q", order)
	}
}

// TestQueueBound: over 64 KiB, the origin with the most loses until 32 KiB are
// free; others lose nothing.
func TestQueueBound(t *testing.T) {
	var o outbox
	kib := make([]byte, 1024)
	displaced := 0
	for i := range 200 {
		displaced += o.push(outgoing{from: 7, due: t0, data: kib})
		if i < 5 {
			displaced += o.push(outgoing{from: 8, due: t0, data: kib})
		}
		if o.bytes > queueMax {
			t.Fatalf("%d bytes", o.bytes)
		}
	}
	others, sum := 0, 0
	for _, m := range o.list {
		sum += len(m.data)
		if m.from == 8 {
			others++
		}
	}
	if others != 5 || sum != o.bytes || displaced+len(o.list) != 205 || o.bytes < queueLow-1024 {
		t.Errorf("%d of the other's left, %d displaced, %d bytes counted, %d there", others, displaced, o.bytes, sum)
	}
}
