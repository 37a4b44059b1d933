package link

import (
	"context"
	"net"
	"strconv"
	"syscall"
	"time"
)

var _ Streams = (*System)(nil)

// keepAlive finds out about connections that are idle and dead.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 2}

// Dial implements Streams.
func (s *System) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive, Control: func(_, _ string, c syscall.RawConn) error { return setStream(c) }}
	return d.DialContext(ctx, network, address)
}

// ListenTCP implements Streams.
func (s *System) ListenTCP(port uint16) (net.Listener, error) {
	c := net.ListenConfig{KeepAliveConfig: keepAlive, Control: func(_, _ string, c syscall.RawConn) error { return setStream(c) }}
	return c.Listen(context.Background(), "tcp", ":"+strconv.Itoa(int(port)))
}
