package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"anodenet/overlay/link"
)

// backlog is how many connections wait for Accept; more are not answered.
const backlog = 128

var _ link.Streams = (*Host)(nil)

// streams is what a host has of connections.
type streams struct {
	open      map[streamKey]*Stream
	listeners map[uint16]*Listener
	lastPort  uint16 // of a connection that the host opened
}

// streamKey names a connection at one of its ends.
type streamKey struct{ local, remote netip.AddrPort }

func (s *streams) init() {
	s.open, s.listeners, s.lastPort = make(map[streamKey]*Stream), make(map[uint16]*Listener), 49151
}

// close ends all connections without a word to the other side.
func (s *streams) close() {
	for _, c := range s.open {
		c.end(net.ErrClosed)
	}
	for _, l := range s.listeners {
		l.shut()
	}
}

// takes reports whether a segment is for a connection or a listener of the host.
func (s *streams) takes(p *packet) bool {
	return s.open[streamKey{p.to, p.from}] != nil || s.listeners[p.to.Port()] != nil
}

// Dial implements link.Streams. The address must not be the name of a host.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("vnet: %w", err)
	}
	if to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port()); network == "tcp4" && !to.Addr().Is4() || network == "tcp6" && to.Addr().Is4() {
		return nil, fmt.Errorf("vnet: %s is no address for %s", to, network)
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	c, err := h.dial(to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	stop := context.AfterFunc(ctx, func() {
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		c.ready.Broadcast()
	})
	defer stop()
	for c.state == dialling && c.err == nil && ctx.Err() == nil {
		c.ready.Wait()
	}
	if err := c.err; err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: c.RemoteAddr(), Err: err}
	}
	if c.state == dialling {
		c.end(ctx.Err())
		return nil, &net.OpError{Op: "dial", Net: network, Addr: c.RemoteAddr(), Err: ctx.Err()}
	}
	return c, nil
}

// dial makes a connection that is not open yet.
func (h *Host) dial(to netip.AddrPort) (*Stream, error) {
	switch {
	case h.w.closed:
		return nil, net.ErrClosed
	case h.refuses:
		return nil, syscall.EPERM
	}
	x, err := h.find(link.Endpoint{Addr: to})
	if err != nil {
		return nil, err
	}
	key := streamKey{remote: to}
	for range 1 << 14 {
		if h.streams.lastPort++; h.streams.lastPort == 0 {
			h.streams.lastPort = 49152
		}
		key.local = netip.AddrPortFrom(x.from, h.streams.lastPort)
		if h.streams.open[key] == nil && h.streams.listeners[key.local.Port()] == nil {
			h.writers++
			c := newStream(h, key, h.number<<32|h.writers)
			c.state = dialling
			c.greet()
			return c, nil
		}
	}
	return nil, syscall.EADDRNOTAVAIL
}

// ListenTCP implements link.Streams.
func (h *Host) ListenTCP(port uint16) (net.Listener, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.closed {
		return nil, net.ErrClosed
	}
	for p := uint16(30000); port == 0; p++ {
		if h.streams.listeners[p] == nil {
			port = p
		}
	}
	if h.streams.listeners[port] != nil {
		return nil, fmt.Errorf("vnet: TCP port %d: %w", port, syscall.EADDRINUSE)
	}
	l := &Listener{host: h, port: port}
	l.ready.L = &h.w.mu
	h.streams.listeners[port] = l
	return l, nil
}

// Listener takes connections to one port of a host.
type Listener struct {
	host *Host
	port uint16

	// under the world's mu
	ready  sync.Cond
	closed bool
	queue  []*Stream
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	l.host.w.mu.Lock()
	defer l.host.w.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.ready.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

// Close implements net.Listener. Connections that nobody has accepted are reset.
func (l *Listener) Close() error {
	l.host.w.mu.Lock()
	defer l.host.w.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	delete(l.host.streams.listeners, l.port)
	for _, c := range l.queue {
		c.reset()
	}
	l.shut()
	return nil
}

func (l *Listener) shut() {
	l.closed, l.queue = true, nil
	l.ready.Broadcast()
}

// Addr implements net.Listener: the port, of all addresses.
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: int(l.port)} }

// established hands over a connection whose other side has answered.
func (l *Listener) established(c *Stream) {
	l.queue = append(l.queue, c)
	l.ready.Signal()
}

// segments takes a segment that came for this host.
func (h *Host) segments(p packet) {
	key := streamKey{p.to, p.from}
	c, s := h.streams.open[key], p.seg
	if c != nil && c.id != s.id && s.kind == segSYN {
		c.end(syscall.ECONNRESET) // the other side began anew
		c = nil
	}
	switch l := h.streams.listeners[p.to.Port()]; {
	case c != nil && c.id == s.id:
		c.take(s)
	case s.kind == segRST:
	case s.kind == segSYN && l != nil && len(l.queue) < backlog:
		h.writers++
		c = newStream(h, key, h.number<<32|h.writers)
		c.state, c.id, c.listener, c.foreign = answering, s.id, l, !h.owns(p.to.Addr())
		c.greet()
	case s.kind == segSYN && l != nil:
		h.w.count["drop_backlog"]++
	default:
		h.w.count["refused_stream"]++
		h.writers++
		h.segment(h.number<<32|h.writers, 1, key, !h.owns(p.to.Addr()), &segment{id: s.id, kind: segRST})
	}
}

// segment sends one a Tick later, as all that is written leaves.
func (h *Host) segment(sender, number uint64, key streamKey, foreign bool, s *segment) {
	h.w.later(time.Now().Add(Tick), sender, number, func() {
		e := link.Endpoint{Addr: key.remote, Local: key.local.Addr()}
		if foreign {
			e.Local = netip.Addr{}
		}
		x, err := h.find(e)
		if err != nil || h.refuses {
			h.w.count["drop_stream_unreachable"]++
			return
		}
		h.w.count["sent_segments"]++
		h.send(packet{from: key.local, to: key.remote, seg: s, data: s.data, hops: 64}, x)
	})
}

// ResetStreams makes all of the host's connections end, as if it had booted. Nobody is told.
func (h *Host) ResetStreams() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for _, c := range h.streams.open {
		c.end(syscall.ECONNRESET)
	}
}

// Streams returns how many connections the host has.
func (h *Host) Streams() int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return len(h.streams.open)
}
