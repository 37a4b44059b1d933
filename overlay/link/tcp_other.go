//go:build !linux

package link

import "syscall"

// setStream prepares a TCP socket. Where it does nothing, writes that wait for too long end
// a dead connection.
func setStream(syscall.RawConn) error { return nil }
