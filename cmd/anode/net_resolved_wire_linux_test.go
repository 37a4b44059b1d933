package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// nameWatch hears every packet that passes any link of a machine except lo, also links that come later: an
// adapter's first packet is heard. The kernel keeps the packets until they are asked for.
type nameWatch struct {
	h     *host
	fd    int
	links map[int]string // of the cables; what else there is is the adapter
	ours  []string       // domains, as they are in DNS messages
	seen  []spotted
}

// spotted is a packet of which names are looked up, or that mentions one of ours.
type spotted struct {
	link     string
	out      bool
	from, to netip.AddrPort
	question string // "www.example.com. AAAA"; "": it is not one of DNS
	ours     bool   // the packet holds one of our domains
}

func (p spotted) String() string {
	way := "in"
	if p.out {
		way = "out"
	}
	return fmt.Sprintf("%s %s: %v -> %v %q", p.link, way, p.from, p.to, p.question)
}

// namePorts are those of DNS, our own server's other port, mDNS and LLMNR.
func namePorts() []uint16 { return []uint16{53, 8753, 5353, 5355} }

// adapterLink is what spotted says of all links but the cables.
const adapterLink = "adapter"

// listenAll hears until the test ends. domains are ours.
func (h *host) listenAll(domains ...string) *nameWatch {
	h.t.Helper()
	w := &nameWatch{h: h, links: make(map[int]string)}
	for _, d := range domains {
		name := dnsmessage.MustNewName(d + ".")
		b, err := (&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name}}}).Pack()
		if err != nil {
			h.t.Fatal(err)
		}
		w.ours = append(w.ours, string(b[12:len(b)-4])) // without header, type and class, but with the root
	}
	_, err := in(h, func() (struct{}, error) { return struct{}{}, w.open() })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// open runs on the host's thread, whose network it hears.
func (w *nameWatch) open() error {
	list, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range list {
		if strings.HasPrefix(i.Name, "eth") {
			w.links[i.Index] = i.Name
		}
	}
	const loopback = 1 // in every namespace
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: loopback, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 17},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	var program []unix.SockFilter
	for _, f := range filter {
		program = append(program, unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	// Without a protocol nothing comes until it is bound, so that nothing is missed by the filter.
	w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
		return err
	}
	if err := unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return err
	}
	all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all})
}

// heard returns what was heard until now, from a mark on.
func (w *nameWatch) heard(mark int) []spotted {
	w.h.t.Helper()
	buf := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(w.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			return w.seen[mark:]
		}
		at, ok := from.(*unix.SockaddrLinklayer)
		if err != nil && !errors.Is(err, unix.ENETDOWN) || err == nil && !ok { // an adapter that goes is an error of the socket
			w.h.t.Fatal(err)
		}
		if err == nil {
			w.note(buf[:n], at)
		}
	}
}

// note keeps a packet if it is about names.
func (w *nameWatch) note(packet []byte, at *unix.SockaddrLinklayer) {
	p := parseSpotted(packet)
	p.ours = slices.ContainsFunc(w.ours, func(d string) bool { return bytes.Contains(bytes.ToLower(packet), []byte(d)) })
	p.link, p.out = adapterLink, at.Pkttype == unix.PACKET_OUTGOING
	if name, ok := w.links[at.Ifindex]; ok {
		p.link = name
	}
	if p.ours || slices.Contains(namePorts(), p.from.Port()) || slices.Contains(namePorts(), p.to.Port()) {
		w.seen = append(w.seen, p)
	}
}

// parseSpotted reads a packet of IP without extension headers. The name in a message by TCP is not read.
func parseSpotted(b []byte) (p spotted) {
	var protocol byte
	var from, to netip.Addr
	switch {
	case len(b) >= 40 && b[0]>>4 == 6:
		protocol, from, to = b[6], netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		b = b[40:]
	case len(b) >= 20 && b[0]>>4 == 4 && len(b) >= int(b[0]&15)*4:
		protocol, from, to = b[9], netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		b = b[b[0]&15*4:]
	}
	if protocol != unix.IPPROTO_UDP && protocol != unix.IPPROTO_TCP || len(b) < 8 {
		return p
	}
	p.from = netip.AddrPortFrom(from, binary.BigEndian.Uint16(b))
	p.to = netip.AddrPortFrom(to, binary.BigEndian.Uint16(b[2:]))
	var m dnsmessage.Message
	if protocol == unix.IPPROTO_UDP && m.Unpack(b[8:]) == nil && len(m.Questions) > 0 {
		p.question = fmt.Sprint(m.Questions[0].Name, " ", strings.TrimPrefix(m.Questions[0].Type.String(), "Type"))
	}
	return p
}

// lost returns how many packets the kernel could not keep for us.
func (w *nameWatch) lost() uint32 {
	w.h.t.Helper()
	s, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		w.h.t.Fatal(err)
	}
	return s.Drops
}
