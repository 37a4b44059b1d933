package overlay

import (
	"context"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// AddEndpoints gives an added peer more endpoints, which are tried from now on.
// Host names among them are only kept: see SetHints.
func (n *Node) AddEndpoints(ctx context.Context, a anode.Address, places []book.Place) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.AddEndpoints(a, places) })
}

// RemoveEndpoint takes away an endpoint that people gave.
func (n *Node) RemoveEndpoint(ctx context.Context, a anode.Address, p book.Place) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.RemoveEndpoint(a, p) })
}

// maxHints is how many endpoints SetHints takes for one peer.
const maxHints = 16

// SetHints replaces the endpoints at which an added peer is tried beside those of the book,
// such as the addresses that the names of its machines have now. They are kept nowhere:
// they end with the node, or when the peer is removed. A hint cannot harm more than an
// endpoint that people mistyped, since what answers there has to prove that it is the peer.
// Those to which nothing can be sent outside the overlay are left out, and so are all
// after the first 16.
func (n *Node) SetHints(ctx context.Context, a anode.Address, hints []wire.Endpoint) error {
	return n.call(ctx, func(l *loop) error {
		p := l.peers.get(a)
		if p == nil || p.Standing() != book.Added {
			return ErrUnknownPeer
		}
		var usable []wire.Endpoint
		for _, e := range hints[:min(len(hints), maxHints)] {
			if ip := e.Addr.Addr(); ip.IsValid() && !l.isOverlay(ip) {
				usable = append(usable, e)
			}
		}
		if p.Hint(l.now, usable) {
			l.finder.note(p)
		}
		l.touch(p)
		return nil
	})
}

// PeerStatus returns what Status says of one peer, at less cost.
func (n *Node) PeerStatus(ctx context.Context, a anode.Address) (s PeerStatus, err error) {
	err = n.call(ctx, func(l *loop) error {
		p := l.peers.get(a)
		if p == nil {
			return ErrUnknownPeer
		}
		s = l.peerStatus(p)
		return nil
	})
	return s, err
}

// Entries returns the peers that people decided about.
func (n *Node) Entries() []Peer { return n.book.Entries() }

// Learned returns the endpoints at which a peer was found, newest first.
func (n *Node) Learned(a anode.Address) []wire.Endpoint { return n.book.Learned(a) }
