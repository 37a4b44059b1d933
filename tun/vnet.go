package tun

import "encoding/binary"

// vnetSize is the length of a frame's virtio-net header, in the machine's byte order:
//
//	flags[1] type[1] header length[2] segment size[2] checksum start[2] checksum offset[2]
//
// It is all zero for a packet that is complete. The checksum, where it is left to the
// receiver of the frame, covers everything from its start on, and its field holds the
// sum of the pseudo-header.
const vnetSize = 10

const (
	vnetNeedsChecksum = 1 // flags: VIRTIO_NET_HDR_F_NEEDS_CSUM

	vnetNone = 0    // types: VIRTIO_NET_HDR_GSO_NONE
	vnetTCP4 = 1    // VIRTIO_NET_HDR_GSO_TCPV4
	vnetTCP6 = 4    // VIRTIO_NET_HDR_GSO_TCPV6
	vnetUDP  = 5    // VIRTIO_NET_HDR_GSO_UDP_L4
	vnetECN  = 0x80 // VIRTIO_NET_HDR_GSO_ECN: CWR on the first segment only
)

// vnetHeader is that header without the length of all headers, which is only a hint.
type vnetHeader struct {
	flags, kind byte
	size        int // of each segment's payload but the last
	start, at   int // where the checksum starts, and its field's offset from there
}

func parseVnet(b []byte) vnetHeader {
	_ = b[:vnetSize]
	return vnetHeader{
		flags: b[0], kind: b[1],
		size:  int(binary.NativeEndian.Uint16(b[4:])),
		start: int(binary.NativeEndian.Uint16(b[6:])),
		at:    int(binary.NativeEndian.Uint16(b[8:])),
	}
}

// put writes the header; headers is the length of all headers of the packet.
func (h vnetHeader) put(b []byte, headers int) {
	_ = b[:vnetSize]
	b[0], b[1] = h.flags, h.kind
	binary.NativeEndian.PutUint16(b[2:], uint16(headers))
	binary.NativeEndian.PutUint16(b[4:], uint16(h.size))
	binary.NativeEndian.PutUint16(b[6:], uint16(h.start))
	binary.NativeEndian.PutUint16(b[8:], uint16(h.at))
}
