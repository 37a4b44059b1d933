package daemon

import (
	"context"

	"anodenet/anode"
	"anodenet/cmd/internal/chat"
	"anodenet/cmd/internal/control"
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

// talking is a node whose changes of peers reach the chat.
type talking struct {
	control.Node
	chat *chat.Chat
}

// AddPeer adds a peer, and makes it a neighbour.
func (n talking) AddPeer(ctx context.Context, p overlay.Peer) error {
	return n.changed(n.Node.AddPeer(ctx, p))
}

// RemovePeer forgets a peer, and ends the links with it.
func (n talking) RemovePeer(ctx context.Context, a anode.Address) error {
	return n.changed(n.Node.RemovePeer(ctx, a))
}

// RenamePeer gives a peer another name, in the texts to come too.
func (n talking) RenamePeer(ctx context.Context, a anode.Address, name string) error {
	return n.changed(n.Node.RenamePeer(ctx, a, name))
}

// BlockPeer blocks a peer and ends the links with it, or lets it in again.
func (n talking) BlockPeer(ctx context.Context, a anode.Address, blocked bool) error {
	return n.changed(n.Node.BlockPeer(ctx, a, blocked))
}

func (n talking) changed(err error) error {
	if err == nil {
		n.chat.PeersChanged()
	}
	return err
}
