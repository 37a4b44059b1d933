package chat

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// keepAlive detects neighbours that have vanished without closing. It probes rarely,
// since each probe wakes two machines that may have nothing else to do, and costs some 8 KB
// where they have to find a way to each other first. The first probe
// may be lost where a NAT has forgotten the path. The next follows before it forgets the
// new one, or each would be lost in turn, and the connection with them.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Hour, Interval: 10 * time.Second, Count: 18}

// FromULA returns a Transport that dials from an address of the adapter and listens on
// it. Its connections are bound to the adapter's interface, where the system can do that,
// so that no other route and no other interface has a part in them. index returns the
// interface's index, 0 to bind nothing; it is asked for each connection.
//
// Connections with another node of this machine do not leave it, and are not bound.
func FromULA(own netip.Addr, index func() int) Transport {
	return Transport{
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			device := index()
			if device != 0 && isLocal(to.Addr()) {
				device = 0
			}
			dialer := net.Dialer{
				LocalAddr:       net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0)),
				KeepAliveConfig: keepAlive, Control: boundTo(device),
			}
			return dialer.DialContext(ctx, "tcp6", to.String())
		},
		Listen: func(ctx context.Context, port uint16) (net.Listener, error) {
			config := net.ListenConfig{KeepAliveConfig: keepAlive}
			l, err := config.Listen(ctx, "tcp6", netip.AddrPortFrom(own, port).String())
			if err != nil {
				return nil, err
			}
			return gate{l, index}, nil
		},
	}
}

// gate is a listener that takes what comes by the adapter or from this machine.
type gate struct {
	net.Listener
	index func() int
}

// Accept waits for a connection, and binds it to the interface that it came by.
func (g gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if bindAccepted(conn, g.index()) == nil {
			return conn, nil
		}
		conn.Close()
	}
}

// boundTo returns what binds a new socket to an interface; nil for index 0.
func boundTo(index int) func(network, address string, c syscall.RawConn) error {
	if index == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if failed := c.Control(func(fd uintptr) { err = bindTo(fd, index) }); failed != nil {
			return failed
		}
		return err
	}
}

// FromIPv4 returns a Transport that dials over IPv4 and listens on all IPv4 addresses.
// Addresses of Info2 0.1 are IPv4, so the bare network never reaches into the adapter.
func FromIPv4() Transport {
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	return Transport{
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp4", to.String())
		},
		Listen: func(ctx context.Context, port uint16) (net.Listener, error) {
			return config.Listen(ctx, "tcp4", net.JoinHostPort("", strconv.Itoa(int(port))))
		},
	}
}
