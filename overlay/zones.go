package overlay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/zone"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
)

// zones is the part that knows the zones in use and their relays (draft 2.1, 2.3.1).
// Nobody signs a zone file: a relay that it names forwards packets, and is nothing else
// to us. See anchor.
type zones struct {
	l      *loop
	files  map[anode.Zone]*zone.File
	wanted map[anode.Zone]mono.Time // when a file was last asked for
}

const (
	wantEvery = time.Minute // for one zone
	maxWanted = 64          // zones of which the last question is remembered
)

func newZones(l *loop) zones {
	return zones{l: l, files: map[anode.Zone]*zone.File{}, wanted: map[anode.Zone]mono.Time{}}
}

// set takes the file of a zone; nil forgets it.
func (z *zones) set(id anode.Zone, f *zone.File) error {
	if f == nil {
		delete(z.files, id)
		return nil
	}
	if z.files[id] == nil && len(z.files) >= MaxZones {
		return fmt.Errorf("%w: %d zones are in use already", ErrZones, MaxZones)
	}
	z.files[id] = f
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
	if len(z.wanted) >= maxWanted {
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

// message has nothing to do: relays speak with parts that serve everybody.
func (z *zones) message(*message) error { return nil }

// tick has nothing to do yet.
func (z *zones) tick() mono.Time { return mono.Never }

// linksChanged has nothing to do yet.
func (z *zones) linksChanged() {}

// status describes the zones in use, our own first.
func (z *zones) status() []ZoneStatus {
	list := make([]ZoneStatus, 0, len(z.files))
	for id, f := range z.files {
		list = append(list, ZoneStatus{Zone: id, Own: id == z.l.n.address.Zone(), Name: f.Name(), Revision: f.Revision(),
			Total: f.Relays(), Relays: []ZoneRelayStatus{}})
	}
	slices.SortFunc(list, func(a, b ZoneStatus) int {
		if a.Own != b.Own {
			return map[bool]int{true: -1, false: 1}[a.Own]
		}
		return cmp.Compare(a.Zone, b.Zone)
	})
	return list
}

// relayingStatus describes what the node does as a relay of zones.
func (l *loop) relayingStatus() RelayingStatus {
	c := &l.n.counters
	s := RelayingStatus{Zones: []anode.Zone{}, Limits: *l.n.limits.Load(), Clients: l.clients.x.count,
		Packets: c[cClientPackets].Load(), Bytes: c[cClientBytes].Load(),
		DroppedClient: c[dClientLimit].Load(), DroppedTotal: c[dTotalLimit].Load()}
	if list := l.n.serves.Load(); list != nil {
		s.Zones = slices.Clone(*list)
	}
	return s
}
