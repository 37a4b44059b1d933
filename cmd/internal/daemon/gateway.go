package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"anodenet/anode"
	"anodenet/overlay"
	"anodenet/tun"
	"anodenet/tun/gateway"
)

// newGateway joins TCP of the adapter to streams of peers that have no adapter.
func (d *daemon) newGateway() *gateway.Gateway {
	in := d.adapter.Injector()
	return gateway.New(gateway.Config{
		Self:  d.identity.Address().ULA(),
		MTU:   d.adapter.MTU(),
		Super: d.adapter.SuperPackets(),
		Dial:  d.dialStream,
		Put: func(peer anode.ULA, size int, parts ...[]byte) {
			d.inject(in, peer, size, parts)
		},
		NoRoute:    d.adapter.NoRoute,
		Prohibited: d.adapter.Prohibited,
		Log:        d.log,
	})
}

// inject passes a packet of the gateway to the system, as if the peer had sent it.
func (d *daemon) inject(in *tun.Injector, peer anode.ULA, size int, parts [][]byte) {
	if err := in.Put(d.node.LetsIn(peer), size, parts...); err != nil {
		d.log.Debug("adapter", "err", err)
	}
}

// dialStream opens a stream for the gateway, with the errors that it understands.
func (d *daemon) dialStream(ctx context.Context, peer anode.ULA, port uint16) (net.Conn, error) {
	c, err := d.node.Dial(ctx, "stream", netip.AddrPortFrom(peer.Addr(), port).String())
	switch {
	case errors.Is(err, overlay.ErrBlocked):
		return nil, syscall.EACCES
	case errors.Is(err, overlay.ErrUnreachable):
		return nil, syscall.EHOSTUNREACH
	}
	return c, err
}

// joined is a gateway in the form that the engine takes.
type joined struct{ *gateway.Gateway }

// Inbound implements overlay.Gateway.
func (j joined) Inbound(ctx context.Context, peer anode.ULA, port uint16) (overlay.Taken, error) {
	return j.Gateway.Inbound(ctx, peer, port)
}
