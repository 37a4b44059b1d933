package overlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/anode/stream"
	"anodenet/overlay/book"
	"anodenet/overlay/lookup"
	"anodenet/overlay/peer"
)

// Errors of streams. They are those of package stream, with ErrUnreachable beside them;
// programs for TCP find the system's errors in them (errors.Is(err, syscall.ECONNREFUSED)).
var (
	ErrRefused   = stream.ErrRefused  // nothing listens on the peer's port
	ErrReset     = stream.ErrReset    // the peer ended the connection, or has lost it
	ErrTimedOut  = stream.ErrTimedOut // the peer does not answer
	ErrPortInUse = stream.ErrInUse    // by this node
	ErrNetwork   = errors.New("unknown network; try: tcp, udp")
)

// Addr is one end of a stream, or the source of a datagram: a peer and its port. *Addr is a
// net.Addr; its text is [ULA]:port.
type Addr = stream.Addr

// PeerOf returns the peer that an address of this package names. Only such addresses were
// proved by a key.
func PeerOf(a net.Addr) (anode.Address, bool) {
	if x, ok := a.(*Addr); ok {
		return x.Peer, true
	}
	return anode.Address{}, false
}

// Who says which peers a listener or socket takes beside those that the node lets in: the
// peers that were added, and everybody if it is open. Nobody who is blocked is ever taken.
type Who struct {
	Strangers bool            // take everybody
	Only      []anode.Address // and of those who may, take these alone; empty: all
}

// admits reports whether a peer is taken.
func (w *Who) admits(a anode.Address, trusted bool, s book.Standing) bool {
	return s != book.Blocked && (trusted || w.Strangers) && (len(w.Only) == 0 || slices.Contains(w.Only, a))
}

// transport is what a network of package net stands for.
type transport uint8

const (
	streaming transport = iota + 1
	datagrams
)

// transportOf reads the name of a network.
func transportOf(network string) (transport, error) {
	switch network {
	case "tcp", "tcp6", "stream":
		return streaming, nil
	case "udp", "udp6", "dgram":
		return datagrams, nil
	}
	return 0, ErrNetwork
}

// Dial opens a stream to a port of a peer (network "tcp" or "stream"), or makes a socket that
// speaks with that port alone ("udp" or "dgram"). target is PEER:PORT; PEER is an address,
// the name of a peer, a ULA or a short ID, in brackets or not. It fits
// http.Transport.DialContext.
//
// The node has to run. The errors are ErrUnknownPeer, ErrUnreachable (an *UnreachableError
// says why), ErrRefused, ErrTimedOut and that of ctx, in a *net.OpError.
func (n *Node) Dial(ctx context.Context, network, target string) (net.Conn, error) {
	kind, err := transportOf(network)
	if err != nil {
		return nil, dialError(network, nil, err)
	}
	to, err := n.target(ctx, target)
	switch {
	case err != nil:
		return nil, dialError(network, nil, err)
	case to.Peer == n.address:
		return nil, dialError(network, to, ErrSelf)
	case kind == datagrams:
		return n.dialDatagrams(ctx, network, to)
	}
	return n.dialStream(ctx, network, to)
}

func dialError(network string, to *Addr, err error) error {
	e := &net.OpError{Op: "dial", Net: network, Err: err}
	if to != nil {
		e.Addr = to
	}
	return e
}

func (n *Node) dialDatagrams(ctx context.Context, network string, to *Addr) (net.Conn, error) {
	if err := n.meet(ctx, to.Peer); err != nil {
		return nil, dialError(network, to, err)
	}
	s, err := n.programs.newSocket(0, to, Who{})
	if err != nil {
		return nil, dialError(network, to, err)
	}
	return s, nil
}

// refusedFor is how long a stream is tried to be opened with a peer that says that it lets us
// not in: it may have a listener for everybody.
const refusedFor = 3 * time.Second

func (n *Node) dialStream(ctx context.Context, network string, to *Addr) (net.Conn, error) {
	for try := 1; ; try++ {
		machine, err := n.reach(ctx, to.Peer)
		if err != nil {
			return nil, dialError(network, to, err)
		}
		c, err := n.dialMachine(ctx, to, machine)
		if err == nil {
			return c, nil
		}
		if try == dialTries || !errors.Is(err, ErrUnreachable) || !n.another(to.Peer, machine) {
			return nil, dialError(network, to, err)
		}
	}
}

// dialTries is how many machines of a peer are tried, each after the one before was lost.
const dialTries = 3

// another reports whether another machine of a peer than this one is spoken to.
func (n *Node) another(a anode.Address, machine uint8) bool {
	c := n.contact(&a)
	if c == nil {
		return false
	}
	r := c.Route.Load()
	return r != nil && r.PeerID != machine
}

// dialMachine opens a stream with one machine of a peer.
func (n *Node) dialMachine(ctx context.Context, to *Addr, machine uint8) (net.Conn, error) {
	remote := stream.Remote{Address: to.Peer, Machine: machine}
	limited, cancel := ctx, context.CancelFunc(func() {})
	if _, line := n.programs.line(&remote); line != nil {
		if r := line.Route.Load(); r != nil && r.Refuses {
			limited, cancel = context.WithTimeout(ctx, refusedFor)
		}
	}
	defer cancel()
	c, err := n.programs.host.Dial(limited, remote, to.Port)
	switch {
	case err == nil:
		return c, nil
	case limited.Err() != nil && ctx.Err() == nil:
		err = errNotAddedThere
	case errors.Is(err, stream.ErrUnreachable):
		err = n.why(context.WithoutCancel(ctx), to.Peer)
	default:
		err = errors.Unwrap(err)
	}
	return nil, err
}

// reach waits for a session with a peer, and returns which of its machines it is with.
func (n *Node) reach(ctx context.Context, a anode.Address) (machine uint8, err error) {
	if c := n.contact(&a); c != nil && c.Standing() != book.Blocked {
		if r := c.Route.Load(); r != nil {
			return r.PeerID, nil
		}
	}
	ready, failed := make(chan uint8, 1), make(chan error, 1)
	err = n.call(ctx, func(l *loop) error {
		p, err := l.meet(a, noSite)
		if err != nil {
			return err
		}
		p.Send(l.now, peer.Waiting{Ready: ready, Failed: failed})
		l.touch(p)
		return nil
	})
	if err != nil {
		return 0, err
	}
	select {
	case machine = <-ready:
		return machine, nil
	case err := <-failed:
		return 0, err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return 0, n.why(context.WithoutCancel(ctx), a)
		}
		return 0, ctx.Err()
	case <-n.done:
		return 0, ErrClosed
	}
}

// meet makes a peer known to the lanes.
func (n *Node) meet(ctx context.Context, a anode.Address) error {
	return n.call(ctx, func(l *loop) error {
		p, err := l.meet(a, noSite)
		if err == nil && p.Standing() == book.Blocked {
			return ErrBlocked
		}
		return err
	})
}

// target reads PEER:PORT, and finds the peer.
func (n *Node) target(ctx context.Context, target string) (*Addr, error) {
	host, port, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	a, err := n.find(ctx, host)
	if err != nil {
		return nil, err
	}
	return &Addr{Peer: a, Port: port}, nil
}

// splitTarget splits PEER:PORT.
func splitTarget(target string) (host string, port uint16, err error) {
	k := strings.LastIndexByte(target, ':')
	if k < 0 {
		return "", 0, fmt.Errorf("%q: the port is missing; try: PEER:PORT", target)
	}
	p, err := strconv.ParseUint(target[k+1:], 10, 16)
	if err != nil || p == 0 {
		return "", 0, fmt.Errorf("%q: not a port; try: PEER:PORT, with a port of 1 to 65535", target)
	}
	host = target[:k]
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host, _ = strings.CutSuffix(inner, "]")
	}
	return host, uint16(p), nil
}

// find returns the peer that a text names: the name of a peer, an address, a ULA or a short
// ID. Those of nobody who is known are looked for.
func (n *Node) find(ctx context.Context, text string) (anode.Address, error) {
	if e, ok := n.book.ByName(text); ok {
		return e.Address, nil
	}
	a, err := anode.ParseAddress(text)
	if err == nil {
		return a, nil
	}
	if errors.Is(err, anode.ErrTypo) {
		return a, fmt.Errorf("%q is not a valid address: a character is wrong; try: copy it again", text)
	}
	var key lookup.Key
	if u, err := anode.ParseULA(text); err == nil {
		key = lookup.ByULA(u)
	} else if id, err := anode.ParseID(text); err == nil && !id.IsZero() {
		key = lookup.ByID(id)
	} else {
		return a, fmt.Errorf("%w: %q is neither a peer's name nor an address", ErrUnknownPeer, text)
	}
	a, err = n.resolve(ctx, key)
	if errors.Is(err, ErrUnknownPeer) {
		err = fmt.Errorf("%w: %q", err, text)
	}
	return a, err
}

// addrOf returns the peer and port of an address that is this package's, or names a known
// peer by its ULA.
func (p *programs) addrOf(a net.Addr) (Addr, error) {
	if x, ok := a.(*Addr); ok && x != nil {
		return *x, nil
	}
	if a == nil {
		return Addr{}, ErrUnknownPeer
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil || !ap.Addr().Is6() {
		return Addr{}, ErrUnknownPeer
	}
	if c := p.n.index.byULA(anode.ULA(ap.Addr().As16())); c != nil {
		return Addr{Peer: c.Address, Port: ap.Port()}, nil
	}
	return Addr{}, ErrUnknownPeer
}

// Listen takes the streams that peers open to a port: network "tcp" or "stream", address
// ":80", or ":0" for any free port. It takes them from the peers that the node lets in (see
// Config.Open), and never from anybody who is blocked. The streams' RemoteAddr is an *Addr.
//
// A node with an adapter can listen as well, but peers with adapters reach only what listens
// at the operating system.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	return n.ListenFor(network, address, Who{})
}

// ListenFor is Listen for others than the peers that the node lets in.
func (n *Node) ListenFor(network, address string, who Who) (net.Listener, error) {
	kind, port, err := n.local(network, address)
	if err == nil && kind != streaming {
		err = ErrNetwork
	}
	if err != nil {
		return nil, listenError(network, err)
	}
	who.Only = slices.Clone(who.Only)
	l, err := n.programs.host.ListenFor(port, func(r stream.Remote) bool {
		c := n.contact(&r.Address)
		return c != nil && who.admits(r.Address, n.trusts(c), c.Standing())
	})
	if err != nil {
		return nil, err
	}
	if !who.Strangers {
		return l, nil
	}
	port = l.Addr().(*Addr).Port
	n.programs.open.set(port, true)
	return &openListener{l, func() { n.programs.open.set(port, false) }}, nil
}

// openListener is one that takes strangers.
type openListener struct {
	*stream.Listener
	shut func()
}

// Close ends the listener.
func (l *openListener) Close() error {
	l.shut()
	return l.Listener.Close()
}

// ListenPacket takes datagrams that peers send to a port: network "udp" or "dgram", address
// ":53", or ":0" for any free port. It takes them from the peers that the node lets in, and
// answers of others that were sent to. Addresses are *Addr; WriteTo also takes any that has a
// known peer's ULA. At most 256 datagrams of together 1 MiB wait to be read; more are
// dropped and counted.
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	return n.ListenPacketFor(network, address, Who{})
}

// ListenPacketFor is ListenPacket for others than the peers that the node lets in.
func (n *Node) ListenPacketFor(network, address string, who Who) (net.PacketConn, error) {
	kind, port, err := n.local(network, address)
	if err == nil && kind != datagrams {
		err = ErrNetwork
	}
	if err != nil {
		return nil, listenError(network, err)
	}
	who.Only = slices.Clone(who.Only)
	s, err := n.programs.newSocket(port, nil, who)
	if err != nil {
		return nil, listenError(network, err)
	}
	return s, nil
}

func listenError(network string, err error) error {
	return &net.OpError{Op: "listen", Net: network, Err: err}
}

// local reads a network and an address to listen at.
func (n *Node) local(network, address string) (kind transport, port uint16, err error) {
	if kind, err = transportOf(network); err != nil {
		return 0, 0, err
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0, 0, fmt.Errorf("%q: not an address to listen at; try: :PORT", address)
	}
	p, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, 0, fmt.Errorf("%q: not a port; try: :PORT, with a port of 0 to 65535", address)
	}
	if ip, err := netip.ParseAddr(host); host != "" && (err != nil || ip != n.ula.Addr() && !ip.IsUnspecified()) {
		return 0, 0, fmt.Errorf("%q: not this node's address; try: :%d", address, p)
	}
	return kind, uint16(p), nil
}
