package daemon

import (
	"context"
	"time"

	"anodenet/cmd/internal/chat"
	"anodenet/overlay"
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
// changed, until ctx ends.
func (d *daemon) followPeers(ctx context.Context) error {
	w := d.node.Watch()
	defer w.Close()
	for {
		if _, err := w.Next(ctx); err != nil {
			return nil
		}
		d.chat.PeersChanged()
		select { // many events may come at once
		case <-time.After(settleFor):
		case <-ctx.Done():
		}
	}
}

// settleFor is how long events are collected.
const settleFor = 200 * time.Millisecond
