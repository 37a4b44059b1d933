package gateway

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	ip "gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"anodenet/anode"
)

const (
	nic = 1

	leastBuffer = 4 << 10
	firstBuffer = 64 << 10 // before it grows

	// superSize is the most bytes of a super-packet, headers included.
	superSize = 61000

	// timeWait is short: no packet is on its way for long between netstack and the system.
	timeWait = 2 * time.Second
	// silence is when netstack asks the system whether a connection still exists.
	silence = 2 * time.Hour
	// retries of a SYN, which is not lost between netstack and the system.
	retries = 2
)

// endpoint is netstack's end of a connection.
type endpoint struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// netstack is a stack with one interface, which takes packets to all peers and sends in the
// name of all peers.
type netstack struct {
	stack *stack.Stack
	link  *wireLink
	self  tcpip.Address
}

func newNetstack(g *Gateway, share int) (*netstack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC},
	})
	n := &netstack{stack: s, link: &wireLink{g: g}, self: tcpip.AddrFrom16(g.cfg.Self)}
	if err := n.configure(share); err != nil {
		s.Destroy()
		return nil, err
	}
	f := tcp.NewForwarder(s, firstBuffer, maxPending, g.forwarded)
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, f.HandlePacket)
	return n, nil
}

func (n *netstack) configure(share int) error {
	s := n.stack
	if err := s.CreateNIC(nic, n.link); err != nil {
		return fmt.Errorf("netstack: %v", err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: ip.IPv6EmptySubnet, NIC: nic}})
	sack, moderate, recovery, wait := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPRecovery(0), tcpip.TCPTimeWaitTimeoutOption(timeWait)
	syns := tcpip.TCPSynRetriesOption(retries)
	for _, err := range []tcpip.Error{
		s.SetPromiscuousMode(nic, true),
		s.SetSpoofing(nic, true),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &wait),
		s.SetTransportProtocolOption(tcp.ProtocolNumber, &syns),
	} {
		if err != nil {
			return fmt.Errorf("netstack: %v", err)
		}
	}
	n.limit(share)
	return nil
}

// limit sets how far buffers may grow.
func (n *netstack) limit(share int) {
	first := min(firstBuffer, share)
	n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPReceiveBufferSizeRangeOption{Min: leastBuffer, Default: first, Max: share})
	n.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &tcpip.TCPSendBufferSizeRangeOption{Min: leastBuffer, Default: first, Max: share})
}

// shrink makes the buffers of a connection that are larger than its share as small as that.
func shrink(ep tcpip.Endpoint, share int) {
	o := ep.SocketOptions()
	if o.GetReceiveBufferSize() > int64(share) {
		o.SetReceiveBufferSize(int64(share), false)
	}
	if o.GetSendBufferSize() > int64(share) {
		o.SetSendBufferSize(int64(share), false)
	}
}

// inject takes a packet from the system.
func (n *netstack) inject(packet []byte) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	p.RXChecksumValidated = true
	n.link.deliver(p)
	p.DecRef()
}

// forget ends what is left of an earlier connection with the same ports.
func (n *netstack) forget(f flow) {
	if ep := n.endpoint(f); ep != nil {
		ep.Abort()
	}
}

// endpoint returns the endpoint of a connection; nil: there is none.
func (n *netstack) endpoint(f flow) stack.TransportEndpoint {
	id := stack.TransportEndpointID{LocalPort: f.port, LocalAddress: tcpip.AddrFrom16(f.peer), RemotePort: f.near, RemoteAddress: n.self}
	return n.stack.FindTransportEndpoint(ipv6.ProtocolNumber, tcp.ProtocolNumber, id, nic)
}

// reject ends a connection that is being opened, and reports whether there is one. netstack
// itself understands only two of the codes by which a system can reject it.
func (n *netstack) reject(f flow) bool {
	ep := n.endpoint(f)
	e, ok := ep.(tcpip.Endpoint)
	if !ok {
		return false
	}
	switch tcp.EndpointState(e.State()) {
	case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
	default:
		return false
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	p.NetworkProtocolNumber = ipv6.ProtocolNumber
	ep.HandleError(rejection{}, p)
	p.DecRef()
	return true
}

// rejection is an ICMPv6 error as netstack takes one.
type rejection struct{}

func (rejection) Origin() tcpip.SockErrOrigin { return tcpip.SockExtErrorOriginICMP6 }
func (rejection) Type() uint8                 { return icmpUnreachable }
func (rejection) Code() uint8                 { return uint8(ip.ICMPv6PortUnreachable) }
func (rejection) Info() uint32                { return 0 }
func (rejection) Kind() stack.TransportErrorKind {
	return stack.DestinationPortUnreachableTransportError
}

// wireLink is netstack's only interface.
type wireLink struct {
	g *Gateway

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher

	parts [][]byte // of the packet that is put; under Gateway.putting
}

func (l *wireLink) deliver(p *stack.PacketBuffer) {
	l.mu.RLock()
	d := l.dispatcher
	l.mu.RUnlock()
	if d != nil {
		d.DeliverNetworkPacket(ipv6.ProtocolNumber, p)
	}
}

// WritePackets passes packets to the system.
func (l *wireLink) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	l.g.putting.Lock()
	defer l.g.putting.Unlock()
	for _, p := range list.AsSlice() {
		if p.TransportProtocolNumber == tcp.ProtocolNumber && p.NetworkProtocolNumber == ipv6.ProtocolNumber {
			l.put(p)
		} else {
			l.g.count.add(foreign)
		}
	}
	return list.Len(), nil
}

func (l *wireLink) put(p *stack.PacketBuffer) {
	views, skip := p.AsViewList()
	l.parts = l.parts[:0]
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		k := min(skip, len(b))
		skip -= k
		if b = b[k:]; len(b) > 0 {
			l.parts = append(l.parts, b)
		}
	}
	size := 0
	if p.GSOOptions.Type == stack.GSOTCPv6 && p.Data().Size() > int(p.GSOOptions.MSS) {
		size = int(p.GSOOptions.MSS)
	}
	l.g.cfg.Put(anode.ULA(p.Network().SourceAddress().As16()), size, l.parts...)
	clear(l.parts)
}

// Attach takes who is to get the system's packets.
func (l *wireLink) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached reports whether somebody takes the system's packets.
func (l *wireLink) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.dispatcher != nil
}

// Capabilities leaves checksums to the adapter: packets stay on this machine.
func (l *wireLink) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityTXChecksumOffload
}

// GSOMaxSize returns the most bytes of a super-packet.
func (l *wireLink) GSOMaxSize() uint32 { return superSize }

// SupportedGSO says who cuts super-packets.
func (l *wireLink) SupportedGSO() stack.SupportedGSO {
	if l.g.cfg.Super {
		return stack.HostGSOSupported
	}
	return stack.GVisorGSOSupported
}

// MTU returns the adapter's.
func (l *wireLink) MTU() uint32 { return uint32(l.g.cfg.MTU) }

// What follows has no meaning on an interface without frames.

func (l *wireLink) SetMTU(uint32)                        {}
func (l *wireLink) MaxHeaderLength() uint16              { return 0 }
func (l *wireLink) LinkAddress() tcpip.LinkAddress       { return "" }
func (l *wireLink) SetLinkAddress(tcpip.LinkAddress)     {}
func (l *wireLink) Wait()                                {}
func (l *wireLink) ARPHardwareType() ip.ARPHardwareType  { return ip.ARPHardwareNone }
func (l *wireLink) AddHeader(*stack.PacketBuffer)        {}
func (l *wireLink) ParseHeader(*stack.PacketBuffer) bool { return true }
func (l *wireLink) Close()                               {}
func (l *wireLink) SetOnCloseAction(func())              {}
