package chat

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"anodenet/platform"
)

// loopbackIndex is the index of lo.
const loopbackIndex = 1

// bindTo binds a socket to an interface, whatever its name is or will be. Old kernels
// cannot do that, or let only a process with CAP_NET_RAW: then the socket stays as it is.
func bindTo(fd uintptr, index int) error {
	err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	return os.NewSyscallError("SO_BINDTOIFINDEX", err)
}

// bindAccepted binds a connection that was accepted to the adapter. A connection that came
// by another interface is an error. One from this machine counts as if it had come by the
// interface that has the address; its answers must not leave by that one.
func bindAccepted(conn net.Conn, index int) error {
	c, ok := conn.(syscall.Conn)
	from, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	if !ok || !isTCP || index == 0 {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	local := isLocal(from.AddrPort().Addr())
	failed := raw.Control(func(fd uintptr) {
		// The kernel notes here by which interface the connection came.
		var by int
		by, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF)
		switch {
		case err != nil || local && by == loopbackIndex:
		case by != index:
			err = errOutside
		case !local:
			err = bindTo(fd, index)
		}
	})
	return errors.Join(failed, err)
}

// isLocal reports whether an address is one of this machine's.
func isLocal(a netip.Addr) bool {
	index, _, err := platform.RouteOf(a)
	return err == nil && index == loopbackIndex
}
