package info2

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// conn is the shell's end of a link: a reader and a writer, both waiting only
// for their own connection and for Run's goroutine, so that a slow one holds up
// nobody.
type conn struct {
	net.Conn
	out chan parcel // closed by close
}

// parcel is one write.
type parcel struct {
	data []byte
	last bool // nothing follows it: our half of the stream ends with it
}

const (
	dialTimeout  = 10 * time.Second
	leaveTimeout = 2 * bareGap // for LOGOFF to all links
	closeTimeout = time.Second // for a write under way when a connection is closed
)

// event is what happened to a connection.
type event struct {
	kind eventKind
	id   linkID
	conn net.Conn // of eventAccepted and eventDialed
	data []byte
	err  error
}

type eventKind uint8

const (
	eventAccepted eventKind = iota
	eventDialed             // err or conn
	eventReceived           // data
	eventSent
	eventEOF
	eventFailed
)

// tell hands an event to Run's goroutine, and reports whether that is there.
func (s *Servent) tell(e event) bool {
	select {
	case s.events <- e:
		return true
	case <-s.stopped:
		return false
	}
}

// apply feeds an event to the core. On Run's goroutine.
func (s *Servent) apply(e event) {
	now := s.config.Now()
	switch e.kind {
	case eventAccepted:
		id, ok := s.core.accepted(now, addrOf(e.conn.RemoteAddr()), addrOf(e.conn.LocalAddr()))
		if !ok {
			e.conn.Close()
			return
		}
		s.start(id, e.conn)
	case eventDialed:
		if e.err != nil {
			s.core.dialed(now, e.id, netip.Addr{}, e.err)
			return
		}
		s.start(e.id, e.conn)
		s.core.dialed(now, e.id, addrOf(e.conn.LocalAddr()), nil)
	case eventReceived:
		s.core.received(now, e.id, e.data)
	case eventSent:
		s.core.sent(now, e.id)
	case eventEOF:
		s.core.eof(now, e.id)
	case eventFailed:
		s.core.failed(now, e.id)
	}
}

// addrOf is the IP address of a connection's end, without port and scope.
func addrOf(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// start gives a connection its two goroutines. On Run's goroutine.
func (s *Servent) start(id linkID, nc net.Conn) {
	c := &conn{Conn: nc, out: make(chan parcel, 1)}
	s.conns[id] = c
	s.log.Debug("info2 connected", "addr", nc.RemoteAddr(), "link", id)
	s.group.Go(func() { s.read(id, c) })
	s.group.Go(func() { s.write(id, c) })
}

// close lets a write under way end within a second, then closes. Once only; on
// Run's goroutine.
func (c *conn) close() {
	// A connection without deadlines ends by Close alone.
	if c.SetWriteDeadline(time.Now().Add(closeTimeout)) != nil {
		c.Conn.Close()
	}
	close(c.out)
}

// endHalf ends our half of the stream, or all of it where halves do not exist.
func (c *conn) endHalf() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// read tells what arrives until the connection ends. After a read that did not have
// to wait it pauses, so that what the other side sends in single bytes costs a few
// reads and not one a byte.
func (s *Servent) read(id linkID, c *conn) {
	buf := make([]byte, maxFrame)
	for {
		begin := time.Now()
		n, err := c.Read(buf)
		if n > 0 && !s.tell(event{kind: eventReceived, id: id, data: append([]byte(nil), buf[:n]...)}) {
			return
		}
		if err != nil {
			kind := eventFailed
			if errors.Is(err, io.EOF) {
				kind = eventEOF
			}
			s.tell(event{kind: kind, id: id})
			return
		}
		if time.Since(begin) < readPause {
			time.Sleep(readPause)
		}
	}
}

// write writes what close has not yet ended, and closes the connection.
func (s *Servent) write(id linkID, c *conn) {
	defer c.Conn.Close()
	for p := range c.out {
		kind := eventSent
		_, err := c.Write(p.data)
		if err == nil && p.last {
			err = c.endHalf()
		}
		if err != nil {
			kind = eventFailed
		}
		if !s.tell(event{kind: kind, id: id}) || kind == eventFailed {
			break
		}
	}
	// After a failure Run's goroutine still sees an open channel with room.
	for range c.out {
	}
}

// dial opens a connection for the core.
func (s *Servent) dial(ctx context.Context, id linkID, to netip.Addr) {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := s.config.Dial(dialling, netip.AddrPortFrom(to, s.config.Port))
	if !s.tell(event{kind: eventDialed, id: id, conn: nc, err: err}) && err == nil {
		nc.Close()
	}
}

// accept takes connections until the listener ends.
func (s *Servent) accept(ctx context.Context, l net.Listener) error {
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			if !s.tell(event{kind: eventAccepted, conn: nc}) {
				nc.Close()
				return nil
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Too many open files, or the like: it passes.
			s.log.Warn("info2 accept", "err", err)
			if s.sleep(ctx, time.Second) != nil {
				return nil
			}
		}
	}
}
