package overlay

import (
	"context"

	"anodenet/anode/wire"
)

// Doors lists where a guest can reach this node now: endpoints, the most promising first, and relays that
// forward to it for anybody.
func (n *Node) Doors(ctx context.Context) (endpoints []wire.Endpoint, relays []RelayAt, err error) {
	return nil, nil, ErrNoPeople
}
