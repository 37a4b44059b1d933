package overlay

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/anode/zone"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// zones is the part that knows the zones in use and their relays (draft 2.1, 2.3.1), and
// keeps us registered with some of them:
//
//   - our own relay, where others find us: that of our address's byte sum, or, while it is
//     silent, the next one in the order of the file;
//   - for each peer that somebody here speaks with, that peer's relay by the same rule. So
//     both ends meet at one relay whichever is silent.
//
// Nobody signs a zone file: a relay that it names forwards packets, answers WHOIS and
// NETID_REQ, and is nothing else to us.
type zones struct {
	l       *loop
	files   map[anode.Zone]*zone.File
	wanted  map[anode.Zone]mono.Time // when a file was last asked for
	relays  map[anode.Address]*zoneRelay
	given   map[anode.Address]given // what somebody said about where an address is, beside zone files
	own     *zoneRelay              // where others find us; nil: nowhere
	spare   *zoneRelay              // the one that follows, which others use when that is silent, and tells how it sees us
	changed bool                    // something has to be done now
	due     mono.Time
	pruneAt mono.Time
}

const (
	wantEvery      = time.Minute // for one zone
	maxFilesWanted = 64          // zones of which the last question is remembered
	maxZoneRelays  = 256
	maxTurns       = 8 // relays of one zone that are tried for one address
	pruneEvery     = 30 * time.Second
)

func newZones(l *loop) zones {
	return zones{l: l, files: map[anode.Zone]*zone.File{}, wanted: map[anode.Zone]mono.Time{}, relays: map[anode.Address]*zoneRelay{}, given: map[anode.Address]given{}}
}

// set takes the file of a zone; nil forgets it.
func (z *zones) set(id anode.Zone, f *zone.File) error {
	if f != nil && z.files[id] == nil && len(z.files) >= MaxZones {
		return fmt.Errorf("%w: %d zones are in use already", ErrZones, MaxZones)
	}
	if f == nil {
		delete(z.files, id)
	} else {
		z.files[id] = f
	}
	for _, a := range z.list() {
		switch {
		case a.zone != id:
		case a.named(f):
			a.offer() // its endpoints may be other ones
		case a.said != (link.Endpoint{}):
			a.file = nil
		default:
			z.drop(a)
		}
	}
	z.moved()
	return nil
}

// want asks for the file of a zone that is not known.
func (z *zones) want(id anode.Zone) {
	ask := z.l.n.cfg.WantZone
	if id == 0 || ask == nil || z.files[id] != nil {
		return
	}
	if at, ok := z.wanted[id]; ok && z.l.now.Sub(at) < wantEvery {
		return
	}
	if len(z.wanted) >= maxFilesWanted {
		clear(z.wanted)
	}
	z.wanted[id] = z.l.now
	ask(id)
}

// start asks for the zones of the node and of the peers that were added.
func (z *zones) start() {
	z.want(z.l.n.address.Zone())
	for _, e := range z.l.n.book.Entries() {
		if e.Standing() == book.Added {
			z.want(e.Address.Zone())
		}
	}
}

// list returns the relays in use in a fixed order.
func (z *zones) list() []*zoneRelay {
	return slices.SortedFunc(maps.Values(z.relays), func(a, b *zoneRelay) int {
		return cmp.Or(cmp.Compare(a.zone, b.zone), cmp.Compare(a.index, b.index), slices.Compare(a.address[:], b.address[:]))
	})
}

// serving returns the relay that serves an address, of which the zone and the byte sum
// are known: the first one, from that of the sum on, that is not silent. It is nil if
// there is none, or if we are it ourselves. If all are silent, it is the first one.
func (z *zones) serving(id anode.Zone, sum uint32) *zoneRelay { return z.servingBut(nil, id, sum) }

// servingBut is serving as if the zone file did not have one of its relays.
func (z *zones) servingBut(but *zoneRelay, id anode.Zone, sum uint32) (first *zoneRelay) {
	f := z.files[id]
	if f == nil {
		z.want(id)
		return nil
	}
	for k := range uint32(min(f.Relays(), maxTurns)) {
		r, err := f.Relay(sum + k)
		if err != nil {
			continue
		}
		if r.Addresses[0] == z.l.n.address {
			return first
		}
		a := z.relay(id, (sum+k)%uint32(f.Relays()), r)
		if a == nil || a == but {
			continue
		}
		if a.state != RelaySilent {
			return a
		}
		if first == nil {
			first = a
		}
	}
	return first
}

// relay returns the relay that a zone file names, which is in use from now on; nil if it
// cannot be.
func (z *zones) relay(id anode.Zone, index uint32, r zone.Relay) *zoneRelay {
	address := r.Addresses[0]
	if a := z.relays[address]; a != nil {
		a.adoptFile(id, index)
		return a
	}
	if z.l.n.book.Standing(address) == book.Blocked || len(z.relays) >= maxZoneRelays {
		return nil
	}
	return z.enter(&zoneRelay{address: address, zone: id, index: index, file: z.files[id]})
}

// enter begins the use of a relay; it returns nil if that cannot be.
func (z *zones) enter(a *zoneRelay) *zoneRelay {
	a.z, a.state, a.users, a.used = z, RelayConnecting, map[*peer.Peer]bool{}, z.l.now
	z.relays[a.address] = a
	if !a.adopt() {
		delete(z.relays, a.address)
		return nil
	}
	a.next = z.l.now
	z.moved()
	return a
}

// drop ends the use of a relay.
func (z *zones) drop(a *zoneRelay) {
	delete(z.relays, a.address)
	if z.own == a {
		z.own = nil
	}
	if z.spare == a {
		z.spare = nil
	}
	if a.peer.Standing() == book.Relay {
		z.l.drop(a.peer)
	}
}

// mayUse reports whether packets may be sent to an endpoint because the file of a zone names
// it. A person chose our own zone, whose relays may be anywhere. Those of others are hints.
func (z *zones) mayUse(id anode.Zone, ep netip.AddrPort) bool {
	if id != z.l.n.address.Zone() {
		return z.l.links.mayHint(link.Endpoint{Addr: ep}, z.l.isOverlay, false)
	}
	a := ep.Addr()
	return ep.IsValid() && ep.Port() != 0 && a.IsGlobalUnicast() && !z.l.isOverlay(a)
}

// seek offers a peer's relay as a way to it. A peer that is a relay itself is at the
// endpoints that the zone file has.
func (z *zones) seek(p *peer.Peer) {
	if c := z.l.clients.x.get(&p.Address); c != nil { // it registered here
		for b := c.places.Load(); b != nil; b = b.next.Load() {
			p.Offer(z.l.now, path.Way{Endpoint: b.place.endpoint()}, path.Stored)
		}
	}
	z.seekGiven(p)
	if a := z.relays[p.Address]; a != nil {
		a.offer()
		return
	}
	if z.files[p.Address.Zone()] == nil && z.l.peers.strangers.uninvited(p) {
		return // whoever comes could choose from where we fetch files
	}
	if a := z.serving(p.Address.Zone(), p.Address.Sum()); a != nil && a.address != p.Address {
		a.use(p)
	}
}

// follow notes that a peer's packets go through a relay.
func (z *zones) follow(p *peer.Peer) {
	best, ok := p.Best()
	if a := z.relays[p.Address]; a != nil && !ok {
		a.suspect()
	} else if a != nil && best.Direct() {
		a.follow(&best)
	}
	if ok && !best.Direct() {
		if a := z.relays[best.Via]; a != nil {
			a.users[p] = true
			a.used = z.l.now
		}
	}
}

// forget drops a peer that is gone.
func (z *zones) forget(p *peer.Peer) {
	for _, a := range z.relays {
		delete(a.users, p)
	}
}

// adopted has a relay's peer made anew, where it went because people changed their mind.
func (z *zones) adopted(address anode.Address) {
	if a := z.relays[address]; a != nil && !a.adopt() {
		z.drop(a)
		z.moved()
	}
}

// suspect has a relay checked, since somebody behind it is silent.
func (z *zones) suspect(address anode.Address) {
	if a := z.relays[address]; a != nil {
		a.suspect()
	}
}

// ask has the relay that serves a ULA asked for its address, or, for a short ID alone, our
// own.
func (z *zones) ask(m wire.WhoisMsg) {
	a := z.own
	if m.Kind == wire.WhoisULA {
		a = z.serving(m.ULA.Zone(), m.ULA.Sum())
	}
	if a != nil {
		a.ask(m)
	}
}

// message takes a PONG.
func (z *zones) message(m *message) error {
	if a := z.relays[m.peer.Address]; a != nil {
		a.pong(m)
	}
	return nil
}

// moved has everything looked at again: a zone or a relay's state is another one.
func (z *zones) moved() { z.changed = true }

// tick registers where it is due.
func (z *zones) tick() mono.Time {
	if !z.changed && z.l.now < z.due {
		return z.due
	}
	z.changed = false
	z.settleOwn()
	if z.l.now >= z.pruneAt {
		z.prune()
		z.pruneAt = z.l.now.Add(pruneEvery)
	}
	z.due = mono.Never
	for _, a := range z.list() {
		z.due = min(z.due, a.tick())
	}
	if len(z.relays) > 0 {
		z.due = min(z.due, z.pruneAt)
	}
	if z.changed {
		return z.l.now
	}
	return z.due
}

// settleOwn chooses where others find us. Two relays show how the NAT in front of us
// works, and if one falls silent the other one knows us already.
func (z *zones) settleOwn() {
	id, sum := z.l.n.address.Zone(), z.l.n.address.Sum()
	var own, spare *zoneRelay
	if z.files[id] != nil {
		if own = z.serving(id, sum); own != nil {
			spare = z.servingBut(own, id, sum)
		}
	}
	for _, before := range []*zoneRelay{z.own, z.spare} {
		if before != nil && before != own && before != spare {
			before.left = z.l.now // others may look for us there for a while
		}
	}
	z.own, z.spare = own, spare
}

// prune ends the use of relays that nobody needs.
func (z *zones) prune() {
	for _, a := range z.list() {
		a.prune()
		if !a.needed() {
			z.drop(a)
		}
	}
}

// linksChanged registers anew: our addresses may be other ones.
func (z *zones) linksChanged() {
	for _, a := range z.relays {
		a.again()
	}
	z.moved()
}

// preferred returns the relays that we are registered with, our own first.
func (z *zones) preferred() (list []*peer.Peer) {
	for _, a := range []*zoneRelay{z.own, z.spare} {
		if a != nil && a.state == RelayRegistered {
			list = append(list, a.peer)
		}
	}
	for _, a := range z.list() {
		if a.state == RelayRegistered && a.file != nil && a != z.own && a != z.spare {
			list = append(list, a.peer)
		}
	}
	return list
}

// status describes the zones in use, our own first, and has their relays asked, so that the next
// status is true.
func (z *zones) status() []ZoneStatus {
	list := make([]ZoneStatus, 0, len(z.files))
	for id, f := range z.files {
		s := ZoneStatus{Zone: id, Own: id == z.l.n.address.Zone(), Name: f.Name(), Revision: f.Revision(), Total: f.Relays(), Relays: []ZoneRelayStatus{}}
		for _, a := range z.list() {
			if a.zone == id && a.file != nil {
				s.Relays = append(s.Relays, a.status())
				a.looked()
			}
		}
		list = append(list, s)
	}
	sort.Slice(list, func(i, j int) bool { // one's own first
		a, b := &list[i], &list[j]
		if a.Own != b.Own {
			return a.Own
		}
		return a.Zone < b.Zone
	})
	return list
}

// relayingStatus describes what the node does as a relay of zones.
func (l *loop) relayingStatus() RelayingStatus {
	c := &l.n.counters
	s := RelayingStatus{Zones: []anode.Zone{}, Limits: l.n.limits.Load().RelayLimits, Clients: l.clients.x.count,
		Packets: c[cClientPackets].Load(), Bytes: c[cClientBytes].Load(),
		DroppedClient: c[dClientLimit].Load(), DroppedTotal: c[dTotalLimit].Load()}
	if list := l.n.serves.Load(); list != nil {
		s.Zones = slices.Clone(*list)
	}
	return s
}

// kept reports whether the way to a relay is kept open, or stays open by itself.
func (r *reach) kept(p *peer.Peer) bool {
	return r.outside.mapping.Kind == path.None ||
		slices.ContainsFunc(r.anchors.list, func(x *anchor) bool { return x.peer == p && !x.silent() })
}
