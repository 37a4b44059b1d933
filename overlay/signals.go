package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// signals is the part that answers and acts on the messages about handshakes, ways and
// sizes. What it is sent was authenticated and is within its budget.
type signals struct{ l *loop }

func (s *signals) message(m *message) error {
	switch m.type_ {
	case wire.Hello:
		return s.hello(m)
	case wire.Welcome:
		return s.welcome(m)
	case wire.Stale:
		return s.stale(m)
	case wire.Ping:
		s.l.reply(m, wire.Pong, m.body)
		s.keeps(m)
	case wire.Pong: // our own pings travel sealed
		s.keeps(m)
		return s.l.zones.message(m)
	case wire.EPCReq:
		return s.epcReq(m)
	case wire.EPC:
		return s.epc(m)
	case wire.EPI:
		return s.epi(m)
	case wire.NATT:
		return s.natt(m)
	case wire.NetIDReq:
		return s.netIDReq(m)
	case wire.Probe:
		return s.probe(m)
	case wire.ProbeAck:
		return s.probeAck(m)
	case wire.Standing:
		return s.standing(m)
	case wire.Error:
		return s.errorMessage(m)
	}
	return nil
}

// tick has nothing to do: peers have timers of their own.
func (s *signals) tick() mono.Time { return mono.Never }

// linksChanged has every way in use checked again: an address or a route may have gone,
// or a better one come.
func (s *signals) linksChanged() {
	for _, p := range s.l.peers.byAddress {
		p.LinksChanged(s.l.now)
		s.l.touch(p)
	}
}

func (s *signals) errorMessage(m *message) error {
	x, err := wire.ParseError(m.body)
	if err == nil {
		s.l.n.counters.count(dErrorReceived)
		s.l.n.log.Debug("error received", "peer", m.peer.Label(), "code", x.Code)
	}
	return err
}

// epcReq answers a check, and has the way that it came by checked in turn. Our own question
// goes first: who gets the answer may send by us at once, and is relayed only after it has
// answered.
func (s *signals) epcReq(m *message) error {
	id, err := wire.ParseEPC(m.body)
	if err != nil {
		return err
	}
	if s.came(m) == path.New {
		s.l.tick(m.peer)
		s.l.shell.flush()
	}
	s.l.reply(m, wire.EPC, wire.AppendEPC(nil, id))
	return nil
}

// epc takes the answer to a check.
func (s *signals) epc(m *message) error {
	id, err := wire.ParseEPC(m.body)
	if err != nil {
		return err
	}
	if m.in != nil && m.peer.Answered(s.l.now, m.in, id) {
		return nil
	}
	if w, ok := s.l.way(m); ok {
		m.peer.LearnedWay(s.l.now, m.machine, id, w, int(m.hop))
	}
	return nil
}

// came notes along which way an authentic packet came. Added peers have budgets with
// their ways; those of all strangers have one together.
func (s *signals) came(m *message) path.Result {
	w, ok := s.l.way(m)
	if !ok {
		s.l.n.counters.count(dHint)
		return path.Full
	}
	r := m.peer.Came(s.l.now, m.machine, w, path.Heard)
	if r.Refused() {
		s.l.n.counters.count(dHint)
	}
	return r
}

// keeps takes a sign of life by which an added peer keeps its way to us open: where it comes from is
// where the peer is reached, perhaps since now.
func (s *signals) keeps(m *message) {
	if m.in == nil && m.hop == 0 && m.peer.Standing() >= book.Added {
		s.came(m)
	}
}

// epi takes an endpoint that a peer says it can be reached at.
func (s *signals) epi(m *message) error {
	x, err := wire.ParseEPI(m.body)
	if err != nil {
		return err
	}
	switch x.Endpoint.Kind {
	case wire.Unspecified:
		if m.hop == 0 {
			s.came(m)
		}
	case wire.TCP4, wire.TCP6:
		if m.peer.Standing() < book.Added { // who knows where a stranger has us connect to?
			s.l.n.counters.count(dHint)
			return nil
		}
		fallthrough
	case wire.UDP4, wire.UDP6:
		ep, _ := link.FromWire(x.Endpoint)
		if !s.l.links.mayHint(ep, s.l.isOverlay, false) {
			s.l.n.counters.count(dReflection)
		} else if m.peer.Told(s.l.now, m.machine, ep).Refused() {
			s.l.n.counters.count(dHint)
		}
	}
	return nil // other kinds: there is no such link here
}

// netIDReq sends a peer the endpoint that its packet came from. To tell a third party, as the draft
// has it, would make us a reflector.
func (s *signals) netIDReq(m *message) error {
	x, err := wire.ParseNetIDReq(m.body)
	if err != nil {
		return err
	}
	from := m.from.Wire()
	if x.Endpoint.Kind != wire.Unspecified && x.Endpoint != from {
		s.l.n.counters.count(dReflection)
		return nil
	}
	s.l.reply(m, wire.NetID, wire.NetIDMsg{Request: x.Request, Endpoint: from}.Append(nil))
	return nil // no keeps: it may come from a socket that was opened for the question alone
}

// probe answers a probe of the path's size.
func (s *signals) probe(m *message) error {
	x, err := wire.ParseProbe(m.body)
	if err == nil {
		m.peer.Probed(s.l.now, m.in, int(x.Size))
		s.l.reply(m, wire.ProbeAck, x.AppendAck(nil))
	}
	return err
}

func (s *signals) probeAck(m *message) error {
	x, err := wire.ParseProbeAck(m.body)
	if err == nil {
		w, known := s.l.way(m)
		m.peer.ProbeAck(s.l.now, m.in, x, w, known)
	}
	return err
}

// standing notes whether the other side has added us.
func (s *signals) standing(m *message) error {
	x, err := wire.ParseStanding(m.body)
	if err == nil {
		m.peer.Stands(s.l.now, m.in, x)
	}
	return err
}
