package chat

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// keepAlive detects neighbours that have vanished without closing. It probes rarely,
// since each probe wakes two machines that may have nothing else to do.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Minute, Interval: time.Minute, Count: 3}

// FromULA returns a Transport that dials from an address of the adapter and listens on
// it.
func FromULA(own netip.Addr) Transport {
	return transport("tcp6", own.String(), net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0)))
}

// FromIPv4 returns a Transport that dials over IPv4 and listens on all IPv4 addresses.
// Addresses of Info2 0.1 are IPv4, so the bare network never reaches into the adapter.
func FromIPv4() Transport { return transport("tcp4", "", nil) }

func transport(network, host string, local net.Addr) Transport {
	dialer := net.Dialer{LocalAddr: local, KeepAliveConfig: keepAlive}
	config := net.ListenConfig{KeepAliveConfig: keepAlive}
	return Transport{
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return dialer.DialContext(ctx, network, to.String())
		},
		Listen: func(ctx context.Context, port uint16) (net.Listener, error) {
			return config.Listen(ctx, network, net.JoinHostPort(host, strconv.Itoa(int(port))))
		},
	}
}
