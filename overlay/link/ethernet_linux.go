package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// networkOrder returns a number as the kernel wants an EtherType.
func networkOrder(n uint16) uint16 {
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		return n
	}
	return bits.ReverseBytes16(n)
}

// packetSocket opens a socket that receives nothing until it is bound.
func packetSocket() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return -1, ErrEthernetRights
	case errors.Is(err, unix.EAFNOSUPPORT):
		return -1, errors.New("ethernet: no packet sockets here; " +
			"try: add AF_PACKET to RestrictAddressFamilies of the service, load the kernel module af_packet, or leave link.ethernet empty")
	case err != nil:
		return -1, fmt.Errorf("ethernet: %w", os.NewSyscallError("socket", err))
	}
	return fd, nil
}

// CheckEthernet reports why this process cannot send frames: ErrNoEthernet, ErrEthernetRights, or
// what the system says.
func CheckEthernet() error {
	fd, err := packetSocket()
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// nic is an interface with a packet socket for frames of our type.
type nic struct {
	m     *Mux
	iface Interface // of which Name, Index and MTU count
	own   [6]byte
	file  *os.File
	raw   syscall.RawConn
	idle  sync.Pool // of *etherSender
	once  sync.Once
}

var _ etherPort = (*nic)(nil)

func newEtherPort(m *Mux, i *Interface) (etherPort, error) {
	fd, err := packetSocket()
	if err != nil {
		return nil, err
	}
	n := &nic{m: m, iface: *i, file: os.NewFile(uintptr(fd), "packet")}
	n.idle.New = func() any { return newEtherSender() }
	if n.own, err = bindFrames(fd, i.Index); err == nil {
		n.raw, err = n.file.SyscallConn()
	}
	if err != nil {
		n.file.Close()
		return nil, err
	}
	buffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, socketBuffer)
	buffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, socketBuffer)
	return n, nil
}

// bindFrames has a socket receive our frames of an interface, and returns that one's address.
func bindFrames(fd, index int) (mac [6]byte, err error) {
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(etherType), Ifindex: index}); err != nil {
		return mac, fmt.Errorf("ethernet: %w", os.NewSyscallError("bind", err))
	}
	local, err := unix.Getsockname(fd)
	if err != nil {
		return mac, fmt.Errorf("ethernet: %w", os.NewSyscallError("getsockname", err))
	}
	l, ok := local.(*unix.SockaddrLinklayer)
	if !ok || l.Hatype != unix.ARPHRD_ETHER || l.Halen != uint8(len(mac)) {
		return mac, errors.New("ethernet: the interface has no Ethernet address")
	}
	copy(mac[:], l.Addr[:])
	return mac, nil
}

// serves implements etherPort.
func (n *nic) serves(i *Interface) bool {
	return n.iface.Index == i.Index && n.iface.Name == i.Name && n.iface.MTU == i.MTU
}

func (n *nic) mac() [6]byte { return n.own }

// keep implements outlet. Without a connection there is nothing to keep.
func (n *nic) keep() {}

// crowded implements outlet: nothing waits.
func (n *nic) crowded() bool { return false }

// close implements outlet.
func (n *nic) close() { n.once.Do(func() { n.file.Close() }) }

// etherSender has the space for one sendmmsg, of frames to one address.
type etherSender struct {
	msgs    [MaxSegments]unix.Mmsghdr
	iovs    [MaxSegments][2]unix.Iovec
	lengths [MaxSegments][EthernetHeader]byte
	to      unix.RawSockaddrLinklayer

	// of the train under way
	sent, count int // messages
	errno       syscall.Errno
	once        func(fd uintptr)
	wait        func(fd uintptr) bool
}

func newEtherSender() *etherSender {
	s := new(etherSender)
	s.once = s.send
	s.wait = func(fd uintptr) bool {
		s.send(fd)
		return s.errno != unix.EAGAIN
	}
	return s
}

// put prepares the packets of a train as frames.
func (s *etherSender) put(t *Train, index int) {
	n := 0
	mac := t.Endpoint.MAC()
	s.to = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: networkOrder(etherType), Ifindex: int32(index), Halen: uint8(len(mac))}
	copy(s.to.Addr[:], mac[:])
	for off, end := 0, 0; off < len(t.Buf) && n < len(s.msgs); off, n = end, n+1 {
		end = t.next(off)
		binary.BigEndian.PutUint16(s.lengths[n][:], uint16(end-off))
		v := &s.iovs[n]
		v[0].Base, v[1].Base = &s.lengths[n][0], &t.Buf[off]
		v[0].SetLen(EthernetHeader)
		v[1].SetLen(end - off)
		h := &s.msgs[n].Hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&s.to)), unix.SizeofSockaddrLinklayer
		h.Iov = &v[0]
		h.SetIovlen(2)
	}
	s.sent, s.count = 0, n
}

// clear lets go of the train's memory.
func (s *etherSender) clear() {
	for i := range s.count {
		s.iovs[i][1].Base = nil
	}
}

// send sends what is not sent yet, until the kernel takes no more.
func (s *etherSender) send(fd uintptr) {
	s.errno = 0
	for s.sent < s.count && s.errno == 0 {
		k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.msgs[s.sent])), uintptr(s.count-s.sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.sent += int(k)
		case unix.EINTR:
		default:
			s.errno = errno
		}
	}
}

// etherPatience is how long a program of this machine waits for a busy interface.
const etherPatience = 20 * time.Millisecond

// queue implements outlet: frames leave at once, one for each packet. What is too long for the
// interface, or finds its queue full, is lost.
func (n *nic) queue(t *Train, patient bool) bool {
	packets := t.Packets()
	if len(t.Buf) == 0 || t.next(0) > n.iface.MTU-EthernetHeader || packets > MaxSegments {
		n.m.c.etherRefused.Add(uint64(packets))
		return false
	}
	s := n.idle.Get().(*etherSender)
	s.put(t, n.iface.Index)
	err := n.raw.Control(s.once)
	if err == nil && s.errno == unix.EAGAIN && patient {
		// An error is that of the deadline: the rest is lost then.
		_ = n.file.SetWriteDeadline(time.Now().Add(etherPatience))
		_ = n.raw.Write(s.wait)
	}
	s.clear()
	lost, errno := uint64(s.count-s.sent), s.errno
	n.idle.Put(s)
	switch {
	case lost == 0:
		return true
	case errno == unix.EAGAIN || errno == unix.ENOBUFS:
		n.m.c.dropQueue.Add(lost)
	default:
		n.m.c.etherRefused.Add(lost)
	}
	return false
}

// etherReader has the space for one recvmmsg.
type etherReader struct {
	stride int
	buf    []byte
	msgs   [etherBatch]unix.Mmsghdr
	iovs   [etherBatch]unix.Iovec
	from   [etherBatch]unix.RawSockaddrLinklayer
	frames [etherBatch]etherFrame
	got    int
	errno  syscall.Errno
}

func newEtherReader(mtu int) *etherReader {
	r := &etherReader{stride: max(mtu, 64) + 64}
	r.buf = make([]byte, etherBatch*r.stride)
	for i := range r.msgs {
		r.iovs[i].Base = &r.buf[i*r.stride]
		r.iovs[i].SetLen(r.stride)
		h := &r.msgs[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.from[i]))
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
	}
	return r
}

// receive takes what is there. It returns false if nothing is.
func (r *etherReader) receive(fd uintptr) bool {
	for i := range r.msgs {
		r.msgs[i].Hdr.Namelen, r.msgs[i].Hdr.Flags = unix.SizeofSockaddrLinklayer, 0
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.msgs[0])), etherBatch, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		r.got, r.errno = int(n), errno
		return errno != unix.EAGAIN
	}
}

// collect notes which frames are for us, and how long they are.
func (r *etherReader) collect(own func([6]byte) bool) []etherFrame {
	for i := range r.got {
		m, from := &r.msgs[i], &r.from[i]
		f := &r.frames[i]
		*f = etherFrame{from: [6]byte(from.Addr[:6])}
		toUs := from.Pkttype == unix.PACKET_HOST || from.Pkttype == unix.PACKET_BROADCAST
		if toUs && m.Hdr.Flags&unix.MSG_TRUNC == 0 && from.Halen == 6 && !own(f.from) {
			f.size = int(m.Len)
		}
	}
	return r.frames[:r.got]
}

// read implements etherPort.
func (n *nic) read() {
	r, b := newEtherReader(n.iface.MTU), newDelivery()
	for {
		if n.raw.Read(r.receive) != nil {
			return
		}
		switch r.errno {
		case 0:
		case unix.ENETDOWN, unix.ENOBUFS: // it may come back
			continue
		default:
			n.m.cfg.Log.Warn("no more Ethernet until the links change", "interface", n.iface.Name, "err", r.errno)
			return
		}
		var bad int
		b.trains, bad = etherTrains(b.trains[:0], r.buf, r.stride, r.collect(n.m.ownMAC), n.iface.Index)
		n.m.c.etherBad.Add(uint64(bad))
		if len(b.trains) > 0 && n.m.deliver(b) != nil {
			return
		}
	}
}
