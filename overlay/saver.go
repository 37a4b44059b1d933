package overlay

import (
	"log/slog"
	"sync"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// saver writes learned endpoints to the Store on a goroutine of its own, since the
// disk may take its time. Of each peer only the newest list waits.
type saver struct {
	store *Store
	log   *slog.Logger

	mu      sync.Mutex
	pending map[anode.Address][]wire.Endpoint
	closed  bool
	wake    chan struct{}
	done    chan struct{}
}

func newSaver(s *Store, log *slog.Logger) *saver {
	v := &saver{store: s, log: log, pending: map[anode.Address][]wire.Endpoint{},
		wake: make(chan struct{}, 1), done: make(chan struct{})}
	go v.run()
	return v
}

func (v *saver) endpoints(a anode.Address, es []wire.Endpoint) {
	v.mu.Lock()
	v.pending[a] = es
	v.mu.Unlock()
	v.signal()
}

// forget drops what waits for a peer that was removed.
func (v *saver) forget(a anode.Address) {
	v.mu.Lock()
	delete(v.pending, a)
	v.mu.Unlock()
}

func (v *saver) signal() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// close writes what is left and returns when it is written.
func (v *saver) close() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.signal()
	<-v.done
}

func (v *saver) run() {
	defer close(v.done)
	for range v.wake {
		v.mu.Lock()
		work, closed := v.pending, v.closed
		v.pending = map[anode.Address][]wire.Endpoint{}
		v.mu.Unlock()
		for a, es := range work {
			if err := v.store.PutEndpoints(a, es); err != nil {
				v.log.Warn("state", "err", err)
			}
		}
		if closed {
			return
		}
	}
}
