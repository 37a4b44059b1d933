// Package peer is what a node knows of one other address and does about it: its
// machines, the sessions and ways to each, and the messages that wait for them. It is
// pure: the loop of package overlay passes it what came in and the time, and it acts through a Shell.
//
//	Peer ─┬─ profile, Contact   who it is; routes, sessions and marks for the lanes
//	      ├─ queue              messages that nothing can be sent with yet
//	      └─ machines
//	           └─ Machine, one for each peer ID
//	                ├─ seal.Set      its sessions and handshakes
//	                ├─ path.Set      the ways to it
//	                └─ path.Search   how long a datagram the way in use takes
//
// A peer that was never spoken to has no machines and costs little. A handshake with an
// address of which no machine is up goes to whichever answers (peer ID 0 in the
// header): that is what the unknown machine is for.
package peer

import (
	"log/slog"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Shell is what a peer acts through. Only Seek may call back into the peer, and only
// Offer.
type Shell interface {
	// Plain sends an unsealed message, signed with the key shared with p, to one
	// machine (0: any). full names us by our whole address.
	Plain(p *Peer, to link.Endpoint, t wire.Type, body []byte, machine uint8, full bool)
	// Seal sends type | message along a route, which need not be published. count is
	// 1 for a packet that has to leave by itself, more for as many copies in one train
	// that is not joined with others, 0 for one that may join a train.
	Seal(c *Contact, r *Route, msg []byte, count int)
	// Undelivered answers a message that could not be sent.
	Undelivered(p *Peer, w Waiting, err error)
	// Seek looks for ways to p: it passes what it finds to Offer, now or later.
	Seek(p *Peer)
	// Diagnose finds out why endpoints of p do not answer, and passes what it finds to
	// Found, later.
	Diagnose(p *Peer, endpoints []link.Endpoint)
	// CheckRelay has the ways to a relay checked that somebody behind it is silent.
	CheckRelay(relay anode.Address)
	// RoundTrip returns the round trip to a relay itself; 0: unknown.
	RoundTrip(relay anode.Address) time.Duration
	// Link returns the longest sealed datagram that our end of a way to ep takes, and
	// whether ep is on one of our links.
	Link(ep link.Endpoint) (limit int, on bool)
	// Hint reports whether packets may be sent to ep because the peer said so; inside says that
	// it is behind the same NAT, so that private addresses on no link of ours mean the same.
	Hint(ep link.Endpoint, inside bool) bool
	// Own lists the endpoints at which a peer may try to reach us directly.
	Own() []wire.Endpoint
	// Renew has the outside asked for a fresh Mapping, which Env.Mapping returns as soon as the
	// answer comes: within a round trip to a relay.
	Renew()
	// Changed is told what is different about p.
	Changed(p *Peer, what Change)
}

// Change says what is different about a peer; several may be set.
type Change uint8

// The changes.
const (
	ChangedState Change = 1 << iota // a State, or the path in use
	ChangedWays                     // the endpoints that are confirmed
	ChangedClash                    // two machines with one peer ID were found
)

// Env is what all peers of a node have in common.
type Env struct {
	Shell   Shell
	Local   *seal.Local // our side of handshakes; replaced by Reshake
	Log     *slog.Logger
	Request func() uint32       // random request IDs
	Trains  func() bool         // whether the system sends trains
	Open    func() bool         // whether everybody is let in; nil: only who was added
	Mapping func() path.Mapping // how the outside sees us; nil: nothing is known
	Silent  func() bool         // UDP got no answer on this network the last time; nil: nothing is known
	Dead    func(link.Endpoint) // a connection that we opened carries nothing any more; nil: nobody cares
}

// Peer is one address. It belongs to the loop, except Contact.
type Peer struct {
	profile
	machines

	queue  queue
	stored []wire.Endpoint // tried when the peer is looked for
	hints  []wire.Endpoint // as stored, but nobody keeps them: see Hint
	saved  []wire.Endpoint // those that worked last, as Changed reported them
	sought mono.Time       // when ways were last looked for
	failed bool            // the last try to send something failed
	more   bool            // Tick has changed what it had passed already
	shown  State           // as Changed was last told

	carried mono.Time // when data last went through it, a relay that is reached by a connection

	heardIn heardIn

	trouble trouble
	search  search
	budget  path.Allowance // of attempts to open direct ways

	entry entry
}

// fullSenderFor is how long a peer is thought to know our address after it answered
// (draft 3.2).
const fullSenderFor = 60 * time.Second

// seekEvery is how often ways to one peer are looked for at most.
const seekEvery = time.Second

// New makes the peer of an address.
func New(env *Env, a anode.Address) *Peer {
	return &Peer{profile: profile{Contact: NewContact(a), env: env}, entry: newEntry()}
}

// Decide applies what people decided: the standing, and endpoints to try. What goes on
// with a peer that is blocked ends.
func (p *Peer) Decide(now mono.Time, s book.Standing, endpoints []wire.Endpoint) {
	if s != p.Standing() {
		p.SetStanding(s)
		p.publishKey()
		p.Tell()
		p.promote(now)
	}
	if p.blocked() {
		p.Close(now, ErrBlocked)
		return
	}
	p.stored = endpoints
	p.withdraw()
}

// Hint replaces the endpoints that are tried beside those of Decide, such as those that
// the name of a machine has now. New ones are tried at once. It reports whether there are
// new ones.
func (p *Peer) Hint(now mono.Time, endpoints []wire.Endpoint) bool {
	fresh := slices.ContainsFunc(endpoints, func(e wire.Endpoint) bool { return !slices.Contains(p.hints, e) })
	p.hints = slices.Clone(endpoints)
	p.withdraw()
	if fresh && !p.blocked() {
		p.target(now).name(now, p.hints, path.Named)
	}
	return fresh
}

// withdraw forgets the ways that people gave and took back.
func (p *Peer) withdraw() {
	in := func(list []wire.Endpoint) func(link.Endpoint) bool {
		return func(ep link.Endpoint) bool {
			return slices.Contains(list, ep.Wire()) || slices.Contains(list, wire.UDP(ep.Addr))
		}
	}
	for _, m := range p.all() {
		m.ways.Withdraw(path.Static, in(p.stored))
		m.ways.Withdraw(path.Named, in(p.hints))
	}
}

// tryGiven names the endpoints that people gave to a machine.
func (p *Peer) tryGiven(now mono.Time, m *Machine) {
	m.name(now, p.stored, path.Static)
	m.name(now, p.hints, path.Named)
}

// Learned sets the endpoints that worked the last time, and has all endpoints tried.
func (p *Peer) Learned(now mono.Time, endpoints []wire.Endpoint) {
	p.saved = endpoints
	m := p.target(now)
	p.tryGiven(now, m)
	m.name(now, p.saved, path.Stored)
}

// Saved returns the endpoints worth keeping for the next start.
func (p *Peer) Saved() []wire.Endpoint { return p.saved }

// Close ends everything that goes on with the peer, and answers what waits.
func (p *Peer) Close(now mono.Time, err error) {
	for _, m := range p.all() {
		m.close()
	}
	p.known, p.unknown = nil, nil
	p.publish()
	p.fail(err)
	p.failed = false
	p.trouble, p.search = trouble{}, search{}
	p.env.Shell.Changed(p, ChangedState|ChangedWays)
}

// Reshake begins anew with env's Local, under another peer ID of ours. What is known of
// the machines' ways stays.
func (p *Peer) Reshake(now mono.Time) {
	live, last := p.all(), p.unknown
	p.known, p.unknown = nil, nil
	var wanted []*Machine
	for _, m := range live {
		x := newMachine(p, m.ID())
		x.ways, x.sizes, x.opening = m.ways, m.sizes, m.opening
		m.close()
		if m == last {
			p.unknown = x
		} else {
			p.known = append(p.known, x)
		}
		if m.state == Up || m.state == Lost {
			wanted = append(wanted, x)
		}
	}
	for _, m := range wanted {
		p.want(now, m)
	}
	if p.Waits() {
		p.want(now, p.target(now))
	}
	p.publish()
}

// target returns the machine that is spoken to when none is named: the one that is up
// and was heard last, or one with a session by an invitation, or else the unknown one.
func (p *Peer) target(now mono.Time) *Machine {
	if m := p.spoken(); m != nil {
		return m
	}
	if m := p.invited(now); m != nil {
		return m
	}
	if p.unknown == nil {
		p.unknown = newMachine(p, 0)
		p.adoptWays(now, p.unknown)
	}
	return p.unknown
}

// adoptWays names the ways of the other machines, and the stored endpoints, to one that
// is new: whoever answers there is welcome.
func (p *Peer) adoptWays(now mono.Time, m *Machine) {
	p.tryGiven(now, m)
	m.name(now, p.saved, path.Stored)
	for _, x := range p.all() {
		for _, w := range x.ways.Ways() {
			if x != m && w.State == path.Confirmed {
				m.ways.Add(now, w.Way, w.Origin, w.OnLink)
			}
		}
	}
}

// heardAs returns the machine that packets with a sender's peer ID are of. The first
// one's ways are those of whichever machine answers, until a handshake names it.
func (p *Peer) heardAs(now mono.Time, peerID uint8) *Machine {
	if m := p.with(peerID); m != nil {
		return m
	}
	if len(p.known) == 0 || peerID == 0 {
		return p.target(now)
	}
	m := newMachine(p, peerID)
	p.known = append(p.known, m)
	return m
}

// Send sends type | message now, or as soon as there is a session and a way.
func (p *Peer) Send(now mono.Time, w Waiting) {
	if p.blocked() {
		p.env.Shell.Undelivered(p, w, ErrBlocked)
		return
	}
	m := p.target(now)
	r := m.line.Route.Load()
	if r != nil && r.Session != m.set.Current(now.Duration()) { // after a sleep its key may have ended
		r = nil
	}
	if w.tells() {
		r = m.telling(now, r)
	}
	if r != nil {
		m.send(now, r, w)
		return
	}
	if !p.queue.add(now, w) {
		p.env.Shell.Undelivered(p, w, ErrFull)
		return
	}
	p.Heard(now)
	p.want(now, m)
}

// want looks for ways to a machine and shakes hands with it.
func (p *Peer) want(now mono.Time, m *Machine) {
	p.seek(now)
	if m.set.Unanswered(now.Duration()) == 0 {
		p.renew()
	}
	m.opening.need.wanted = now
	if err := m.set.Want(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
}

// Want has a session made, over the ways that are known.
func (p *Peer) Want(now mono.Time) {
	if err := p.target(now).set.Want(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
}

// seek looks for ways, at most once in seekEvery.
func (p *Peer) seek(now mono.Time) {
	if now.Sub(p.sought) < seekEvery {
		return
	}
	p.sought = now
	m := p.target(now)
	p.tryGiven(now, m)
	m.name(now, p.saved, path.Stored)
	p.env.Shell.Seek(p)
	p.more = true
}

// Offer names a way that may lead to the peer.
func (p *Peer) Offer(now mono.Time, w path.Way, o path.Origin) path.Result {
	_, on := p.env.Shell.Link(w.Endpoint)
	return p.target(now).ways.Add(now, w, o, on)
}

// fail drops the messages that wait.
func (p *Peer) fail(err error) {
	waiting := p.queue.take()
	for _, w := range waiting {
		p.env.Shell.Undelivered(p, w, err)
	}
	p.failed = p.failed || len(waiting) > 0
}

// Tick does what is due. It is called after all other methods too: see Schedule.Touch.
func (p *Peer) Tick(now mono.Time) {
	p.more = false
	due := mono.Never
	if p.blocked() {
		p.entry.due = due
		return
	}
	gaveUp := false
	for _, m := range p.all() {
		next, gave := m.tick(now)
		due = min(due, next)
		gaveUp = gaveUp || gave
	}
	if gaveUp && !p.trying() {
		p.fail(p.unreachable(now))
		p.failed = true
	}
	p.retire()
	if len(p.queue.msgs) > 0 {
		end := p.queue.since.Add(p.patience())
		if end <= now {
			p.fail(p.unreachable(now))
		} else {
			due = min(due, end)
		}
	}
	if p.more {
		due = now
	}
	if s := p.State(); s != p.shown {
		p.shown = s
		p.env.Shell.Changed(p, ChangedState)
	}
	p.entry.due = due
}

// retire forgets machines without sessions and ways, and the unknown one as soon as there is a known one to speak to and
// no invitation is under way with it.
func (p *Peer) retire() {
	gone, up := false, false
	p.known = slices.DeleteFunc(p.known, func(m *Machine) bool {
		up = up || m.state == Up
		if _, ok := m.ways.Best(); ok || !m.set.Empty() || m.ways.Checking() {
			return false
		}
		gone = true
		m.close()
		return true
	})
	if p.unknown != nil && up && !p.unknown.set.Joining() {
		p.unknown.close()
		p.unknown, gone = nil, true
	}
	if gone {
		p.publish()
	}
}

// State returns the state of the machine with which things are furthest.
func (p *Peer) State() State {
	order := [...]int{Idle: 1, Unreachable: 2, Lost: 3, Seeking: 4, Shaking: 5, Up: 6}
	best := Idle
	if p.failed {
		best = Unreachable
	}
	for _, m := range p.all() {
		if order[m.state] > order[best] {
			best = m.state
		}
	}
	if len(p.queue.msgs) > 0 && order[best] < order[Seeking] {
		return Seeking
	}
	return best
}

// Waits reports whether messages wait for the peer.
func (p *Peer) Waits() bool { return len(p.queue.msgs) > 0 }

// Look looks for ways now: the peer was just added.
func (p *Peer) Look(now mono.Time) {
	p.sought = 0
	p.seek(now)
}
