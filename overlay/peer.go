package overlay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// peer is all that the control loop knows of one address: a peer that was added, or
// a stranger who spoke to us or whom somebody here speaks to.
type peer struct {
	Peer
	added bool // by the user; else a stranger
	kept  bool // in the Store; else for this run

	remote  *remote   // shared with the data path
	mac     *seal.MAC // nil until it is needed
	ways    *path.Set
	set     *seal.Set
	inbound map[*seal.Session]*inbound // those of set.Live
	probe   probe
	queue   waitingQueue

	heard    time.Duration // the last authentic packet without seal: the 60 s rule
	spoke    bool          // heard is set
	seen     time.Time     // for people
	searched time.Duration // when a way was last looked for
	hello    *seal.Message // the last one sent
	answered link.Endpoint // where the last WELCOME came from
	failed   bool          // the last try to reach it failed
	tried    time.Duration // when a lost peer was last sent a HELLO out of turn
	lost     time.Duration // since when it has been silent in spite of HELLOs; 0: it is not
	saved    []wire.Endpoint

	touched bool          // to be settled
	due     time.Duration // to be settled then; 0: never
}

// fullSenderFor is how long a peer is thought to know our address after it answered
// (draft 3.2).
const fullSenderFor = 60 * time.Second

// waitingQueue holds messages for a peer that nothing can be sent to yet.
type waitingQueue struct {
	msgs  []waitingMessage
	bytes int
	since time.Duration
}

type waitingMessage struct {
	msg    []byte
	failed chan error // nil, or who wants to know
}

const (
	waitingMessages = 64
	waitingBytes    = 128 << 10
	waitingFor      = 5 * time.Second // for a way and a session
	waitingForLost  = time.Second     // for a peer that just fell silent
	silentFor       = 3 * time.Second // with HELLOs unanswered: the peer is lost
)

// newPeer makes a peer and enters it into the indexes.
func (c *control) newPeer(info Peer) *peer {
	a := info.Address
	p := &peer{
		Peer:    info,
		remote:  &remote{address: a, ula: a.ULA(), id: a.ID()},
		ways:    path.NewSet(requestID),
		set:     seal.NewSet(c.local, a, 0),
		inbound: map[*seal.Session]*inbound{},
		touched: true,
	}
	p.remote.trusted.Store(c.n.cfg.Open)
	c.peers[a] = p
	c.byID[p.remote.id] = append(c.byID[p.remote.id], p)
	c.byULA[p.remote.ula] = p
	c.stale = true
	return p
}

// drop forgets a peer.
func (c *control) drop(p *peer) {
	delete(c.peers, p.Address)
	rest := slices.DeleteFunc(c.byID[p.remote.id], func(q *peer) bool { return q == p })
	if len(rest) == 0 {
		delete(c.byID, p.remote.id)
	} else {
		c.byID[p.remote.id] = rest
	}
	delete(c.byULA, p.remote.ula)
	p.remote.flight.Store(nil)
	p.fail(c, ErrUnknownPeer)
	p.set.Close()
	c.stale = true
}

// restore makes a peer of the Store's.
func (c *control) restore(info Peer) error {
	p := c.adopt(info)
	p.kept = true
	saved, err := c.n.cfg.Store.Endpoints(info.Address)
	if err != nil {
		return err
	}
	p.saved = saved
	for _, e := range saved {
		p.ways.Add(c.now, path.Way{Endpoint: link.Endpoint{Addr: e.Addr}}, path.Stored, false)
	}
	return nil
}

// adopt makes an added peer, or adds what is new to one.
func (c *control) adopt(info Peer) *peer {
	p := c.peers[info.Address]
	if p == nil {
		p = c.newPeer(info)
	} else {
		if info.Name != "" {
			p.Name = info.Name
		}
		p.Blocked = info.Blocked
		p.Endpoints = info.Endpoints
		if !info.Added.IsZero() {
			p.Added = info.Added
		}
	}
	p.added = true
	p.set.SetStanding(true)
	p.remote.trusted.Store(!p.Blocked)
	for _, e := range info.Endpoints {
		if e.Kind == wire.UDP4 || e.Kind == wire.UDP6 {
			p.ways.Add(c.now, path.Way{Endpoint: link.Endpoint{Addr: e.Addr}}, path.Static, false)
		}
	}
	if p.Blocked {
		p.block(c)
	}
	p.touched, c.stale = true, true
	return p
}

// replaceSet ends all sessions, and forgets which machine they were with.
func (p *peer) replaceSet(c *control) {
	p.set.Close()
	p.set = seal.NewSet(c.local, p.Address, 0)
	p.set.SetStanding(p.added)
}

// block ends what goes on with a peer.
func (p *peer) block(c *control) {
	p.remote.trusted.Store(false)
	p.remote.flight.Store(nil)
	p.remote.forward.Store(nil)
	p.replaceSet(c)
	p.ways.Remove(func(*path.Info) bool { return true })
	p.fail(c, ErrBlocked)
	c.sessions(p)
}

// blockedKey tells whether an address has the key of a blocked peer: one key owns
// many addresses.
func (c *control) blockedKey(a anode.Address) bool {
	if p := c.peers[a]; p != nil && p.Blocked {
		return true
	}
	for _, p := range c.peers {
		if p.Blocked && p.Address.X() == a.X() {
			return true
		}
	}
	return false
}

// meet finds the peer of an address, or makes a stranger of it, in place of one that
// has been silent if there are too many.
func (c *control) meet(a anode.Address) (*peer, error) {
	if p := c.peers[a]; p != nil {
		return p, nil
	}
	if a == c.n.address {
		return nil, ErrSelf
	}
	strangers := 0
	var oldest *peer
	for _, p := range c.peers {
		if p.added {
			continue
		}
		strangers++
		if len(p.queue.msgs) == 0 && (oldest == nil || c.lastSeen(p).Before(c.lastSeen(oldest))) {
			oldest = p
		}
	}
	if strangers >= maxStrangers {
		if oldest == nil || c.n.cfg.Clock.Now().Sub(c.lastSeen(oldest)) < strangerGrace && oldest.set.Current(c.now) != nil {
			c.n.counters.count(dStrangers)
			return nil, fmt.Errorf("%d strangers are met already", strangers)
		}
		c.drop(oldest)
	}
	p := c.newPeer(Peer{Address: a})
	p.seen = c.n.cfg.Clock.Now()
	return p, nil
}

// key gives the peer's MAC key, agreeing on it the first time.
func (p *peer) key(c *control) (*seal.MAC, error) {
	if p.mac == nil {
		k, err := seal.SharedKey(c.n.cfg.Identity, p.Address)
		if err != nil {
			return nil, err
		}
		p.mac = seal.NewMAC(k)
	}
	return p.mac, nil
}

// settlePeer does what is due for a peer.
func (c *control) settlePeer(p *peer) {
	p.touched = false
	if p.Blocked {
		p.due = 0
		return
	}
	if len(p.queue.msgs) > 0 && c.now-p.queue.since > p.patience() {
		p.fail(c, ErrUnreachable)
	}
	p.route(c)
	next := p.check(c)
	do, tick := p.set.Tick(c.now)
	if len(do.Ended) > 0 {
		c.sessions(p)
	}
	if do.Hello != nil {
		p.hello = do.Hello
		next = p.shaken(c)
		c.everyWay(p, do.Hello)
	}
	if do.Keepalive != nil {
		c.keepalive(p, do.Keepalive)
	}
	if do.GaveUp {
		p.fail(c, ErrUnreachable)
		p.failed = true
	}
	p.route(c)
	p.due = next
	p.sooner(tick)
	p.sooner(p.settleProbe(c))
	if len(p.queue.msgs) > 0 {
		p.sooner(p.queue.since + p.patience() + 1)
	}
}

// shaken is called when a HELLO is due: if there is a way in use it may be dead, and
// after a while without an answer others are looked for.
func (p *peer) shaken(c *control) (next time.Duration) {
	if best, ok := p.ways.Best(); ok && c.now-best.Heard > time.Second {
		p.ways.Suspect(c.now)
	}
	if p.set.Unanswered(c.now) > 200*time.Millisecond {
		c.search(p)
	}
	return p.check(c)
}

// check sends the EPC_REQs that are due, and returns when to look again. A way that
// is new gets the HELLO that waits for an answer with it, so that nothing is lost.
func (p *peer) check(c *control) (next time.Duration) {
	requests, next := p.ways.Requests(c.now)
	for _, r := range requests {
		c.plainTo(p, r.Way.Endpoint, wire.EPCReq, wire.AppendEPC(nil, r.ID))
		if r.First && p.hello != nil && p.set.Unanswered(c.now) > 0 {
			c.handshakeTo(p, r.Way.Endpoint, p.hello)
		}
	}
	return next
}

// keepalive sends an empty message where the session's packets go, or, before any
// way was confirmed, where the handshake's answer came from.
func (c *control) keepalive(p *peer, s *seal.Session) {
	ep := p.answered
	if f := p.remote.flight.Load(); f != nil {
		ep = f.way.Endpoint
	}
	if ep.Addr.IsValid() {
		c.sealOn(s, p, ep, nil)
	}
}

func (p *peer) sooner(t time.Duration) {
	if t != 0 && (p.due == 0 || t < p.due) {
		p.due = t
	}
}

// sessions has the data path receive on the peer's live sessions and no others.
func (c *control) sessions(p *peer) {
	live := p.set.Live()
	for s := range p.inbound {
		if !slices.Contains(live, s) {
			delete(p.inbound, s)
			c.stale = true
		}
	}
	for _, s := range live {
		if p.inbound[s] == nil {
			p.inbound[s] = newInbound(s, p.remote)
			c.stale = true
		}
	}
}

// route publishes the peer's session and best way to the data path, and sends what
// has waited for them.
func (p *peer) route(c *control) {
	best, ok := p.ways.Best()
	p.forward(c)
	s := p.set.Current(c.now)
	if p.silent(c); !ok || s == nil || p.lost != 0 {
		if p.remote.flight.Load() != nil {
			p.remote.flight.Store(nil)
		}
		return
	}
	f := &flight{session: s, way: best.Way, peerID: best.PeerID, datagram: p.probe.datagram(c, best)}
	if old := p.remote.flight.Load(); old == nil || *old != *f {
		if old == nil || old.way != f.way {
			c.n.log.Info("path", "peer", p.label(), "kind", c.pathKind(best), "endpoint", best.Endpoint.Addr, "rtt", best.RTT)
			p.remember(c)
		}
		p.remote.flight.Store(f)
	}
	p.failed = false
	waiting := p.queue.msgs
	p.queue = waitingQueue{}
	for _, m := range waiting {
		c.sealTo(p, m.msg)
	}
}

// silent notes when a peer is gone, though there are a session and a way: it has left
// HELLOs unanswered. Then nothing is sent into the void any more, until it is heard.
func (p *peer) silent(c *control) {
	heard := time.Duration(p.remote.heard.Load())
	if p.spoke {
		heard = max(heard, p.heard)
	}
	switch {
	case p.lost != 0 && heard > p.lost:
		p.lost = 0
	case p.lost == 0 && p.set.Unanswered(c.now) > silentFor && c.now-heard > silentFor:
		p.lost, p.failed = c.now, true
	}
}

// again sends a lost peer the HELLO that it owes an answer to, at most once a second:
// somebody wants to speak to it, or it was heard.
func (p *peer) again(c *control) {
	if p.lost == 0 || p.hello == nil || p.set.Unanswered(c.now) == 0 || c.now-p.tried < time.Second {
		return
	}
	p.tried = c.now
	c.everyWay(p, p.hello)
}

// patience is how long messages wait for the peer.
func (p *peer) patience() time.Duration {
	if p.lost != 0 {
		return waitingForLost
	}
	return waitingFor
}

// forward publishes where a relay sends the peer's packets.
func (p *peer) forward(c *control) {
	var f forward
	for _, w := range p.ways.Ways() {
		if w.State != path.Confirmed {
			continue
		}
		if !f[0].Addr.IsValid() {
			f[0] = w.Endpoint
		}
		if id := w.PeerID & 15; !f[id].Addr.IsValid() {
			f[id] = w.Endpoint
		}
	}
	old := p.remote.forward.Load()
	if old == nil && !f[0].Addr.IsValid() || old != nil && *old == f {
		return
	}
	p.remote.forward.Store(&f)
	c.stale = true // sources
}

// remember keeps the endpoints of a peer for the next start.
func (p *peer) remember(c *control) {
	if !p.kept {
		return
	}
	var es []wire.Endpoint
	for _, w := range p.ways.Ways() {
		if w.State == path.Confirmed && w.Direct() && !w.Endpoint.Addr.Addr().IsLinkLocalUnicast() && len(es) < 4 {
			es = append(es, wire.UDP(w.Endpoint.Addr))
		}
	}
	if len(es) == 0 || slices.Equal(es, p.saved) {
		return
	}
	p.saved = es
	c.saver.endpoints(p.Address, es)
}

// fail gives up the messages that wait for a peer.
func (p *peer) fail(c *control, err error) {
	waiting := p.queue.msgs
	p.queue = waitingQueue{}
	for _, m := range waiting {
		c.n.counters.count(dNoRoute)
		if m.failed != nil {
			m.failed <- err
		} else if c.n.cfg.Device != nil {
			c.n.cfg.Device.NoRoute(p.remote.ula, m.msg)
		}
	}
	if len(waiting) > 0 {
		p.failed = true
	}
}

// sessionLost has a new session made with a peer that still sends in an old one,
// over the ways that are known already.
func (p *peer) sessionLost(c *control) {
	if err := p.set.OnUnknown(c.now); err != nil {
		c.n.log.Warn("handshake", "peer", p.label(), "err", err)
	}
	p.touched = true
}

// linksChanged has the ways of a peer in use checked again.
func (p *peer) linksChanged(c *control) {
	for _, w := range p.ways.Ways() {
		_, on := c.onLink(w.Endpoint)
		if on != w.OnLink {
			p.ways.Add(c.now, w.Way, w.Origin, on)
		}
	}
	if p.added && !p.Blocked {
		p.ways.Suspect(c.now)
	}
	p.probe.restart()
	p.touched = true
}

// label is how a peer is called in logs.
func (p *peer) label() string { return cmp.Or(p.Name, p.remote.id.String()) }
