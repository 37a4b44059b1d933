package overlay

import (
	"context"
	"slices"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// What somebody said about where an address is, such as in a link. Its relays are used as those of zone
// files are: to reach that address, and for nothing else. What they say about our NAT is a hint.

// given is what was said about one address.
type given struct {
	endpoints []wire.Endpoint
	relays    []RelayAt
}

const (
	maxGiven           = 256 // addresses; then a random one makes room
	givenRelays        = 2   // of one address
	givenEndpoints     = 8
	maxCandidateRelays = 2 // that a guest is told
)

// Know has endpoints and relays used to reach an address, in place of those that were named for it before.
// They are forgotten when the node ends, and are meant for peers that neither the book nor a zone file
// leads to. The first 8 endpoints and 2 relays count.
func (n *Node) Know(ctx context.Context, a anode.Address, endpoints []wire.Endpoint, relays []RelayAt) error {
	return n.call(ctx, func(l *loop) error {
		l.zones.give(a, endpoints, relays)
		return nil
	})
}

// give notes endpoints and relays of an address.
func (z *zones) give(a anode.Address, endpoints []wire.Endpoint, relays []RelayAt) {
	var list []RelayAt
	for _, r := range relays {
		ep, ok := link.FromWire(r.Endpoint)
		if !ok || ep.Kind != link.UDP && ep.Kind != link.TCP || len(list) == givenRelays ||
			r.Address == a || r.Address == z.l.n.address || book.CheckAddress(r.Address) != nil {
			continue
		}
		list = append(list, r)
	}
	if len(list)+len(endpoints) == 0 {
		delete(z.given, a)
		return
	}
	if _, ok := z.given[a]; !ok && len(z.given) >= maxGiven {
		for other := range z.given {
			delete(z.given, other)
			break
		}
	}
	z.given[a] = given{slices.Clone(endpoints[:min(len(endpoints), givenEndpoints)]), list}
}

// seekGiven offers what was named for a peer as ways to it.
func (z *zones) seekGiven(p *peer.Peer) {
	g := z.given[p.Address]
	for _, e := range g.endpoints {
		if ep, ok := link.FromWire(e); ok && z.l.links.mayHint(ep, z.l.isOverlay, ep.Kind == link.UDP) {
			p.Offer(z.l.now, path.Way{Endpoint: ep}, path.Stored)
		}
	}
	for _, at := range g.relays {
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
