package proxy

import "sync/atomic"

// counters counts what was not let through.
type counters struct {
	notPeer    atomic.Uint64 // asked for something that is no added peer
	notAllowed atomic.Uint64 // by a peer that may not use the exposed port
	full       atomic.Uint64 // beyond the limits
	handshake  atomic.Uint64 // not SOCKS5 or CONNECT, or too slow
	dialFailed atomic.Uint64 // the peer or its port was not reached
	service    atomic.Uint64 // the local service was not reached
	datagrams  atomic.Uint64 // dropped: malformed, of somebody else, no room
}

// Count adds the counters to those of a node.
func (s *Service) Count(c map[string]uint64) {
	c["local_not_peer"] = s.counts.notPeer.Load()
	c["local_not_allowed"] = s.counts.notAllowed.Load()
	c["local_full"] = s.counts.full.Load()
	c["local_handshake"] = s.counts.handshake.Load()
	c["local_dial_failed"] = s.counts.dialFailed.Load()
	c["local_service_failed"] = s.counts.service.Load()
	c["local_datagrams_dropped"] = s.counts.datagrams.Load()
}
