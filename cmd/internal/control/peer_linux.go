package control

import (
	"net"

	"golang.org/x/sys/unix"
)

// ownerOf returns the user and the process that made the other end of a connection.
func ownerOf(c net.Conn) owner {
	o := owner{uid: unknownUser}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return o
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return o
	}
	_ = raw.Control(func(fd uintptr) { // it fails when closed
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			o = owner{int(cred.Uid), int(cred.Pid)}
		}
	})
	return o
}
