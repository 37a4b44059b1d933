package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listen opens the socket on the highest rung that is allowed and works.
func (s *System) listen(port uint16) (Conn, error) {
	rung := s.climb()
	var guard io.Closer
	if port == Port {
		// The beacon sockets of other nodes on this host want to share the port, and
		// so it must be bound with SO_REUSEADDR, which would let a second node take
		// our packets. An abstract unix socket keeps that one out; it is per network
		// namespace and vanishes with the process.
		var err error
		if guard, err = net.ListenPacket("unixgram", fmt.Sprintf("@anode/udp/%d", port)); err != nil {
			return nil, errPortTaken(port, err)
		}
	}
	udp, err := bindPort(port, s.setup(rung, port == Port))
	if err != nil {
		if guard != nil {
			guard.Close()
		}
		return nil, err
	}
	conn, err := open(udp, rung, guard)
	if err != nil {
		return nil, err
	}
	s.log().Debug("socket open", "port", conn.LocalPort(), "rung", conn.Rung())
	return conn, nil
}

// prober is a Conn whose reading can be ended by a deadline.
type prober interface {
	Conn
	read(ts []Train) (int, error)
	SetReadDeadline(time.Time) error
}

// open makes a Conn of a bound socket, which it closes if that fails.
func open(udp *net.UDPConn, rung string, guard io.Closer) (prober, error) {
	sock, err := newSocket(udp, guard)
	if err != nil {
		return nil, err
	}
	if rung == RungPlain {
		return newPlain(sock), nil
	}
	return newBatch(sock, rung), nil
}

// setup returns what prepares a socket before it is bound. What a kernel does not
// have is left out; only what the rung cannot do without is an error.
func (s *System) setup(rung string, share bool) control {
	return func(network, _ string, raw syscall.RawConn) (err error) {
		six := network != "udp4"
		try := func(fd, level, option, value int) {
			if e := unix.SetsockoptInt(fd, level, option, value); e != nil {
				s.log().Debug("socket option refused", "level", level, "option", option, "err", e)
			}
		}
		ctlErr := raw.Control(func(fdp uintptr) {
			fd := int(fdp)
			try(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
			// Don't-fragment always, and no path MTU of the kernel's: the engine probes.
			try(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			try(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
			if six {
				try(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
				try(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
				try(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			}
			if share {
				try(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}
			buffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, s.ReadBuffer)
			buffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, s.WriteBuffer)
			if rung == RungGSO {
				if e := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); e != nil {
					err = fmt.Errorf("link: UDP_GRO: %w", e)
				}
			}
		})
		return errors.Join(ctlErr, err)
	}
}

// buffer asks for size bytes, above the system's limit if we are privileged.
func buffer(fd, force, ask, size int) {
	if size == 0 {
		size = DefaultBuffer
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		// Never an error: the kernel gives what its limit allows.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, ask, size)
	}
}

// kernelDrops is how many packets a full receive buffer has cost the socket.
func kernelDrops(raw syscall.RawConn) uint64 {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_ = raw.Control(func(fd uintptr) { // it fails when closed: none
		unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	return uint64(info[unix.SK_MEMINFO_DROPS])
}

func (s *System) ListenBeacons() (Conn, error) { return nil, errors.ErrUnsupported }
func (s *System) Interfaces() ([]Interface, error) {
	return s.interfaces(func(net.Interface) bool { return true })
}
