package tun

import (
	"errors"
	"os"
	"syscall"

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
		r.n, r.err = again(unix.Read, int(fd), r.b)
		return r.err != unix.EAGAIN || !r.wait
	}
	p.writing.run = func(fd uintptr) bool {
		w := &p.writing
		w.n, w.err = again(unix.Write, int(fd), w.b)
		return true
	}
	return p, nil
}

// again repeats a call that a signal interrupted.
func again(call func(int, []byte) (int, error), fd int, b []byte) (n int, err error) {
	for {
		if n, err = call(fd, b); err != unix.EINTR {
			return n, err
		}
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

// portError knows the error of a queue whose interface was removed.
func portError(err error) error {
	if errors.Is(err, unix.EBADFD) {
		return ErrGone
	}
	return err
}
