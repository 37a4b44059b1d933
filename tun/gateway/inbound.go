package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"anodenet/anode"
)

// ErrRefused says that nothing listens on a port of this machine, or that its firewall rejects
// connections to it.
var ErrRefused = errors.New("connection refused: nothing listens on the port, or a firewall rejects it")

// Inbound connects to a port of this machine for a peer, whose ULA the service sees. It
// waits for the connection until ctx ends. Who has the peer's stream calls taken once, with
// the stream, or with nil if it was not opened after all.
func (g *Gateway) Inbound(ctx context.Context, peer anode.ULA, port uint16) (taken func(net.Conn), err error) {
	c := &conn{g: g, flow: flow{peer: peer, port: port}}
	if err := g.begin(c); err != nil {
		return nil, err
	}
	n, err := g.netstack()
	var e endpoint
	if err == nil {
		e, err = n.connect(ctx, g.ctx, peer, port)
	}
	if err != nil {
		if errors.Is(err, ErrRefused) {
			g.count.add(inRefused)
		} else {
			g.count.add(inFailed)
		}
		g.end(c)
		return nil, err
	}
	g.established(c, e)
	return c.take, nil
}

// take joins the stream to the connection.
func (c *conn) take(stream net.Conn) {
	g := c.g
	if stream != nil && g.goes(func() {
		defer g.end(c)
		g.count.add(inOpened)
		c.pump(stream)
	}) {
		return
	}
	g.count.add(inFailed)
	c.ep.Abort()
	c.ep.Close()
	g.end(c)
	if stream != nil {
		abort(stream)
	}
}

// connect opens a connection to our system in the name of a peer.
func (n *netstack) connect(ctx, running context.Context, peer anode.ULA, port uint16) (e endpoint, err error) {
	e.wq = new(waiter.Queue)
	ep, failed := n.stack.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, e.wq)
	if failed != nil {
		return e, fmt.Errorf("netstack: %v", failed)
	}
	e.ep = ep
	defer func() {
		if err != nil {
			ep.Abort()
			ep.Close()
		}
	}()
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	e.wq.EventRegister(&entry)
	defer e.wq.EventUnregister(&entry)
	if failed = ep.Bind(tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom16(peer)}); failed == nil {
		failed = ep.Connect(tcpip.FullAddress{NIC: nic, Addr: n.self, Port: port})
	}
	if _, started := failed.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ready:
			failed = ep.LastError()
		case <-ctx.Done():
			return e, ctx.Err()
		case <-running.Done():
			return e, ErrClosed
		}
	}
	switch failed.(type) {
	case nil:
		return e, nil
	case *tcpip.ErrConnectionRefused, *tcpip.ErrConnectionReset:
		return e, ErrRefused
	}
	return e, fmt.Errorf("netstack: %v", failed)
}
