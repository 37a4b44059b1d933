package chat

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// circle is who may be a neighbour on the adapter: the peers that were added and are not
// blocked. The adapter accepts packets from a ULA only if its owner sent them, so an
// address identifies a peer. Connections with a peer that leaves the circle are closed at
// once.
type circle struct {
	mu    sync.Mutex
	names map[netip.Addr]string
	conns map[*member]netip.Addr
}

// member is a connection with a peer of the circle.
type member struct {
	net.Conn
	circle *circle
}

// errOutside means that the other end of a connection is not, or no longer, in the
// circle.
var errOutside = errors.New("not a peer that was added")

func newCircle() *circle {
	return &circle{names: map[netip.Addr]string{}, conns: map[*member]netip.Addr{}}
}

// set makes the circle, and returns its addresses.
func (c *circle) set(peers []Peer) []netip.Addr {
	names, addrs := map[netip.Addr]string{}, []netip.Addr{}
	for _, p := range peers {
		names[p.ULA] = p.Name
		addrs = append(addrs, p.ULA)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = names
	for m, addr := range c.conns {
		if _, in := names[addr]; !in {
			m.Conn.Close() // its owner notices, and takes it out
		}
	}
	return addrs
}

func (c *circle) has(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, in := c.names[a]
	return in
}

func (c *circle) name(a netip.Addr) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.names[a]
}

// admit takes a connection into the circle, or closes it.
func (c *circle) admit(conn net.Conn) (net.Conn, error) {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if ok {
		addr := tcp.AddrPort().Addr().Unmap().WithZone("")
		c.mu.Lock()
		defer c.mu.Unlock()
		if _, in := c.names[addr]; in {
			m := &member{conn, c}
			c.conns[m] = addr
			return m, nil
		}
	}
	conn.Close()
	return nil, errOutside
}

// Close closes the connection, and takes it out of the circle.
func (m *member) Close() error {
	m.circle.mu.Lock()
	delete(m.circle.conns, m)
	m.circle.mu.Unlock()
	return m.Conn.Close()
}

// CloseWrite ends our half of the stream, or the connection where halves do not exist.
func (m *member) CloseWrite() error {
	if half, ok := m.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return m.Close()
}

// A dial is tried a few times: there may be no path to the peer yet, for instance
// because both have just started.
const (
	dialTries = 3
	dialAgain = time.Second
)

// dial makes connections with the circle.
func (c *circle) dial(dial func(context.Context, netip.AddrPort) (net.Conn, error)) func(context.Context, netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		for try := 1; ; try++ {
			conn, err := dial(ctx, to)
			switch {
			case err == nil:
				return c.admit(conn)
			case try == dialTries, errors.Is(err, syscall.ECONNREFUSED), !c.has(to.Addr()):
				return nil, err
			}
			if pause(ctx, dialAgain) != nil {
				return nil, err
			}
		}
	}
}

// listen takes connections of the circle.
func (c *circle) listen(listen func(context.Context, uint16) (net.Listener, error)) func(context.Context, uint16) (net.Listener, error) {
	return func(ctx context.Context, port uint16) (net.Listener, error) {
		l, err := listen(ctx, port)
		if err != nil {
			return nil, err
		}
		return door{l, c}, nil
	}
}

// door is a listener that lets only the circle in.
type door struct {
	net.Listener
	circle *circle
}

// Accept waits for a connection with a peer of the circle.
func (d door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if m, err := d.circle.admit(conn); err == nil {
			return m, nil
		}
	}
}
