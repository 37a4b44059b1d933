package overlay

import (
	"errors"

	"anodenet/anode/seal"
	"anodenet/overlay/book"
)

// hello answers a handshake.
func (s *signals) hello(m *message) error {
	p := m.peer
	if p.Standing() < book.Added && !m.paid && !s.l.gate.afford(m.from.Addr.Addr(), costHello) {
		return nil
	}
	w, ok := s.l.way(m)
	s.handshake(m, p.Hello(s.l.now, m.machine, m.body, m.from, w, ok))
	return nil
}

// welcome completes a handshake of ours, and confirms it at once.
func (s *signals) welcome(m *message) error {
	w, ok := s.l.way(m)
	x, err := m.peer.Welcome(s.l.now, m.machine, m.body, m.from, w, ok)
	s.handshake(m, err)
	if err == nil {
		s.l.n.counters.count(cHandshakes)
		s.l.tells.up(m.peer, x, m.from.String())
		s.l.tick(m.peer)
	}
	if errors.Is(err, seal.ErrAuth) {
		s.l.tells.unread(m.peer)
	}
	if errors.Is(err, seal.ErrRefused) || err == nil && x.Refused() {
		s.l.tells.refused(m.peer)
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
	switch {
	case err == nil, errors.Is(err, seal.ErrLater): // the latter is counted as such
		return
	case errors.Is(err, seal.ErrUninvited):
		s.l.n.counters.count(dNoSecret)
		return
	}
	s.l.n.counters.count(dHandshake)
	s.l.n.log.Debug("handshake refused", "peer", m.peer.Label(), "type", m.type_, "err", err)
}
