package overlay

import (
	"context"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// Peer is what people decided about an address. Of an argument, Address, Name, Endpoints,
// Hosts and LAN count.
type Peer = book.Entry

// The verbs below write to the book first, in the caller's goroutine, and then have the
// loop act on what it says.

// AddPeer adds a peer and keeps it, or updates one that is known.
func (n *Node) AddPeer(ctx context.Context, p Peer) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.AddEntry(p, n.cfg.Clock.Now()) })
}

// RemovePeer forgets a peer. Its sessions end.
func (n *Node) RemovePeer(ctx context.Context, a anode.Address) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.Remove(a, n.cfg.Clock.Now()) })
}

// RenamePeer changes the name of an added peer; an empty name removes it.
func (n *Node) RenamePeer(ctx context.Context, a anode.Address, name string) (book.Change, error) {
	return n.verb(ctx, func() (book.Change, error) { return n.book.Rename(a, name) })
}

// BlockPeer blocks the key of an address, whatever zone and sign it comes with, or ends
// the block, after which everything is as it was before.
func (n *Node) BlockPeer(ctx context.Context, a anode.Address, blocked bool) (book.Change, error) {
	if blocked {
		return n.verb(ctx, func() (book.Change, error) { return n.book.Block(a) })
	}
	return n.verb(ctx, func() (book.Change, error) { return n.book.Unblock(a) })
}

// verb changes the book, and has the loop do what follows.
func (n *Node) verb(ctx context.Context, f func() (book.Change, error)) (book.Change, error) {
	change, err := f()
	if err != nil {
		return change, err
	}
	return change, n.call(ctx, func(l *loop) error {
		l.follow(change)
		l.lan.publish()
		return nil
	})
}

// SetFixed replaces the peers of the configuration (see book.Book.SetFixed).
func (n *Node) SetFixed(ctx context.Context, peers []Peer) ([]book.Change, book.Report, error) {
	changes, report := n.book.SetFixed(peers)
	return changes, report, n.call(ctx, func(l *loop) error {
		for _, c := range changes {
			l.follow(c)
		}
		l.lan.publish()
		return nil
	})
}

// follow does what follows from a change of the book, for every address of the key.
func (l *loop) follow(change book.Change) {
	a := change.After.Address
	l.decide(l.n.book.Get(a))
	if change.Before.Blocked != change.After.Blocked {
		for _, p := range l.peers.byAddress {
			if p.Address != a && p.Address.X() == a.X() {
				l.decide(l.n.book.Get(p.Address))
			}
		}
	}
	if p := l.peers.get(a); p != nil && change.After.Standing() == book.Added {
		p.Look(l.now)
		l.touch(p)
		l.zones.want(a.Zone())
	}
	l.n.events.add(Event{EventDecided, a})
}

// SetOpen lets everybody in, or only the peers that were added.
func (n *Node) SetOpen(ctx context.Context, open bool) error {
	return n.call(ctx, func(l *loop) error {
		if n.isOpen() == open {
			return nil
		}
		n.setOpen(open)
		for _, p := range l.peers.byAddress {
			p.Tell()
		}
		return nil
	})
}

// SetRelay starts or stops forwarding, for the peers that were added and for the zones of
// SetRelayZones.
func (n *Node) SetRelay(ctx context.Context, relay bool) error {
	return n.call(ctx, func(l *loop) error {
		n.relays.Store(relay)
		l.clients.serve()
		return nil
	})
}
