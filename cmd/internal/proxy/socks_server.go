package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"anodenet/overlay"
)

// maxHandshake is how long a program may take to say what it wants.
const maxHandshake = 10 * time.Second

// socks serves a connection of a program to the SOCKS5 port.
func (s *Service) socks(ctx context.Context, c net.Conn) bool {
	_ = c.SetDeadline(time.Now().Add(maxHandshake))
	r := bufio.NewReaderSize(c, 1024)
	command, to, err := s.socksRequest(c, r)
	if err != nil {
		s.counts.handshake.Add(1)
		return false
	}
	_ = c.SetDeadline(time.Time{})
	switch command {
	case commandConnect:
		waits, stop := patient(ctx, c, r)
		far, err := s.Dial(waits, "tcp", to.host, to.port)
		stop()
		return s.socksConnect(ctx, &ahead{c, r}, far, err)
	case commandAssociate:
		return s.socksAssociate(ctx, c)
	}
	return socksRefuse(c, replyCommand)
}

// socksRequest reads the greeting and the request, and answers what it refuses.
func (s *Service) socksRequest(c net.Conn, r io.Reader) (command byte, to socksTarget, err error) {
	switch err := readGreeting(r); {
	case errors.Is(err, errMethod):
		_, _ = c.Write([]byte{socksVersion, methodNoneOf})
		return 0, to, err
	case err != nil:
		return 0, to, err
	}
	if _, err := c.Write([]byte{socksVersion, methodNone}); err != nil {
		return 0, to, err
	}
	command, to, err = readRequest(r)
	if errors.Is(err, errType) {
		socksRefuse(c, replyType)
	}
	return command, to, err
}

// socksRefuse answers that something failed. It returns false.
func socksRefuse(c net.Conn, code socksReply) bool {
	_, _ = c.Write(appendSocksReply(nil, code, netip.AddrPort{}))
	return false
}

// socksConnect answers a program for which far was opened, or not.
func (s *Service) socksConnect(ctx context.Context, c, far net.Conn, err error) bool {
	if err != nil {
		return socksRefuse(c, socksReplyOf(err))
	}
	at, _ := netip.ParseAddrPort(far.LocalAddr().String())
	if _, err := c.Write(appendSocksReply(nil, replyDone, at)); err != nil {
		abort(far)
		return false
	}
	_ = Splice(ctx, c, far) // both sides have seen it
	return true
}

// failing is why a connection to a peer was not opened.
type failing int

const (
	failOther       failing = iota
	failNotPeer             // nothing that may be reached
	failUnreachable         // no path, no answer
	failRefused             // nothing listens on the peer's port
)

func failingOf(err error) failing {
	switch {
	case errors.Is(err, ErrNotPeer), errors.Is(err, overlay.ErrBlocked), errors.Is(err, overlay.ErrUnknownPeer), errors.Is(err, overlay.ErrSelf):
		return failNotPeer
	case errors.Is(err, syscall.ECONNREFUSED):
		return failRefused
	case errors.Is(err, overlay.ErrUnreachable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.ETIMEDOUT):
		return failUnreachable
	}
	return failOther
}

func socksReplyOf(err error) socksReply {
	switch failingOf(err) {
	case failNotPeer:
		return replyNotAllowed
	case failRefused:
		return replyRefused
	case failUnreachable:
		return replyUnreachable
	}
	return replyFailed
}

// ahead is a connection of which a reader may hold what came already.
type ahead struct {
	net.Conn
	r *bufio.Reader
}

// Read implements net.Conn.
func (a *ahead) Read(b []byte) (int, error) {
	if a.r.Buffered() > 0 {
		return a.r.Read(b)
	}
	return a.Conn.Read(b)
}

// CloseWrite ends the direction of writing.
func (a *ahead) CloseWrite() error { return closeWrite(a.Conn) }

// Abort resets the connection.
func (a *ahead) Abort() { abort(a.Conn) }

// Limits of associations of datagrams.
const (
	maxAssociations = 128
	maxTargets      = 16 // ports of peers that one uses at once
)

// socksAssociate opens a UDP port for the program, which stays as long as its connection.
func (s *Service) socksAssociate(ctx context.Context, c net.Conn) bool {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	remote, isTCP := c.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP { // datagrams to a unix socket are not SOCKS
		return socksRefuse(c, replyCommand)
	}
	if !s.associations.enter("") {
		s.counts.full.Add(1)
		return socksRefuse(c, replyFailed)
	}
	defer s.associations.leave("")
	port, err := net.ListenUDP("udp", &net.UDPAddr{IP: local.IP, Zone: local.Zone})
	if err != nil {
		return socksRefuse(c, replyFailed)
	}
	at := port.LocalAddr().(*net.UDPAddr).AddrPort()
	if _, err := c.Write(appendSocksReply(nil, replyDone, netip.AddrPortFrom(at.Addr().Unmap(), at.Port()))); err != nil {
		port.Close()
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { port.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.socksDatagrams(ctx, port, remote.AddrPort().Addr().Unmap())
	}()
	_, _ = io.Copy(io.Discard, c) // until the program ends it
	cancel()
	<-done
	return true
}

// socksDatagrams carries the datagrams of a program, until the port is closed. The program is
// who sends first from its address.
func (s *Service) socksDatagrams(ctx context.Context, port *net.UDPConn, program netip.Addr) {
	var client netip.AddrPort
	f := s.newFlows(new(Door), maxTargets, maxTargets)
	f.dial = func(ctx context.Context, k flowKey) (net.Conn, error) {
		return s.Dial(ctx, "udp", k.to.host, k.to.port)
	}
	f.back = func(to, from net.Addr, data []byte) {
		at, _ := netip.ParseAddrPort(from.String())
		_, _ = port.WriteTo(append(appendSocksDatagram(nil, at), data...), to)
	}
	defer f.wait()
	b := make([]byte, maxDatagram)
	for {
		n, from, err := port.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		to, data, ok := parseSocksDatagram(b[:n])
		ok = ok && err == nil && from.Addr().Unmap() == program && (!client.IsValid() || client == from)
		if !ok {
			s.counts.datagrams.Add(1)
			continue
		}
		client = from
		f.send(ctx, flowKey{from: from, to: to}, net.UDPAddrFromAddrPort(from), data)
	}
}
