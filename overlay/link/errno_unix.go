//go:build unix

package link

import "syscall"

const (
	errInUse     = syscall.EADDRINUSE
	errBadSource = syscall.EINVAL // of a source address that is not ours

	msgTrunc  = syscall.MSG_TRUNC
	msgCtrunc = syscall.MSG_CTRUNC
)

func refusalOf(errno syscall.Errno) refusal {
	switch errno {
	case syscall.EMSGSIZE:
		return refusedTooBig
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.ENODEV, syscall.ENXIO:
		return refusedUnreachable
	case syscall.ECONNREFUSED:
		return refusedPort
	case syscall.EPERM, syscall.EACCES:
		return refusedDenied
	case syscall.ENOBUFS, syscall.ENOMEM:
		return refusedNoBuffer
	case syscall.EADDRNOTAVAIL:
		return refusedAddress
	}
	return refusedOther
}

// truncated reports whether a read failed because the packet was larger than the
// buffer: here the flags say so, and not the error.
func truncated(syscall.Errno) bool { return false }

// passing reports whether a read that failed with errno may be tried again.
func passing(errno syscall.Errno) bool {
	switch errno {
	case syscall.EBADF, syscall.ENOTSOCK, syscall.EFAULT, syscall.EINVAL, syscall.ENOSYS:
		return false
	}
	return true
}
