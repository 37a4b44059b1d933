package platform

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A netlink message (netlink(7)), all numbers in the machine's order; what follows the
// header begins with a fixed part and holds attributes:
//
//	length[4] type[2] flags[2] sequence[4] port[4] | fixed | attributes
//	attribute    length[2] type[2] | value | padding to 4 bytes
//	error, ack   length.. type NLMSG_ERROR .. | -errno[4] | header of the request

// encoder writes netlink messages one after the other.
type encoder struct {
	b     []byte
	seq   uint32 // of the last message
	acked uint32 // of the last message that asks for an acknowledgement
}

// message writes one message; body writes its attributes and may be nil.
func (e *encoder) message(kind, flags uint16, fixed []byte, body func()) {
	e.seq++
	if flags&unix.NLM_F_ACK != 0 {
		e.acked = e.seq
	}
	start := len(e.b)
	e.b = binary.NativeEndian.AppendUint32(e.b, 0)
	e.b = binary.NativeEndian.AppendUint16(e.b, kind)
	e.b = binary.NativeEndian.AppendUint16(e.b, flags|unix.NLM_F_REQUEST)
	e.b = binary.NativeEndian.AppendUint32(e.b, e.seq)
	e.b = binary.NativeEndian.AppendUint32(e.b, 0)
	e.b = append(e.b, fixed...)
	if body != nil {
		body()
	}
	binary.NativeEndian.PutUint32(e.b[start:], uint32(len(e.b)-start))
}

// attr writes an attribute. Its value is at most 65531 bytes long.
func (e *encoder) attr(kind uint16, value ...byte) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(unix.SizeofRtAttr+len(value)))
	e.b = binary.NativeEndian.AppendUint16(e.b, kind)
	e.b = append(e.b, value...)
	for len(e.b)%unix.RTA_ALIGNTO != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) text(kind uint16, s string) { e.attr(kind, append([]byte(s), 0)...) }

// big writes a number in network order, as nf_tables has them.
func (e *encoder) big(kind uint16, v uint32) {
	e.attr(kind, binary.BigEndian.AppendUint32(nil, v)...)
}

// native writes a number in the machine's order, as routes have them.
func (e *encoder) native(kind uint16, v uint32) {
	e.attr(kind, binary.NativeEndian.AppendUint32(nil, v)...)
}

// nest writes an attribute that holds others.
func (e *encoder) nest(kind uint16, body func()) {
	start := len(e.b)
	e.attr(kind | unix.NLA_F_NESTED)
	body()
	binary.NativeEndian.PutUint16(e.b[start:], uint16(len(e.b)-start))
}

var errShort = errors.New("a message of the kernel is too short")

// header is what matters of a message's header.
type header struct {
	kind, flags uint16
	seq         uint32
}

// eachMessage calls f for each message of a read, until f returns false.
func eachMessage(b []byte, f func(h header, body []byte) bool) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlMsghdr {
			return errShort
		}
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return errShort
		}
		h := header{binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:])}
		if !f(h, b[unix.SizeofNlMsghdr:n]) {
			return nil
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// eachAttr calls f for each attribute.
func eachAttr(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return errShort
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
	return nil
}

func align(n int) int { return (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }

// errnoOf reads the body of a message of type NLMSG_ERROR or NLMSG_DONE; nil is success.
func errnoOf(body []byte) error {
	if len(body) < 4 {
		return errShort
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// How much the kernel may queue for us, and how much a request may hold.
const (
	netlinkReceive = 1 << 20
	netlinkSend    = 4 << 20
	netlinkSeconds = 5 // to wait for an answer, which the kernel gives at once
)

// conn is a netlink socket for requests, one after the other. Any goroutine may use it.
type conn struct {
	mu  sync.Mutex
	fd  int // -1: closed
	seq uint32
	buf []byte
}

// dialNetlink opens a socket in the network namespace of the calling thread.
func dialNetlink(protocol int) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	// A kernel that refuses one of these works with its default.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, netlinkReceive)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, netlinkSend)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: netlinkSeconds})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("netlink", err)
	}
	return &conn{fd: fd, buf: make([]byte, watchRead)}, nil
}

func (c *conn) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	fd := c.fd
	c.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// request sends the messages that write makes, waits for the last acknowledgement that
// they ask for, and returns the first error. With passes, errors that it takes are none.
func (c *conn) request(write func(*encoder), passes func(error) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.seq
	e, err := c.send(write)
	if err != nil {
		return err
	}
	var first error
	for done := false; !done && first == nil; {
		err := c.receive(func(h header, body []byte) bool {
			if h.kind != unix.NLMSG_ERROR || h.seq <= before { // or about a request before
				return true
			}
			if err := errnoOf(body); err != nil && first == nil && (passes == nil || !passes(err)) {
				first = err
			}
			done = done || h.seq == e.acked
			return true
		})
		if err != nil {
			return err
		}
	}
	return first
}

// dumpTries is how often a list is read that changes meanwhile.
const dumpTries = 3

// dump sends one request and passes each message of the answer to f. A list that changed
// while it was read is read again, so that nothing is missing in it; f gets what did not
// change more than once.
func (c *conn) dump(write func(*encoder), f func(body []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 1; ; try++ {
		interrupted, err := c.dumpOnce(write, f)
		if err != nil || !interrupted || try == dumpTries {
			return err
		}
	}
}

func (c *conn) dumpOnce(write func(*encoder), f func(body []byte)) (interrupted bool, err error) {
	e, err := c.send(write)
	if err != nil {
		return false, err
	}
	for {
		done := false
		var failed error
		err := c.receive(func(h header, body []byte) bool {
			if h.seq != e.seq { // about a request before
				return true
			}
			interrupted = interrupted || h.flags&unix.NLM_F_DUMP_INTR != 0
			if h.kind == unix.NLMSG_ERROR || h.kind == unix.NLMSG_DONE {
				done, failed = true, errnoOf(body)
				return false
			}
			f(body)
			return true
		})
		if err != nil || done {
			return interrupted, errors.Join(err, failed)
		}
	}
}

func (c *conn) send(write func(*encoder)) (e encoder, err error) {
	e.seq = c.seq
	write(&e)
	c.seq = e.seq
	if c.fd < 0 {
		return e, os.ErrClosed
	}
	return e, os.NewSyscallError("sendto", unix.Sendto(c.fd, e.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// receive waits for one read.
func (c *conn) receive(f func(h header, body []byte) bool) error {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if k, ok := from.(*unix.SockaddrNetlink); ok && k.Pid == 0 { // the kernel
			return eachMessage(c.buf[:n], f)
		}
	}
}
