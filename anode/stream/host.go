package stream

import (
	"fmt"
	"sync"
	"time"

	"anodenet/anode"
)

// Remote is one machine of a peer's address. A stream stays with one machine.
type Remote struct {
	Address anode.Address
	Machine uint8 // peer ID (draft 3.4)
}

// Addr is one end of a stream. It is a net.Addr.
type Addr struct {
	Address anode.Address
	Port    uint16 // or link ID
}

// Network returns "anode".
func (a Addr) Network() string { return "anode" }

// String returns "address:port".
func (a Addr) String() string { return fmt.Sprintf("%v:%d", a.Address, a.Port) }

// Carrier moves messages to the machines of peers. Any goroutine calls it.
type Carrier interface {
	// Send sends trains, in order, and keeps none of their memory. A message that is
	// longer than Most is split. It waits while there is no room. It returns an error if
	// there is no path to the peer; messages that are lost are no error.
	Send(to Remote, trains []Train) error
	// Most returns the length of the longest message, type included, that fits the path
	// as it is now.
	Most(to Remote) int
	// Capabilities returns what the peer announced.
	Capabilities(to Remote) Capabilities
}

// Host is the streams with all peers, and the listeners. Each peer has a goroutine while
// there is something to do, which sends and keeps the time.
type Host struct {
	local   anode.Address
	carrier Carrier
	config  Config
	mem     pool
	batches sync.Pool
	done    sync.WaitGroup
	ports   ports

	mu     sync.Mutex
	peers  map[Remote]*peer
	closed bool
}

// peer is the streams with one machine of a peer.
type peer struct {
	host   *Host
	remote Remote
	wake   chan struct{} // of run; room for one

	mu      sync.Mutex
	m       *Machine
	running bool // run is, or is about to
	quit    bool // it is not to be started again
}

// NewHost makes a Host without listeners and streams. Close ends it.
func NewHost(local anode.Address, c Carrier, config Config) *Host {
	if config.Now == nil {
		start := time.Now()
		config.Now = func() time.Duration { return time.Since(start) + 1 }
	}
	return &Host{local: local, carrier: c, config: config.withDefaults(), peers: make(map[Remote]*peer),
		ports: ports{listeners: make(map[uint16]*Listener)}}
}

// Deliver takes messages of a peer, type[1] message each. It keeps none of their memory, and
// waits for nothing but other users of the same peer's streams.
func (h *Host) Deliver(from Remote, msgs ...[]byte) {
	p := h.peer(from)
	if p == nil {
		return
	}
	p.do(func(now time.Duration) {
		for _, msg := range msgs {
			p.m.Receive(now, msg)
		}
	})
}

// Moved says that the path to a peer changed or came back: what waits to be repeated is sent
// at once.
func (h *Host) Moved(to Remote) {
	if p := h.known(to); p != nil {
		p.do(p.m.Moved)
	}
}

// Unreachable says that there is no path to a peer. Streams that are being opened end with
// ErrUnreachable; those that are open wait for a path.
func (h *Host) Unreachable(to Remote) {
	if p := h.known(to); p != nil {
		p.do(p.m.Unreachable)
	}
}

// Close ends all streams at once, and all listeners, and waits for all goroutines. Peers are
// told, as far as that takes no waiting.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	peers := make([]*peer, 0, len(h.peers))
	for _, p := range h.peers {
		peers = append(peers, p)
	}
	h.mu.Unlock()
	h.ports.closeAll()
	for _, p := range peers {
		p.do(func(now time.Duration) {
			for _, s := range p.m.streams {
				s.Abort(now)
			}
		})
		p.do(func(time.Duration) { p.quit = true })
	}
	h.done.Wait()
	return nil
}

func (h *Host) known(r Remote) *peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peers[r]
}

// peer returns the streams with a machine of a peer; nil after Close.
func (h *Host) peer(r Remote) *peer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	p := h.peers[r]
	if p == nil {
		p = &peer{host: h, remote: r, wake: make(chan struct{}, 1)}
		p.m = newMachine(h.config, &h.ports, &h.mem)
		h.peers[r] = p
	}
	return p
}

// do changes the peer's streams, and tells programs and the goroutine what follows.
func (p *peer) do(f func(now time.Duration)) {
	p.mu.Lock()
	f(p.host.config.Now())
	p.unlock()
}

// unlock gives the lock back after a change.
func (p *peer) unlock() {
	p.events()
	if !p.running && !p.quit && p.m.Due() != 0 {
		p.running = true
		p.host.done.Go(p.run)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// events wakes the programs whose streams changed, and queues streams for Accept.
func (p *peer) events() {
	p.m.Events(func(s *Stream) {
		c, _ := s.Owner.(*Conn)
		if s.Fresh() {
			c = newConn(p, s)
			if !p.host.ports.deliver(s.key.own, c) {
				p.m.Accepted()
				s.Abort(p.host.config.Now())
			}
		}
		if c != nil {
			c.changed.Broadcast()
		}
	})
}

// run sends what the peer's streams have to send, until there has been nothing to do for a
// while.
func (p *peer) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for idle := false; ; {
		wait, more := p.send(idle)
		switch {
		case more:
			continue
		case wait < 0:
			return
		}
		timer.Reset(wait)
		select {
		case <-p.wake:
			idle = false
		case <-timer.C:
			idle = true
		}
	}
}

// send sends one batch.
func (p *peer) send(idle bool) (wait time.Duration, more bool) {
	b, _ := p.host.batches.Get().(*Batch)
	if b == nil {
		b = new(Batch)
	}
	wait, more = p.turn(b, idle)
	if len(b.Trains) > 0 && p.host.carrier.Send(p.remote, b.Trains) != nil {
		p.do(p.m.Unreachable)
	}
	b.Reset()
	p.host.batches.Put(b)
	return wait, more
}

// peerIdle is how long the goroutine of a peer stays while nothing is to be done.
const peerIdle = 10 * time.Second

// turn fills the batch, and returns how long to wait afterwards; negative: the goroutine ends.
// idle says that nothing happened for as long as turn said.
func (p *peer) turn(b *Batch, idle bool) (wait time.Duration, more bool) {
	most, can := p.host.carrier.Most(p.remote), p.host.carrier.Capabilities(p.remote)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.host.config.Now()
	p.m.SetMost(most)
	p.m.SetPeer(can)
	more = p.m.Send(now, b)
	p.events()
	due := p.m.Due()
	switch {
	case p.quit:
		return -1, more
	case due != 0:
		return max(due-now, 0), more
	case idle && !more:
		p.running = false
		return -1, false
	}
	return peerIdle, more
}
