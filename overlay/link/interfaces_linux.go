package link

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Interfaces implements Network. What is a tunnel or a member of a bridge, the
// kernel's link table tells.
func (s *System) Interfaces() ([]Interface, error) {
	b, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	kinds, err := parseLinks(b)
	if err != nil {
		return nil, fmt.Errorf("link: interfaces: %w", err)
	}
	return s.interfaces(func(i net.Interface) bool {
		k, ok := kinds[i.Index]
		return ok && k.lan()
	})
}

// kind is what sort of thing an interface is.
type kind struct {
	hardware uint16 // ARPHRD_*
	driver   string // of virtual ones: "veth", "bridge", "tun", "vxlan"
	member   string // the driver of what it is a member of: "bridge", "bond", "vrf"
}

// lan tells whether neighbours of our own kind can be behind it.
func (k kind) lan() bool {
	if k.hardware != unix.ARPHRD_ETHER {
		return false
	}
	switch k.driver {
	case "tun", "vxlan", "geneve", "gretap", "ip6gretap", "erspan", "ip6erspan", "wireguard", "dummy", "ifb", "nlmon":
		return false
	}
	return k.member == "" || k.member == "vrf" // else the bridge itself is the interface
}

// parseLinks reads the messages of a dump of all links, by index.
func parseLinks(b []byte) (map[int]kind, error) {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, err
	}
	kinds := make(map[int]kind)
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		// struct ifinfomsg: family[1] pad[1] type[2] index[4] flags[4] change[4]
		k := kind{hardware: binary.NativeEndian.Uint16(m.Data[2:])}
		eachAttr(m.Data[unix.SizeofIfInfomsg:], func(attr uint16, value []byte) {
			if attr != unix.IFLA_LINKINFO {
				return
			}
			eachAttr(value, func(attr uint16, value []byte) {
				name := string(bytes.TrimRight(value, "\x00"))
				switch attr {
				case unix.IFLA_INFO_KIND:
					k.driver = name
				case unix.IFLA_INFO_SLAVE_KIND:
					k.member = name
				}
			})
		})
		kinds[int(int32(binary.NativeEndian.Uint32(m.Data[4:])))] = k
	}
	return kinds, nil
}

// eachAttr calls f for each attribute, length[2] type[2] value, padded to 4 bytes, and
// stops at one that is cut off.
func eachAttr(b []byte, f func(attr uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(len(b), (n+3)&^3):]
	}
}
