package overlay

import (
	"maps"
	"net/netip"
	"slices"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/peer"
)

// setAliases gives the added peers their IPv4 aliases.
func (v *virtualLAN) setAliases() {
	t := v.l.n.cfg.Aliases
	if !v.aliasesChanged || t == nil {
		return
	}
	v.aliasesChanged = false
	var list []anode.ULA
	for _, p := range v.l.peers.byAddress {
		if p.Standing() == book.Added {
			list = append(list, p.ULA)
		}
	}
	t.Set(list)
	before := maps.Clone(v.moved)
	clear(v.moved)
	for _, p := range v.l.peers.byAddress {
		if p.Standing() != book.Added || !t.Moved(p.ULA) {
			continue
		}
		v.moved[p.Address] = true
		if a, _ := t.Alias(p.ULA); !before[p.Address] {
			v.l.n.log.Warn("the IPv4 alias of a peer is taken; it has another one on this machine alone", "peer", p.Label(), "alias", netip.AddrFrom4(a))
		}
	}
}

// status is the virtual LAN as a whole.
func (v *virtualLAN) status() LANStatus {
	s := LANStatus{All: v.all, Groups: append([]netip.Addr{}, v.groups...), Limits: v.limits}
	for _, x := range v.peers {
		if x.chosen {
			s.Chosen++
		}
		if x.joins() {
			s.Members++
		}
	}
	if t := v.l.n.cfg.Aliases; t != nil {
		s.Range, s.Alias = t.Range().String(), t.Self().String()
	}
	return s
}

// peerStatus adds what concerns the virtual LAN to a peer's status.
func (v *virtualLAN) peerStatus(p *peer.Peer, s *PeerStatus) {
	s.LAN, s.LANGroups = LANOff, []netip.Addr{}
	x := v.peers[p]
	s.NoAdapter = onlyStreams(routesOf(p)) || x != nil && x.bare && p.Route.Load() == nil
	if x != nil && x.chosen {
		s.LAN = LANChosen
		if x.joins() {
			s.LAN = LANMember
		}
		for _, m := range x.machines {
			s.LANGroups = append(s.LANGroups, m.groups...)
		}
		slices.SortFunc(s.LANGroups, netip.Addr.Compare)
		s.LANGroups = slices.Compact(s.LANGroups)
	}
	if t := v.l.n.cfg.Aliases; t != nil && !s.NoAdapter {
		if a, ok := t.Alias(p.ULA); ok { // one without an adapter has its route all the same: what is sent is refused, not led elsewhere
			s.Alias, s.AliasMoved = netip.AddrFrom4(a).String(), t.Moved(p.ULA)
		}
	}
}
