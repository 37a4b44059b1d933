package vnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Connections are much like TCP, and as simple as they can be: segments travel as packets do,
// by the same routes, NATs, firewalls and links, and are sent again when they are lost.
//
//	dialling --SYN--> answering --SYNACK--> open --FIN--> closed
//
// The sender has at most a window of segments on the way, which grows until one is lost. Each
// segment is acknowledged at once. What was sent three segments before one that arrived, and
// did not arrive itself, is lost; if nothing arrives, a timer finds out. A connection ends when
// its other side was silent for DeadAfter.
const (
	segmentSize = 1200
	// streamBuffer is the most bytes that wait to be read, and are on the way.
	streamBuffer = 256 << 10
	// unsentBuffer is how many bytes Write takes beyond what is on the way.
	unsentBuffer = 64 << 10

	firstWindow = 10 * segmentSize
	leastRTO    = 200 * time.Millisecond
	mostRTO     = 2 * time.Second
	greetAgain  = time.Second // doubles

	// DeadAfter is how long a connection waits for an acknowledgement before it ends.
	DeadAfter = 10 * time.Second
	// An idle connection is tested, twice, as link.System has it.
	testAfter = 30 * time.Second
	testAgain = 5 * time.Second
	tests     = 2
)

type segmentKind uint8

const (
	segData   segmentKind = iota // data, and an acknowledgement
	segSYN                       // opens
	segSYNACK                    // answers
	segACK                       // acknowledges
	segTest                      // asks for an acknowledgement
	segRST                       // there is no such connection
)

// segment is what travels.
type segment struct {
	id    uint64 // of the connection; drawn by who opens it
	kind  segmentKind
	seq   uint64 // where data begins
	fin   bool   // the end follows data, and counts as a byte
	data  []byte
	order uint64 // of this transmission among all of the sender's
	ack   uint64 // everything before this came
	echo  uint64 // order of the segment that this acknowledges; 0: none
	room  int    // bytes that the sender of this takes beyond ack
}

// bytes is how much of the sequence a segment takes.
func (s *segment) bytes() uint64 {
	n := uint64(len(s.data))
	if s.fin {
		n++
	}
	return n
}

type streamState uint8

const (
	dialling streamState = iota
	answering
	open
)

// Stream is one end of a connection. It is a net.Conn.
type Stream struct {
	host    *Host
	key     streamKey
	sender  uint64
	foreign bool // its address is not the host's: see Host.Captive

	// under the world's mu
	ready    sync.Cond
	id       uint64
	state    streamState
	listener *Listener // that is told when it is open
	closed   bool      // by Close
	err      error     // that ended it
	number   uint64    // of segments and timers
	alive    time.Time // when the other side last answered, or was not asked
	out      outgoing
	in       incoming
	alarm    alarm
	read     deadline
	write    deadline
}

func newStream(h *Host, key streamKey, sender uint64) *Stream {
	c := &Stream{host: h, key: key, sender: sender, id: sender, alive: time.Now()}
	c.ready.L = &h.w.mu
	c.out = outgoing{window: firstWindow, most: streamBuffer, room: streamBuffer, rto: leastRTO, greet: greetAgain}
	c.in.early = make(map[uint64]*segment)
	h.streams.open[key] = c
	return c
}

// deadline is that of Read or Write.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (c *Stream) setDeadline(at time.Time, ds ...*deadline) error {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	for _, d := range ds {
		if d.at = at; d.timer != nil {
			d.timer.Stop()
			d.timer = nil
		}
		if !at.IsZero() && c.err == nil && !c.closed {
			d.timer = time.AfterFunc(time.Until(at), func() {
				c.host.w.mu.Lock()
				defer c.host.w.mu.Unlock()
				c.ready.Broadcast()
			})
		}
	}
	c.ready.Broadcast()
	return nil
}

// SetDeadline implements net.Conn.
func (c *Stream) SetDeadline(t time.Time) error { return c.setDeadline(t, &c.read, &c.write) }

// SetReadDeadline implements net.Conn.
func (c *Stream) SetReadDeadline(t time.Time) error { return c.setDeadline(t, &c.read) }

// SetWriteDeadline implements net.Conn.
func (c *Stream) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, &c.write) }

// LocalAddr implements net.Conn.
func (c *Stream) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.key.local) }

// RemoteAddr implements net.Conn.
func (c *Stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.key.remote) }

func (c *Stream) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Read implements net.Conn.
func (c *Stream) Read(b []byte) (int, error) {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.fail("read", net.ErrClosed)
		case c.read.passed():
			return 0, c.fail("read", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return 0, nil
		case len(c.in.data) > 0:
			n := copy(b, c.in.data)
			was := c.in.room()
			c.in.data = c.in.data[n:]
			if was < segmentSize && c.in.room() >= segmentSize && c.err == nil {
				c.emit(&segment{kind: segACK})
			}
			return n, nil
		case c.in.ended:
			return 0, io.EOF
		case c.err != nil:
			return 0, c.fail("read", c.err)
		}
		c.ready.Wait()
	}
}

// Write implements net.Conn.
func (c *Stream) Write(b []byte) (n int, err error) {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	for {
		switch room := unsentBuffer - len(c.out.unsent); {
		case c.closed || c.out.fin:
			return n, c.fail("write", net.ErrClosed)
		case c.err != nil:
			return n, c.fail("write", c.err)
		case c.write.passed():
			return n, c.fail("write", os.ErrDeadlineExceeded)
		case len(b) == 0:
			return n, nil
		case room > 0:
			k := min(room, len(b))
			c.out.unsent = append(c.out.unsent, b[:k]...)
			n, b = n+k, b[k:]
			c.pump()
			continue
		}
		c.ready.Wait()
	}
}

// CloseWrite ends what is written; reading goes on.
func (c *Stream) CloseWrite() error {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	if c.err != nil || c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.out.fin = true
	c.pump()
	return nil
}

// Close implements net.Conn. What was written is still sent. If something was not read, the
// other side is told that nobody will.
func (c *Stream) Close() error {
	c.host.w.mu.Lock()
	defer c.host.w.mu.Unlock()
	if c.closed {
		return c.fail("close", net.ErrClosed)
	}
	c.closed = true
	c.stopTimers()
	c.ready.Broadcast()
	switch {
	case c.err != nil:
	case len(c.in.data) > 0:
		c.reset()
	default:
		c.out.fin = true
		c.pump()
	}
	return nil
}

// stopTimers ends the deadlines' timers, which would outlive the connection.
func (c *Stream) stopTimers() {
	for _, d := range []*deadline{&c.read, &c.write} {
		if d.timer != nil {
			d.timer.Stop()
		}
	}
}

// end forgets the connection. Whoever waits for it gets err.
func (c *Stream) end(err error) {
	if c.err == nil {
		c.err = err
		if c.host.streams.open[c.key] == c {
			delete(c.host.streams.open, c.key)
		}
		c.stopTimers()
		c.ready.Broadcast()
	}
}

// reset ends the connection, and tells the other side.
func (c *Stream) reset() {
	if c.err == nil {
		c.emit(&segment{kind: segRST})
		c.end(syscall.ECONNRESET)
	}
}
