package overlay

import (
	"context"
	"sync"

	"anodenet/anode"
	"anodenet/overlay/link"
)

const (
	diagnosing       = 4 // peers at a time
	diagnosesWaiting = 16
)

// diagnosis asks why endpoints of a peer do not answer.
type diagnosis struct {
	address   anode.Address
	endpoints []link.Endpoint // few
}

// diagnose answers such questions until ctx ends. What it finds can be forged, and is only
// for people to read.
func (n *Node) diagnose(ctx context.Context) {
	d, ok := n.cfg.Network.(link.Diagnoser)
	if !ok {
		return
	}
	for {
		select {
		case q := <-n.diagnoses:
			n.diagnoseAll(ctx, d, q)
		case <-ctx.Done():
			return
		}
	}
}

// diagnoseAll looks at all endpoints of one peer at the same time.
func (n *Node) diagnoseAll(ctx context.Context, d link.Diagnoser, q diagnosis) {
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, ep := range q.endpoints {
		asking.Go(func() {
			x := d.Diagnose(ctx, ep)
			if x == link.Silence {
				return
			}
			n.call(ctx, func(l *loop) error { // an error is the end of the node
				if p := l.peers.get(q.address); p != nil {
					p.Found(l.now, ep, x)
				}
				return nil
			})
		})
	}
}
