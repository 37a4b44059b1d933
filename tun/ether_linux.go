package tun

import (
	"encoding/binary"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An interface of TUN is point-to-point, and some programs that look for others on the local
// network pass such interfaces over, or those that do not say that they can broadcast: Avahi,
// OpenTTD. One of TAP is like Ethernet. Both ends of it are this machine: nobody is asked for
// addresses of hardware (the interface has NOARP), and the header says nothing.

const etherSize = 14 // destination[6] source[6] type[2]

// newEtherHeader makes the header of frames that we write. It goes to the interface's own
// address, since the kernel takes other ones for somebody else's.
func newEtherHeader(conn syscall.RawConn) ([]byte, error) {
	var request struct { // ifreq of netdevice(7)
		name   [unix.IFNAMSIZ]byte
		family uint16
		mac    [6]byte
		_      [32]byte
	}
	var errno syscall.Errno
	if err := conn.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&request)))
	}); err != nil {
		return nil, err
	}
	if errno != 0 {
		return nil, os.NewSyscallError("SIOCGIFHWADDR", errno)
	}
	header := make([]byte, etherSize)
	copy(header, request.mac[:])
	copy(header[6:], request.mac[:])
	header[6+5] ^= 1 // from a neighbour
	return header, nil
}

// setEtherType says in an Ethernet header what the packet is.
func setEtherType(header, packet []byte) {
	typ := uint16(unix.ETH_P_IPV6)
	if packet[0]>>4 == 4 {
		typ = unix.ETH_P_IP
	}
	be.PutUint16(header[12:], typ)
}

// moveVnet adds n to the places in a frame that its virtio-net header names.
func moveVnet(frame []byte, n int) {
	if frame[0]&vnetNeedsChecksum == 0 {
		return
	}
	for _, field := range [][]byte{frame[2:4], frame[6:8]} { // the headers' length, the checksum's start
		binary.NativeEndian.PutUint16(field, uint16(int(binary.NativeEndian.Uint16(field))+n))
	}
}
