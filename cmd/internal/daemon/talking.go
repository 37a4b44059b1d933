package daemon

import (
	"context"
	"slices"
	"time"

	"anodenet/cmd/internal/chat"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// chatNode is the node as the chat sees it; the node is made after the chat, and
// before anything runs.
type chatNode struct{ *daemon }

// Peers lists the peers that were added and are not blocked.
func (n chatNode) Peers(ctx context.Context) ([]chat.Peer, error) {
	status, err := n.node.Status(ctx)
	var list []chat.Peer
	for _, p := range status.Peers {
		if p.Allowed {
			list = append(list, chat.Peer{ULA: p.ULA.Addr(), Name: p.Name, Up: p.State == overlay.StateUp})
		}
	}
	return list, err
}

// followPeers tells the chat when the peers, or which of them can be reached, have
// changed, until ctx ends. Strangers who come and go do not concern it.
func (d *daemon) followPeers(ctx context.Context) error {
	w := d.node.Watch(overlay.EventDecided, overlay.EventPeer)
	defer w.Close()
	for {
		list, err := w.Next(ctx)
		if err != nil {
			return nil
		}
		if slices.ContainsFunc(list, d.concernsPeers) {
			d.chat.PeersChanged()
		}
		select { // many events may come at once
		case <-time.After(settleFor):
		case <-ctx.Done():
		}
	}
}

// concernsPeers reports whether an event is about peers that people decided about.
func (d *daemon) concernsPeers(e overlay.Event) bool {
	return e.Kind != overlay.EventPeer || d.book.Standing(e.Address) != book.Stranger
}

// settleFor is how long events are collected.
const settleFor = 200 * time.Millisecond
