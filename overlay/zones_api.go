package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"anodenet/anode"
	"anodenet/anode/zone"
)

// Bounds of zones.
const (
	MaxZones      = 32 // in use at a time
	MaxRelayZones = 8  // that a node relays for
)

// ErrZones is wrapped by the errors of zones that cannot be used.
var ErrZones = errors.New("zone not usable")

// RelayLimits are how much a relay forwards for the clients of its zones, per second.
// 0 is no limit. Peers that were added have none.
type RelayLimits struct {
	ClientBytes   uint64 `json:"client_bytes"` // of each client
	ClientPackets uint64 `json:"client_packets"`
	TotalBytes    uint64 `json:"total_bytes"` // of all of them together
	TotalPackets  uint64 `json:"total_packets"`
}

// DefaultRelayLimits are limits that one client alone hardly reaches.
func DefaultRelayLimits() RelayLimits {
	return RelayLimits{ClientBytes: 10_000_000_000 / 8, ClientPackets: 1_000_000}
}

// SetZone gives the node the file of a zone: its own, or one of a peer. A newer file
// replaces an older one; nil ends the use of the zone. Config.WantZone says which are
// wanted. It fails with ErrZones for zone 0, and beyond MaxZones.
func (n *Node) SetZone(ctx context.Context, z anode.Zone, f *zone.File) error {
	if z == 0 {
		return fmt.Errorf("%w: zone 0 is the local zone and has no relays", ErrZones)
	}
	return n.call(ctx, func(l *loop) error { return l.zones.set(z, f) })
}

// SetRelayZones sets the zones whose addresses may use this node as their relay, beside
// the peers that were added. They come by way of a registration (draft 2.3.1). It fails
// with ErrZones for zone 0, and beyond MaxRelayZones.
func (n *Node) SetRelayZones(ctx context.Context, zones []anode.Zone) error {
	if err := checkRelayZones(zones); err != nil {
		return err
	}
	return n.call(ctx, func(l *loop) error {
		n.setRelayZones(zones)
		l.clients.serve()
		return nil
	})
}

// SetRelayLimits replaces the limits of the clients.
func (n *Node) SetRelayLimits(ctx context.Context, limits RelayLimits) error {
	return n.call(ctx, func(l *loop) error {
		n.setLimits(limits)
		return nil
	})
}

// relayRates are RelayLimits as the lanes use them.
type relayRates struct {
	RelayLimits
	clientByte, clientPacket, totalByte, totalPacket rate
}

func (n *lanes) setLimits(x RelayLimits) {
	n.limits.Store(&relayRates{x, newRate(x.ClientBytes), newRate(x.ClientPackets), newRate(x.TotalBytes), newRate(x.TotalPackets)})
}

func checkRelayZones(zones []anode.Zone) error {
	switch {
	case len(zones) > MaxRelayZones:
		return fmt.Errorf("%w: a node relays for %d zones at most", ErrZones, MaxRelayZones)
	case slices.Contains(zones, 0):
		return fmt.Errorf("%w: zone 0 is the local zone and has no relays", ErrZones)
	}
	return nil
}

// setRelayZones shows the lanes the zones that are served.
func (n *lanes) setRelayZones(zones []anode.Zone) {
	if len(zones) == 0 {
		n.serves.Store(nil)
		return
	}
	list := slices.Clone(zones)
	n.serves.Store(&list)
}

// servesZone reports whether addresses of a zone may register here.
func (n *lanes) servesZone(z anode.Zone) bool {
	list := n.serves.Load()
	return list != nil && n.relays.Load() && slices.Contains(*list, z)
}
