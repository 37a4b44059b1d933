package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"net"

	"anodenet/anode"
	"anodenet/anode/stream"
	"anodenet/anode/wire"
	"anodenet/overlay/peer"
)

// Gateway joins TCP of the adapter to streams, for peers that speak only streams since they
// have no adapter. Between nodes with adapters TCP travels as packets.
type Gateway interface {
	// Outbound takes an IPv6 packet with TCP that the adapter sends to a peer that speaks only
	// streams, a super-packet if the Queue has TCP; its checksum does not matter. Or the packet
	// has an ICMPv6 error about TCP, by which the system rejects what came from such a peer. It
	// copies what it needs, and never waits. Several goroutines call it.
	Outbound(packet []byte)
	// Inbound is asked about a stream that a peer, which speaks only streams and is let in,
	// opens to a port where the node itself has no listener. It returns who takes the stream,
	// or an error: the peer is told that nothing listens there. It may wait for the answer of
	// a service until ctx ends. Several goroutines call it.
	Inbound(ctx context.Context, peer anode.ULA, port uint16) (Taken, error)
}

// Taken takes a stream that Gateway.Inbound let in, once; nil: the stream did not open after
// all. It must not wait. The stream has CloseWrite.
type Taken func(net.Conn)

// junction puts a Gateway between streams and the adapter. It is a stream.Others.
type junction struct {
	n       *lanes
	gateway Gateway
}

// Admits implements stream.Others.
func (j *junction) Admits(from stream.Remote) bool {
	c, line := j.n.programs.line(&from)
	return c != nil && line != nil && j.n.trusts(c) && line.OnlyStreams()
}

// Ask implements stream.Others.
func (j *junction) Ask(ctx context.Context, from stream.Remote, port uint16) (stream.Taken, error) {
	take, err := j.gateway.Inbound(ctx, from.Address.ULA(), port)
	if err != nil {
		return nil, err
	}
	if take == nil {
		return nil, errors.New("nobody takes the stream")
	}
	return func(c *stream.Conn) {
		if c == nil {
			take(nil)
		} else {
			take(c)
		}
	}, nil
}

// bridges reports whether TCP to a machine goes by the gateway.
func (n *lanes) bridges(r *peer.Route) bool {
	return n.junction != nil && r.Line.OnlyStreams()
}

// outBridge passes a message to the gateway if it is TCP, or about TCP; s lends its memory.
func (n *lanes) outBridge(s *sender, c *peer.Contact, msg []byte) bool {
	if !aboutTCP(msg) {
		return false
	}
	s.packet = appendPacket(s.packet[:0], &n.ula, &c.ULA, msg)
	n.junction.gateway.Outbound(s.packet)
	return true
}

const (
	tcpHeader   = 20
	tcpChecksum = 16 // where it stands in the header
)

// aboutTCP reports whether a message is TCP, or an ICMPv6 error that quotes TCP.
func aboutTCP(msg []byte) bool {
	t := wire.Type(msg[0])
	if t != wire.IP6 && t != wire.IP6P || len(msg) < 1+wire.IP6Header+tcpHeader {
		return false
	}
	const informational = 128 // types from there on are no errors (RFC 4443, 2.1)
	b := msg[1+wire.IP6Header:]
	return msg[5] == protoTCP ||
		msg[5] == protoICMP && b[0] < informational && len(b) >= icmpHeader+ip6Header && b[icmpHeader+6] == protoTCP
}

// appendPacket makes the IPv6 packet of an IP6 or IP6P with TCP, or of an IP6 with ICMPv6.
func appendPacket(dst []byte, from, to *anode.ULA, msg []byte) []byte {
	payload := msg[1+wire.IP6Header:]
	dst = append(dst, msg[1:5]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	dst = append(dst, msg[5], msg[6])
	dst = append(append(dst, from[:]...), to[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	if wire.Type(msg[0]) == wire.IP6P {
		b := dst[at:]
		binary.BigEndian.PutUint16(b[tcpChecksum:], checksum(b, pseudoSum(from, to, protoTCP, len(b))))
	}
	return dst
}

// LetsIn reports whether the policy lets everything of a peer in.
func (n *Node) LetsIn(peer anode.ULA) bool {
	c := n.index.byULA(peer)
	return c != nil && n.trusts(c)
}

// wholeTCP is a Queue that hands out TCP as the system sends it, before it is cut.
type wholeTCP interface {
	// TCP returns the packet just read, a super-packet whole, if it is TCP right after the
	// fixed header; else nil. It is called before Next, and valid until then.
	TCP() []byte
}

// outOnlyStreams sends the packet just read from q to a machine that speaks only streams.
func (n *lanes) outOnlyStreams(q Queue, s *sender, c *peer.Contact, r *peer.Route) {
	if w, ok := q.(wholeTCP); ok {
		if p := w.TCP(); p != nil {
			n.junction.gateway.Outbound(p)
			return
		}
	}
	for msg := q.Next(); msg != nil; msg = q.Next() {
		if !n.outBridge(s, c, msg) && n.outMessage(s, c, r, msg) {
			n.sentOn(c, r, min(len(msg)+wire.SealedMin, r.Datagram), s.now)
		}
	}
}
