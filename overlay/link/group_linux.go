package link

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where steering looks in a packet (anode/wire, "Sealed packets"): hop[1] flags[1] index[2].
const (
	flagsAt    = 1
	flagSealed = 0x08
	indexAt    = 3 // the low byte
)

// ListenGroup implements Grouper by SO_REUSEPORT. With one socket closed, the kernel
// numbers the others anew. If another user of this machine has the port, the group gets
// one of the system's choice: nobody else may keep a node from starting.
func (s *System) ListenGroup(port uint16, n int) ([]Conn, error) {
	group, err := s.listenGroup(port, n)
	var taken *portError
	if !errors.As(err, &taken) || !taken.another {
		return group, err
	}
	group, err = s.listenGroup(0, n)
	if err == nil {
		s.log().Warn("another port is used instead; peers that know only the usual one cannot find this node", "port", group[0].LocalPort(), "err", taken)
	}
	return group, err
}

func (s *System) listenGroup(port uint16, n int) ([]Conn, error) {
	if n < 1 || n > 256 {
		return nil, fmt.Errorf("link: a group of %d sockets: want 1 to 256", n)
	}
	// Beacons of other nodes of this user come to the same port.
	share := port == Port || n > 1
	if share && port != 0 {
		if err := s.checkSole(port); err != nil {
			return nil, err
		}
	}
	group, err := s.openAll(port, n, share)
	if err == nil && share { // another node may have started at the same time
		err = s.checkSole(group[0].LocalPort(), group...)
	}
	conns := make([]Conn, len(group))
	for i, c := range group {
		conns[i] = c
	}
	if err != nil {
		for _, c := range conns {
			c.Close()
		}
		return nil, err
	}
	return conns, nil
}

// openAll opens the sockets of a group. The first one steers. After an error, those that were
// opened are returned too.
func (s *System) openAll(port uint16, n int, share bool) (group []prober, err error) {
	rung := s.climb()
	for range n {
		c, err := s.listenAs(port, rung, share)
		if err != nil {
			return group, err
		}
		if group = append(group, c); len(group) == 1 && n > 1 {
			port = c.LocalPort()
			if err := attach(c.sock().raw, unix.SO_ATTACH_REUSEPORT_CBPF, steer(n)); err != nil {
				return group, err
			}
		}
	}
	return group, nil
}

// steer chooses the socket for a packet, whose payload begins at 0.
func steer(n int) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: flagsAt, Size: 1}, // too short: the program ends with 0
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: flagSealed, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: indexAt, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(n)},
		bpf.RetA{},
	}
}

// attach gives the kernel a classic BPF program for the socket.
func attach(raw syscall.RawConn, option int, program []bpf.Instruction) error {
	code, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("link: steering: %w", err)
	}
	filter := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filter[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	ctlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, option, &prog)
	})
	if ctlErr != nil {
		return ctlErr
	}
	return os.NewSyscallError("steering", err)
}
