package daemon

import (
	"context"
	"log/slog"
	"slices"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// routes sets the adapter's routes: those of its own zone and of the added peers' zones.
// It never routes all of fd00::/8, so that people's own networks keep working. The routes
// follow from what the book holds, not from who changed it.
type routes struct {
	node    *overlay.Node
	book    *book.Book
	adapter *adapter
	own     anode.Zone
	log     *slog.Logger
}

// run sets the routes whenever the book changes, until ctx ends.
func (r *routes) run(ctx context.Context) error {
	w := r.node.Watch()
	defer w.Close()
	for {
		if err := r.adapter.setZones(zones(r.own, r.book.Entries())); err != nil && ctx.Err() == nil {
			r.log.Error("the routes of the zones could not be set", "err", err)
		}
		for decided := false; !decided; {
			list, err := w.Next(ctx)
			if err != nil {
				return nil
			}
			decided = slices.ContainsFunc(list, func(e overlay.Event) bool {
				return e.Kind == overlay.EventDecided || e.Kind == overlay.EventMissed
			})
		}
	}
}

// zones lists the zones in use, sorted.
func zones(own anode.Zone, entries []book.Entry) []anode.Zone {
	list := []anode.Zone{own}
	for _, e := range entries {
		if e.Standing() == book.Added {
			list = append(list, e.Address.Zone())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
