package overlay

import (
	"errors"
	"net/netip"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// unsealedPacket takes a packet that is not authenticated yet. What may cost a key
// agreement comes after what may cost little, and effects after authentication.
func (c *control) unsealedPacket(b []byte, ep link.Endpoint) {
	n := c.n
	h, msg, err := wire.Parse(b)
	if err != nil {
		n.counters.count(dHeader)
		return
	}
	n.counters.count(cControlRx)
	if h.Flags&wire.FlagAuthError != 0 {
		n.counters.count(dAuthError) // no effect, never an answer (draft 3.2)
		return
	}
	if h.Sender.Address == n.address || !h.Sender.Full() && h.Sender.ID == n.id {
		n.counters.count(dOwnAddress) // our own beacon, or somebody who plays us
		return
	}
	if h.MAC == [8]byte{} {
		c.unsigned(&h, msg, ep)
		return
	}
	if h.Type == wire.Hello && !c.helloCookie(&h, msg, ep) {
		return
	}
	p := c.authenticate(&h, b, ep)
	if p == nil {
		return
	}
	p.heard, p.spoke = c.now, true
	p.seen = n.cfg.Clock.Now()
	p.touched = true
	c.signal(p, &h, msg, ep)
}

// unsigned takes what has no MAC for want of a key: beacons and WHOIS from our own
// links, and COOKIE, which names an outstanding HELLO.
func (c *control) unsigned(h *wire.Header, msg []byte, ep link.Endpoint) {
	switch h.Type {
	case wire.Cookie:
		for _, p := range c.candidates(&h.Sender) {
			if m, err := p.set.OnCookie(c.now, msg); err == nil {
				if m != nil {
					c.handshakeTo(p, ep, m)
				}
				return
			}
		}
		c.n.counters.count(dCookie)
	case wire.EPI, wire.Whois:
		if _, ok := c.onLink(ep); !ok || h.Hop != 0 || !h.Sender.Full() {
			c.n.counters.count(dReflection)
			return
		}
		if h.Type == wire.EPI {
			c.heardBeacon(h.Sender.Address, msg, ep)
		} else {
			c.askedOnLAN(h.Sender.Address, msg, ep)
		}
	default:
		c.n.counters.count(dMAC)
	}
}

// underLoad tells whether handshakes have to show a cookie.
func (c *control) underLoad() bool { return len(c.n.unsealed) > unsealedInbox/4 }

// helloCookie answers HELLOs without a cookie by a COOKIE while there are too many.
func (c *control) helloCookie(h *wire.Header, msg []byte, ep link.Endpoint) bool {
	if !c.underLoad() {
		return true
	}
	hello, err := seal.ParseHello(msg)
	if err != nil || !h.Sender.Full() {
		c.n.counters.count(dHandshake)
		return false
	}
	if c.cookies.Check(c.now, endpointBytes(ep), h.Sender.Address, hello.Cookie) {
		return true
	}
	c.n.counters.count(dCookie)
	m := hello.Challenge(c.cookies.Make(c.now, endpointBytes(ep), h.Sender.Address))
	reply := wire.Header{Sender: wire.Party{ID: c.n.id}, Recipient: wire.Party{ID: h.Sender.Address.ID()},
		SenderPeer: c.n.peerID, RecipientPeer: h.SenderPeer, Type: wire.Cookie}
	c.write(reply.Append(c.buf[:0], m.Body), ep)
	return false
}

func endpointBytes(ep link.Endpoint) []byte {
	a := ep.Addr.Addr().As16()
	return append(a[:], byte(ep.Addr.Port()>>8), byte(ep.Addr.Port()))
}

// candidates are the peers that a packet may be from: by its full address, or all
// with its short ID (draft 3.5).
func (c *control) candidates(from *wire.Party) []*peer {
	if !from.Full() {
		return c.byID[from.ID]
	}
	if p := c.peers[from.Address]; p != nil {
		return []*peer{p}
	}
	return nil
}

// authenticate finds the peer whose MAC a packet bears. A stranger's first packet
// costs a key agreement, of which each network has a budget.
func (c *control) authenticate(h *wire.Header, b []byte, ep link.Endpoint) *peer {
	n := c.n
	known := c.candidates(&h.Sender)
	for _, p := range known {
		if p.Blocked {
			continue
		}
		if p.mac == nil && !p.added && !c.keys.allow(ep.Addr.Addr(), n.now()) {
			n.counters.count(dBudget)
			return nil
		}
		mac, err := p.key(c)
		if err == nil && mac.Verify(b, &c.scratch) {
			return p
		}
	}
	switch {
	case len(known) > 0:
		n.counters.count(dMAC)
		return nil
	case !h.Sender.Full():
		n.counters.count(dUnknownSender)
		return nil
	case c.blockedKey(h.Sender.Address):
		n.counters.count(dBlocked)
		return nil
	case !c.keys.allow(ep.Addr.Addr(), n.now()):
		n.counters.count(dBudget)
		return nil
	}
	k, err := seal.SharedKey(n.cfg.Identity, h.Sender.Address)
	if err != nil {
		n.counters.count(dHeader)
		return nil
	}
	mac := seal.NewMAC(k)
	if !mac.Verify(b, &c.scratch) {
		n.counters.count(dMAC)
		return nil
	}
	p, err := c.meet(h.Sender.Address)
	if err != nil {
		return nil
	}
	p.mac = mac
	return p
}

// signal acts on an authentic message that was not sealed. It can have been
// replayed: it never moves an endpoint, it only has one checked.
func (c *control) signal(p *peer, h *wire.Header, msg []byte, ep link.Endpoint) {
	switch h.Type {
	case wire.Hello:
		c.hello(p, h, msg, ep)
	case wire.Welcome:
		c.welcome(p, h, msg, ep)
	case wire.Stale:
		if err := p.set.OnStale(c.now, msg); err != nil {
			c.n.counters.count(dHandshake)
		}
	case wire.Ping:
		if p.added || c.n.strangerPings.allow(c.n.now()) {
			c.plainTo(p, ep, wire.Pong, msg)
		} else {
			c.n.counters.count(dBudget)
		}
	case wire.Pong:
		// a sign of life, noted already; our own pings travel sealed
	case wire.EPCReq, wire.EPC, wire.EPI, wire.NetIDReq, wire.NetID, wire.Whois, wire.IAm, wire.Error:
		c.common(p, h.Type, msg, ep, h.Hop, h.SenderPeer, func(t wire.Type, b []byte) { c.plainTo(p, ep, t, b) })
	case wire.Dgram, wire.SOpen, wire.SClose, wire.SData, wire.SAck, wire.SDAck:
		c.n.counters.count(dCleartext)
	default:
		c.n.counters.count(dMessage)
	}
}

// sealedMessage acts on a message that was opened in a session.
func (c *control) sealedMessage(e event) {
	p := c.peers[e.in.remote.address]
	if p == nil || p.Blocked || len(e.msg) == 0 {
		return
	}
	p.seen = c.n.cfg.Clock.Now()
	p.touched = true
	t, msg := wire.Type(e.msg[0]), e.msg[1:]
	reply := func(t wire.Type, b []byte) {
		c.sealOn(e.in.session, p, e.ep, append([]byte{byte(t)}, b...))
	}
	switch t {
	case wire.Ping:
		reply(wire.Pong, msg)
	case wire.Probe:
		if m, err := wire.ParseProbe(msg); err == nil {
			reply(wire.ProbeAck, m.AppendAck(nil))
		} else {
			c.n.counters.count(dMessage)
		}
	case wire.ProbeAck:
		if m, err := wire.ParseProbeAck(msg); err == nil {
			p.probe.answered(m)
		} else {
			c.n.counters.count(dMessage)
		}
	case wire.NATT:
		// no mode is spoken yet; the plain endpoints travel in EPI
	default:
		c.common(p, t, msg, e.ep, e.hop, e.in.peerID, reply)
	}
}

// common acts on the messages that mean the same sealed or not.
func (c *control) common(p *peer, t wire.Type, msg []byte, ep link.Endpoint, hop, peerID uint8, reply func(wire.Type, []byte)) {
	var err error
	switch t {
	case wire.EPCReq:
		var id uint32
		if id, err = wire.ParseEPC(msg); err == nil {
			reply(wire.EPC, wire.AppendEPC(nil, id))
			c.heardFrom(p, ep, hop)
		}
	case wire.EPC:
		var id uint32
		if id, err = wire.ParseEPC(msg); err == nil {
			c.learned(p, id, ep, hop, peerID)
		}
	case wire.EPI:
		var m wire.EPIMsg
		if m, err = wire.ParseEPI(msg); err == nil {
			c.told(p, m.Endpoint, ep, hop)
		}
	case wire.NetIDReq:
		var m wire.NetIDMsg
		if m, err = wire.ParseNetIDReq(msg); err == nil {
			c.netID(p, m, ep, reply)
		}
	case wire.NetID:
		_, err = wire.ParseNetID(msg) // we ask nobody yet
	case wire.Whois:
		var m wire.WhoisMsg
		if m, err = wire.ParseWhois(msg); err == nil {
			c.whois(p, m, reply)
		}
	case wire.IAm:
		var m wire.IAmMsg
		if m, err = wire.ParseIAm(msg); err == nil {
			c.iAm(p, m, ep, hop)
		}
	case wire.Error:
		var m wire.ErrorMsg
		if m, err = wire.ParseError(msg); err == nil {
			c.n.counters.count(dErrorReceived)
			c.n.log.Debug("error received", "peer", p.label(), "code", m.Code)
		}
	default:
		err = errors.New("unknown type")
	}
	if err == nil {
		return
	}
	c.n.counters.count(dMessage)
	if t != wire.Error && p.added && c.errors.allow(c.n.now(), 1, 5) {
		reply(wire.Error, wire.ErrorMsg{Code: wire.ErrorInvalid}.Append(nil))
	}
}

// learned takes an EPC: the only thing that makes an endpoint a way (draft 4.2.4).
func (c *control) learned(p *peer, id uint32, ep link.Endpoint, hop, peerID uint8) {
	before, had := p.ways.Best()
	w, ok := p.ways.Answered(c.now, id, at(ep), int(hop), peerID)
	if !ok {
		return
	}
	p.failed = false
	p.forward(c)
	if best, _ := p.ways.Best(); best.Way == w && (!had || before.Way != w) {
		p.probe.restart()
		if !w.Direct() {
			c.tellEndpoints(p)
		}
	}
	if p.added {
		p.remember(c)
	}
}

// heardFrom notes where an authentic packet came from. That is a hint: the packet may
// be a replay, so the endpoint is checked, within a budget for strangers.
func (c *control) heardFrom(p *peer, ep link.Endpoint, hop uint8) {
	w := path.Way{Endpoint: at(ep)}
	origin := path.Heard
	if hop != 0 {
		r := c.n.table.Load().sources[w.Endpoint]
		if r == nil || r == p.remote {
			return // relayed by somebody whom we do not know
		}
		w.Via, origin = r.address, path.Relay
	}
	for _, i := range p.ways.Ways() {
		if i.Way == w && i.State != path.Failed {
			p.ways.Nudge(c.now, w)
			return
		}
	}
	if !p.added && !c.hints.allow(c.n.now(), 10, 20) {
		c.n.counters.count(dBudget)
		return
	}
	_, on := c.onLink(ep)
	p.ways.Add(c.now, w, origin, on)
}

// told takes an endpoint that an EPI names. Strangers get one check a second, all of
// them together.
func (c *control) told(p *peer, e wire.Endpoint, ep link.Endpoint, hop uint8) {
	switch e.Kind {
	case wire.Unspecified:
		if hop == 0 {
			c.heardFrom(p, ep, 0)
		}
		return
	case wire.UDP4, wire.UDP6:
	default:
		return // no such link here
	}
	at := link.Endpoint{Addr: e.Addr}
	if !c.mayHint(at) {
		c.n.counters.count(dReflection)
		return
	}
	if !p.added && !c.hints.allow(c.n.now(), 1, 1) {
		c.n.counters.count(dBudget)
		return
	}
	_, on := c.onLink(at)
	p.ways.Add(c.now, path.Way{Endpoint: at}, path.Told, on)
}

// netID answers a NETID_REQ toward its source alone: to send it to a third party
// would make us a reflector.
func (c *control) netID(p *peer, m wire.NetIDMsg, ep link.Endpoint, reply func(wire.Type, []byte)) {
	from := wire.UDP(ep.Addr)
	if m.Endpoint.Kind != wire.Unspecified && m.Endpoint != from {
		c.n.counters.count(dReflection)
		return
	}
	if !p.added && !c.reflect.allow(c.n.now(), 10, 20) {
		c.n.counters.count(dBudget)
		return
	}
	reply(wire.NetID, wire.NetIDMsg{Request: m.Request, Endpoint: from}.Append(nil))
}

// tellEndpoints tells a peer behind a relay where we are, so that it tries directly
// (draft 4.2.6).
func (c *control) tellEndpoints(p *peer) {
	port := c.n.conns[0].LocalPort()
	for _, i := range c.interfaces {
		for _, x := range i.Prefixes {
			if a := x.Addr(); a.IsGlobalUnicast() && !c.overlayRange(a) {
				m := wire.EPIMsg{Endpoint: wire.UDP(netip.AddrPortFrom(a, port))}
				c.sealTo(p, append([]byte{byte(wire.EPI)}, m.Append(nil)...))
			}
		}
	}
}

// hello answers a handshake. The session that it makes is pending until the other
// side sends in it.
func (c *control) hello(p *peer, h *wire.Header, msg []byte, ep link.Endpoint) {
	if c.n.cfg.PSK != [32]byte{} && !p.added {
		c.n.counters.count(dNoSecret)
		return
	}
	if !p.added && !c.keys.allow(ep.Addr.Addr(), c.n.now()) {
		c.n.counters.count(dBudget)
		return
	}
	c.heardFrom(p, ep, h.Hop)
	reply, _, err := p.set.OnHello(c.now, h.SenderPeer, msg)
	if err == seal.ErrMachine && p.otherMachine(c) {
		reply, _, err = p.set.OnHello(c.now, h.SenderPeer, msg)
	}
	if err != nil {
		c.n.counters.count(dHandshake)
		c.n.log.Debug("handshake refused", "peer", p.label(), "err", err)
	}
	c.sessions(p)
	if c.stale {
		c.publish() // before the answer can be answered
	}
	if reply != nil {
		c.handshakeTo(p, ep, reply)
	}
}

// welcome completes a handshake of ours, and confirms it at once.
func (c *control) welcome(p *peer, h *wire.Header, msg []byte, ep link.Endpoint) {
	if _, err := p.set.OnWelcome(c.now, h.SenderPeer, msg); err != nil {
		c.n.counters.count(dHandshake)
		if err == seal.ErrMachine && p.otherMachine(c) {
			p.sessionLost(c) // asks any machine
		}
		return
	}
	c.n.counters.count(cHandshakes)
	c.heardFrom(p, ep, h.Hop)
	c.sessions(p)
	if c.stale {
		c.publish()
	}
	p.answered = ep
	c.settlePeer(p)
}

// otherMachine replaces the sessions with a machine that is gone, so that another one
// of its address takes its place. One that may be there is asked instead.
func (p *peer) otherMachine(c *control) bool {
	if p.set.Current(c.now) != nil && p.set.Unanswered(c.now) < time.Second {
		p.sessionLost(c)
		return false
	}
	p.replaceSet(c)
	return true
}

// confirm takes the first packet in a session that we answered to.
func (c *control) confirm(e event) {
	p := c.peers[e.in.remote.address]
	if p == nil || p.Blocked {
		return
	}
	c.n.counters.count(cHandshakes)
	p.seen = c.n.cfg.Clock.Now()
	p.set.Confirm(c.now, e.in.session)
	c.heardFrom(p, e.ep, e.hop)
	c.sessions(p)
	p.touched = true
	p.route(c)
}

// roam has a new endpoint checked that the session's newest packet came from; the
// old way is checked too, and stays if it answers.
func (c *control) roam(e event) {
	p := c.peers[e.in.remote.address]
	if p == nil || p.Blocked {
		return
	}
	w := path.Way{Endpoint: at(e.ep)}
	if c.n.table.Load().sources[w.Endpoint] == p.remote {
		return // known already
	}
	p.ways.Suspect(c.now)
	_, on := c.onLink(e.ep)
	p.ways.Add(c.now, w, path.Heard, on)
	p.touched = true
}

// plainTo sends a message that is authenticated and not sealed. It bears our full
// address until the peer has answered within the last minute (draft 3.2).
func (c *control) plainTo(p *peer, ep link.Endpoint, t wire.Type, body []byte) {
	from := wire.Party{ID: c.n.id}
	if !p.spoke || c.now-p.heard > fullSenderFor {
		from = wire.Party{Address: c.n.address}
	}
	c.plainParties(p, ep, t, body, from, p.set.PeerID())
}

func (c *control) plainParties(p *peer, ep link.Endpoint, t wire.Type, body []byte, from wire.Party, peerID uint8) {
	mac, err := p.key(c)
	if err != nil {
		return
	}
	h := wire.Header{Sender: from, Recipient: wire.Party{ID: p.remote.id},
		SenderPeer: c.n.peerID, RecipientPeer: peerID, Type: t}
	b := h.Append(c.buf[:0], body)
	mac.Sign(b, &c.scratch)
	c.write(b, ep)
}

// write sends one unsealed packet; b is in c.buf.
func (c *control) write(b []byte, ep link.Endpoint) {
	c.buf = b[:0]
	c.n.counters.count(cControlTx)
	if _, err := c.plain.Write([]link.Train{{Buf: b, Size: len(b), Endpoint: ep}}); err != nil {
		c.n.counters.count(dWrite)
	}
}

// everyWay sends a HELLO along every way that may work.
func (c *control) everyWay(p *peer, m *seal.Message) {
	for _, w := range p.ways.Ways() {
		if w.State != path.Failed {
			c.handshakeTo(p, w.Endpoint, m)
		}
	}
}

// handshakeTo sends a message of the handshake, which names the machine that it is
// for and always bears the full address.
func (c *control) handshakeTo(p *peer, ep link.Endpoint, m *seal.Message) {
	c.plainParties(p, ep, m.Type, m.Body, wire.Party{Address: c.n.address}, m.PeerID)
}

// sealTo sends type | message on the peer's flight.
func (c *control) sealTo(p *peer, msg []byte) {
	f := p.remote.flight.Load()
	if f == nil {
		return
	}
	if len(msg)+wire.SealedMin > f.datagram {
		c.n.sendFragments(c.send, p.remote, f, msg, c.n.now())
	} else {
		c.sealFlight(f, p, msg)
	}
	c.used(p, f.session)
}

// used notes that data was sent in a session, for its timers.
func (c *control) used(p *peer, s *seal.Session) {
	s.Sent(c.n.now())
	if s.Activate() {
		p.touched = true
	}
}

// sealOn sends in a session to an endpoint, whatever the peer's flight is.
func (c *control) sealOn(s *seal.Session, p *peer, ep link.Endpoint, msg []byte) {
	c.sealFlight(&flight{session: s, way: path.Way{Endpoint: ep}}, p, msg)
}

func (c *control) sealFlight(f *flight, p *peer, msg []byte) {
	counter, ok := f.session.Reserve(0, 1, c.n.now())
	if !ok {
		c.n.counters.count(dKeyEnded)
		return
	}
	c.send.seal(f, counter, msg)
	p.remote.txBytes.Add(uint64(len(msg) + wire.SealedMin))
}
