// Package alias gives nodes an IPv4 address, for programs that know only IPv4. An alias follows
// from the short ID, in which a ULA ends, and so is the same on all nodes that use the same
// range:
//
//	alias = range + 1 + short ID mod (size of the range - 2)
//
// The first address of the range names the range, and the last one is its broadcast. Aliases
// never travel in headers: a node knows its peers by what it decided about them. So where two
// of its peers would have the same alias, it moves one of them for itself alone.
package alias

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"anodenet/anode"
)

// Range is where aliases are unless people say otherwise. It is kept for carriers (RFC 6598), so that
// no home network has it, and no host of the internet. 10/8, 172.16/12 and 192.168/16 are what homes
// and companies use, 240/4 is refused by some systems, and 198.18/15 has room for a thirtieth of it.
var Range = netip.MustParsePrefix("100.64.0.0/10")

// MaxBits is the length of the smallest range, with 254 aliases.
const MaxBits = 24

// ErrRange is wrapped by errors about a range.
var ErrRange = errors.New("not a range for IPv4 aliases")

// CheckRange refuses what cannot be a range.
func CheckRange(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4() || p.Bits() > MaxBits || p.Bits() < 8:
		return fmt.Errorf("%w: %s; try: an IPv4 prefix of /8 to /%d, like %s", ErrRange, p, MaxBits, Range)
	case p != p.Masked():
		return fmt.Errorf("%w: %s has bits after its length; try: %s", ErrRange, p, p.Masked())
	}
	a := p.Addr()
	if !a.IsPrivate() && !Range.Contains(a) && !netip.MustParsePrefix("198.18.0.0/15").Contains(a) {
		return fmt.Errorf("%w: %s belongs to hosts of the internet, or to no host; try: %s", ErrRange, p, Range)
	}
	return nil
}

// Of returns the alias that an address has in a range, whoever its peers are.
func Of(p netip.Prefix, u anode.ULA) netip.Addr {
	id := binary.BigEndian.Uint64(u[8:])
	return at(p, uint32(id%uint64(size(p))))
}

// size is how many aliases a range has.
func size(p netip.Prefix) uint32 { return 1<<(32-p.Bits()) - 2 }

// at returns a range's alias by its number, from 0.
func at(p netip.Prefix, n uint32) netip.Addr {
	base := p.Addr().As4()
	return netip.AddrFrom4(put(binary.BigEndian.Uint32(base[:]) + 1 + n))
}

func put(v uint32) (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], v)
	return b
}

// Table is who has which alias here. Set may be called from one goroutine, all other methods from
// any.
type Table struct {
	prefix netip.Prefix
	self   netip.Addr
	view   atomic.Pointer[view]
	paused atomic.Bool
}

// view is one state of a table, which never changes.
type view struct {
	peers   map[[4]byte]anode.ULA
	aliases map[anode.ULA][4]byte
}

// New makes the table of the node that has the address self, in a range that CheckRange takes.
func New(p netip.Prefix, self anode.ULA) *Table {
	t := &Table{prefix: p, self: Of(p, self)}
	t.Set(nil)
	return t
}

// Range returns the range.
func (t *Table) Range() netip.Prefix { return t.prefix }

// Self returns our own alias.
func (t *Table) Self() netip.Addr { return t.self }

// Broadcast returns the address for all who are in the range.
func (t *Table) Broadcast() netip.Addr { return at(t.prefix, size(t.prefix)) }

// Set replaces the peers that have an alias. Those whose alias is taken get the next free one: the one
// of us stays, and of two peers that of the lower ULA.
func (t *Table) Set(peers []anode.ULA) {
	peers = slices.SortedFunc(slices.Values(peers), func(a, b anode.ULA) int { return slices.Compare(a[:], b[:]) })
	peers = slices.Compact(peers)
	n := size(t.prefix)
	v := &view{peers: make(map[[4]byte]anode.ULA, len(peers)), aliases: make(map[anode.ULA][4]byte, len(peers))}
	give := func(u anode.ULA, a [4]byte) bool {
		if _, taken := v.peers[a]; taken || a == t.self.As4() {
			return false
		}
		v.peers[a], v.aliases[u] = u, a
		return true
	}
	var clash []anode.ULA
	for _, u := range peers {
		if !give(u, Of(t.prefix, u).As4()) {
			clash = append(clash, u)
		}
	}
	for _, u := range clash {
		first := binary.BigEndian.Uint64(u[8:])
		for i := uint64(1); i < uint64(min(n, uint32(len(peers))+2)); i++ {
			if give(u, at(t.prefix, uint32((first+i)%uint64(n))).As4()) {
				break
			}
		}
	}
	t.view.Store(v)
}

// Pause has nobody have an alias for as long as it is true, such as while the range is in another use.
// Any goroutine may call it.
func (t *Table) Pause(on bool) { t.paused.Store(on) }

// Peer returns the peer that has an alias.
func (t *Table) Peer(a [4]byte) (anode.ULA, bool) {
	u, ok := t.view.Load().peers[a]
	return u, ok && !t.paused.Load()
}

// Alias returns the alias of a peer.
func (t *Table) Alias(u anode.ULA) ([4]byte, bool) {
	a, ok := t.view.Load().aliases[u]
	return a, ok && !t.paused.Load()
}

// Moved reports whether a peer has another alias here than elsewhere.
func (t *Table) Moved(u anode.ULA) bool {
	a, ok := t.Alias(u)
	return ok && netip.AddrFrom4(a) != Of(t.prefix, u)
}
