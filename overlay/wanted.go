package overlay

import (
	"anodenet/overlay/link"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// maxWanted is how many peers wait for a relay.
const maxWanted = 512

// want notes that somebody looks for a peer. What waits for it is not to wait for the next
// look when a relay is reached meanwhile, as happens when a node has just started.
func (f *finder) want(p *peer.Peer) {
	if f.wanted == nil || len(f.wanted) >= maxWanted {
		f.wanted = map[*peer.Peer]struct{}{}
	}
	f.wanted[p] = struct{}{}
}

// offer names a relay that was just reached to the peers that are looked for.
func (f *finder) offer(r *peer.Peer, ep link.Endpoint) {
	delete(f.wanted, r)
	for p := range f.wanted {
		if p.Unanswered(f.l.now) == 0 {
			delete(f.wanted, p)
			continue
		}
		p.Offer(f.l.now, path.Way{Endpoint: ep, Via: r.Address}, path.Relay)
		f.l.touch(p)
	}
}
