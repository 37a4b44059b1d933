package tun

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawPort is a queue of /dev/net/tun, driven by plain system calls in the netpoller.
type rawPort struct {
	conn syscall.RawConn
	skip int // vnetSize if the device has no virtio-net header, else 0

	// If the device is like one of Ethernet, a frame has this header behind its
	// virtio-net header, where it is for nobody but the kernel; else it is empty.
	ether []byte

	reading, writing rawCall
}

// rawCall is one direction's system call. Its function is bound once, so that no call
// allocates; its other fields are the call's arguments and results.
type rawCall struct {
	run func(fd uintptr) bool

	parts [3]unix.Iovec
	k     int // parts in use
	wait  bool
	n     int
	err   error
}

func newRawPort(f *os.File, vnet, ethernet bool) (*rawPort, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &rawPort{conn: conn}
	if !vnet {
		p.skip = vnetSize
	}
	if ethernet {
		if p.ether, err = newEtherHeader(conn); err != nil {
			return nil, err
		}
	}
	p.reading.run = func(fd uintptr) bool {
		r := &p.reading
		r.n, r.err = r.call(fd, unix.SYS_READ, unix.SYS_READV)
		return r.err != unix.EAGAIN || !r.wait
	}
	p.writing.run = func(fd uintptr) bool {
		w := &p.writing
		w.n, w.err = w.call(fd, unix.SYS_WRITE, unix.SYS_WRITEV)
		return true
	}
	return p, nil
}

// set points the call at a frame.
func (c *rawCall) set(p *rawPort, frame []byte) {
	c.k = 0
	if len(p.ether) == 0 {
		c.add(frame[p.skip:])
		return
	}
	if p.skip == 0 {
		c.add(frame[:vnetSize])
	}
	c.add(p.ether)
	c.add(frame[vnetSize:])
}

func (c *rawCall) add(b []byte) {
	v := &c.parts[c.k]
	v.Base = unsafe.SliceData(b)
	v.SetLen(len(b))
	c.k++
}

// call does it: by the first system call if the frame is in one piece, else by the second.
func (c *rawCall) call(fd uintptr, whole, parts uintptr) (int, error) {
	if v := &c.parts[0]; c.k == 1 {
		return readWrite(whole, fd, unsafe.Pointer(v.Base), uintptr(v.Len))
	}
	return readWrite(parts, fd, unsafe.Pointer(&c.parts), uintptr(c.k))
}

// done forgets the frame.
func (c *rawCall) done() { c.parts = [3]unix.Iovec{} }

// readWrite is read(2) or write(2), repeated when a signal interrupted it.
//
// The descriptor does not block, so the scheduler need not hear of the call. If it does
// hear, the first call after a pause wakes its monitor, which competes with the packet
// for the processor: that cost a quarter of an idle round trip, and a fifth of the
// throughput.
func readWrite(call, fd uintptr, at unsafe.Pointer, size uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(at), size)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

func (p *rawPort) read(frame []byte, wait bool) (int, error) {
	r := &p.reading
	r.set(p, frame)
	r.wait = wait
	err := p.conn.Read(r.run)
	r.done()
	if err != nil {
		return 0, p.ended()
	}
	if r.err != nil {
		if r.err == unix.EAGAIN {
			return 0, nil
		}
		return 0, portError(r.err)
	}
	clear(frame[:p.skip])
	n := p.skip + r.n
	if len(p.ether) > 0 {
		n = max(n-len(p.ether), vnetSize) // a frame of less is none of ours, and is counted
		moveVnet(frame, -len(p.ether))
	}
	return n, nil
}

// write never waits: a device whose queue is full drops the packet.
func (p *rawPort) write(frame []byte) error {
	w := &p.writing
	if len(p.ether) > 0 {
		setEtherType(p.ether, frame[vnetSize:])
		moveVnet(frame, len(p.ether))
	}
	w.set(p, frame)
	err := p.conn.Write(w.run)
	w.done()
	if err != nil {
		return p.ended()
	}
	return portError(w.err)
}

// ended returns why nobody can wait for a queue: it was closed, or else its interface was removed, which
// the poller may notice before a system call does.
func (p *rawPort) ended() error {
	if p.conn.Control(func(uintptr) {}) != nil {
		return ErrClosed
	}
	return ErrGone
}

// portError recognizes the error of a queue whose interface was removed.
func portError(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return ErrGone
	}
	return err
}
