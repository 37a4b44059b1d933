package stream

import (
	"net"
	"sync"
)

// backlog is how many streams of a port may be half open or wait for Accept; those of guests
// have places of their own. One peer has a part of them: see Config.
const (
	backlog       = 4096
	backlogGuests = 256
)

// ports are a Host's listeners. Its lock is taken while a peer's is held, and never the other
// way round.
type ports struct {
	mu        sync.Mutex
	listeners map[uint16]*Listener
	closed    bool
}

// Listener takes streams to one port. It is a net.Listener.
type Listener struct {
	host  *Host
	port  uint16
	admit func(Remote) bool // nil: everybody that Deliver is called for

	// Under the lock of the Host's ports.
	ready  []*Conn // for Accept
	taken  places
	closed bool
	more   *sync.Cond
}

// places are those of streams that are half open or ready.
type places struct{ peers, guests int }

// of returns the places that are taken by guests or by others, and how many there are.
func (p *places) of(guest bool) (taken *int, most int) {
	if guest {
		return &p.guests, backlogGuests
	}
	return &p.peers, backlog
}

// give gives a place back.
func (p *places) give(guest bool) {
	taken, _ := p.of(guest)
	*taken = max(*taken-1, 0)
}

// Listen takes the streams that peers open to a port; 0 takes a free one.
func (h *Host) Listen(port uint16) (*Listener, error) { return h.ListenFor(port, nil) }

// ListenFor is Listen for the peers that admit returns true for; others are refused. admit
// is called while locks are held, and must not wait.
func (h *Host) ListenFor(port uint16, admit func(Remote) bool) (*Listener, error) {
	p := &h.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	for free := uint16(firstEphemeral - 1); port == 0 && free > 1023; free-- {
		if p.listeners[free] == nil {
			port = free
		}
	}
	l := &Listener{host: h, port: port, admit: admit, more: sync.NewCond(&p.mu)}
	if p.closed {
		return nil, opError("listen", l.Addr(), nil, net.ErrClosed)
	}
	if port == 0 || p.listeners[port] != nil {
		return nil, opError("listen", l.Addr(), nil, ErrInUse)
	}
	p.listeners[port] = l
	return l, nil
}

// Accept waits for a stream. After Close it returns an error that is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptStream()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptStream is Accept with the type of its result.
func (l *Listener) AcceptStream() (*Conn, error) {
	c := l.next()
	if c == nil {
		return nil, opError("accept", l.Addr(), nil, net.ErrClosed)
	}
	c.peer.mu.Lock()
	c.peer.m.Accepted()
	c.peer.mu.Unlock()
	return c, nil
}

func (l *Listener) next() *Conn {
	p := &l.host.ports
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(l.ready) == 0 && !l.closed {
		l.more.Wait()
	}
	if l.closed {
		return nil
	}
	c := l.ready[0]
	l.ready[0] = nil
	l.ready = l.ready[1:]
	l.taken.give(c.peer.guest)
	return c
}

// Close ends the listener. Streams that nobody accepted are ended; others go on.
func (l *Listener) Close() error {
	p := &l.host.ports
	p.mu.Lock()
	if l.closed {
		p.mu.Unlock()
		return opError("close", l.Addr(), nil, net.ErrClosed)
	}
	l.closed = true
	delete(p.listeners, l.port)
	ready := l.ready
	l.ready = nil
	l.more.Broadcast()
	p.mu.Unlock()
	for _, c := range ready {
		c.peer.mu.Lock()
		c.peer.m.Accepted()
		c.peer.mu.Unlock()
		c.Abort()
	}
	return nil
}

// Addr returns the local address and the port.
func (l *Listener) Addr() net.Addr { return &Addr{l.host.local, l.port} }

// door is a Host's ports as one machine of a peer sees them.
type door struct {
	h     *Host
	from  Remote
	guest bool
}

func (d door) Release(port uint16)      { d.h.ports.release(port, d.guest) }
func (d door) Listens(port uint16) bool { return d.h.ports.listens(port) }

// Reserve takes a place in a port's backlog. If there is no listener, it is for whoever asked
// for the other ports to decide.
func (d door) Reserve(port uint16) Admission {
	if !d.h.ports.listens(port) {
		return d.h.asker.admits(d.from)
	}
	return d.h.ports.reserve(d, port)
}

// reserve takes a place in a port's backlog.
func (p *ports) reserve(d door, port uint16) Admission {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[port]
	if l == nil || l.admit != nil && !l.admit(d.from) {
		return Refuse
	}
	taken, most := l.taken.of(d.guest)
	if *taken >= most {
		return Wait
	}
	*taken++
	return Admit
}

// release gives a place back.
func (p *ports) release(port uint16, guest bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.listeners[port]; l != nil {
		l.taken.give(guest)
	}
}

// listens reports whether a port has a listener.
func (p *ports) listens(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners[port] != nil
}

// deliver queues a stream for Accept, in the place that was reserved for it.
func (p *ports) deliver(port uint16, c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[port]
	if l == nil {
		return false
	}
	l.ready = append(l.ready, c)
	l.more.Signal()
	return true
}

func (p *ports) closeAll() {
	p.mu.Lock()
	p.closed = true
	all := make([]*Listener, 0, len(p.listeners))
	for _, l := range p.listeners {
		all = append(all, l)
	}
	p.mu.Unlock()
	for _, l := range all {
		_ = l.Close()
	}
}
