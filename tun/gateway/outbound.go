package gateway

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handshakeFor is how long netstack may take to see a SYN.
const handshakeFor = 5 * time.Second

// syn takes a packet that opens a connection. While its stream is being opened, the system
// repeats it in vain.
func (g *Gateway) syn(h header, packet []byte) {
	g.mu.Lock()
	old := g.table.flows[h.flow()]
	known, shaking := old != nil, old != nil && (old.shaking || !old.pending)
	g.mu.Unlock()
	switch {
	case shaking:
		g.inject(h, packet)
		return
	case known:
		g.count.add(repeated)
		return
	}
	c := &conn{g: g, flow: h.flow(), pending: true, request: make(chan *tcp.ForwarderRequest, 1)}
	if g.begin(c) != nil {
		return // the system tries again
	}
	first := append([]byte(nil), packet...)
	if !g.goes(func() { c.open(h, first) }) {
		g.end(c)
	}
}

// open opens the stream of a program's connection, and then the connection.
func (c *conn) open(h header, first []byte) {
	g := c.g
	defer g.end(c)
	stream, err := g.cfg.Dial(g.ctx, h.peer, h.port)
	if err != nil {
		g.failed(h, first, err)
		return
	}
	e, err := c.shake(first)
	if err != nil {
		g.count.add(outFailed)
		g.cfg.Log.Debug("gateway: handshake with a program", "peer", h.peer, "port", h.port, "err", err)
		abort(stream)
		return
	}
	g.count.add(outOpened)
	g.established(c, e)
	c.pump(stream)
}

// failed tells the system why there is no stream.
func (g *Gateway) failed(h header, first []byte, err error) {
	g.cfg.Log.Debug("gateway: a stream was not opened", "peer", h.peer, "port", h.port, "err", err)
	switch {
	case g.ctx.Err() != nil:
	case errors.Is(err, syscall.ECONNREFUSED):
		g.count.add(outRefused)
		g.reset(h)
	case errors.Is(err, syscall.EACCES):
		g.count.add(outUnreachable)
		g.cfg.Prohibited(h.peer, message(first))
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		g.count.add(outUnreachable)
		g.cfg.NoRoute(h.peer, message(first))
	default: // it tries again, until it gives up
		g.count.add(outFailed)
	}
}

// shake completes the handshake that the system began.
func (c *conn) shake(first []byte) (e endpoint, err error) {
	g := c.g
	n, err := g.netstack()
	if err != nil {
		return e, err
	}
	n.forget(c.flow)
	g.mu.Lock()
	c.shaking = true
	g.mu.Unlock()
	stop := context.AfterFunc(g.ctx, func() { n.forget(c.flow) })
	defer stop()
	n.inject(first)
	timer := time.NewTimer(handshakeFor)
	defer timer.Stop()
	var r *tcp.ForwarderRequest
	select {
	case r = <-c.request:
	case <-g.ctx.Done():
		return e, ErrClosed
	case <-timer.C:
		return e, errNoAnswer
	}
	defer r.Complete(false)
	e.wq = new(waiter.Queue)
	ep, failed := r.CreateEndpoint(e.wq)
	if failed != nil {
		return e, errors.New(failed.String())
	}
	e.ep = ep
	return e, nil
}

var errNoAnswer = errors.New("no answer of the system")

// forwarded takes a SYN from netstack, in a goroutine of its own.
func (g *Gateway) forwarded(r *tcp.ForwarderRequest) {
	id := r.ID()
	f := flow{id.LocalAddress.As16(), id.LocalPort, id.RemotePort}
	g.mu.Lock()
	c := g.table.flows[f]
	g.mu.Unlock()
	if c != nil {
		select {
		case c.request <- r:
			return
		default:
		}
	}
	g.count.add(unknown)
	r.Complete(true)
}

// abort ends a stream at once.
func abort(s net.Conn) {
	if a, ok := s.(interface{ Abort() }); ok {
		a.Abort()
	}
	_ = s.Close()
}
