//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	ip "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay"
)

const (
	nic        = 1
	mtu        = 1452 // fits into a datagram of 1500 bytes, sealed
	outQueue   = 512  // packets
	countLocal = 9    // TCP port

	ip6Size = 40
	tcpAt   = 1 + wire.IP6Header // where TCP starts in IP6 and IP6P
	slotAt  = ip6Size - tcpAt    // where such a message starts in memory, so that its TCP is where a packet's is
	slotMax = 1 << 11

	ackOnly = 0xff &^ (0x01 | 0x08) // TCP flags without FIN and PSH
	cwr     = 0x80
)

// adapter is a node's adapter with gVisor's netstack behind it instead of the system: user space
// TCP over sealed packets. Super-packets leave netstack whole and are cut here; on the way in
// netstack's own GRO joins them. Checksums are never computed: packets travel as IP6P.
type adapter struct {
	self  anode.ULA
	link  *channel.Endpoint
	stack *stack.Stack
	ctx   context.Context // ends Read
	close context.CancelFunc

	out segments
	in  gro.GRO
	// slot is where the next message is opened into; nil: none.
	slot *buffer.View
}

var (
	_ overlay.Device = (*adapter)(nil)
	_ overlay.Queue  = (*adapter)(nil)
)

// newAdapter makes a netstack whose settings are those of tailscale's tsnet.
func newAdapter(self anode.ULA) (*adapter, error) {
	a := &adapter{self: self, link: channel.New(outQueue, mtu, "")}
	a.ctx, a.close = context.WithCancel(context.Background())
	a.link.LinkEPCapabilities = stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
	a.link.SupportedGSOKind = stack.HostGSOSupported
	a.in.Init(true)
	a.in.Dispatcher = deliverer{a.link}
	a.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := a.stack.CreateNIC(nic, a.link); err != nil {
		return nil, fmt.Errorf("netstack: %v", err)
	}
	sack, recovery, reno := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0), tcpip.CongestionControlOption("reno")
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcp.DefaultReceiveBufferSize, Max: 8 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcp.DefaultSendBufferSize, Max: 6 << 20}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &recovery, &reno, &receive, &send} {
		if err := a.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return nil, fmt.Errorf("netstack: %v", err)
		}
	}
	own := tcpip.ProtocolAddress{Protocol: ipv6.ProtocolNumber, AddressWithPrefix: tcpip.AddrFrom16(self).WithPrefix()}
	if err := a.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		return nil, fmt.Errorf("netstack: %v", err)
	}
	a.stack.SetRouteTable([]tcpip.Route{{Destination: ip.IPv6EmptySubnet, NIC: nic}})
	return a, nil
}

func (a *adapter) Name() string                   { return "netstack" }
func (a *adapter) MTU() int                       { return mtu }
func (a *adapter) NoRoute(anode.ULA, []byte)      {}
func (a *adapter) Prohibited(anode.ULA, []byte)   {}
func (a *adapter) TooBig(anode.ULA, []byte, int)  {}
func (a *adapter) Counters() map[string]uint64    { return nil }
func (a *adapter) Track(anode.ULA)                {}
func (a *adapter) Unasked(anode.ULA) bool         { return false }
func (a *adapter) Came(anode.ULA, []byte)         {}
func (a *adapter) Close() error                   { a.close(); return nil }
func (a *adapter) Shape() (count, size, last int) { return a.out.shape() }
func (a *adapter) Next() []byte                   { return a.out.next() }

// Read is Queue.Read.
func (a *adapter) Read(wait bool) (to anode.ULA, ok bool, err error) {
	for {
		p := a.link.Read()
		if p == nil && wait {
			if p = a.link.ReadContext(a.ctx); p == nil {
				return to, false, net.ErrClosed
			}
		}
		if p == nil {
			return to, false, nil
		}
		to, ok = a.out.load(p)
		p.DecRef()
		if ok {
			return to, true, nil
		}
	}
}

// Slot is Queue.Slot.
func (a *adapter) Slot(n int) []byte {
	if slotAt+n > slotMax {
		return make([]byte, n)
	}
	if a.slot == nil {
		a.slot = buffer.NewView(slotMax)
		a.slot.Grow(slotMax)
	}
	return a.slot.AsSlice()[slotAt : slotAt+n : slotMax]
}

// Put is Queue.Put.
func (a *adapter) Put(from anode.ULA, trusted bool, msg []byte) (refused bool) {
	if !trusted {
		return true
	}
	if len(msg) < tcpAt+ip.TCPMinimumSize || slotAt+len(msg) > slotMax || msg[0] != byte(wire.IP6P) || a.slot == nil {
		return false
	}
	v := a.slot
	a.slot = nil
	v.CapLength(slotAt + len(msg))
	b := v.AsSlice()
	word, next, hops := binary.BigEndian.Uint32(msg[1:]), msg[5], msg[6]
	binary.BigEndian.PutUint32(b, word)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ip6Size))
	b[6], b[7] = next, hops
	copy(b[8:], from[:])
	copy(b[24:], a.self[:])
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	p.NetworkProtocolNumber, p.RXChecksumValidated = ipv6.ProtocolNumber, true
	a.in.Enqueue(p)
	p.DecRef()
	return false
}

// Flush is Queue.Flush.
func (a *adapter) Flush() error {
	a.in.Flush()
	return nil
}

// deliverer passes packets to netstack.
type deliverer struct{ link *channel.Endpoint }

func (d deliverer) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, p *stack.PacketBuffer) {
	d.link.InjectInbound(protocol, p)
}

func (d deliverer) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// segments cuts a super-packet of netstack into messages, in place: each message is written over
// the end of the segment before, which is sealed by then.
type segments struct {
	buf  [1 << 16]byte
	n    int    // the packet's length
	head []byte // of the next message
	kept [tcpAt + 60]byte
	size int // payload of each but the last
	pos  int // where the next payload starts
	left int // messages
}

func (s *segments) load(p *stack.PacketBuffer) (to anode.ULA, ok bool) {
	s.n, s.left = 0, 0
	for _, part := range p.AsSlices() {
		s.n += copy(s.buf[s.n:], part)
	}
	b := s.buf[:s.n]
	if s.n < ip6Size+ip.TCPMinimumSize || b[6] != uint8(tcp.ProtocolNumber) {
		return to, false
	}
	header := int(b[ip6Size+12]>>4) * 4
	s.kept[0] = byte(wire.IP6P)
	copy(s.kept[1:5], b)
	s.kept[5], s.kept[6] = b[6], b[7]
	s.head = s.kept[:tcpAt+copy(s.kept[tcpAt:], b[ip6Size:ip6Size+header])]
	clear(s.head[tcpAt+16:][:2])
	s.pos = ip6Size + header
	s.size, s.left = s.n-s.pos, 1
	if size := int(p.GSOOptions.MSS); p.GSOOptions.Type == stack.GSOTCPv6 && size < s.size {
		s.left = (s.size + size - 1) / size
		s.size = size
	}
	return anode.ULA(b[24:40]), true
}

func (s *segments) shape() (count, size, last int) {
	return s.left, len(s.head) + s.size, len(s.head) + s.n - s.pos - (s.left-1)*s.size
}

func (s *segments) next() []byte {
	if s.left == 0 {
		return nil
	}
	start, end := s.pos-len(s.head), min(s.pos+s.size, s.n)
	m := s.buf[start:end:end]
	copy(m, s.head)
	if s.left > 1 {
		m[tcpAt+13] &= ackOnly
	}
	s.head[tcpAt+13] &^= cwr
	seq := s.head[tcpAt+4:]
	binary.BigEndian.PutUint32(seq, binary.BigEndian.Uint32(seq)+uint32(s.size))
	s.pos = end
	s.left--
	return m
}

// behind runs a node with a netstack while f works.
func (j *job) behind(ctx context.Context, port uint16, f func(context.Context, *adapter) error) error {
	c, err := configure(j.arg(0), j.arg(1), j.arg(2))
	if err != nil {
		return err
	}
	a, err := newAdapter(c.Identity.Address().ULA())
	if err != nil {
		return err
	}
	c.Device, c.Queues, c.Port = a, []overlay.Queue{a}, port
	return with(ctx, c, func(ctx context.Context, _ *overlay.Node) error { return f(ctx, a) })
}

func serveNetstack(ctx context.Context, j job) error {
	return j.behind(ctx, netstackPort, func(ctx context.Context, a *adapter) error {
		l, err := gonet.ListenTCP(a.stack, tcpip.FullAddress{NIC: nic, Port: countLocal}, ipv6.ProtocolNumber)
		if err != nil {
			return err
		}
		return take(ctx, l)
	})
}

func sendNetstack(ctx context.Context, j job) error {
	peer, err := anode.ParseAddress(j.arg(1))
	if err != nil {
		return err
	}
	return j.behind(ctx, 0, func(ctx context.Context, a *adapter) error {
		to := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom16(peer.ULA()), Port: countLocal}
		c, err := gonet.DialContextTCP(ctx, a.stack, to, ipv6.ProtocolNumber)
		if err != nil {
			return err
		}
		defer c.Close()
		return j.send(c)
	})
}
