package link

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Messages of rtnetlink(7), one after the other, each padded to 4 bytes:
//
//	length[4] type[2] flags[2] sequence[4] sender[4] | body | attributes
//
// and attributes, padded in the same way; length includes the header:
//
//	length[2] type[2] value
//
// All numbers are in the machine's byte order, lengths of addresses in bits.

const (
	// netlinkRead is the most bytes that the kernel puts into one read of a dump.
	netlinkRead = 32 << 10
	// netlinkTries is how often a dump that changes interrupt is tried.
	netlinkTries = 3
	// netlinkWait bounds the wait for an answer, in seconds. The kernel has it ready
	// when the request returns.
	netlinkWait = 5
)

var (
	// errInterrupted: something changed during a dump, which may lack an entry.
	errInterrupted = errors.New("interrupted by changes")
	errNetlink     = errors.New("malformed netlink message")
)

// refused is the errno with which the kernel answered a request.
type refused struct{ syscall.Errno }

// netlink is one conversation with the kernel, for one goroutine.
type netlink struct {
	fd       int
	requests uint32 // so far; the sequence number of the last one
	buf      []byte
}

func dialNetlink() (*netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: netlinkWait}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &netlink{fd: fd, buf: make([]byte, netlinkRead)}, nil
}

func (n *netlink) close() { unix.Close(n.fd) }

// ask sends a request and calls each for every message of the answer: many for a dump,
// else one. Its argument is valid until it returns.
func (n *netlink) ask(kind, flags uint16, body []byte, each func(kind uint16, body []byte)) error {
	n.requests++
	order := binary.NativeEndian
	b := order.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = order.AppendUint16(b, kind)
	b = order.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = order.AppendUint32(b, n.requests)
	b = order.AppendUint32(b, 0)
	if err := unix.Sendto(n.fd, append(b, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	a := answer{sequence: n.requests, dump: flags&unix.NLM_F_DUMP != 0, each: each}
	for !a.done {
		size, _, err := unix.Recvfrom(n.fd, n.buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if err := a.take(n.buf[:size]); err != nil {
			return err
		}
	}
	if a.interrupted {
		return errInterrupted
	}
	return nil
}

// answer is what comes back after a request.
type answer struct {
	sequence uint32
	dump     bool
	each     func(kind uint16, body []byte)

	done        bool
	interrupted bool
}

// take looks at the messages of one read.
func (a *answer) take(b []byte) error {
	order := binary.NativeEndian
	for len(b) > 0 && !a.done {
		if len(b) < unix.SizeofNlMsghdr {
			return errNetlink
		}
		size := int(order.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errNetlink
		}
		kind, flags, body := order.Uint16(b[4:]), order.Uint16(b[6:]), b[unix.SizeofNlMsghdr:size]
		mine := order.Uint32(b[8:]) == a.sequence
		b = b[min(len(b), (size+3)&^3):]
		if !mine {
			continue
		}
		a.interrupted = a.interrupted || flags&unix.NLM_F_DUMP_INTR != 0
		switch kind {
		case unix.NLMSG_NOOP:
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			a.done = true
			if len(body) >= 4 {
				if errno := -int32(order.Uint32(body)); errno > 0 {
					return refused{syscall.Errno(errno)}
				}
			}
		default:
			a.done = !a.dump
			a.each(kind, body)
		}
	}
	return nil
}

// eachAttr calls f for each attribute, and stops at one that is cut off.
func eachAttr(b []byte, f func(attr uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(len(b), (n+3)&^3):]
	}
}

// appendAttr appends an attribute whose value has a length divisible by 4.
func appendAttr(b []byte, attr uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, attr)
	return append(b, value...)
}

// number reads a number of 4 bytes, 0 if it is cut off.
func number(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32(b)))
}
