package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// The handlers of the messages that a node answers or acts on, in the order of the
// table. What they are sent was authenticated and is within its budget.

func (l *loop) ping(m *message) error {
	l.reply(m, wire.Pong, m.body)
	return nil
}

// pong takes a sign of life, which is noted already; our own pings travel sealed.
func (l *loop) pong(*message) error { return nil }

func (l *loop) errorMessage(m *message) error {
	x, err := wire.ParseError(m.body)
	if err == nil {
		l.n.counters.count(dErrorReceived)
		l.n.log.Debug("error received", "peer", m.peer.Label(), "code", x.Code)
	}
	return err
}

// epcReq answers a check, and has the way that it came by checked in turn.
func (l *loop) epcReq(m *message) error {
	id, err := wire.ParseEPC(m.body)
	if err != nil {
		return err
	}
	l.reply(m, wire.EPC, wire.AppendEPC(nil, id))
	l.came(m)
	return nil
}

// epc takes the answer to a check.
func (l *loop) epc(m *message) error {
	id, err := wire.ParseEPC(m.body)
	if err != nil {
		return err
	}
	if m.in != nil && m.peer.Answered(l.now, m.in, id) {
		return nil
	}
	if w, ok := l.way(m); ok {
		m.peer.LearnedWay(l.now, m.machine, id, w, int(m.hop))
	}
	return nil
}

// came notes along which way an authentic packet came. Added peers have budgets with
// their ways; those of all strangers have one together.
func (l *loop) came(m *message) {
	w, ok := l.way(m)
	if !ok {
		l.n.counters.count(dHint)
		return
	}
	if m.peer.Came(l.now, m.machine, w, path.Heard).Refused() {
		l.n.counters.count(dHint)
	}
}

// epi takes an endpoint that a peer says it can be reached at.
func (l *loop) epi(m *message) error {
	x, err := wire.ParseEPI(m.body)
	if err != nil {
		return err
	}
	switch x.Endpoint.Kind {
	case wire.Unspecified:
		if m.hop == 0 {
			l.came(m)
		}
	case wire.UDP4, wire.UDP6:
		ep := link.Endpoint{Addr: x.Endpoint.Addr}
		if !l.links.mayHint(ep, l.isOverlay) {
			l.n.counters.count(dReflection)
		} else if m.peer.Told(l.now, m.machine, ep).Refused() {
			l.n.counters.count(dHint)
		}
	}
	return nil // other kinds: there is no such link here
}

// netIDReq tells a peer where its packet came from. To tell a third party, as the draft
// has it, would make us a reflector.
func (l *loop) netIDReq(m *message) error {
	x, err := wire.ParseNetIDReq(m.body)
	if err != nil {
		return err
	}
	from := wire.UDP(m.from.Addr)
	if x.Endpoint.Kind != wire.Unspecified && x.Endpoint != from {
		l.n.counters.count(dReflection)
		return nil
	}
	l.reply(m, wire.NetID, wire.NetIDMsg{Request: x.Request, Endpoint: from}.Append(nil))
	return nil
}

// whois answers for ourselves, and as a relay for the peers that were added, to peers
// that were added.
func (l *loop) whois(m *message) error {
	x, err := wire.ParseWhois(m.body)
	if err != nil {
		return err
	}
	if x.Matches(l.n.address) {
		l.reply(m, wire.IAm, wire.IAmMsg{Request: x.Request, Address: l.n.address}.Append(nil))
		return nil
	}
	if m.peer.Standing() < book.Added {
		l.n.counters.count(dReflection)
		return nil
	}
	answer := wire.IAmMsg{Request: x.Request} // not found
	for c := l.n.index.byID(x.ID); c != nil; c = c.Next.Load() {
		if c.Standing() >= book.Added && x.Matches(c.Address) {
			answer.Address = c.Address
		}
	}
	l.reply(m, wire.IAm, answer.Append(nil))
	return nil
}

// iAm takes the answer to a WHOIS of ours. The address proves itself.
func (l *loop) iAm(m *message) error {
	x, err := wire.ParseIAm(m.body)
	if err != nil {
		return err
	}
	if x.Address == m.peer.Address {
		l.came(m)
	}
	l.found(x)
	return nil
}

// probe answers a probe of the path's size.
func (l *loop) probe(m *message) error {
	x, err := wire.ParseProbe(m.body)
	if err == nil {
		l.reply(m, wire.ProbeAck, x.AppendAck(nil))
	}
	return err
}

func (l *loop) probeAck(m *message) error {
	x, err := wire.ParseProbeAck(m.body)
	if err == nil {
		m.peer.ProbeAck(l.now, m.in, x)
	}
	return err
}

// standing notes whether the other side has added us.
func (l *loop) standing(m *message) error {
	x, err := wire.ParseStanding(m.body)
	if err == nil && m.peer.SetAdmits(x) {
		l.n.events.peer(EventPeer, m.peer)
	}
	return err
}

// clash draws another peer ID, since another machine of our address has ours.
func (l *loop) clash(m *message) error {
	x, err := wire.ParseClash(m.body)
	if err == nil && x == l.n.instance {
		l.copies.seen(l.now)
		l.redraw(l.now)
	}
	return err
}
