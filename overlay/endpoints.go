package overlay

import (
	"context"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// AddEndpoints gives an added peer more endpoints, which are tried from now on.
func (n *Node) AddEndpoints(ctx context.Context, a anode.Address, endpoints []wire.Endpoint) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.AddEndpoints(a, endpoints) })
}

// RemoveEndpoint takes away an endpoint that people gave.
func (n *Node) RemoveEndpoint(ctx context.Context, a anode.Address, e wire.Endpoint) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.RemoveEndpoint(a, e) })
}

// Entries returns the peers that people decided about.
func (n *Node) Entries() []Peer { return n.book.Entries() }

// Learned returns the endpoints at which a peer was found, newest first.
func (n *Node) Learned(a anode.Address) []wire.Endpoint { return n.book.Learned(a) }
