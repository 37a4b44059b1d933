package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"anodenet/anode"
	"anodenet/overlay"
)

// routed is a node whose adapter has the routes of the zones in use: its own and
// those of the peers that were added. Never all of fd00::/8, so that people's own
// networks go on working.
type routed struct {
	*overlay.Node
	adapter *adapter // nil: none
	own     anode.Zone
	log     *slog.Logger

	mu sync.Mutex // held while the routes are set
}

// AddPeer adds a peer and the route of its zone.
func (r *routed) AddPeer(ctx context.Context, p overlay.Peer) error {
	err := r.Node.AddPeer(ctx, p)
	if err == nil {
		r.update(ctx)
	}
	return err
}

// RemovePeer forgets a peer, and the route of its zone if it was the last there.
func (r *routed) RemovePeer(ctx context.Context, a anode.Address) error {
	err := r.Node.RemovePeer(ctx, a)
	if err == nil {
		r.update(ctx)
	}
	return err
}

// update sets the routes.
func (r *routed) update(ctx context.Context) {
	if r.adapter == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	status, err := r.Status(ctx)
	if err == nil {
		err = r.adapter.setZones(zones(r.own, status.Peers))
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("the routes of the zones could not be set", "err", err)
	}
}

// zones lists the zones in use, sorted.
func zones(own anode.Zone, peers []overlay.PeerStatus) []anode.Zone {
	list := []anode.Zone{own}
	for _, p := range peers {
		if p.Allowed {
			list = append(list, p.Address.Zone())
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
