package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/overlay"
	"anodenet/overlay/book"
)

// circle is who may be a neighbour on the adapter: the peers that were added and are
// not blocked. The adapter lets a ULA only come from its owner, so an address is a
// name. Connections with one who leaves the circle are closed at once.
type circle struct {
	mu    sync.Mutex
	names map[netip.Addr]string
	conns map[*member]netip.Addr
}

// member is a connection with somebody of the circle.
type member struct {
	net.Conn
	circle *circle
}

// errOutside is a connection with somebody who is not, or no longer, in the circle.
var errOutside = errors.New("not a peer that was added")

func newCircle() *circle {
	return &circle{names: map[netip.Addr]string{}, conns: map[*member]netip.Addr{}}
}

// set makes the circle, and gives its addresses.
func (c *circle) set(peers []overlay.PeerStatus) []netip.Addr {
	names, addrs := map[netip.Addr]string{}, []netip.Addr{}
	for _, p := range peers {
		if p.Allowed {
			names[p.ULA.Addr()] = p.Name
			addrs = append(addrs, p.ULA.Addr())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = names
	for m, addr := range c.conns {
		if _, in := names[addr]; !in {
			m.Conn.Close() // its owner sees that, and takes it out
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

// Close closes the connection; more than once is no error of the circle's.
func (m *member) Close() error {
	m.circle.mu.Lock()
	delete(m.circle.conns, m)
	m.circle.mu.Unlock()
	return m.Conn.Close()
}

// To a peer that there is no way to yet, as when both have just started, a dial is
// tried a few times.
const (
	dialTries = 3
	dialAgain = time.Second
)

// dial makes connections from an address of ours.
func (c *circle) dial(own netip.Addr) func(context.Context, netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(own, 0)), KeepAliveConfig: keepAlive}
	return func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		for try := 1; ; try++ {
			conn, err := d.DialContext(ctx, "tcp6", to.String())
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

// listen takes connections to an address of ours.
func (c *circle) listen(own netip.Addr) func(context.Context, uint16) (net.Listener, error) {
	return func(ctx context.Context, port uint16) (net.Listener, error) {
		config := net.ListenConfig{KeepAliveConfig: keepAlive}
		l, err := config.Listen(ctx, "tcp6", net.JoinHostPort(own.String(), strconv.Itoa(int(port))))
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

// Accept waits for one of the circle.
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

// talking is a node whose changes of peers reach the circle.
type talking struct {
	control.Node
	talk *talk
}

// AddPeer adds a peer, and makes it a neighbour.
func (n talking) AddPeer(ctx context.Context, p overlay.Peer) (book.Change, error) {
	c, err := n.Node.AddPeer(ctx, p)
	return c, n.changed(ctx, err)
}

// RemovePeer forgets a peer, and ends the links with it.
func (n talking) RemovePeer(ctx context.Context, a anode.Address) (book.Change, error) {
	c, err := n.Node.RemovePeer(ctx, a)
	return c, n.changed(ctx, err)
}

// RenamePeer gives a peer another name, in the texts to come too.
func (n talking) RenamePeer(ctx context.Context, a anode.Address, name string) (book.Change, error) {
	c, err := n.Node.RenamePeer(ctx, a, name)
	return c, n.changed(ctx, err)
}

// BlockPeer blocks a peer and ends the links with it, or lets it in again.
func (n talking) BlockPeer(ctx context.Context, a anode.Address, blocked bool) (book.Change, error) {
	c, err := n.Node.BlockPeer(ctx, a, blocked)
	return c, n.changed(ctx, err)
}

func (n talking) changed(ctx context.Context, err error) error {
	if err == nil {
		n.talk.refresh(ctx)
	}
	return err
}
