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

	reading, writing rawCall
}

// rawCall is one direction's system call. Its function is bound once, so that no call
// allocates; its other fields are the call's arguments and results.
type rawCall struct {
	run func(fd uintptr) bool

	b    []byte
	wait bool
	n    int
	err  error
}

func newRawPort(f *os.File, vnet bool) (*rawPort, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &rawPort{conn: conn}
	if !vnet {
		p.skip = vnetSize
	}
	p.reading.run = func(fd uintptr) bool {
		r := &p.reading
		r.n, r.err = readWrite(unix.SYS_READ, fd, r.b)
		return r.err != unix.EAGAIN || !r.wait
	}
	p.writing.run = func(fd uintptr) bool {
		w := &p.writing
		w.n, w.err = readWrite(unix.SYS_WRITE, fd, w.b)
		return true
	}
	return p, nil
}

// readWrite is read(2) or write(2), repeated when a signal interrupted it.
//
// The descriptor does not block, so the scheduler need not hear of the call. If it does
// hear, the first call after a pause wakes its monitor, which competes with the packet
// for the processor: that cost a quarter of an idle round trip, and a fifth of the
// throughput.
func readWrite(call, fd uintptr, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
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
	r.b, r.wait = frame[p.skip:], wait
	if err := p.conn.Read(r.run); err != nil {
		return 0, ErrClosed
	}
	if r.err != nil {
		if r.err == unix.EAGAIN {
			return 0, nil
		}
		return 0, portError(r.err)
	}
	clear(frame[:p.skip])
	return p.skip + r.n, nil
}

// write never waits: a device whose queue is full drops the packet.
func (p *rawPort) write(frame []byte) error {
	w := &p.writing
	w.b = frame[p.skip:]
	err := p.conn.Write(w.run)
	w.b = nil
	if err != nil {
		return ErrClosed
	}
	return portError(w.err)
}

// portError recognizes the error of a queue whose interface was removed.
func portError(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return ErrGone
	}
	return err
}
