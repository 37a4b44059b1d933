package overlay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sort"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// Status returns everything about the node that people may want to know.
func (n *Node) Status(ctx context.Context) (s Status, err error) {
	err = n.call(ctx, func(l *loop) error {
		s = l.status()
		return nil
	})
	if err != nil {
		return Status{}, err
	}
	sort.Slice(s.Peers, func(i, j int) bool { // here, as the loop has other things to do
		a, b := &s.Peers[i], &s.Peers[j]
		return cmp.Or(cmp.Compare(rankName(a), rankName(b)), cmp.Compare(a.Name, b.Name), slices.Compare(a.Address[:], b.Address[:])) < 0
	})
	return s, nil
}

// status is the status with the peers in no order.
func (l *loop) status() Status {
	n := l.n
	s := Status{
		Schema: 1, Address: n.address, ID: n.id, ULA: n.ula, Zone: n.address.Zone(), Version: n.cfg.Version,
		Uptime: int64(n.cfg.Clock.Now().Sub(n.started) / time.Second),
		Listen: n.listens(),
		Rung:   n.conns[0].Rung(),
		PeerID: n.peerID(),
		Copies: l.copies.present(l.now),
		Open:   n.isOpen(), Secret: l.env.Local.PSK != [32]byte{}, Relay: n.relays.Load(),
		Relaying:   l.relayingStatus(),
		Zones:      l.zones.status(),
		Reach:      l.reach.status(),
		Network:    l.networkStatus(),
		Transports: l.transportsStatus(),
		LAN:        l.lan.status(),
		Peers:      make([]PeerStatus, 0, len(l.peers.byAddress)),
		Counters:   map[string]uint64{},
	}
	if d := n.cfg.Device; d != nil {
		s.Tun = tunStatus(d)
		maps.Copy(s.Counters, d.Counters())
	}
	for _, conn := range n.conns {
		for k, v := range conn.Counters() {
			s.Counters["link_"+k] += v
		}
	}
	if n.mux != nil {
		for k, v := range n.mux.Counters() {
			s.Counters["mux_"+k] += v
		}
	}
	n.counters.into(s.Counters)
	n.programs.counters(s.Counters)
	if n.cfg.Counters != nil {
		maps.Copy(s.Counters, n.cfg.Counters())
	}
	for _, p := range l.peers.byAddress {
		if p.Standing() == book.Relay {
			continue // it is with its zone
		}
		s.Peers = append(s.Peers, l.peerStatus(p))
	}
	s.explain()
	return s
}

// tunStatus describes the adapter. A device that is watched says how its interface is.
func tunStatus(d Device) *TunStatus {
	s := &TunStatus{Name: d.Name(), MTU: d.MTU(), Problems: []TunProblem{}}
	if watched, ok := d.(interface {
		State() (index int, problems []TunProblem)
	}); ok {
		s.Index, s.Problems = watched.State()
	}
	return s
}

// rankName puts added peers before strangers.
func rankName(p *PeerStatus) int {
	if p.Allowed || p.Blocked {
		return 0
	}
	return 1
}

func (l *loop) peerStatus(p *peer.Peer) PeerStatus {
	s := PeerStatus{
		Address: p.Address, ID: p.ID, ULA: p.ULA, Name: p.Name,
		Allowed: p.Standing() == book.Added, Blocked: p.Standing() == book.Blocked,
		State:   stateOf(p),
		Path:    PathStatus{Kind: PathNone},
		RxBytes: p.RxBytes.Load(), TxBytes: p.TxBytes.Load(),
	}
	s.Reason, s.ReasonAt = l.reason(p)
	if a := p.Admits(); a != wire.StandingUnknown {
		added := a == wire.StandingAdded
		s.Admits = &added
	}
	accounts := p.Accounts()
	l.lan.peerStatus(p, &s)
	s.Ways, s.Attempts = l.ways(accounts), l.attempts(accounts)
	for _, m := range p.Each() {
		if m.State() == peer.Up {
			s.Machines++
		}
	}
	if seen := p.Seen(); seen.Happened() {
		at := l.n.cfg.Clock.Now().Add(-l.now.Sub(seen)).Round(0)
		s.LastSeen = &at
	}
	if best, ok := p.Best(); ok && !s.Blocked {
		s.Path = PathStatus{
			Kind:     pathKind(best),
			Endpoint: best.Endpoint.String(), Transport: best.Endpoint.Kind.String(),
			RTT: float64(best.RTT.Microseconds()) / 1000,
		}
		if !best.Direct() {
			via := best.Via
			s.Path.Via = &via
		}
		if r := p.Route.Load(); r != nil {
			s.Path.MTU = mtuOf(r)
			s.PathAge = seconds(l.now.Sub(p.RoutedSince()))
		}
	}
	return s
}

// stateOf says how far things are with a peer, for people.
func stateOf(p *peer.Peer) PeerState {
	if p.Standing() == book.Blocked {
		return StateBlocked
	}
	switch p.State() {
	case peer.Up:
		return StateUp
	case peer.Seeking, peer.Shaking:
		return StateConnecting
	case peer.Lost, peer.Unreachable:
		return StateUnreachable
	}
	return StateIdle
}

func pathKind(w path.Info) PathKind {
	switch {
	case !w.Direct():
		return PathRelay
	case w.OnLink:
		return PathLAN
	}
	return PathDirect
}

// describe says what kind of way a packet of p's came along, for people.
func (l *loop) describe(p *peer.Peer, ep link.Endpoint, hop uint8) PathStatus {
	s := PathStatus{Kind: PathDirect, Endpoint: ep.String(), Transport: ep.Kind.String()}
	w, ok := l.way(&message{peer: p, from: ep, hop: hop})
	switch {
	case !ok:
		s.Kind = PathRelay
	case !w.Direct():
		s.Kind = PathRelay
		s.Via = &w.Via
	default:
		if _, on := l.links.on(ep); on {
			s.Kind = PathLAN
		}
	}
	return s
}
