package overlay

import (
	"anodenet/overlay/book"
)

// hello answers a handshake.
func (s *signals) hello(m *message) error {
	p := m.peer
	if p.Standing() < book.Added {
		if s.l.n.cfg.PSK != [32]byte{} {
			s.l.n.counters.count(dNoSecret)
			return nil
		}
		if !s.l.gate.keys.Allow(s.l.now, m.from.Addr.Addr()) {
			s.l.n.counters.count(dBudget)
			return nil
		}
	}
	w, ok := s.l.way(m)
	s.handshake(m, p.Hello(s.l.now, m.machine, m.body, m.from, w, ok))
	return nil
}

// welcome completes a handshake of ours, and confirms it at once.
func (s *signals) welcome(m *message) error {
	w, ok := s.l.way(m)
	err := m.peer.Welcome(s.l.now, m.machine, m.body, m.from, w, ok)
	s.handshake(m, err)
	if err == nil {
		s.l.n.counters.count(cHandshakes)
		s.l.tick(m.peer)
	}
	return nil
}

// stale begins a handshake anew, with a greater stamp.
func (s *signals) stale(m *message) error {
	s.handshake(m, m.peer.Stale(s.l.now, m.body))
	return nil
}

// handshake counts a message of the handshake that was refused.
func (s *signals) handshake(m *message, err error) {
	if err == nil {
		return
	}
	s.l.n.counters.count(dHandshake)
	s.l.n.log.Debug("handshake refused", "peer", m.peer.Label(), "type", m.type_, "err", err)
}
