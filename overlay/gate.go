package overlay

import (
	"net/netip"
	"slices"
	"time"

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
	l       *loop
	keys    mono.Networks // key agreements with strangers who send HELLOs
	spare   mono.Networks // more of them, for HELLOs from regions that had few, when keys has nothing left
	beacons mono.Bucket   // of strangers: answered by EPC_REQ (draft 4.2.6)
	whois   mono.Bucket   // of strangers, by broadcast
	friends mono.Networks // announcements to friends; the sender is not known
	others  mono.Networks // key agreements with strangers for anything else, for which nobody shows a cookie
	cookies seal.Cookies
	starved mono.Time // when keys last had nothing left for a stranger's HELLO
}

var (
	beaconRate = mono.Rate{PerSecond: 2, Burst: 5}
	whoisRate  = mono.Rate{PerSecond: 5, Burst: 5}
)

func newGate(l *loop) gate {
	return gate{
		l:       l,
		keys:    mono.Networks{Each: mono.Rate{PerSecond: 50, Burst: 50}, Total: mono.Rate{PerSecond: 500, Burst: 500}, Prefix: mono.Site},
		others:  mono.Networks{Each: mono.Rate{PerSecond: 50, Burst: 50}, Total: mono.Rate{PerSecond: 200, Burst: 200}, Prefix: mono.Site},
		spare:   mono.Networks{Each: spareEach, Total: spareTotal, Prefix: mono.Region},
		friends: mono.Networks{Each: friendsEach, Total: friendsTotal, Prefix: func(a netip.Addr) netip.Addr { return a }},
	}
}

// signed takes an unsealed packet of which a lane has found that it bears the MAC of an
// added peer.
func (g *gate) signed(c *peer.Contact, b []byte, ep link.Endpoint) {
	h, msg, err := wire.Parse(b)
	p := g.l.peers.get(c.Address)
	if err != nil || p == nil || p.Standing() == book.Blocked {
		return
	}
	g.authentic(p, &h, msg, ep, false)
}

// cookied takes a COOKIE that repeats what only the HELLO's recipient, and who is on the
// way to it, can know.
func (g *gate) cookied(c *peer.Contact, b []byte, ep link.Endpoint) {
	_, msg, err := wire.Parse(b)
	p := g.l.peers.get(c.Address)
	if err != nil || p == nil {
		return
	}
	if p.Cookie(g.l.now, msg, ep) != nil {
		g.l.n.counters.count(dCookie)
	}
	g.l.touch(p)
}

// unsigned takes an unsealed packet that anybody may have made. proven: whoever did
// receives what is sent to ep.
func (g *gate) unsigned(b []byte, ep link.Endpoint, proven bool) {
	n := g.l.n
	h, msg, err := wire.Parse(b)
	if err != nil {
		n.counters.count(dHeader)
		return
	}
	switch {
	case h.Flags&wire.FlagAuthError != 0:
		n.counters.count(dAuthError) // no effect, never an answer (draft 3.2)
	case h.Sender.Address == n.address || !h.Sender.Full() && h.Sender.ID == n.id:
		g.ownAddress(&h, ep)
	case h.MAC == [8]byte{}:
		g.withoutMAC(&h, msg, ep)
	case h.Type == wire.Hello && !g.cookie(&h, msg, ep):
	case g.l.clients.newcomer(&h, msg, b, ep, proven):
	default:
		if p, paid := g.authenticate(&h, b, ep); p != nil {
			g.authentic(p, &h, msg, ep, paid)
		}
	}
}

// ownAddress takes a packet that bears our own address: our own beacon as the link
// returns it, somebody who plays us, or another machine with a copy of our state.
func (g *gate) ownAddress(h *wire.Header, ep link.Endpoint) {
	g.l.n.counters.count(dOwnAddress)
	if _, on := g.l.links.on(ep); on && h.Type == wire.EPI && h.MAC == [8]byte{} && !g.l.links.own(ep.Addr.Addr()) {
		g.l.copies.beacon(ep.Addr.Addr(), h.SenderPeer)
	}
}

// withoutMAC takes what has no MAC for want of a key: beacons and WHOIS from our own
// links, and COOKIE, which names an outstanding HELLO.
func (g *gate) withoutMAC(h *wire.Header, msg []byte, ep link.Endpoint) {
	n := g.l.n
	if h.Type == wire.Cookie { // it answers no HELLO of ours: see cookied
		if !g.l.zones.cookie(h, msg, ep) {
			n.counters.count(dCookie)
		}
		return
	}
	_, on := g.l.links.on(ep)
	switch {
	case h.Type != wire.EPI && h.Type != wire.Whois && h.Type != wire.Friends:
		n.counters.count(dMAC)
	case !on || h.Hop != 0 || h.Type != wire.Friends && !h.Sender.Full() || h.Type == wire.Friends && h.Sender != wire.Party{}:
		n.counters.count(dReflection)
	case h.Type == wire.EPI:
		g.l.beacon.heard(h, msg, ep)
	case h.Type == wire.Friends:
		g.l.beacon.heardFriends(msg, ep)
	default:
		g.l.finder.askedOnLAN(h, msg, ep)
	}
}

// starvedFor is for how long strangers must show a cookie after the HELLO of one found no key agreement left, so that
// packets with forged sources cannot use up what others need.
const starvedFor = 10 * time.Second

// mustShowCookie reports whether a sender's HELLO needs a cookie: the inbox fills up, or strangers found no key
// agreement left lately and the sender is not added.
func (g *gate) mustShowCookie(sender *wire.Party) bool {
	if len(g.l.n.inbox.unsigned) > unsignedInbox/4 {
		return true
	}
	return g.l.now.Sub(g.starved) < starvedFor && !slices.ContainsFunc(g.l.peers.from(sender), isAdded)
}

func isAdded(p *peer.Peer) bool { return p.Standing() >= book.Added }

// spare is for HELLOs from regions that sent few: each has three at once, and one every two seconds. Without it a crowd
// from few regions would leave nothing to everybody else.
var (
	spareEach  = mono.Rate{PerSecond: 0.5 * (costKey + costHello), Burst: 3 * (costKey + costHello)}
	spareTotal = mono.Rate{PerSecond: 30 * (costKey + costHello), Burst: 30 * (costKey + costHello)}
)

// afford takes what a stranger's HELLO costs, and reports whether there was as much.
func (g *gate) afford(from netip.Addr, cost float64) bool {
	if g.keys.Take(g.l.now, from, cost) {
		return true
	}
	if g.keys.Spent(g.l.now, cost) {
		g.starved = g.l.now
	}
	if g.spare.Take(g.l.now, from, cost) {
		return true
	}
	g.l.n.counters.count(dBudget)
	return false
}

// affordOther takes the key agreement with a stranger for a packet that is no HELLO, and reports whether there was one.
func (g *gate) affordOther(from netip.Addr) bool {
	if g.others.Allow(g.l.now, from) {
		return true
	}
	g.l.n.counters.count(dBudget)
	return false
}

// cookie answers HELLOs without a cookie by a COOKIE while there are too many, and
// reports whether to go on.
func (g *gate) cookie(h *wire.Header, msg []byte, ep link.Endpoint) bool {
	if !g.mustShowCookie(&h.Sender) {
		return true
	}
	hello, err := seal.ParseHello(msg)
	if err != nil || !h.Sender.Full() {
		g.l.n.counters.count(dHandshake)
		return false
	}
	if g.cookies.Check(g.l.now.Duration(), endpointBytes(ep), h.Sender.Address, hello.Cookie) {
		return true
	}
	g.l.n.counters.count(dCookie)
	m := hello.Challenge(g.cookies.Make(g.l.now.Duration(), endpointBytes(ep), h.Sender.Address))
	reply := wire.Header{Sender: wire.Party{ID: g.l.n.id}, Recipient: wire.Party{ID: h.Sender.Address.ID()},
		SenderPeer: g.l.n.peerID(), RecipientPeer: h.SenderPeer, Type: wire.Cookie}
	g.l.shell.write(reply.Append(g.l.shell.buf[:0], m.Body), ep)
	return false
}

func endpointBytes(ep link.Endpoint) []byte {
	a := ep.Addr.Addr().As16()
	return append(a[:], byte(ep.Addr.Port()>>8), byte(ep.Addr.Port()))
}

// What a stranger's HELLO costs of gate.keys.
const (
	costKey   = 1 // of the MAC, once
	costHello = 2 // keys pay for 167 HELLOs of strangers a second, and spare for 30 more
)

// authenticate returns the peer whose MAC a packet bears. A stranger's first packet
// costs a key agreement, of which each site has a budget; paid: that of its HELLO is paid for as well.
func (g *gate) authenticate(h *wire.Header, b []byte, ep link.Endpoint) (p *peer.Peer, paid bool) {
	n := g.l.n
	known, hello := g.l.peers.from(&h.Sender), h.Type == wire.Hello
	for _, p := range known {
		if p.Standing() == book.Blocked {
			continue
		}
		agreed := p.HasKey()
		if !agreed && p.Standing() < book.Added && !g.affordFirst(hello, ep) {
			return nil, false
		}
		if mac, err := p.Key(); err == nil && mac.Verify(b, &g.l.shell.scratch) {
			return p, hello && !agreed
		}
	}
	if len(known) > 0 {
		n.counters.count(dMAC)
		return nil, false
	}
	return g.authenticateNew(h, b, ep), hello
}

// affordFirst pays for a stranger's first packet: a HELLO for all that comes of it.
func (g *gate) affordFirst(hello bool, ep link.Endpoint) bool {
	if hello {
		return g.afford(ep.Addr.Addr(), costKey+costHello)
	}
	return g.affordOther(ep.Addr.Addr())
}

// authenticateNew is authenticate for a sender that is not known.
func (g *gate) authenticateNew(h *wire.Header, b []byte, ep link.Endpoint) *peer.Peer {
	n := g.l.n
	switch {
	case !h.Sender.Full():
		n.counters.count(dUnknownSender)
		return nil
	case n.book.Standing(h.Sender.Address) == book.Blocked:
		n.counters.count(dBlocked)
		return nil
	case !g.affordFirst(h.Type == wire.Hello, ep):
		return nil
	}
	k, err := seal.SharedKey(n.cfg.Identity, h.Sender.Address)
	if err != nil {
		n.counters.count(dHeader)
		return nil
	}
	mac := seal.NewMAC(k)
	if !mac.Verify(b, &g.l.shell.scratch) {
		n.counters.count(dMAC)
		return nil
	}
	p, err := g.l.meet(h.Sender.Address, ep.Addr.Addr())
	if err != nil {
		return nil
	}
	p.SetKey(mac)
	return p
}

// authentic takes an unsealed packet of a peer's. It may be a replay, and never moves
// an endpoint: it only has one checked. With paid, the cost of a stranger's HELLO is paid already.
func (g *gate) authentic(p *peer.Peer, h *wire.Header, msg []byte, ep link.Endpoint, paid bool) {
	g.l.n.counters.count(cControlRx)
	g.l.clients.stranger(p, h, msg, ep)
	p.Signed(g.l.now)
	g.l.take(&message{peer: p, type_: h.Type, body: msg, from: ep, hop: h.Hop, machine: h.SenderPeer, paid: paid})
	g.l.touch(p)
}
