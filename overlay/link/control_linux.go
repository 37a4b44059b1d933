package link

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Control data is a row of messages (cmsg(3)), each padded to a whole word:
//
//	length[word] level[4] type[4] data
//
//	IPPROTO_IP   IP_PKTINFO    interface[4] local address[4] destination[4]
//	IPPROTO_IPV6 IPV6_PKTINFO  local address[16] interface[4]
//	SOL_UDP      UDP_GRO       packet size[4], as an int        (received)
//	SOL_UDP      UDP_SEGMENT   packet size[2]                   (to be sent)
//
// All numbers are in the machine's byte order.
const (
	wordSize   = unix.SizeofCmsghdr - 8
	headerSize = unix.SizeofCmsghdr

	// controlSize holds all three that can come with one packet.
	controlSize = 128
)

// parseControl reads the control data of a received message into e.Local and e.If,
// and returns the size of the train's packets, or 0 if it is one packet. ok is
// false if the data is malformed.
//
// Local is an address of ours also for a packet that came by broadcast, and
// invalid for one that came by multicast.
func parseControl(b []byte, e *Endpoint) (size int, ok bool) {
	order := binary.NativeEndian
	for len(b) >= headerSize {
		n := uint64(order.Uint32(b))
		if wordSize == 8 {
			n = order.Uint64(b)
		}
		if n < headerSize || n > uint64(len(b)) {
			return 0, false
		}
		level, kind, data := int32(order.Uint32(b[wordSize:])), int32(order.Uint32(b[wordSize+4:])), b[headerSize:n]
		switch {
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO:
			if len(data) < unix.SizeofInet4Pktinfo {
				return 0, false
			}
			e.If = int(order.Uint32(data))
			e.Local = netip.AddrFrom4([4]byte(data[4:8]))
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO:
			if len(data) < unix.SizeofInet6Pktinfo {
				return 0, false
			}
			a := netip.AddrFrom16([16]byte(data[:16]))
			if a.Is4In6() { // IP_PKTINFO comes too, and says more
				break
			}
			e.If = int(order.Uint32(data[16:]))
			if !a.IsMulticast() {
				e.Local = a
			}
		case level == unix.SOL_UDP && kind == unix.UDP_GRO:
			if len(data) < 4 {
				return 0, false
			}
			if size = int(int32(order.Uint32(data))); size <= 0 {
				return 0, false
			}
		}
		b = b[min(uint64(len(b)), (n+wordSize-1)&^(wordSize-1)):]
	}
	return size, true
}

// appendPktinfo appends what makes the kernel send from e.Local and by e.If,
// nothing if neither is set.
func appendPktinfo(b []byte, e Endpoint) []byte {
	if !e.Local.IsValid() && e.If == 0 {
		return b
	}
	order := binary.NativeEndian
	if e.Addr.Addr().Is4() || e.Addr.Addr().Is4In6() {
		var local [4]byte
		if a := e.Local.Unmap(); a.Is4() {
			local = a.As4()
		}
		b = appendHeader(b, unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		b = order.AppendUint32(b, uint32(e.If))
		b = append(b, local[:]...)
		return pad(append(b, 0, 0, 0, 0))
	}
	var local [16]byte
	if e.Local.Is6() {
		local = e.Local.As16()
	}
	b = appendHeader(b, unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
	b = append(b, local[:]...)
	return pad(order.AppendUint32(b, uint32(e.If)))
}

// appendSegment appends what makes the kernel cut a message into packets of size.
func appendSegment(b []byte, size int) []byte {
	b = appendHeader(b, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
	return pad(binary.NativeEndian.AppendUint16(b, uint16(size)))
}

func appendHeader(b []byte, level, kind, n int) []byte {
	order := binary.NativeEndian
	if wordSize == 8 {
		b = order.AppendUint64(b, uint64(headerSize+n))
	} else {
		b = order.AppendUint32(b, uint32(headerSize+n))
	}
	b = order.AppendUint32(b, uint32(level))
	return order.AppendUint32(b, uint32(kind))
}

func pad(b []byte) []byte {
	for len(b)%wordSize != 0 {
		b = append(b, 0)
	}
	return b
}

// zoned is e's address: If goes into the control data.
func zoned(e Endpoint) netip.AddrPort { return e.Addr }

// zones has nothing to do, since If comes from the control data.
type zones struct{}

func (*zones) index(string) int { return 0 }

// sockaddr is a struct sockaddr_in6, or in its first 16 bytes a sockaddr_in:
//
//	family[2] port[2] flow[4] address[16] scope[4]
//	family[2] port[2] address[4] zeros[8]
type sockaddr [unix.SizeofSockaddrInet6]byte

// put writes e's address for a socket of IPv4 alone, or of both. It returns the length.
func (s *sockaddr) put(e *Endpoint, four bool) uint32 {
	*s = sockaddr{}
	a := e.Addr.Addr()
	binary.BigEndian.PutUint16(s[2:], e.Addr.Port())
	if four {
		binary.NativeEndian.PutUint16(s[0:], unix.AF_INET)
		ip := a.Unmap().As4()
		copy(s[4:], ip[:])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[0:], unix.AF_INET6)
	ip := a.As16()
	copy(s[8:], ip[:])
	if e.If != 0 && e.scoped() {
		binary.NativeEndian.PutUint32(s[24:], uint32(e.If))
	}
	return unix.SizeofSockaddrInet6
}

// addr reads what recvmmsg wrote.
func (s *sockaddr) addr(n uint32) (a netip.AddrPort, ok bool) {
	port := binary.BigEndian.Uint16(s[2:])
	switch family := binary.NativeEndian.Uint16(s[0:]); {
	case family == unix.AF_INET6 && n >= unix.SizeofSockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[8:24])).Unmap(), port), true
	case family == unix.AF_INET && n >= unix.SizeofSockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port), true
	}
	return netip.AddrPort{}, false
}
