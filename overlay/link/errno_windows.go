package link

import (
	"syscall"

	"golang.org/x/sys/windows"
)

const (
	errInUse     = windows.WSAEADDRINUSE
	errBadSource = windows.WSAEINVAL // of a source address that is not ours

	msgTrunc  = windows.MSG_TRUNC
	msgCtrunc = windows.MSG_CTRUNC
)

func refusalOf(errno syscall.Errno) refusal {
	switch errno {
	case windows.WSAEMSGSIZE, syscall.EMSGSIZE:
		return refusedTooBig
	case windows.WSAENETUNREACH, windows.WSAEHOSTUNREACH, windows.WSAENETDOWN, windows.WSAEHOSTDOWN:
		return refusedUnreachable
	case windows.WSAECONNREFUSED, windows.WSAECONNRESET, windows.WSAENETRESET:
		return refusedPort
	case windows.WSAEACCES:
		return refusedDenied
	case windows.WSAENOBUFS:
		return refusedNoBuffer
	case windows.WSAEADDRNOTAVAIL:
		return refusedAddress
	}
	return refusedOther
}

// truncated reports whether a read failed because the packet was larger than the buffer.
func truncated(errno syscall.Errno) bool { return errno == windows.WSAEMSGSIZE }

// passing reports whether a read that failed with errno may be tried again.
func passing(errno syscall.Errno) bool {
	switch errno {
	case windows.WSAEBADF, windows.WSAENOTSOCK, windows.WSAEFAULT, windows.WSAEINVAL:
		return false
	}
	return true
}
