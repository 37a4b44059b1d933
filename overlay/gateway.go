package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"net"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/stream"
	"anodenet/anode/wire"
	"anodenet/overlay/peer"
)

// Gateway joins TCP of the adapter to streams, for peers that speak only streams since they
// have no adapter. Between nodes with adapters TCP travels as packets.
type Gateway interface {
	// Outbound takes an IPv6 packet with TCP that the adapter sends to a peer that speaks only
	// streams; its checksum is complete. It copies what it needs, and never waits. Several
	// goroutines call it.
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
	return c != nil && line != nil && j.n.trusts(c) && line.Can(seal.OnlyStreams)
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
	return n.junction != nil && r.Line.Can(seal.OnlyStreams)
}

// outBridge passes a message to the gateway if it is TCP; s lends its memory.
func (n *lanes) outBridge(s *sender, c *peer.Contact, msg []byte) bool {
	t := wire.Type(msg[0])
	if t != wire.IP6 && t != wire.IP6P || len(msg) < 1+wire.IP6Header+tcpHeader || msg[5] != protoTCP {
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

// appendPacket makes the IPv6 packet of an IP6 or IP6P with TCP.
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

// outOnlyStreams sends the packet just read from q to a machine that speaks only streams.
func (n *lanes) outOnlyStreams(q Queue, s *sender, c *peer.Contact, r *peer.Route) {
	for msg := q.Next(); msg != nil; msg = q.Next() {
		if !n.outBridge(s, c, msg) && n.outMessage(s, c, r, msg) {
			n.sentOn(c, r, min(len(msg)+wire.SealedMin, r.Datagram), s.now)
		}
	}
}
