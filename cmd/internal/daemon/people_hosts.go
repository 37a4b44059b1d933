package daemon

import (
	"context"
	"slices"

	"anodenet/anode"
	"anodenet/overlay/people"
)

// Somebody who is asked may be where the name of a machine leads. The name is resolved each time that the ASK is sent,
// whose pauses grow from seconds to an hour, so the ASK follows the machine when its address changes. Once the
// other side has accepted, the book has the name, and hosts resolves it as that of any peer.

// know has the node look for a peer where somebody said that it is.
func (s *peopleService) know(ctx context.Context, k people.Know) {
	if len(k.Ways.Hosts) > 0 {
		s.places[k.Address] = &k.Ways
	} else {
		delete(s.places, k.Address)
	}
	_ = s.node.Know(ctx, k.Address, k.Ways.Endpoints, relaysAt(k.Ways.Relays)) // it fails when the node ends
}

// resolveAsked has the node look for somebody where names lead now. If none can be resolved, what they led to before
// stays.
func (s *peopleService) resolveAsked(ctx context.Context, a anode.Address, at *people.Ways) {
	asking, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	endpoints := slices.Clone(at.Endpoints)
	for _, h := range at.Hosts {
		addrs, err := s.resolve(asking, h.Name)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("host name not resolved; it will be retried", "host", h.Name, "err", err)
		}
		for _, addr := range chosen(addrs, nil) {
			endpoints = append(endpoints, h.At(addr))
		}
	}
	if len(endpoints) == len(at.Endpoints) {
		return
	}
	_ = s.do(ctx, func(*people.Core) { // it fails when the node ends
		if s.places[a] == at { // nobody took it back meanwhile
			_ = s.node.Know(ctx, a, endpoints, relaysAt(at.Relays))
		}
	})
}
