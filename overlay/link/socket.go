package link

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"
)

// socket is what all rungs have in common.
type socket struct {
	udp  *net.UDPConn
	raw  syscall.RawConn
	port uint16
	four bool // it speaks IPv4 alone
	c    counters
}

// newSocket takes over a bound socket, and closes it if it cannot be used.
func newSocket(udp *net.UDPConn) (*socket, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("link: %w", err)
	}
	local := udp.LocalAddr().(*net.UDPAddr).AddrPort()
	return &socket{udp: udp, raw: raw, port: local.Port(), four: local.Addr().Is4()}, nil
}

// SetReadDeadline ends a read at t, for the self-test.
func (s *socket) SetReadDeadline(t time.Time) error { return s.udp.SetReadDeadline(t) }

func (s *socket) sock() *socket { return s }

// LocalPort implements Conn.
func (s *socket) LocalPort() uint16 { return s.port }

// Counters implements Conn.
func (s *socket) Counters() map[string]uint64 {
	m := s.c.all()
	m["rx_dropped"] = kernelDrops(s.raw)
	return m
}

// Close implements Conn. It may be called more than once.
func (s *socket) Close() error {
	err := s.udp.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
