package overlay

import (
	"context"
	"slices"
	"sync"

	"anodenet/anode"
	"anodenet/overlay/peer"
)

// EventKind says what happened.
type EventKind string

// The kinds of events.
const (
	EventPeer    EventKind = "peer"    // a peer's state or path is another one, or it told whether it has added us
	EventDecided EventKind = "decided" // people decided about a peer: it was added, removed, named, blocked
	EventFound   EventKind = "found"   // a stranger was heard of
	EventRemoved EventKind = "removed" // a peer is not known any more
	EventCopies  EventKind = "copies"  // another machine with our address was noticed
	EventMissed  EventKind = "missed"  // more happened than was read: look at Status
)

// Event is one thing that happened. It says where to look and not what is there: read
// Status for that, which may be newer already.
type Event struct {
	Kind    EventKind     `json:"kind"`
	Address anode.Address `json:"address"` // of the peer; zero if it is about none
}

// watchSize is how many events wait for one watcher.
const watchSize = 256

// events hands what happens to whoever watches. An event that already waits for a
// watcher is not added again, so that a slow one misses nothing but intermediate states.
type events struct {
	mu       sync.Mutex
	watchers map[*Watch]struct{}
}

// Watch is a view of what happens to a node from when it was made. Next is for one
// goroutine.
type Watch struct {
	events *events
	wake   chan struct{} // holds one; closed by Close
	list   []Event       // under events.mu
	has    map[Event]struct{}
	kinds  []EventKind // never changed; empty: all
	closed bool
}

// Watch begins to watch for events of some kinds, or, without kinds, of all. EventMissed
// comes in any case. The caller calls Close in the end.
func (n *Node) Watch(kinds ...EventKind) *Watch {
	w := &Watch{events: &n.events, kinds: kinds, wake: make(chan struct{}, 1), has: map[Event]struct{}{}}
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	if n.events.watchers == nil {
		n.events.watchers = map[*Watch]struct{}{}
	}
	n.events.watchers[w] = struct{}{}
	return w
}

// Next waits for events and returns all that wait, oldest first. It returns the cause
// when ctx ends, and ErrClosed after Close.
func (w *Watch) Next(ctx context.Context) ([]Event, error) {
	for {
		w.events.mu.Lock()
		list, closed := w.list, w.closed
		w.list = nil
		clear(w.has)
		w.events.mu.Unlock()
		switch {
		case closed:
			return nil, ErrClosed
		case len(list) > 0:
			return list, nil
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends a watch.
func (w *Watch) Close() {
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	delete(w.events.watchers, w)
	w.closed = true
	w.signal()
}

func (w *Watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// add notifies all watchers, without waiting for one.
func (e *events) add(x Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.watchers {
		w.add(x)
	}
}

// add is called with events.mu held.
func (w *Watch) add(x Event) {
	if len(w.kinds) > 0 && !slices.Contains(w.kinds, x.Kind) {
		return
	}
	if _, waits := w.has[x]; waits {
		return
	}
	if len(w.list) >= watchSize {
		w.list = append(w.list[:0], Event{Kind: EventMissed})
		clear(w.has)
	}
	w.list = append(w.list, x)
	w.has[x] = struct{}{}
	w.signal()
}

func (e *events) peer(kind EventKind, p *peer.Peer) { e.add(Event{kind, p.Address}) }

func (e *events) node(kind EventKind) { e.add(Event{Kind: kind}) }
