package main_test

import (
	"net"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// odometer counts the UDP packets that a host sends by an interface.
type odometer struct {
	fd    int
	total int
}

// odometer starts to count. The kernel cuts trains of packets from then on before they reach
// the interface, so each of their packets counts.
func (h *host) odometer(dev string) *odometer {
	h.t.Helper()
	h.ip("link set " + dev + " gso_max_segs 1")
	fd, err := in(h, func() (int, error) { return countingSocket(dev) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { unix.Close(fd) })
	return &odometer{fd: fd}
}

// countingSocket opens a socket that takes no packets, but has the kernel count those that
// it would.
func countingSocket(name string) (int, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return 0, err
	}
	const ether, v4, v6 = 12, 14 + 9, 14 + 6 // where the type is, and the protocol in either header
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_OUTGOING, SkipTrue: 7},
		bpf.LoadAbsolute{Off: ether, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6, SkipTrue: 2},
		bpf.LoadAbsolute{Off: v4, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 2, SkipFalse: 3},
		bpf.LoadAbsolute{Off: v6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		bpf.RetConstant{Val: 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return 0, err
	}
	var program []unix.SockFilter
	for _, i := range filter {
		program = append(program, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	all := uint16(unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8)
	for _, set := range []func() error{
		func() error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
				&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		},
		func() error { return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: dev.Index}) },
	} {
		if err := set(); err != nil {
			unix.Close(fd)
			return 0, err
		}
	}
	return fd, nil
}

// read returns how many were sent.
func (o *odometer) read() (int, error) {
	// Those that the socket's buffer has no room for count as well. Each reading starts anew.
	s, err := unix.GetsockoptTpacketStats(o.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, err
	}
	o.total += int(s.Packets)
	return o.total, nil
}
