package link

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listen opens the socket on the highest rung that is allowed and works.
func (s *System) listen(port uint16) (Conn, error) {
	group, err := s.ListenGroup(port, 1)
	if err != nil {
		return nil, err
	}
	return group[0], nil
}

// listenAs opens a socket, for IPv4 alone if the system has no IPv6. With share, other
// sockets of the same user may have the port too.
func (s *System) listenAs(port uint16, rung string, share bool) (conn prober, err error) {
	conn, err = s.open(netip.AddrPortFrom(netip.IPv6Unspecified(), port), rung, share)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		conn, err = s.open(netip.AddrPortFrom(netip.IPv4Unspecified(), port), rung, share)
	}
	switch {
	case errors.Is(err, errInUse):
		return nil, errPortTaken(port, err)
	case err != nil:
		return nil, fmt.Errorf("link: %w", err)
	}
	s.log().Debug("socket open", "port", conn.LocalPort(), "rung", conn.Rung())
	return conn, nil
}

// prober is a Conn of this package, whose reading can be ended by a deadline.
type prober interface {
	Conn
	sock() *socket
	read(ts []Train) (int, error)
	SetReadDeadline(time.Time) error
}

// open binds a socket for the rung.
func (s *System) open(a netip.AddrPort, rung string, share bool) (prober, error) {
	udp, err := bind(a, 0, func(fd int) error { return s.setup(fd, a.Addr().Is6(), rung, share) })
	if err != nil {
		return nil, err
	}
	sock, err := newSocket(udp)
	if err != nil {
		return nil, err
	}
	if rung == RungPlain {
		return newPlain(sock, ReadSize), nil
	}
	return newBatch(sock, rung), nil
}

// bind opens a UDP socket, lets set prepare it, and binds it to a itself. Package net
// would bind it to all addresses where a is a multicast, and believes that there is
// no IPv6 if the loopback interface is down.
func bind(a netip.AddrPort, scope int, set func(fd int) error) (*net.UDPConn, error) {
	var family int
	var local unix.Sockaddr
	if a.Addr().Is4() {
		family, local = unix.AF_INET, &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	} else {
		family, local = unix.AF_INET6, &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(scope)}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close() // FilePacketConn makes a copy
	if err := set(fd); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, local); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return pc.(*net.UDPConn), nil
}

// setup prepares a socket before it is bound. Options that the kernel does not have are
// skipped; it is an error only if the rung needs them.
func (s *System) setup(fd int, six bool, rung string, share bool) error {
	try := func(level, option, value int) {
		if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
			s.log().Debug("socket option refused", "level", level, "option", option, "err", err)
		}
	}
	try(unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
	// Always don't-fragment, without the kernel's path MTU: the engine probes.
	try(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	try(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	if six {
		try(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		try(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		try(unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
		try(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	}
	if share { // never by SO_REUSEADDR: see owner_linux.go
		try(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	buffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, socketBuffer)
	buffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, cmp.Or(s.sendBuffer, socketBuffer))
	if rung == RungGSO {
		return os.NewSyscallError("UDP_GRO", unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1))
	}
	return nil
}

// buffer asks for size bytes, above the system's limit if we are privileged.
func buffer(fd, force, ask, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		// Never an error: the kernel gives what its limit allows.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, ask, size)
	}
}

// kernelDrops returns how many packets the socket lost because its receive buffer was
// full. The call never waits, so the scheduler is not told, which would wake its monitor.
func kernelDrops(raw syscall.RawConn) uint64 {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_ = raw.Control(func(fd uintptr) { // it fails when closed: none
		unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	return uint64(info[unix.SK_MEMINFO_DROPS])
}
