package proxy

import (
	"context"
	"fmt"
	"net"

	"anodenet/anode"
)

// System is the Network of a node with an adapter: peers are reached by the sockets of the
// operating system, at their ULAs, and reach ours.
type System struct {
	ULA anode.ULA
}

// Dial implements Network.
func (s System) Dial(ctx context.Context, network, target string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	a, err := anode.ParseAddress(host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	var d net.Dialer
	return d.DialContext(ctx, network+"6", net.JoinHostPort(a.ULA().String(), port))
}

// Listen implements Network.
func (s System) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network+"6", s.at(address))
}

// ListenPacket implements Network.
func (s System) ListenPacket(network, address string) (net.PacketConn, error) {
	return net.ListenPacket(network+"6", s.at(address))
}

// at puts our address before ":PORT".
func (s System) at(address string) string { return "[" + s.ULA.String() + "]" + address }
