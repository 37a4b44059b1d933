package overlay

import (
	"context"
	"math/rand/v2"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/lookup"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// loop is the one goroutine that owns all that is not on the data path. Its parts own
// the rest of its state; it passes them what comes in, and what they have in common: the
// peers, our links, and ways to send.
type loop struct {
	n      *Node
	now    mono.Time
	before mono.Time // the now before
	slept  mono.Time // when it was last found that the node had not run
	shell  *shell
	env    *peer.Env
	peers  peers
	links  links
	gate   gate

	signals  signals
	finder   finder
	beacon   beacon
	copies   copies
	zones    zones
	clients  clients
	reach    reach
	lan      virtualLAN
	tells    tells
	blockage blockage        // where UDP gets no answer
	dials    dials           // connections that are opened
	portmap  PortmapStatus   // as it was told last
	parts    [partCount]part // these eight
	errors   mono.Bucket     // ERRORs that are sent
}

const (
	inboxRounds = 64 // events of one inbox before timers are looked at
	slack       = time.Millisecond
)

func newLoop(n *Node, known link.State) *loop {
	l := &loop{n: n, now: n.now(), peers: newPeers(n.index)}
	l.shell = newShell(l)
	l.gate = newGate(l)
	l.signals = signals{l}
	l.finder = finder{l: l, table: lookup.New[waiter](rand.Uint32)}
	l.beacon = beacon{l: l}
	l.copies = copies{l: l}
	l.blockage = newBlockage(l, n.blocking)
	l.zones = newZones(l)
	l.clients = newClients(l)
	l.reach = newReach(l)
	l.reach.preferred = l.zones.preferred
	l.lan = newVirtualLAN(l)
	l.tells = newTells(l)
	l.parts = [partCount]part{theSignals: &l.signals, theFinder: &l.finder, theBeacon: &l.beacon, theCopies: &l.copies, theReach: &l.reach, theZones: &l.zones, theLAN: &l.lan, theTells: &l.tells}
	l.env = &peer.Env{Shell: l.shell, Mapping: l.mapping, Log: n.log, Request: rand.Uint32, Open: n.isOpen, Trains: func() bool { return n.conns[0].Rung() == link.RungGSO },
		Local: &seal.Local{Identity: n.cfg.Identity, PSK: n.cfg.PSK, PeerID: n.peerID(), Clock: n.cfg.Clock.Now, Lanes: len(n.conns),
			StandardAES: n.cfg.StandardAES, Instance: n.instance, Adapter: n.cfg.Device != nil, Can: seal.ReadsDAck | seal.HalfCloses, Exact: true}}
	l.env.Local.Reach, l.env.Local.Invitation = l.env.Reach, l.tells.claim
	l.env.Silent, l.env.Dead = l.blockage.now, l.connectionDead
	l.links.set(known)
	l.beacon.linksChanged()
	l.zones.start()
	l.reach.linksChanged()
	for _, e := range n.book.Entries() {
		l.decide(e)
		if e.Standing() == book.Added && len(e.Endpoints)+len(n.book.Learned(e.Address)) > 0 {
			l.finder.warm = append(l.finder.warm, e.Address)
		}
	}
	return l
}

// run is the loop.
func (l *loop) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer l.reach.close()
	for {
		next := l.settle()
		if next == mono.Never {
			timer.Stop()
		} else {
			timer.Reset(max(next.Sub(l.n.now()), slack))
		}
		select {
		case <-ctx.Done():
			l.lan.end()
			return nil
		case k := <-l.n.inbox.calls:
			l.wake(next)
			k.done <- k.run(l)
		case list := <-l.n.inbox.links:
			l.wake(next)
			l.linksChanged(list)
		case e := <-l.n.inbox.authentic:
			l.wake(next)
			l.drain(e, l.n.inbox.authentic)
		case e := <-l.n.inbox.waiting:
			l.wake(next)
			l.drain(e, l.n.inbox.waiting)
		case e := <-l.n.inbox.unsigned:
			l.wake(next)
			l.drain(e, l.n.inbox.unsigned)
		case e := <-l.n.inbox.clients:
			l.wake(next)
			l.drain(e, l.n.inbox.clients)
		case <-l.n.departures.wake:
			l.wake(next)
			l.connectionsEnded()
		case e := <-l.n.inbox.stun:
			l.wake(next)
			l.drain(e, l.n.inbox.stun)
		case <-timer.C:
			l.wake(next)
		}
	}
}

// lateBy is how late a timer is if the process, or the machine, did not run meanwhile.
const lateBy = 5 * time.Second

// wake sets the time after a wait that should have ended at due.
func (l *loop) wake(due mono.Time) {
	l.before, l.now = l.now, l.n.now()
	if due != mono.Never && l.now.Sub(due) > lateBy {
		l.woke()
	}
}

// woke does what is needed after a while in which the node did not run: links, NATs and peers may
// be other ones than before. Peers with which data flowed before are spoken to at once.
func (l *loop) woke() {
	if l.now.Sub(l.slept) < time.Second { // that is known already
		return
	}
	l.slept = l.now
	l.n.counters.count(cWoken)
	for _, p := range l.peers.byAddress {
		p.Woke(l.now, l.before)
	}
	l.linksChanged(l.links.state)
}

// Woke tells the node that the machine has slept, as soon as the system says so. It notices that
// itself too, but only when its next timer is late.
func (n *Node) Woke(ctx context.Context) error {
	return n.call(ctx, func(l *loop) error {
		l.woke()
		return nil
	})
}

// drain handles an event and those behind it, up to a bound.
func (l *loop) drain(e event, rest <-chan event) {
	l.handle(e)
	for range min(len(rest), inboxRounds) {
		l.handle(<-rest)
	}
}

// settle does what is due, and returns when it is needed again.
func (l *loop) settle() mono.Time {
	l.tickPeers()
	next := mono.Never
	for _, p := range l.parts {
		if p != nil {
			next = min(next, p.tick())
		}
	}
	next = min(next, l.clients.tick())
	l.tickPeers() // a part may have found something for one
	l.shell.flush()
	return min(next, l.peers.schedule.Due())
}

// tickPeers does what is due for peers.
func (l *loop) tickPeers() {
	for p := l.peers.schedule.Next(l.now); p != nil; p = l.peers.schedule.Next(l.now) {
		l.tick(p)
	}
}

// tick does what is due for a peer.
func (l *loop) tick(p *peer.Peer) {
	p.Tick(l.now)
	l.lan.follow(p)
	l.peers.schedule.Update(p)
	if a, ok := p.Relay(l.now); ok {
		if r := l.peers.get(a); r != nil && r.Carries(l.now) {
			l.touch(r)
		}
	}
}

// touch has a peer looked at before the loop waits again.
func (l *loop) touch(p *peer.Peer) { l.peers.schedule.Touch(p) }

func (l *loop) handle(e event) {
	switch e.kind {
	case evUnsigned:
		l.gate.unsigned(e.msg, e.ep, false)
	case evProven:
		l.gate.unsigned(e.msg, e.ep, true)
	case evCookie:
		l.gate.cookied(e.contact, e.msg, e.ep)
	case evSigned:
		l.gate.signed(e.contact, e.msg, e.ep)
	case evClient:
		l.clients.signed(e.client, e.msg, e.ep)
	case evSealed:
		l.sealed(e)
	case evConfirm:
		l.confirm(e)
	case evRoam:
		l.roam(e)
	case evUnknown:
		if p := l.peers.get(e.contact.Address); p != nil && p.Standing() >= book.Added {
			p.Lost(l.now, e.machine)
			l.touch(p)
		}
	case evActive:
		if p := l.peers.get(e.contact.Address); p != nil {
			l.touch(p)
		}
	case evWaiting:
		if e.messageType() == wire.Group && !l.lan.has(e.ula) {
			l.n.counters.count(dLANNobody)
			return
		}
		l.finder.waiting(e.ula, waiter{msg: e.msg, unasked: e.unasked})
	case evSeekLAN:
		l.lan.seek()
	case evSpeak:
		if p, err := l.meet(e.contact.Address, noSite); err == nil {
			p.Send(l.now, peer.Waiting{Msg: e.msg})
			l.touch(p)
		}
	case evSTUN:
		l.reach.stunAnswer(e.msg, e.ep)
	case evExtra:
		l.extraAnswer(e)
	case evRefused:
		if p := l.peers.get(e.contact.Address); p != nil {
			p.Refused(l.now)
			l.touch(p)
		}
	case evTell:
		if p := l.peers.get(e.in.Contact.Address); p != nil && p.Standing() != book.Blocked {
			p.TellOne(e.in, e.ep)
		}
	}
}

// sealed takes a message that was opened in a session.
func (l *loop) sealed(e event) {
	p := l.peers.get(e.in.Contact.Address)
	if p == nil || p.Standing() == book.Blocked || len(e.msg) == 0 {
		return
	}
	p.Sealed(l.now)
	l.take(&message{peer: p, type_: e.messageType(), body: e.msg[1:], from: e.ep, hop: e.hop, machine: e.in.PeerID, in: e.in})
	l.touch(p)
}

// confirm takes the first packet in a session that the other side began.
func (l *loop) confirm(e event) {
	p := l.peers.get(e.in.Contact.Address)
	if p == nil || p.Standing() == book.Blocked {
		return
	}
	l.n.counters.count(cHandshakes)
	w, ok := l.way(&message{peer: p, from: e.ep, hop: e.hop})
	p.Confirm(l.now, e.in, w, ok)
	if _, ok := e.in.Session.Announced(); ok {
		l.tells.up(p, e.in.Session, e.ep.String())
	}
	l.tick(p)
}

// roam has a new endpoint checked that the newest packet of a session came from.
func (l *loop) roam(e event) {
	p := l.peers.get(e.in.Contact.Address)
	if p == nil || p.Standing() == book.Blocked {
		return
	}
	if w, ok := l.way(&message{peer: p, from: e.ep, hop: e.hop}); ok {
		p.Roamed(l.now, e.in, w)
		l.touch(p)
	}
}

// relayChecks is how often a relay is checked because packets of others came from there
// that no relay seems to have touched. They may be replayed.
var relayChecks = mono.Rate{PerSecond: 1, Burst: 3}

// way returns the way that a packet came along. An endpoint at which another added peer
// is confirmed is a relay's, whatever the hop byte says, which a relay may change; ok is
// false for a relay that is not known.
func (l *loop) way(m *message) (w path.Way, ok bool) {
	w.Endpoint = m.from.Place()
	r := l.n.index.source(w.Endpoint)
	switch {
	case r != nil && r != m.peer.Contact:
		if m.hop == 0 && r.Marks.Checks.Allow(l.now, relayChecks) {
			l.shell.CheckRelay(r.Address) // or has m.peer taken its place?
		}
		w.Via = r.Address
	case m.hop != 0:
		return w, false
	}
	return w, true
}

// decide applies what the book says about a peer.
func (l *loop) decide(e book.Entry) {
	s := e.Standing()
	p := l.peers.get(e.Address)
	switch {
	case p == nil && s <= book.Stranger && !e.Blocked:
		return
	case p == nil:
		p = l.peers.add(peer.New(l.env, e.Address))
	case s == book.Stranger && p.Standing() != book.Stranger:
		l.lan.decide(p, e)
		p.Dismiss()
		l.drop(p) // removed, or unblocked: it is a stranger again when it is met
		l.zones.adopted(e.Address)
		return
	}
	if s != book.Stranger {
		l.peers.strangers.forget(p)
	}
	if s == book.Blocked {
		l.n.programs.host.Drop(e.Address)
		l.clients.block(e.Address)
		l.releaseConnections(p.Contact)
		defer l.zones.adopted(e.Address)
	}
	p.Name = e.Name
	l.lan.decide(p, e)
	if s == book.Added && p.Standing() != s {
		l.beacon.befriended()
	}
	p.Decide(l.now, s, e.Endpoints)
	if s == book.Added && len(e.Endpoints) > 0 {
		l.finder.note(p)
	}
	l.sources(p)
	l.finder.known(p)
	l.reach.greet(p, e)
	l.touch(p)
}

// drop forgets a peer.
func (l *loop) drop(p *peer.Peer) {
	p.Close(l.now, peer.ErrRemoved)
	l.n.programs.host.Drop(p.Address)
	l.releaseConnections(p.Contact)
	l.peers.remove(p)
	l.finder.forget(p)
	l.lan.forget(p)
	l.zones.forget(p)
	l.reach.forget(p)
	l.tells.forget(p)
	if p.Standing() != book.Relay {
		l.n.events.peer(EventRemoved, p)
	}
}

// linksChanged passes a new state of our links to all parts.
func (l *loop) linksChanged(s link.State) {
	l.links.set(s)
	for _, p := range l.parts {
		if p != nil {
			p.linksChanged()
		}
	}
}
