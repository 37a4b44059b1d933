package overlay

import (
	"errors"
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// shell carries out what peers decide: it sends, publishes and notifies.
type shell struct {
	l       *loop
	send    *sender     // sealed messages
	plain   link.Writer // unsealed ones
	buf     []byte      // of the unsealed message being written
	scratch seal.Scratch

	discovery Discovery
}

var _ peer.Shell = (*shell)(nil)

func newShell(l *loop) *shell {
	return &shell{l: l, send: newSender(l.n.writer(0, false), 0, replySize, &l.n.counters), plain: l.n.writer(0, false), discovery: l.n.cfg.Discovery}
}

// Plain implements peer.Shell.
func (s *shell) Plain(p *peer.Peer, to link.Endpoint, t wire.Type, body []byte, machine uint8, full bool) {
	b, err := s.sign(p, t, body, machine, full)
	if err != nil {
		return
	}
	s.l.dials.note(p, to)
	if x := link.SymptomOf(s.write(b, to)); x != link.Silence {
		p.Found(s.l.now, to, x)
	}
}

// sign makes an unsealed packet in s.buf.
func (s *shell) sign(p *peer.Peer, t wire.Type, body []byte, machine uint8, full bool) ([]byte, error) {
	mac, err := p.Key()
	if err != nil {
		return nil, err
	}
	n := s.l.n
	h := wire.Header{Sender: wire.Party{ID: n.id}, Recipient: wire.Party{ID: p.ID}, SenderPeer: n.peerID(), RecipientPeer: machine, Type: t}
	if full {
		h.Sender = wire.Party{Address: n.address}
	}
	b := h.Append(s.buf[:0], body)
	mac.Sign(b, &s.scratch)
	return b, nil
}

// write sends one unsealed packet; b is in s.buf.
func (s *shell) write(b []byte, ep link.Endpoint) error {
	s.buf = b[:0]
	s.l.n.counters.count(cControlTx)
	_, err := s.plain.Write([]link.Train{{Buf: b, Size: len(b), Endpoint: ep}})
	if err != nil {
		s.l.n.counters.count(dWrite)
	}
	return err
}

// broadcast sends an unsigned packet, with our full address, to everyone. Who shows itself to friends alone
// sends none.
func (s *shell) broadcast(h wire.Header, body []byte) {
	if s.discovery.Friends {
		return
	}
	h.Sender = wire.Party{Address: s.l.n.address}
	h.SenderPeer = s.l.n.peerID()
	b := h.Append(s.buf[:0], body)
	s.everyone(func(to link.Endpoint) {
		to.Local = netip.Addr{}
		s.write(b, to)
	})
}

// everyone calls send for what reaches all on each link that is not silent: by UDP, and in frames where
// Ethernet is open. Local is the address of ours there.
func (s *shell) everyone(send func(to link.Endpoint)) {
	for _, i := range s.l.links.state.Interfaces {
		if s.discovery.silent(i) {
			continue
		}
		for _, a := range i.Broadcast {
			send(link.Endpoint{Addr: netip.AddrPortFrom(a, link.Port), If: i.Index, Local: sourceTo(i, a)})
		}
		if i.Multicast {
			send(link.Endpoint{Addr: netip.AddrPortFrom(allNodes, link.Port), If: i.Index, Local: sourceTo(i, allNodes)})
		}
	}
	for _, ep := range s.l.n.broadcasts() {
		if i, ok := s.l.links.of(ep); !s.discovery.Off && (!ok || !s.discovery.silent(i)) {
			send(ep)
		}
	}
}

// sourceTo returns our address on a link from which a broadcast to it, or a multicast, leaves; invalid if
// there is none.
func sourceTo(i link.Interface, to netip.Addr) netip.Addr {
	for _, p := range i.Prefixes {
		if a := p.Addr(); p.Contains(to) || to.IsMulticast() && a.Is6() && a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// Seal implements peer.Shell.
func (s *shell) Seal(c *peer.Contact, r *peer.Route, msg []byte, count int) {
	n := s.l.n
	if len(msg) > 0 && r.Session.Invited() && !peer.Aside(wire.Type(msg[0])) {
		n.counters.count(dAside)
		return
	}
	if count == 0 && len(msg) > 0 && n.bridges(r) && n.outBridge(s.send, c, msg) {
		return
	}
	if size := len(msg) + wire.SealedMin; count == 0 && r.Datagram != 0 && size > r.Datagram {
		s.send.now = s.l.now
		n.sendFragments(s.send, c, r, msg)
		return
	}
	s.send.now = s.l.now
	s.send.end(count > 0)
	for range max(count, 1) {
		counter, ok := r.Session.Reserve(0, 1, int64(s.l.now))
		if !ok {
			n.counters.count(dKeyEnded)
			break
		}
		s.send.seal(r, counter, msg)
		c.TxBytes.Add(uint64(len(msg) + wire.SealedMin))
	}
	s.send.end(count > 0)
}

// flush writes what was sealed.
func (s *shell) flush() { s.send.flush() }

// Undelivered implements peer.Shell.
func (s *shell) Undelivered(p *peer.Peer, w peer.Waiting, err error) {
	n := s.l.n
	prohibited := errors.Is(err, ErrBlocked) || errors.Is(err, errNotAddedThere)
	switch {
	case errors.Is(err, ErrBlocked):
		n.counters.count(dBlocked)
	case prohibited:
		n.counters.count(dNotAddedThere)
	case errors.Is(err, peer.ErrFull):
		n.counters.count(dWaitingFull)
	default:
		n.counters.count(dNoRoute)
	}
	if w.Failed != nil {
		w.Failed <- err
		return
	}
	if len(w.Msg) > 0 && isStream(wire.Type(w.Msg[0])) {
		n.programs.unreachable(p.Address)
		return
	}
	if n.cfg.Device == nil || errors.Is(err, peer.ErrFull) || len(w.Msg) > 0 && wire.Type(w.Msg[0]) == wire.Group { // no errors about groups (RFC 4443, 2.4)
		return
	}
	if prohibited {
		n.cfg.Device.Prohibited(p.ULA, w.Msg)
	} else {
		n.cfg.Device.NoRoute(p.ULA, w.Msg)
	}
}

var errNotAddedThere = &UnreachableError{Reason: ReasonNotAddedThere}

// Diagnose implements peer.Shell.
func (s *shell) Diagnose(p *peer.Peer, endpoints []link.Endpoint) {
	select {
	case s.l.n.diagnoses <- diagnosis{p.Address, endpoints}:
	default:
		s.l.n.counters.count(dDiagnosis)
	}
}

// Seek implements peer.Shell.
func (s *shell) Seek(p *peer.Peer) { s.l.finder.seek(p) }

// CheckRelay implements peer.Shell. The relay is looked at before the loop waits again.
func (s *shell) CheckRelay(a anode.Address) {
	if p := s.l.peers.get(a); p != nil {
		p.Recheck(s.l.now)
		s.l.reach.doubt(p)
		s.l.touch(p)
		s.l.zones.suspect(a)
	}
}

// RoundTrip implements peer.Shell.
func (s *shell) RoundTrip(a anode.Address) time.Duration {
	if p := s.l.peers.get(a); p != nil {
		if best, ok := p.Best(); ok && best.Direct() {
			return best.RTT
		}
	}
	return 0
}

// Link implements peer.Shell.
func (s *shell) Link(ep link.Endpoint) (limit int, on bool) {
	_, on = s.l.links.on(ep)
	limit = 1500 - mtuOverhead
	if d := s.l.n.cfg.Device; d != nil {
		limit = d.MTU() + mtuOverhead
	}
	if ep.Kind.Connected() {
		return limit, on
	}
	headers := ip6Headers
	switch {
	case ep.Kind == link.Ethernet:
		headers = link.EthernetHeader
	case ep.Addr.Addr().Is4():
		headers = ip4Headers
	}
	if mtu := s.l.links.mtu(ep); mtu != 0 {
		limit = min(limit, mtu-headers)
	}
	return limit, on
}

// Hint implements peer.Shell.
func (s *shell) Hint(ep link.Endpoint, inside bool) bool {
	return s.l.links.mayHint(ep, s.l.isOverlay, inside)
}

// Own implements peer.Shell.
func (s *shell) Own() []wire.Endpoint {
	return s.l.reach.own()
}

// Changed implements peer.Shell.
func (s *shell) Changed(p *peer.Peer, what peer.Change) {
	n := s.l.n
	if what&peer.ChangedWays != 0 {
		s.l.sources(p)
		s.l.keepConnections(p)
		s.l.blockage.note(p)
		s.l.finder.note(p)
		s.l.zones.follow(p)
		s.l.reach.changed(p)
		s.l.tells.found(p)
		if saved := p.Saved(); len(saved) > 0 {
			n.book.Learn(p.Address, saved)
		}
	}
	if what&peer.ChangedClash != 0 {
		n.log.Warn("two machines of one address use the same peer ID; one was told to choose another", "peer", p.Label())
	}
	if what&peer.ChangedState != 0 {
		n.programs.moved(p.Contact)
	}
	if what&peer.ChangedState != 0 && p.Standing() != book.Relay {
		n.events.peer(EventPeer, p)
	}
}

// isOverlay reports whether an address is that of a node in the overlay. A prefix would
// not do: fd00::/64, which many homes use, lies in that of zone 0.
func (l *loop) isOverlay(a netip.Addr) bool {
	u := anode.ULA(a.As16())
	return a.Is6() && (u == l.n.ula || l.n.index.byULA(u) != nil && l.n.index.byULA(u).Standing() != book.Stranger)
}
