package chat

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
)

// How often look asks for the peers, and how long a text waits for the links that result.
const (
	lookEvery = 5 * time.Second
	lookWait  = 2 * time.Second
	lookAgain = 100 * time.Millisecond
)

// peers is what the chat knows of the node's peers.
type peers struct {
	circle  *circle
	changed chan struct{} // holds one value if the node's peers are not those that were learned

	mu     sync.Mutex // held while they are learned
	up     map[netip.Addr]bool
	looked time.Time // last look
}

func newPeers() *peers {
	return &peers{circle: newCircle(), changed: make(chan struct{}, 1), up: map[netip.Addr]bool{}}
}

// PeersChanged reports that Node.Peers would return another answer than before. It never
// waits, and may be called from any goroutine.
func (t *Chat) PeersChanged() {
	select {
	case t.peers.changed <- struct{}{}:
	default: // a pending change covers this one
	}
}

// followPeers keeps the adapter's neighbours equal to the node's peers, until ctx ends.
func (t *Chat) followPeers(ctx context.Context) {
	n := t.find(control.NetworkAdapter)
	if n == nil {
		return
	}
	for {
		t.peers.mu.Lock()
		_, err := t.learn(ctx, n, false)
		t.peers.mu.Unlock()
		if err != nil && ctx.Err() == nil && !errors.Is(err, info2.ErrStopped) {
			t.log.Error("info2 did not learn which peers were added", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.peers.changed:
		}
	}
}

// look asks for the peers when somebody reads or says a text, at most every five seconds,
// and reports whether links may result. It serves a node that does not call PeersChanged
// when a peer becomes reachable: a servent that could not reach a peer pauses for up to
// hours.
func (t *Chat) look(ctx context.Context) bool {
	n := t.find(control.NetworkAdapter)
	if n == nil || n.problem() != nil {
		return false
	}
	t.peers.mu.Lock()
	defer t.peers.mu.Unlock()
	if time.Since(t.peers.looked) < lookEvery {
		return false
	}
	t.peers.looked = time.Now()
	dialled, err := t.learn(ctx, n, true)
	return dialled && err == nil
}

// learn makes the node's peers the neighbours. It lets the servent dial at once if a peer
// is up and not linked: one that was not up before, or any peer if again is set. It
// reports whether it did so. The caller holds peers.mu.
func (t *Chat) learn(ctx context.Context, n *network, again bool) (dialled bool, err error) {
	list, err := t.node.Peers(ctx)
	if err != nil {
		return false, err
	}
	if err := n.SetFriends(ctx, t.peers.circle.set(list)); err != nil {
		return false, err
	}
	before := t.peers.up
	t.peers.up = map[netip.Addr]bool{}
	var news []netip.Addr
	for _, p := range list {
		if p.Up {
			t.peers.up[p.ULA] = true
			if again || !before[p.ULA] {
				news = append(news, p.ULA)
			}
		}
	}
	if len(news) == 0 {
		return false, nil
	}
	linked, err := n.linked(ctx)
	if err != nil {
		return false, err
	}
	for _, a := range news {
		if !linked[a] {
			return true, n.NetworkChanged(ctx)
		}
	}
	return false, nil
}

// linked returns the hosts that texts reach now, or soon.
func (n *network) linked(ctx context.Context) (map[netip.Addr]bool, error) {
	status, err := n.Servent.Status(ctx)
	list := map[netip.Addr]bool{}
	for _, l := range status.Links {
		list[l.Addr] = true
	}
	for _, p := range status.Neighbours {
		list[p.Addr] = true
	}
	return list, err
}
