package control

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUID returns who made the other end of a connection.
func peerUID(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return unknownUser
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return unknownUser
	}
	uid := unknownUser
	_ = raw.Control(func(fd uintptr) { // it fails when closed
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid
}
