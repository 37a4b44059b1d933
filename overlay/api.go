package overlay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/path"
)

// AddPeer adds a peer and keeps it, or updates one that is known. The name may be
// empty; names are unique.
func (n *Node) AddPeer(ctx context.Context, info Peer) error {
	if info.Address == n.address {
		return ErrSelf
	}
	return n.call(ctx, func(c *control) error {
		if err := c.nameFree(info.Name, info.Address); err != nil {
			return err
		}
		info.Added = n.cfg.Clock.Now()
		if old := c.peers[info.Address]; old != nil && old.added {
			info.Added, info.Blocked = old.Added, info.Blocked || old.Blocked
			info.Name = cmp.Or(info.Name, old.Name)
			if len(info.Endpoints) == 0 {
				info.Endpoints = old.Endpoints
			}
		}
		if err := n.cfg.Store.PutPeer(info); err != nil {
			return err
		}
		p := c.adopt(info)
		p.kept = true
		c.search(p)
		return nil
	})
}

// RemovePeer forgets a peer. Its sessions end.
func (n *Node) RemovePeer(ctx context.Context, a anode.Address) error {
	return n.call(ctx, func(c *control) error {
		p := c.peers[a]
		if p == nil || !p.added {
			return ErrUnknownPeer
		}
		c.saver.forget(a)
		if err := n.cfg.Store.DeletePeer(a); err != nil {
			return err
		}
		c.drop(p)
		return nil
	})
}

// RenamePeer gives an added peer another name.
func (n *Node) RenamePeer(ctx context.Context, a anode.Address, name string) error {
	return n.change(ctx, a, func(c *control, info *Peer) error {
		info.Name = name
		return c.nameFree(name, a)
	})
}

// BlockPeer blocks a peer, whatever zone and sign its key comes with, or lets it in
// again. A stranger that is blocked becomes a peer that is kept.
func (n *Node) BlockPeer(ctx context.Context, a anode.Address, blocked bool) error {
	if a == n.address {
		return ErrSelf
	}
	return n.call(ctx, func(c *control) error {
		p := c.peers[a]
		if (p == nil || !p.added) && !blocked {
			return ErrUnknownPeer
		}
		info := Peer{Address: a, Added: n.cfg.Clock.Now()}
		if p != nil && p.added {
			info = p.Peer
		}
		info.Blocked = blocked
		if err := n.cfg.Store.PutPeer(info); err != nil {
			return err
		}
		c.adopt(info).kept = true
		for _, q := range c.peers {
			if blocked && q.Address != a && q.Address.X() == a.X() && !q.added {
				c.drop(q)
			}
		}
		return nil
	})
}

// change updates an added peer, and keeps the change if the peer is kept.
func (n *Node) change(ctx context.Context, a anode.Address, f func(*control, *Peer) error) error {
	return n.call(ctx, func(c *control) error {
		p := c.peers[a]
		if p == nil || !p.added {
			return ErrUnknownPeer
		}
		info := p.Peer
		if err := f(c, &info); err != nil {
			return err
		}
		if p.kept {
			if err := n.cfg.Store.PutPeer(info); err != nil {
				return err
			}
		}
		p.Peer = info
		return nil
	})
}

// SetOpen lets everybody in, or only the peers that were added.
func (n *Node) SetOpen(ctx context.Context, open bool) error {
	return n.call(ctx, func(c *control) error {
		n.cfg.Open = open
		for _, p := range c.peers {
			p.remote.trusted.Store(!p.Blocked && (p.added || open))
		}
		return nil
	})
}

func (c *control) nameFree(name string, owner anode.Address) error {
	for _, p := range c.peers {
		if name != "" && p.Name == name && p.Address != owner {
			return fmt.Errorf("the name %q is %s's already", name, p.Address)
		}
	}
	return nil
}

// Status tells everything about the node that people may want to know.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	err = n.call(ctx, func(c *control) error {
		s = c.status()
		return nil
	})
	return s, err
}

func (c *control) status() Status {
	n := c.n
	s := Status{
		Schema: 1, Address: n.address, ID: n.id, ULA: n.ula, Zone: n.address.Zone(), Version: n.cfg.Version,
		Uptime:   int64(n.cfg.Clock.Now().Sub(n.started) / time.Second),
		Listen:   []string{fmt.Sprintf("udp:[::]:%d", n.conns[0].LocalPort())},
		Rung:     n.conns[0].Rung(),
		Peers:    []PeerStatus{},
		Counters: map[string]uint64{},
	}
	if d := n.cfg.Device; d != nil {
		s.Tun = &TunStatus{Name: d.Name(), MTU: d.MTU()}
		maps.Copy(s.Counters, d.Counters())
	}
	for _, conn := range n.conns {
		for k, v := range conn.Counters() {
			s.Counters["link_"+k] += v
		}
	}
	n.counters.into(s.Counters)
	for _, p := range c.peers {
		s.Peers = append(s.Peers, c.peerStatus(p))
	}
	slices.SortFunc(s.Peers, func(a, b PeerStatus) int {
		return cmp.Or(cmp.Compare(rankName(a), rankName(b)), cmp.Compare(a.Name, b.Name), slices.Compare(a.Address[:], b.Address[:]))
	})
	return s
}

// rankName puts added peers before strangers.
func rankName(p PeerStatus) int {
	if p.Allowed || p.Blocked {
		return 0
	}
	return 1
}

func (c *control) peerStatus(p *peer) PeerStatus {
	s := PeerStatus{
		Address: p.Address, ID: p.remote.id, ULA: p.remote.ula, Name: p.Name,
		Allowed: p.added && !p.Blocked, Blocked: p.Blocked,
		State:   c.state(p),
		Path:    PathStatus{Kind: PathNone},
		RxBytes: p.remote.rxBytes.Load(), TxBytes: p.remote.txBytes.Load(),
	}
	if seen := c.lastSeen(p); !seen.IsZero() {
		s.LastSeen = &seen
	}
	if best, ok := p.ways.Best(); ok && !p.Blocked {
		s.Path = PathStatus{
			Kind:     c.pathKind(best),
			Endpoint: wire.UDP(best.Endpoint.Addr).String(),
			RTT:      float64(best.RTT.Microseconds()) / 1000,
		}
		if !best.Direct() {
			via := best.Via
			s.Path.Via = &via
		}
		if f := p.remote.flight.Load(); f != nil {
			s.Path.MTU = f.mtu()
		}
	}
	return s
}

// lastSeen is when a peer last proved to be there, sealed or not.
func (c *control) lastSeen(p *peer) time.Time {
	seen := p.seen
	if heard := p.remote.heard.Load(); heard != 0 {
		if at := c.n.cfg.Clock.Now().Add(time.Duration(heard) - c.now).Round(0); at.After(seen) {
			seen = at
		}
	}
	return seen
}

func (c *control) state(p *peer) PeerState {
	switch {
	case p.Blocked:
		return StateBlocked
	case p.remote.flight.Load() != nil:
		return StateUp
	case len(p.queue.msgs) > 0:
		return StateConnecting
	case p.failed:
		return StateUnreachable
	}
	return StateIdle
}

func (c *control) pathKind(w path.Info) PathKind {
	switch {
	case !w.Direct():
		return PathRelay
	case w.OnLink:
		return PathLAN
	}
	return PathDirect
}
