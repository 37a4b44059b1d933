package link

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NewWriter makes a writer of 13 KiB.
func (b *batch) NewWriter() Writer {
	w := &batchWriter{batch: b}
	w.all.init(b, writeMessages)
	w.one.init(b, 1)
	return w
}

// batchWriter sends each Write by sendmmsg, and handles what the kernel refuses message
// by message.
type batchWriter struct {
	*batch
	all   sender
	parts [writeMessages]part // of what each message of all is
	one   sender              // for second attempts

	// of the Write under way
	err     error // the first
	broken  int   // the last train of which a packet was refused, or -1
	sent    int   // trains sent whole
	packets int
	bytes   int
	trains  int
}

// part is what of the trains to be written goes as one message.
type part struct {
	train    int
	off, end int
}

// Write implements Writer.
func (w *batchWriter) Write(ts []Train) (int, error) {
	w.err, w.broken, w.sent, w.packets, w.bytes, w.trains = nil, -1, 0, 0, 0, 0
	for i, off := 0, 0; i < len(ts); {
		n := 0
		for n < writeMessages && i < len(ts) {
			t := &ts[i]
			if !t.valid(w.four) {
				if n > 0 {
					break // what came before it first, so that errors stay in order
				}
				w.c.txBadEndpoint.Add(1)
				w.fail(i, ErrEndpoint)
				i++
				continue
			}
			end := w.cut(t, off)
			w.all.put(n, t.Buf[off:end], t.Size, &t.Endpoint)
			w.parts[n] = part{i, off, end}
			n++
			if off = end; off == len(t.Buf) {
				i, off = i+1, 0
			}
		}
		if !w.flush(ts, n) {
			w.err = ErrClosed
			break
		}
	}
	w.c.txTrains.Add(uint64(w.trains))
	w.c.txPackets.Add(uint64(w.packets))
	w.c.txBytes.Add(uint64(w.bytes))
	return w.sent, w.err
}

// cut is where the message that begins at off ends: with the packet, or with as
// many packets as one train may hold.
func (w *batchWriter) cut(t *Train, off int) int {
	end := t.next(off)
	if !w.gso.Load() || end == len(t.Buf) {
		return end
	}
	segments := max(1, min(MaxSegments, MaxTrain/t.Size))
	return min(len(t.Buf), off+segments*t.Size)
}

// flush sends the first n messages. It returns false if the socket is closed.
func (w *batchWriter) flush(ts []Train, n int) bool {
	for i := 0; i < n; {
		k, errno, ok := w.all.send(i, n)
		if !ok {
			return false
		}
		for ; k > 0; k-- {
			w.took(ts, w.parts[i])
			i++
		}
		if errno != 0 {
			if !w.again(ts, w.parts[i], errno) {
				return false
			}
			i++
		}
	}
	return true
}

// took counts a message that was sent.
func (w *batchWriter) took(ts []Train, p part) {
	t := &ts[p.train]
	part := Train{Buf: t.Buf[p.off:p.end], Size: t.Size}
	w.trains++
	w.packets += part.Packets()
	w.bytes += p.end - p.off
	if p.end == len(t.Buf) && w.broken != p.train {
		w.sent++
	}
}

// fail notes that a packet of a train was refused.
func (w *batchWriter) fail(train int, err error) {
	w.broken = train
	if w.err == nil {
		w.err = err
	}
}

// again handles a message that was refused: it sends it without Local and If if they are
// no longer valid, and packet by packet if it was a train. It returns false if the socket
// is closed.
func (w *batchWriter) again(ts []Train, p part, errno syscall.Errno) bool {
	t := &ts[p.train]
	msg := Train{Buf: t.Buf[p.off:p.end], Size: t.Size, Endpoint: t.Endpoint}
	var ok bool
	if msg.Endpoint.loosens(errno) {
		msg.Endpoint.Local, msg.Endpoint.If = netip.Addr{}, 0
		w.c.txUnpinned.Add(1)
		if errno, ok = w.once(msg.Buf, msg.Size, &msg.Endpoint); !ok {
			return false
		}
	}
	switch {
	case errno == 0:
		w.took(ts, p)
		return true
	case msg.Packets() == 1 || !segmentation(errno):
		w.c.refuse(errno, msg.Packets())
		w.fail(p.train, errno)
		return true
	}
	refused := false
	for off := p.off; off < p.end; {
		end := min(t.next(off), p.end)
		if errno, ok = w.once(t.Buf[off:end], 0, &msg.Endpoint); !ok {
			return false
		}
		if errno == 0 {
			w.took(ts, part{p.train, off, end})
		} else {
			refused = true
			w.c.refuse(errno, 1)
			w.fail(p.train, errno)
		}
		off = end
	}
	if !refused {
		w.failed()
	}
	return true
}

// segmentation reports whether UDP_SEGMENT may have caused errno: a packet larger than
// the MTU, or an interface or policy that cannot (EIO).
func segmentation(errno syscall.Errno) bool {
	switch errno {
	case unix.EIO, unix.EMSGSIZE, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOPROTOOPT:
		return true
	}
	return false
}

// once sends one message.
func (w *batchWriter) once(b []byte, size int, e *Endpoint) (syscall.Errno, bool) {
	w.one.put(0, b, size, e)
	_, errno, ok := w.one.send(0, 1)
	return errno, ok
}

// sendControl holds one UDP_SEGMENT and one PKTINFO.
const sendControl = 64

// sender has the space for the messages of one sendmmsg.
type sender struct {
	*socket
	msgs  []unix.Mmsghdr
	iovs  []unix.Iovec
	names []sockaddr
	ctls  [][sendControl]byte

	// of the call under way
	out   []unix.Mmsghdr
	got   int
	errno syscall.Errno
	call  func(fd uintptr)      // sendmmsg
	retry func(fd uintptr) bool // sendmmsg, false if the buffer is full
}

func (s *sender) init(b *batch, n int) {
	s.socket = b.socket
	s.msgs = make([]unix.Mmsghdr, n)
	s.iovs = make([]unix.Iovec, n)
	s.names = make([]sockaddr, n)
	s.ctls = make([][sendControl]byte, n)
	s.call = s.sendmmsg
	s.retry = func(fd uintptr) bool {
		s.sendmmsg(fd)
		return s.errno != unix.EAGAIN
	}
	for i := range s.msgs {
		h := &s.msgs[i].Hdr
		h.Name = &s.names[i][0]
		h.Iov = &s.iovs[i]
		h.SetIovlen(1)
	}
}

// put makes message i of b, to be cut into packets of size if it is longer.
func (s *sender) put(i int, b []byte, size int, e *Endpoint) {
	h := &s.msgs[i].Hdr
	h.Namelen = s.names[i].put(e, s.four)
	s.iovs[i].Base = unsafe.SliceData(b)
	s.iovs[i].SetLen(len(b))
	ctl := s.ctls[i][:0]
	if size > 0 && len(b) > size {
		ctl = appendSegment(ctl, size)
	}
	ctl = appendPktinfo(ctl, *e)
	h.Control = nil
	if len(ctl) > 0 {
		h.Control = &ctl[0]
	}
	h.SetControllen(len(ctl))
}

// send sends messages first to last-1, waiting for space in the socket's buffer. It
// returns how many the kernel accepted; or none, and why it refused the first. ok is
// false if the socket is closed.
func (s *sender) send(first, last int) (n int, errno syscall.Errno, ok bool) {
	s.out = s.msgs[first:last]
	// Control takes no lock, unlike Write, so that writers need not wait for each other.
	if s.raw.Control(s.call) != nil {
		return 0, 0, false
	}
	if s.errno == unix.EAGAIN {
		s.c.txWaits.Add(1)
		if s.raw.Write(s.retry) != nil {
			return 0, 0, false
		}
	}
	for i := range s.iovs[first : first+s.got] {
		s.iovs[first+i].Base = nil
	}
	return s.got, s.errno, true
}

func (s *sender) sendmmsg(fd uintptr) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.out[0])),
			uintptr(len(s.out)), unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			n = 0
		}
		s.got, s.errno = int(n), errno
		return
	}
}
