package daemon

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/platform"
)

// routes has everything lead to the adapter that must: its own zone, the zones of the
// added peers, and each of these peers' ULA. It never routes all of fd00::/8, so that
// people's own networks keep working. What is routed follows from what the book holds, not
// from who changed it.
type routes struct {
	node    *overlay.Node
	book    *book.Book
	adapter *adapter
	own     anode.Zone
	lan     *virtualLAN

	mu sync.Mutex // one at a time, so that the last one knows what holds now
}

// want passes on what is wanted now. Any goroutine may call it.
func (r *routes) want() {
	r.mu.Lock()
	defer r.mu.Unlock()
	entries := r.book.Entries()
	r.adapter.keeper.Want(r.lan.add(wanted(r.own, entries), entries))
}

// run passes on what is wanted whenever the book changes, until ctx ends.
func (r *routes) run(ctx context.Context) error {
	w := r.node.Watch(overlay.EventDecided)
	defer w.Close()
	for {
		r.want()
		if _, err := w.Next(ctx); err != nil {
			return nil
		}
	}
}

// wanted returns the zones and peers that the entries of a book have lead to the adapter,
// sorted.
func wanted(own anode.Zone, entries []book.Entry) (w platform.Wanted) {
	zones := []anode.Zone{own}
	for _, e := range entries {
		if e.Standing() == book.Added {
			zones = append(zones, e.Address.Zone())
			w.Peers = append(w.Peers, e.Address.ULA().Addr())
		}
	}
	slices.SortFunc(w.Peers, netip.Addr.Compare)
	slices.Sort(zones)
	for _, z := range slices.Compact(zones) {
		w.Zones = append(w.Zones, z.Prefix())
	}
	return w
}
