package stream

import (
	"errors"
	"syscall"
)

// A failure is why a stream ended. It is a net.Error, and is the error number that a TCP
// connection of the system would return, so that programs for TCP understand it.
type failure struct {
	text    string
	errno   syscall.Errno
	timeout bool
}

func (f *failure) Error() string        { return f.text }
func (f *failure) Timeout() bool        { return f.timeout }
func (f *failure) Temporary() bool      { return false }
func (f *failure) Is(target error) bool { return target == error(f.errno) }

// Why a stream ended, or was not opened.
var (
	// ErrRefused says that the peer answered, and that nothing listens on the port.
	ErrRefused error = &failure{"connection refused: nothing listens on the peer's port", syscall.ECONNREFUSED, false}
	// ErrReset says that the peer ended the stream at once, or does not know it.
	ErrReset error = &failure{"connection reset by the peer", syscall.ECONNRESET, false}
	// ErrTimedOut says that the peer acknowledged nothing for too long.
	ErrTimedOut error = &failure{"connection timed out: the peer does not answer", syscall.ETIMEDOUT, true}
	// ErrUnreachable says that there is no path to the peer.
	ErrUnreachable error = &failure{"peer unreachable: there is no path to it", syscall.EHOSTUNREACH, false}
	// ErrPeerClosed is returned when writing after the peer closed both directions.
	ErrPeerClosed error = &failure{"connection closed by the peer", syscall.EPIPE, false}
	// ErrBusy says that there are as many streams with the peer as may be, or no link ID
	// is free.
	ErrBusy error = &failure{"too many connections to the peer", syscall.EAGAIN, false}
	// ErrInUse says that the port is in use.
	ErrInUse error = &failure{"port in use", syscall.EADDRINUSE, false}
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("connection closed")
)
