//go:build !linux

package link

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"syscall"
)

func (s *System) listen(port uint16) (Conn, error) {
	udp, err := bindPort(port)
	if err != nil {
		return nil, err
	}
	grow(socketBuffer, udp.SetReadBuffer)
	grow(cmp.Or(s.sendBuffer, socketBuffer), udp.SetWriteBuffer)
	sock, err := newSocket(udp)
	if err != nil {
		return nil, err
	}
	return newPlain(sock, ReadSize), nil
}

// bindPort binds port on all addresses.
func bindPort(port uint16) (*net.UDPConn, error) {
	udp, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	switch {
	case errors.Is(err, errInUse):
		return nil, &portError{port: port, err: err}
	case err != nil:
		return nil, fmt.Errorf("link: %w", err)
	}
	return udp, nil
}

// grow asks for a buffer of size bytes, and for half as much while the system refuses:
// some refuse instead of granting what they have.
func grow(size int, set func(int) error) {
	for size >= 1<<16 && set(size) != nil {
		size /= 2
	}
}

// ListenGroup implements Grouper for groups of one.
func (s *System) ListenGroup(port uint16, n int) ([]Conn, error) {
	if n != 1 {
		return nil, fmt.Errorf("link: a group of %d sockets: %w", n, errors.ErrUnsupported)
	}
	c, err := s.Listen(port)
	if err != nil {
		return nil, err
	}
	return []Conn{c}, nil
}

// ListenBeacons binds Port. It fails if another program or node has it.
func (s *System) ListenBeacons() (Conn, error) {
	udp, err := bindPort(Port)
	if err != nil {
		return nil, fmt.Errorf("%w (beacons go unheard)", err)
	}
	sock, err := newSocket(udp)
	if err != nil {
		return nil, err
	}
	return newPlain(sock, ReadSize), nil
}

// kernelDrops is not known here.
func kernelDrops(syscall.RawConn) uint64 { return 0 }
