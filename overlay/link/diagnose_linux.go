package link

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// listenICMP has the socket keep ICMP errors whole. Without it the system says nothing of a
// machine that is not there, and a firewall that rejects looks alike.
func listenICMP(c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { // one of the two fails: it is of the other family
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1)
		unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
}

// lastICMP returns what the ICMP errors of the socket say; ok is false if there is none.
func lastICMP(c *net.UDPConn) (x Symptom, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Silence, false
	}
	var control [512]byte
	n := 0
	raw.Control(func(fd uintptr) {
		if _, n, _, _, err = unix.Recvmsg(int(fd), nil, control[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			n = 0
		}
	})
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return Silence, false
	}
	for _, m := range messages {
		if x, ok := parseICMP(m.Data); ok && (m.Header.Type == unix.IP_RECVERR || m.Header.Type == unix.IPV6_RECVERR) {
			return x, true
		}
	}
	return Silence, false
}

// parseICMP reads a sock_extended_err: errno[4] origin[1] type[1] code[1] and more.
func parseICMP(b []byte) (Symptom, bool) {
	if len(b) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
		return Silence, false
	}
	const unreachable4, unreachable6 = 3, 1 // types
	switch origin, typ, code := b[4], b[5], b[6]; {
	case origin == unix.SO_EE_ORIGIN_ICMP && typ == unreachable4:
		switch code {
		case 3: // port
			return PortClosed, true
		case 9, 10, 13: // RFC 1812, 5.2.7.1
			return Rejected, true
		}
		return NoHost, true
	case origin == unix.SO_EE_ORIGIN_ICMP6 && typ == unreachable6:
		switch code {
		case 4: // port
			return PortClosed, true
		case 1, 5, 6: // RFC 4443, 3.1
			return Rejected, true
		}
		return NoHost, true
	case origin == unix.SO_EE_ORIGIN_LOCAL && unix.Errno(binary.NativeEndian.Uint32(b)) == unix.EHOSTUNREACH:
		return NoHost, true
	}
	return Silence, false
}
