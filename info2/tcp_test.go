package info2

import (
	"context"
	"net"
	"net/netip"
	"strconv"
)

// dialTCP dials by TCP from a local address; the zero address leaves the choice
// to the system.
func dialTCP(local netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", to.String())
	}
}

// listenTCP listens by TCP on a local address; the zero address is all of them.
func listenTCP(local netip.Addr) func(context.Context, uint16) (net.Listener, error) {
	return func(ctx context.Context, port uint16) (net.Listener, error) {
		host := ""
		if local.IsValid() {
			host = local.String()
		}
		var l net.ListenConfig
		return l.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
	}
}
