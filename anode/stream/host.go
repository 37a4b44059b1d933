package stream

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anodenet/anode"
)

// Remote is one machine of a peer's address. A stream stays with one machine.
type Remote struct {
	Address anode.Address
	Machine uint8 // peer ID (draft 3.4)
}

// Addr is one end of a stream. *Addr is a net.Addr.
type Addr struct {
	Peer anode.Address
	Port uint16 // or link ID
}

// Network returns "anode".
func (a *Addr) Network() string { return "anode" }

// String returns "[ULA]:port", which programs can read that know only IP.
func (a *Addr) String() string { return netip.AddrPortFrom(a.Peer.ULA().Addr(), a.Port).String() }

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
	asker   asker

	mu     sync.Mutex
	peers  map[Remote]*peer
	gone   Counters // of peers that are forgotten
	closed bool
}

// peer is the streams with one machine of a peer.
type peer struct {
	host   *Host
	remote Remote
	guest  bool
	wake   chan struct{} // of run; room for one

	mu      sync.Mutex
	m       *Machine
	running bool // run is, or is about to
	quit    bool // it is not to be started again
	gone    bool // it is forgotten; a Remote that is heard again has another one

	questions map[key]context.CancelFunc // ends those that are being asked
}

// NewHost makes a Host without listeners and streams. Close ends it.
func NewHost(local anode.Address, c Carrier, config Config) *Host {
	if config.Now == nil {
		start := time.Now()
		config.Now = func() time.Duration { return time.Since(start) + 1 }
	}
	h := &Host{local: local, carrier: c, config: config.withDefaults(), peers: make(map[Remote]*peer),
		ports: ports{listeners: make(map[uint16]*Listener)}}
	h.asker.running, h.asker.stop = context.WithCancel(context.Background())
	return h
}

// Deliver takes messages of a peer, type[1] message each. It keeps none of their memory, and
// waits for nothing but other users of the same peer's streams.
func (h *Host) Deliver(from Remote, msgs ...[]byte) {
	h.with(from, func(p *peer, now time.Duration) {
		for _, msg := range msgs {
			p.m.Receive(now, msg)
		}
	})
}

// Has reports whether there are streams with a machine of a peer.
func (h *Host) Has(r Remote) bool {
	p := h.known(r)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.m.Len() > 0
}

// Drop ends all streams with a peer at once, and tells it nothing: nothing is to be sent to
// it any more.
func (h *Host) Drop(a anode.Address) {
	for _, r := range h.Remotes(a) {
		if p := h.known(r); p != nil {
			p.do(p.m.Drop)
		}
	}
}

// Remotes returns the machines of an address with which there are streams.
func (h *Host) Remotes(a anode.Address) (list []Remote) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.peers) == 0 {
		return nil
	}
	for machine := range uint8(16) {
		if r := (Remote{a, machine}); h.peers[r] != nil {
			list = append(list, r)
		}
	}
	return list
}

// Counters returns what was dropped, of all peers.
func (h *Host) Counters() Counters {
	h.mu.Lock()
	sum := h.gone
	peers := slices.Collect(maps.Values(h.peers))
	h.mu.Unlock()
	for _, p := range peers {
		p.mu.Lock()
		sum.add(p.m.Counters())
		p.mu.Unlock()
	}
	return sum
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
	h.asker.stop()
	h.ports.closeAll()
	for _, p := range peers {
		p.do(func(now time.Duration) {
			for _, s := range p.m.streams {
				s.reset(now)
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
		config := h.config
		if p.guest = config.Guest != nil && config.Guest(r); p.guest {
			config = config.guest()
		}
		p.m = newMachine(config, door{h, r, p.guest}, &h.mem)
		h.peers[r] = p
	}
	return p
}

// with changes the streams with a machine of a peer, and returns false after Close.
func (h *Host) with(r Remote, f func(p *peer, now time.Duration)) bool {
	for {
		p := h.peer(r)
		if p == nil {
			return false
		}
		p.mu.Lock()
		if p.gone {
			p.mu.Unlock()
			continue
		}
		f(p, h.config.Now())
		p.unlock()
		return true
	}
}

// forget forgets the peer if it has no streams; its lock is held. What it was sent for
// streams that do not exist must not stay.
func (p *peer) forget() {
	if p.running || p.gone || p.m.Len() > 0 || len(p.m.asked) > 0 {
		return
	}
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.peers[p.remote] == p {
		delete(h.peers, p.remote)
	}
	h.gone.add(p.m.Counters())
	p.gone = true
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
	p.forget()
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
			if c == nil {
				c = newConn(p, s)
			}
			p.hand(c)
		}
		if c != nil {
			p.missed(c)
			c.changed.Broadcast()
		}
	})
	p.asks()
}

// hand gives a stream that the peer opened to a program.
func (p *peer) hand(c *Conn) {
	if c.taken != nil {
		p.m.Accepted()
		take := c.taken
		c.taken = nil
		p.host.done.Go(func() { take(c) })
	} else if !p.host.ports.deliver(c.s.key.own(), c) {
		p.m.Accepted()
		c.s.Abort(p.host.config.Now())
	}
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
		p.forget()
		return -1, false
	}
	return peerIdle, more
}
