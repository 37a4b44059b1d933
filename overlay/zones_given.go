package overlay

import (
	"context"

	"anodenet/anode"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// Relays that somebody named for an address, such as in a link. They are used as those of zone
// files are: to reach that address, and for nothing else. What they say about our NAT is a hint.

const (
	maxGiven           = 256 // addresses with such relays; then a random one makes room
	givenRelays        = 2   // of one address
	maxCandidateRelays = 2   // that a guest is told
)

// KnowRelay has relays used to reach an address, in place of those that were named for it before;
// with none, only those of its zone are. It is forgotten when the node ends, and is meant for an added
// peer that is behind a relay which no zone file of the node's has. At most 2 of them count.
func (n *Node) KnowRelay(ctx context.Context, a anode.Address, relays []RelayAt) error {
	return n.call(ctx, func(l *loop) error {
		l.zones.give(a, relays)
		return nil
	})
}

// give notes relays of an address.
func (z *zones) give(a anode.Address, relays []RelayAt) {
	var list []RelayAt
	for _, r := range relays {
		ep, ok := link.FromWire(r.Endpoint)
		if !ok || ep.Kind != link.UDP && ep.Kind != link.TCP || len(list) == givenRelays ||
			r.Address == a || r.Address == z.l.n.address || book.CheckAddress(r.Address) != nil {
			continue
		}
		list = append(list, r)
	}
	if len(list) == 0 {
		delete(z.given, a)
		return
	}
	if z.given[a] == nil && len(z.given) >= maxGiven {
		for other := range z.given {
			delete(z.given, other)
			break
		}
	}
	z.given[a] = list
}

// seekGiven offers the relays that were named for a peer as ways to it.
func (z *zones) seekGiven(p *peer.Peer) {
	for _, at := range z.given[p.Address] {
		if a := z.givenRelay(at); a != nil {
			a.use(p)
		}
	}
}

// givenRelay returns the relay that was named, which is in use from now on; nil if it cannot be.
func (z *zones) givenRelay(at RelayAt) *zoneRelay {
	ep, _ := link.FromWire(at.Endpoint)
	if a := z.relays[at.Address]; a != nil {
		if a.said == (link.Endpoint{}) {
			a.said = ep
		}
		return a
	}
	if z.l.n.book.Standing(at.Address) == book.Blocked || len(z.relays) >= maxZoneRelays {
		return nil
	}
	return z.enter(&zoneRelay{address: at.Address, zone: at.Address.Zone(), said: ep})
}

// givenEndpoint is where somebody said that the relay is, if packets may be sent there from where
// we are now.
func (r *zoneRelay) givenEndpoint() []link.Endpoint {
	if !r.z.l.links.mayHint(r.said, r.z.l.isOverlay, false) || r.said.Kind != link.UDP && r.z.l.n.mux == nil {
		return nil
	}
	return []link.Endpoint{r.said}
}

// adoptFile takes what a zone file says of a relay that was only named before.
func (r *zoneRelay) adoptFile(id anode.Zone, index uint32) {
	if r.file != nil {
		return
	}
	r.zone, r.index, r.file = id, index, r.z.files[id]
	r.offer()
	r.z.moved()
}

// registeredGiven lists the relays that no zone file names and that we are registered with.
func (z *zones) registeredGiven() (list []*peer.Peer) {
	for _, a := range z.list() {
		if a.file == nil && a.state == RelayRegistered {
			list = append(list, a.peer)
		}
	}
	return list
}

// candidates lists the relays where others find us, and where they are.
func (z *zones) candidates() (list []RelayAt) {
	for _, a := range []*zoneRelay{z.own, z.spare} {
		if a == nil || a.state != RelayRegistered || len(list) == maxCandidateRelays {
			continue
		}
		best := a.at
		for _, ep := range a.endpoints() { // by UDP, as most can
			if best.Kind != link.UDP && ep.Kind == link.UDP {
				best = ep
			}
		}
		best.Conn = 0
		list = append(list, RelayAt{a.address, best.Wire()})
	}
	return list
}
