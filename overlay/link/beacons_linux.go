package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// beaconSize is the largest packet that the sockets for beacons take.
const beaconSize = 2048

// ListenBeacons opens sockets on Port that receive only broadcasts and multicasts, so
// that the port's owner keeps receiving unicasts. Each is bound to one address:
// 255.255.255.255, the directed broadcast addresses that the host has at this moment, and
// ff02::1 (on all interfaces, for which it takes CAP_NET_RAW). A socket that fails is
// left out; it is an error if all fail. The Conn cannot write.
func (s *System) ListenBeacons() (Conn, error) {
	list, err := s.interfaces()
	if err != nil {
		return nil, err
	}
	to := []netip.Addr{netip.AddrFrom4([4]byte{255, 255, 255, 255}), netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 1})}
	for _, i := range list {
		to = append(to, i.Broadcast...)
	}
	b := &beacons{in: make(chan Train), done: make(chan struct{})}
	var errs []error
	seen := make(map[netip.Addr]bool)
	for _, a := range to {
		if seen[a] {
			continue
		}
		seen[a] = true
		p, err := bindBeacon(a)
		if err != nil {
			level := slog.LevelDebug
			if errors.Is(err, errInUse) {
				level, err = slog.LevelWarn, errPortTaken(Port, err)
			}
			s.log().Log(context.Background(), level, "no beacons", "to", a, "err", err)
			errs = append(errs, fmt.Errorf("%s: %w", a, err))
			continue
		}
		b.conns = append(b.conns, p)
	}
	if len(b.conns) == 0 {
		return nil, fmt.Errorf("link: beacons on port %d: %w", Port, errors.Join(errs...))
	}
	for _, p := range b.conns {
		b.loops.Go(func() { b.run(p) })
	}
	return b, nil
}

// bindBeacon opens a socket bound to a broadcast or multicast address.
func bindBeacon(a netip.Addr) (*plain, error) {
	udp, err := bind(netip.AddrPortFrom(a, Port), loopback, func(fd int) error {
		level, option := unix.IPPROTO_IP, unix.IP_PKTINFO
		if a.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
		}
		return os.NewSyscallError("setsockopt", errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
			unix.SetsockoptInt(fd, level, option, 1)))
	})
	if err != nil {
		return nil, err
	}
	sock, err := newSocket(udp)
	if err != nil {
		return nil, err
	}
	if a.Is6() {
		// A link-local multicast address must be bound on one interface at first.
		ctlErr := sock.raw.Control(func(fd uintptr) { err = os.NewSyscallError("SO_BINDTODEVICE", unix.BindToDevice(int(fd), "")) })
		if err = errors.Join(ctlErr, err); err != nil {
			sock.Close()
			return nil, err
		}
	}
	return newPlain(sock, beaconSize), nil
}

// loopback is the index of the loopback interface, the first of each network namespace.
const loopback = 1

// beacons is a Conn over several sockets that are only read.
type beacons struct {
	conns []*plain
	in    chan Train
	once  sync.Once
	done  chan struct{}
	loops sync.WaitGroup
}

// run passes on what one socket reads, until Close.
func (b *beacons) run(p *plain) {
	var ts [1]Train
	for {
		if _, err := p.Read(ts[:]); err != nil {
			return
		}
		t := ts[0]
		t.Buf = bytes.Clone(t.Buf) // the one that reads may still have the last one
		select {
		case b.in <- t:
		case <-b.done:
			return
		}
	}
}

// Read implements Conn.
func (b *beacons) Read(ts []Train) (int, error) {
	if len(ts) == 0 {
		return 0, nil
	}
	select {
	case ts[0] = <-b.in:
		return 1, nil
	case <-b.done:
		return 0, ErrClosed
	}
}

// NewWriter implements Conn; the writer refuses everything.
func (b *beacons) NewWriter() Writer { return noWriter{} }

// LocalPort implements Conn.
func (b *beacons) LocalPort() uint16 { return Port }

// Rung implements Conn.
func (b *beacons) Rung() string { return RungPlain }

// Counters implements Conn: the sums of all sockets.
func (b *beacons) Counters() map[string]uint64 {
	sum := make(map[string]uint64)
	for _, p := range b.conns {
		for name, n := range p.Counters() {
			sum[name] += n
		}
	}
	return sum
}

// Close implements Conn. It may be called more than once.
func (b *beacons) Close() error {
	var err error
	b.once.Do(func() {
		close(b.done)
		for _, p := range b.conns {
			err = errors.Join(err, p.Close())
		}
		b.loops.Wait()
	})
	return err
}

// noWriter refuses every train.
type noWriter struct{}

// Write implements Writer.
func (noWriter) Write(ts []Train) (int, error) {
	if len(ts) == 0 {
		return 0, nil
	}
	return 0, ErrEndpoint
}
