package proxy

import (
	"context"
	"net"
	"strconv"
)

func (e Exposure) open(s *Service) (*Door, error) {
	address := ":" + strconv.Itoa(int(e.Port))
	if e.UDP {
		return e.openUDP(s, address)
	}
	l, err := s.network.Listen("tcp", address)
	if err != nil {
		return nil, plainError(err)
	}
	d := &Door{listen: address, close: func() { l.Close() }}
	d.run = func(ctx context.Context) {
		s.serveListener(ctx, d, l, e.guard(s), maxPerPeer, func(ctx context.Context, c net.Conn) bool {
			near, err := e.dial(ctx, s)
			if err != nil {
				abort(c)
				return false
			}
			_ = Splice(ctx, c, near) // both sides have seen it
			return true
		})
	}
	return d, nil
}

// dial connects to the local service.
func (e Exposure) dial(ctx context.Context, s *Service) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxDial)
	defer cancel()
	var dialer net.Dialer
	network := "tcp"
	if e.UDP {
		network = "udp"
	}
	c, err := dialer.DialContext(ctx, network, e.To)
	if err != nil {
		s.counts.service.Add(1)
		s.log.Debug("the service of an exposed port is not reached", "spec", e.String(), "err", err)
	}
	return c, err
}

// guard lets in the added peers, or those of them that the exposure names. Names are looked up
// each time: a peer that is removed, blocked or renamed loses its way in.
func (e Exposure) guard(s *Service) guard {
	return func(remote net.Addr) (who string, ok bool) {
		peer, added := s.peers.Of(remote)
		if !added {
			return "", false
		}
		who = peer.Address.String()
		if len(e.Only) == 0 {
			return who, true
		}
		for _, name := range e.Only {
			if a, err := s.peers.Find(name); err == nil && a == peer.Address {
				return who, true
			}
		}
		return "", false
	}
}

// Limits of the flows of an exposed UDP port.
const (
	maxPeerFlows = 64 // of one peer
	maxFlows     = 1024
)

func (e Exposure) openUDP(s *Service, address string) (*Door, error) {
	port, err := s.network.ListenPacket("udp", address)
	if err != nil {
		return nil, plainError(err)
	}
	d := &Door{listen: address, close: func() { port.Close() }}
	d.run = func(ctx context.Context) {
		w := s.newFlows(d, maxFlows, maxPeerFlows)
		w.dial = func(ctx context.Context, _ flowKey) (net.Conn, error) { return e.dial(ctx, s) }
		w.back = func(to, _ net.Addr, data []byte) { _, _ = port.WriteTo(data, to) }
		s.servePackets(ctx, d, port, w, e.guard(s))
	}
	return d, nil
}
