package proxy

import (
	"context"
	"net"
	"strconv"
)

// Accept waits for one connection of an added peer to a port of this node. Nobody listens on
// the port before and after it.
func (s *Service) Accept(ctx context.Context, port uint16) (net.Conn, error) {
	l, err := s.network.Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return nil, plainError(err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := accept(ctx, l)
		if err != nil {
			return nil, err
		}
		if _, added := s.peers.Of(c.RemoteAddr()); added {
			keepAlive(c)
			return c, nil
		}
		abort(c)
	}
}
