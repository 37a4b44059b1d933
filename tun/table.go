package tun

import (
	"hash/maphash"
	"time"

	"anodenet/anode"
)

// flow identifies a reply: the peer, the protocol and both ports. For an echo, local is
// the identifier and remote the sequence number or 0.
type flow struct {
	peer          anode.ULA
	proto         byte
	local, remote uint16
}

// table is a set of flows of fixed size, each with an end. A flow lives in one of
// the few ways of the set that its hash chooses; the one that ends first makes
// room. Nothing allocates after newTable.
type table struct {
	seed maphash.Seed
	sets [][ways]entry
}

const ways = 8

type entry struct {
	flow
	end time.Duration // on the owner's clock; 0 if the entry is empty
}

// newTable makes a table for at least n flows.
func newTable(n int) *table {
	sets := 1
	for sets*ways < n {
		sets *= 2
	}
	return &table{maphash.MakeSeed(), make([][ways]entry, sets)}
}

func (t *table) set(f flow) *[ways]entry {
	return &t.sets[maphash.Comparable(t.seed, f)&uint64(len(t.sets)-1)]
}

// find returns f's entry, or nil if there is none or its end has come.
func (t *table) find(f flow, now time.Duration) *entry {
	set := t.set(f)
	for i := range set {
		if e := &set[i]; e.end > now && e.flow == f {
			return e
		}
	}
	return nil
}

// put sets f's end.
func (t *table) put(f flow, now, end time.Duration) {
	e := t.find(f, now)
	if e == nil {
		set := t.set(f)
		e = &set[0]
		for i := range set {
			if set[i].end < e.end {
				e = &set[i]
			}
		}
	}
	*e = entry{f, end}
}

// take removes f and reports whether it was there.
func (t *table) take(f flow, now time.Duration) bool {
	e := t.find(f, now)
	if e == nil {
		return false
	}
	*e = entry{}
	return true
}
