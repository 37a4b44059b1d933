package control

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// callerOf returns the user and process at the other end of a socket.
func callerOf(c net.Conn) string {
	const unknown = "somebody"
	u, ok := c.(*net.UnixConn)
	if !ok {
		return unknown
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return unknown
	}
	who := unknown
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			who = fmt.Sprintf("uid %d, pid %d", cred.Uid, cred.Pid)
		}
	})
	if err != nil {
		return unknown
	}
	return who
}
