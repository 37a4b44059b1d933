package proxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Unix opens a unix socket for programs, with the mode that keeps other users out. It replaces
// one that nobody listens on.
type Unix func(path string) (net.Listener, error)

// check refuses an address that other machines reach.
func (p Place) check(anywhere bool) error {
	if anywhere || p.Private() {
		return nil
	}
	return fmt.Errorf("%w, and everybody who reaches it could use the network as this node; try: a port alone; or local.anywhere = true, or --anywhere, if that is wanted", ErrAnywhere)
}

// listenLocal listens for programs.
func (s *Service) listenLocal(p Place, anywhere bool) (net.Listener, string, error) {
	if err := p.check(anywhere); err != nil {
		return nil, "", err
	}
	if p.Unix != "" {
		l, err := s.unix(p.Unix)
		return l, p.String(), err
	}
	l, err := net.ListenTCP(family("tcp", p.Addr.Addr()), net.TCPAddrFromAddrPort(p.Addr))
	if err != nil {
		return nil, "", plainError(err)
	}
	return l, l.Addr().String(), nil
}

// family is the network of an address: a wildcard is that of its family alone.
func family(network string, a netip.Addr) string {
	if a.Is4() {
		return network + "4"
	}
	return network + "6"
}

// plainError returns an error of listening without what whoever sees it has in front of them,
// and with what to do.
func plainError(err error) error {
	if at, ok := errors.AsType[*os.SyscallError](err); ok {
		err = at.Err
	} else if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	_, system := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && !system: // a port of the node
		return errors.New("the port is in use; try: another port, or stop what listens there")
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the port is in use (%w); try: another port, or stop what listens there", err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; try: a port above 1023", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("no such address on this machine (%w); try: a port alone, for 127.0.0.1", err)
	}
	return err
}

func (p Proxy) open(s *Service) (*Door, error) {
	h := s.socks
	if p.Type == HTTP {
		h = s.connect
	}
	return s.openLocal(p.At, p.Anywhere, h)
}

// openLocal opens a door for connections of programs.
func (s *Service) openLocal(at Place, anywhere bool, h handler) (*Door, error) {
	l, where, err := s.listenLocal(at, anywhere)
	if err != nil {
		return nil, err
	}
	d := &Door{listen: where, close: func() { l.Close() }}
	d.run = func(ctx context.Context) { s.serveListener(ctx, d, l, everybody, maxConns, h) }
	return d, nil
}

func (f Forwarding) open(s *Service) (*Door, error) {
	if f.UDP {
		return f.openUDP(s)
	}
	return s.openLocal(f.At, f.Anywhere, func(ctx context.Context, c net.Conn) bool {
		far, err := s.Dial(ctx, "tcp", f.Peer, f.Port)
		if err != nil {
			s.log.Debug("a connection to a forwarded port failed", "spec", f.String(), "err", err)
			abort(c)
			return false
		}
		_ = Splice(ctx, c, far) // both sides have seen it
		return true
	})
}

// maxSenders is how many programs may use a forwarded UDP port at once.
const maxSenders = 512

func (f Forwarding) openUDP(s *Service) (*Door, error) {
	if err := f.At.check(f.Anywhere); err != nil {
		return nil, err
	}
	port, err := net.ListenUDP(family("udp", f.At.Addr.Addr()), net.UDPAddrFromAddrPort(f.At.Addr))
	if err != nil {
		return nil, plainError(err)
	}
	d := &Door{listen: port.LocalAddr().String(), close: func() { port.Close() }}
	d.run = func(ctx context.Context) {
		w := s.newFlows(d, maxSenders, maxSenders)
		w.dial = func(ctx context.Context, _ flowKey) (net.Conn, error) { return s.Dial(ctx, "udp", f.Peer, f.Port) }
		w.back = func(to, _ net.Addr, data []byte) { _, _ = port.WriteTo(data, to) }
		s.servePackets(ctx, d, port, w, everybody)
	}
	return d, nil
}

// servePackets takes datagrams until the port is closed, and returns when all flows have ended.
func (s *Service) servePackets(ctx context.Context, d *Door, port net.PacketConn, w *flows, g guard) {
	ctx, cancel := context.WithCancel(ctx)
	defer w.wait()
	defer cancel()
	b := make([]byte, maxDatagram)
	for {
		n, remote, err := port.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil { // of a datagram that was sent before: the next one is another
			s.counts.datagrams.Add(1)
			continue
		}
		from, err := netip.ParseAddrPort(remote.String())
		if _, ok := g(remote); !ok || err != nil {
			d.refused.Add(1)
			s.counts.notAllowed.Add(1)
			continue
		}
		w.send(ctx, flowKey{from: from}, remote, b[:n])
	}
}
