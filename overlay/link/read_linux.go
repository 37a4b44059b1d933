package link

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reader has the space for one recvmmsg. The first read makes it: a socket that only
// writes needs none.
type reader struct {
	most  int // messages
	msgs  []unix.Mmsghdr
	iovs  []unix.Iovec
	names []sockaddr
	ctls  [][controlSize]byte
	buf   []byte

	// of the call under way
	want  int
	got   int
	errno syscall.Errno
	call  func(fd uintptr) bool
}

func (r *reader) init() {
	n := r.most
	r.msgs = make([]unix.Mmsghdr, n)
	r.iovs = make([]unix.Iovec, n)
	r.names = make([]sockaddr, n)
	r.ctls = make([][controlSize]byte, n)
	r.buf = make([]byte, n*ReadSize)
	r.call = r.recvmmsg
	for i := range r.msgs {
		r.iovs[i].Base = &r.buf[i*ReadSize]
		r.iovs[i].SetLen(ReadSize)
		h := &r.msgs[i].Hdr
		h.Name = &r.names[i][0]
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Control = &r.ctls[i][0]
	}
	r.reset(n)
}

// reset restores the lengths of the first n messages, which the kernel overwrote.
func (r *reader) reset(n int) {
	for i := range r.msgs[:n] {
		h := &r.msgs[i].Hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(controlSize)
		h.Flags = 0
	}
}

// recvmmsg takes what is there. It reports false to be called again when there is
// something. It and sendmmsg never wait, so they do not tell the scheduler, which would
// cost more than it gains (see tun/port_linux.go).
func (r *reader) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])),
			uintptr(r.want), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		}
		r.got, r.errno = int(n), errno
		return true
	}
}

// Read implements Conn.
func (b *batch) Read(ts []Train) (int, error) {
	n, err := b.read(ts)
	if err != nil {
		return 0, ErrClosed
	}
	return n, nil
}

// read is Read with the error that ended it.
func (b *batch) read(ts []Train) (int, error) {
	r := &b.rx
	if len(ts) == 0 {
		return 0, nil
	}
	if r.msgs == nil {
		r.init()
	}
	for {
		r.want = min(len(ts), len(r.msgs))
		if err := b.raw.Read(r.call); err != nil {
			return 0, err
		}
		if r.errno != 0 {
			if !passing(r.errno) {
				return 0, r.errno
			}
			b.c.rxErrors.Add(1)
			continue
		}
		if n := b.collect(ts); n > 0 {
			return n, nil
		}
	}
}

// collect makes trains of the messages received.
func (b *batch) collect(ts []Train) (n int) {
	r := &b.rx
	var packets, bytes int
	for i := range r.msgs[:r.got] {
		m := &r.msgs[i]
		if m.Hdr.Flags&unix.MSG_TRUNC != 0 {
			b.c.rxTruncated.Add(1)
			continue
		}
		t := &ts[n]
		from, ok := r.names[i].addr(m.Hdr.Namelen)
		t.Endpoint = Endpoint{Addr: from}
		size, okCtl := parseControl(r.ctls[i][:min(uint64(m.Hdr.Controllen), controlSize)], &t.Endpoint)
		if !ok || !okCtl || m.Hdr.Flags&unix.MSG_CTRUNC != 0 {
			b.c.rxBad.Add(1)
			continue
		}
		length := int(m.Len)
		if size == 0 || size > length {
			size = length
		}
		start := i * ReadSize
		t.Buf, t.Size = r.buf[start:start+length:start+ReadSize], size
		packets += t.Packets()
		bytes += length
		n++
	}
	r.reset(r.got)
	b.c.rxTrains.Add(uint64(n))
	b.c.rxPackets.Add(uint64(packets))
	b.c.rxBytes.Add(uint64(bytes))
	return n
}
