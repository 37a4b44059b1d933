package overlay

import (
	"context"
	"fmt"

	"anodenet/anode"
	"anodenet/overlay/lookup"
)

// resolve finds the address behind a ULA or short ID.
func (n *Node) resolve(ctx context.Context, key lookup.Key) (anode.Address, error) {
	answer := make(chan anode.Address, 1)
	err := n.call(ctx, func(l *loop) error {
		if key == lookup.ByULA(n.ula) || key == lookup.ByID(n.id) {
			answer <- n.address
			return nil
		}
		for c := n.index.byID(key.ID); c != nil; c = c.Next.Load() {
			if key.ULA.IsZero() || c.ULA == key.ULA {
				answer <- c.Address
				return nil
			}
		}
		if p := l.finder.client(key.Whois()); p != nil {
			answer <- p.Address
			return nil
		}
		if p := l.finder.byProgram(key.ULA); p != nil {
			answer <- p.Address
			return nil
		}
		if l.finder.table.Ask(l.now, key, waiter{found: answer}, 0, lookup.Person) == lookup.Full {
			return fmt.Errorf("%w: too many searches are under way", ErrUnknownPeer)
		}
		return nil
	})
	if err != nil {
		return anode.Address{}, err
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return anode.Address{}, ErrUnknownPeer
		}
		return a, nil
	case <-ctx.Done():
		return anode.Address{}, ctx.Err()
	case <-n.done:
		return anode.Address{}, ErrClosed
	}
}

// ResolveULA finds the address behind a ULA: among the peers, on the LAN, and by asking
// peers. It returns ErrUnknownPeer after some seconds without an answer.
func (n *Node) ResolveULA(ctx context.Context, u anode.ULA) (anode.Address, error) {
	return n.resolve(ctx, lookup.ByULA(u))
}

// ResolveID finds the address behind a short ID, as ResolveULA does. The ID alone
// proves less than a ULA.
func (n *Node) ResolveID(ctx context.Context, id anode.ID) (anode.Address, error) {
	return n.resolve(ctx, lookup.ByID(id))
}
