package overlay

import (
	"slices"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// gate holds the budgets of what is not authenticated yet. What it stops costs little;
// what costs a key agreement comes after it.
type gate struct {
	keys    mono.Networks // key agreements with strangers
	beacons mono.Bucket   // of strangers: answered by EPC_REQ (draft 4.2.6)
	whois   mono.Bucket   // of strangers, by broadcast
	cookies seal.Cookies
}

var (
	beaconRate = mono.Rate{PerSecond: 2, Burst: 5}
	whoisRate  = mono.Rate{PerSecond: 5, Burst: 5}
)

func newGate() gate {
	return gate{keys: mono.Networks{Each: mono.Rate{PerSecond: 50, Burst: 50}, Total: mono.Rate{PerSecond: 500, Burst: 500}, Prefix: mono.Site}}
}

// signed takes an unsealed packet of which a lane has found that it bears the MAC of an
// added peer.
func (l *loop) signed(c *peer.Contact, b []byte, ep link.Endpoint) {
	h, msg, err := wire.Parse(b)
	p := l.peers.get(c.Address)
	if err != nil || p == nil || p.Standing() == book.Blocked {
		return
	}
	l.authentic(p, &h, msg, ep)
}

// unsigned takes an unsealed packet that anybody may have made.
func (l *loop) unsigned(b []byte, ep link.Endpoint) {
	n := l.n
	h, msg, err := wire.Parse(b)
	if err != nil {
		n.counters.count(dHeader)
		return
	}
	switch {
	case h.Flags&wire.FlagAuthError != 0:
		n.counters.count(dAuthError) // no effect, never an answer (draft 3.2)
	case h.Sender.Address == n.address || !h.Sender.Full() && h.Sender.ID == n.id:
		l.ownAddress(&h, ep)
	case h.MAC == [8]byte{}:
		l.withoutMAC(&h, msg, ep)
	case h.Type == wire.Hello && !l.cookie(&h, msg, ep):
	default:
		if p := l.authenticate(&h, b, ep); p != nil {
			l.authentic(p, &h, msg, ep)
		}
	}
}

// ownAddress takes a packet that bears our own address: our own beacon as the link
// returns it, somebody who plays us, or another machine with a copy of our state.
func (l *loop) ownAddress(h *wire.Header, ep link.Endpoint) {
	l.n.counters.count(dOwnAddress)
	if _, on := l.links.on(ep); on && h.Type == wire.EPI && h.MAC == [8]byte{} && !l.links.own(ep.Addr.Addr()) {
		l.copies.beacon(l.now, h.SenderPeer, l.n.peerID())
	}
}

// withoutMAC takes what has no MAC for want of a key: beacons and WHOIS from our own
// links, and COOKIE, which names an outstanding HELLO.
func (l *loop) withoutMAC(h *wire.Header, msg []byte, ep link.Endpoint) {
	n := l.n
	if h.Type == wire.Cookie {
		for _, p := range l.peers.from(&h.Sender) {
			if p.Cookie(l.now, msg, ep) == nil {
				l.touch(p)
				return
			}
		}
		n.counters.count(dCookie)
		return
	}
	if _, on := l.links.on(ep); h.Type != wire.EPI && h.Type != wire.Whois {
		n.counters.count(dMAC)
	} else if !on || h.Hop != 0 || !h.Sender.Full() {
		n.counters.count(dReflection)
	} else if h.Type == wire.EPI {
		l.heardBeacon(h, msg, ep)
	} else {
		l.askedOnLAN(h, msg, ep)
	}
}

// underLoad reports whether handshakes have to show a cookie.
func (l *loop) underLoad() bool { return len(l.n.inbox.unsigned) > unsignedInbox/4 }

// cookie answers HELLOs without a cookie by a COOKIE while there are too many, and
// reports whether to go on.
func (l *loop) cookie(h *wire.Header, msg []byte, ep link.Endpoint) bool {
	if !l.underLoad() {
		return true
	}
	hello, err := seal.ParseHello(msg)
	if err != nil || !h.Sender.Full() {
		l.n.counters.count(dHandshake)
		return false
	}
	if l.gate.cookies.Check(l.now.Duration(), endpointBytes(ep), h.Sender.Address, hello.Cookie) {
		return true
	}
	l.n.counters.count(dCookie)
	m := hello.Challenge(l.gate.cookies.Make(l.now.Duration(), endpointBytes(ep), h.Sender.Address))
	reply := wire.Header{Sender: wire.Party{ID: l.n.id}, Recipient: wire.Party{ID: h.Sender.Address.ID()},
		SenderPeer: l.n.peerID(), RecipientPeer: h.SenderPeer, Type: wire.Cookie}
	l.shell.write(reply.Append(l.shell.buf[:0], m.Body), ep)
	return false
}

func endpointBytes(ep link.Endpoint) []byte {
	a := ep.Addr.Addr().As16()
	return append(a[:], byte(ep.Addr.Port()>>8), byte(ep.Addr.Port()))
}

// authenticate returns the peer whose MAC a packet bears. A stranger's first packet
// costs a key agreement, of which each site has a budget.
func (l *loop) authenticate(h *wire.Header, b []byte, ep link.Endpoint) *peer.Peer {
	n := l.n
	known := l.peers.from(&h.Sender)
	for _, p := range known {
		if p.Standing() == book.Blocked {
			continue
		}
		if !p.HasKey() && p.Standing() < book.Added && !l.gate.keys.Allow(l.now, ep.Addr.Addr()) {
			n.counters.count(dBudget)
			return nil
		}
		if mac, err := p.Key(); err == nil && mac.Verify(b, &l.shell.scratch) {
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
	case n.book.Standing(h.Sender.Address) == book.Blocked:
		n.counters.count(dBlocked)
		return nil
	case !l.gate.keys.Allow(l.now, ep.Addr.Addr()):
		n.counters.count(dBudget)
		return nil
	}
	k, err := seal.SharedKey(n.cfg.Identity, h.Sender.Address)
	if err != nil {
		n.counters.count(dHeader)
		return nil
	}
	mac := seal.NewMAC(k)
	if !mac.Verify(b, &l.shell.scratch) {
		n.counters.count(dMAC)
		return nil
	}
	p, err := l.meet(h.Sender.Address, ep.Addr.Addr())
	if err != nil {
		return nil
	}
	p.SetKey(mac)
	return p
}

// authentic takes an unsealed packet of a peer's. It may be a replay, and never moves
// an endpoint: it only has one checked.
func (l *loop) authentic(p *peer.Peer, h *wire.Header, msg []byte, ep link.Endpoint) {
	l.n.counters.count(cControlRx)
	p.Signed(l.now)
	l.take(&message{peer: p, type_: h.Type, body: msg, from: ep, hop: h.Hop, machine: h.SenderPeer})
	l.touch(p)
}

// hello answers a handshake.
func (l *loop) hello(m *message) error {
	p := m.peer
	if p.Standing() < book.Added {
		if l.n.cfg.PSK != [32]byte{} {
			l.n.counters.count(dNoSecret)
			return nil
		}
		if !l.gate.keys.Allow(l.now, m.from.Addr.Addr()) {
			l.n.counters.count(dBudget)
			return nil
		}
	}
	w, ok := l.way(m)
	l.handshake(m, p.Hello(l.now, m.machine, m.body, m.from, w, ok))
	return nil
}

// welcome completes a handshake of ours, and confirms it at once.
func (l *loop) welcome(m *message) error {
	w, ok := l.way(m)
	err := m.peer.Welcome(l.now, m.machine, m.body, m.from, w, ok)
	l.handshake(m, err)
	if err == nil {
		l.n.counters.count(cHandshakes)
		l.tick(m.peer)
	}
	return nil
}

// stale begins a handshake anew, with a greater stamp.
func (l *loop) stale(m *message) error {
	l.handshake(m, m.peer.Stale(l.now, m.body))
	return nil
}

// handshake counts a message of the handshake that was refused.
func (l *loop) handshake(m *message, err error) {
	if err == nil {
		return
	}
	l.n.counters.count(dHandshake)
	l.n.log.Debug("handshake refused", "peer", m.peer.Label(), "type", m.type_, "err", err)
}

// from lists the peers that a packet may be from: by its full address, or all with its
// short ID (draft 3.5).
func (t *peers) from(s *wire.Party) (list []*peer.Peer) {
	if s.Full() {
		if p := t.get(s.Address); p != nil {
			list = append(list, p)
		}
		return list
	}
	for c := t.index.byID(s.ID); c != nil; c = c.Next.Load() {
		if p := t.get(c.Address); p != nil && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}
