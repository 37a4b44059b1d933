// Package peer is what a node knows of one other address and does about it: its
// machines, the sessions and ways to each, and the messages that wait for them. It is
// pure: the loop of package overlay tells it what came in and what time it is, and it
// acts through a Shell.
//
//	Peer ─┬─ Contact            shared with the lanes: routes, sessions, marks
//	      ├─ queue              messages that nothing can be sent with yet
//	      └─ Machine, one for each peer ID
//	           ├─ seal.Set      its sessions and handshakes
//	           ├─ path.Set      the ways to it
//	           └─ path.Search   how long a datagram the way in use takes
//
// A peer that was never spoken to has no machines and costs little. A handshake with an
// address of which no machine is up goes to whichever answers (peer ID 0 in the
// header): that is what the unknown machine is for.
package peer

import (
	"cmp"
	"errors"
	"fmt"
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

// Errors that messages fail with.
var (
	ErrUnreachable = errors.New("the peer cannot be reached")
	ErrBlocked     = fmt.Errorf("%w: it is blocked", ErrUnreachable)
	ErrFull        = fmt.Errorf("%w: too much waits for it already", ErrUnreachable)
	ErrRemoved     = fmt.Errorf("%w: it was removed", ErrUnreachable)
)

// Shell is what a peer acts through. Its methods never call back into the peer.
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
	// CheckRelay has the ways to a relay checked that somebody behind it is silent.
	CheckRelay(relay anode.Address)
	// Link returns the longest sealed datagram that our end of a way to ep takes, and
	// whether ep is on one of our links.
	Link(ep link.Endpoint) (limit int, on bool)
	// Own lists the endpoints at which a peer may try to reach us directly.
	Own() []wire.Endpoint
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
	Request func() uint32 // random request IDs
	Trains  func() bool   // whether the system sends trains
}

// Peer is one address. It belongs to the loop, except Contact.
type Peer struct {
	*Contact
	Name string // for logs; empty: none

	env      *Env
	key      *seal.MAC // nil until it is needed
	machines []*Machine
	unknown  *Machine // nil unless whichever machine answers is looked for
	queue    queue
	stored   []wire.Endpoint // tried when the peer is looked for
	saved    []wire.Endpoint // those that worked last, as Changed reported them

	signed mono.Time        // the last authentic packet without seal
	seen   mono.Time        // the last authentic packet of any kind that the loop saw
	sought mono.Time        // when ways were last looked for
	failed bool             // the last try to send something failed
	admits wire.StandingMsg // whether the other side has added us

	due     mono.Time // of Tick; see Schedule
	touched bool
	slot    int
}

// fullSenderFor is how long a peer is thought to know our address after it answered
// (draft 3.2).
const fullSenderFor = 60 * time.Second

// seekEvery is how often ways to one peer are looked for at most.
const seekEvery = time.Second

// New makes the peer of an address.
func New(env *Env, a anode.Address) *Peer {
	return &Peer{Contact: NewContact(a), env: env, due: mono.Never, slot: -1}
}

// Label is how the peer is called in logs.
func (p *Peer) Label() string { return cmp.Or(p.Name, p.ID.String()) }

// Key returns the peer's MAC key, agreeing on it the first time.
func (p *Peer) Key() (*seal.MAC, error) {
	if p.key == nil {
		k, err := seal.SharedKey(p.env.Local.Identity, p.Address)
		if err != nil {
			return nil, err
		}
		p.SetKey(seal.NewMAC(k))
	}
	return p.key, nil
}

// HasKey reports whether Key costs nothing.
func (p *Peer) HasKey() bool { return p.key != nil }

// SetKey is for a key that was agreed on before there was a peer.
func (p *Peer) SetKey(m *seal.MAC) {
	p.key = m
	p.publishKey()
}

// publishKey lets the lanes tell what is authentic, for added peers.
func (p *Peer) publishKey() {
	if p.added() {
		p.MAC.Store(p.key)
	} else {
		p.MAC.Store(nil)
	}
}

func (p *Peer) added() bool   { return p.Standing() >= book.Added }
func (p *Peer) blocked() bool { return p.Standing() == book.Blocked }

// Decide applies what people decided: the standing, and endpoints to try. What goes on
// with a peer that is blocked ends.
func (p *Peer) Decide(now mono.Time, s book.Standing, endpoints []wire.Endpoint) {
	if s != p.Standing() {
		p.SetStanding(s)
		p.publishKey()
		for _, m := range p.all() {
			m.set.SetStanding(p.added())
		}
		p.tellStanding()
	}
	if p.blocked() {
		p.Close(now, ErrBlocked)
		return
	}
	p.stored = endpoints
	p.touch()
}

// tellStanding tells the machines that are up whether they are added here.
func (p *Peer) tellStanding() {
	m := wire.StandingNotAdded
	if p.added() {
		m = wire.StandingAdded
	}
	for _, x := range p.machines {
		if r := x.line.Route.Load(); r != nil {
			p.env.Shell.Seal(p.Contact, r, m.Append([]byte{byte(wire.Standing)}), 0)
		}
	}
}

// Learned sets the endpoints that worked the last time, and has all endpoints tried.
func (p *Peer) Learned(now mono.Time, endpoints []wire.Endpoint) {
	p.saved = endpoints
	m := p.target(now)
	m.name(now, p.stored, path.Static)
	m.name(now, p.saved, path.Stored)
	p.touch()
}

// Saved returns the endpoints worth keeping for the next start.
func (p *Peer) Saved() []wire.Endpoint { return p.saved }

// Close ends everything that goes on with the peer, and answers what waits.
func (p *Peer) Close(now mono.Time, err error) {
	for _, m := range p.all() {
		m.close()
	}
	p.machines, p.unknown = nil, nil
	p.publish()
	p.fail(err)
	p.env.Shell.Changed(p, ChangedState|ChangedWays)
	p.touch()
}

// Reshake begins anew with env's Local, under another peer ID of ours.
func (p *Peer) Reshake(now mono.Time) {
	live := p.all()
	p.machines, p.unknown = nil, nil
	for _, m := range live {
		up := m.state == Up || m.state == Lost
		ways := m.ways
		m.close()
		if !up || p.blocked() {
			continue
		}
		if p.unknown == nil {
			p.unknown = newMachine(p, 0)
			p.unknown.ways = ways
			p.want(now, p.unknown)
		}
	}
	p.publish()
	p.touch()
}

// all lists the machines, the unknown one last.
func (p *Peer) all() []*Machine {
	if p.unknown == nil {
		return p.machines
	}
	return append(slices.Clip(p.machines), p.unknown)
}

// machine returns the one with a peer ID, or nil.
func (p *Peer) machine(peerID uint8) *Machine {
	for _, m := range p.machines {
		if m.id() == peerID {
			return m
		}
	}
	return nil
}

// target returns the machine that is spoken to when none is named: the one that is up
// and was heard last, or else the unknown one.
func (p *Peer) target(now mono.Time) *Machine {
	var best *Machine
	for _, m := range p.machines {
		if m.state == Up && (best == nil || m.heard() > best.heard()) {
			best = m
		}
	}
	if best != nil {
		return best
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
	m.name(now, p.stored, path.Static)
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
	if m := p.machine(peerID); m != nil {
		return m
	}
	if len(p.machines) == 0 || len(p.machines) == maxMachines || peerID == 0 {
		return p.target(now)
	}
	m := newMachine(p, peerID)
	p.machines = append(p.machines, m)
	return m
}

// Send sends type | message now, or as soon as there is a session and a way.
func (p *Peer) Send(now mono.Time, w Waiting) {
	if p.blocked() {
		p.env.Shell.Undelivered(p, w, ErrBlocked)
		return
	}
	m := p.target(now)
	if r := m.line.Route.Load(); r != nil && r.Session == m.set.Current(now.Duration()) { // after a sleep its key may have ended
		p.env.Shell.Seal(p.Contact, r, w.Msg, 0)
		m.used(now, r)
		return
	}
	if !p.queue.add(now, w) {
		p.env.Shell.Undelivered(p, w, ErrFull)
		return
	}
	for _, x := range p.machines {
		if x.state == Lost {
			x.again(now)
		}
	}
	p.want(now, m)
}

// want looks for ways to a machine and shakes hands with it.
func (p *Peer) want(now mono.Time, m *Machine) {
	p.seek(now)
	if err := m.set.Want(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
	p.touch()
}

// Unanswered returns for how long HELLOs to the peer have gone unanswered.
func (p *Peer) Unanswered(now mono.Time) (d time.Duration) {
	for _, m := range p.all() {
		d = max(d, m.set.Unanswered(now.Duration()))
	}
	return d
}

// Want has a session made, over the ways that are known.
func (p *Peer) Want(now mono.Time) {
	if err := p.target(now).set.Want(now.Duration()); err != nil {
		p.env.Log.Warn("handshake", "peer", p.Label(), "err", err)
	}
	p.touch()
}

// seek looks for ways, at most once in seekEvery.
func (p *Peer) seek(now mono.Time) {
	if now.Sub(p.sought) < seekEvery {
		return
	}
	p.sought = now
	m := p.target(now)
	m.name(now, p.stored, path.Static)
	m.name(now, p.saved, path.Stored)
	p.env.Shell.Seek(p)
	p.touch()
}

// Offer names a way that may lead to the peer.
func (p *Peer) Offer(now mono.Time, w path.Way, o path.Origin) path.Result {
	_, on := p.env.Shell.Link(w.Endpoint)
	p.touch()
	return p.target(now).ways.Add(now, w, o, on)
}

// fail gives up the messages that wait.
func (p *Peer) fail(err error) {
	waiting := p.queue.take()
	for _, w := range waiting {
		p.env.Shell.Undelivered(p, w, err)
	}
	p.failed = p.failed || len(waiting) > 0
}

// Tick does what is due. It is called at Due, and after each other method.
func (p *Peer) Tick(now mono.Time) {
	p.touched = false
	due := mono.Never
	if p.blocked() {
		p.due = due
		return
	}
	gaveUp := false
	for _, m := range p.all() {
		next, gave := m.tick(now)
		due = min(due, next)
		gaveUp = gaveUp || gave
	}
	if gaveUp && !p.trying() {
		p.fail(ErrUnreachable)
		p.failed = true
	}
	p.retire()
	if len(p.queue.msgs) > 0 {
		end := p.queue.since.Add(p.patience())
		if end <= now {
			p.fail(ErrUnreachable)
		} else {
			due = min(due, end)
		}
	}
	p.due = due
}

// trying reports whether a handshake is under way.
func (p *Peer) trying() bool {
	return slices.ContainsFunc(p.all(), func(m *Machine) bool { return m.state == Seeking || m.state == Shaking })
}

// patience is how long messages wait.
func (p *Peer) patience() time.Duration {
	for _, m := range p.machines {
		if m.state == Lost {
			return patienceLost
		}
	}
	return patience
}

// retire forgets machines without sessions and ways, and the unknown one as soon as
// there is a known one to speak to.
func (p *Peer) retire() {
	gone, up := false, false
	p.machines = slices.DeleteFunc(p.machines, func(m *Machine) bool {
		up = up || m.state == Up
		if _, ok := m.ways.Best(); ok || !m.set.Empty() || m.ways.Checking() {
			return false
		}
		gone = true
		m.close()
		return true
	})
	if p.unknown != nil && up {
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

// Seen returns when the peer last proved to be there.
func (p *Peer) Seen() mono.Time { return max(p.seen, mono.Time(p.Marks.Heard.Load())) }

// Met notes that the peer was heard of, if only by a beacon.
func (p *Peer) Met(now mono.Time) { p.seen = now }

// Waits reports whether messages wait for the peer.
func (p *Peer) Waits() bool { return len(p.queue.msgs) > 0 }

// Best returns the way that is used with the machine that is spoken to, or would be.
func (p *Peer) Best() (path.Info, bool) {
	var best path.Info
	var ok bool
	for _, m := range p.all() {
		if w, has := m.ways.Best(); has && (!ok || m.state == Up) {
			best, ok = w, true
		}
	}
	return best, ok
}

// Each lists the machines of which the peer ID is known.
func (p *Peer) Each() []*Machine { return p.machines }

// touch has Tick called soon.
func (p *Peer) touch() { p.touched = true }

// Look looks for ways now: the peer was just added.
func (p *Peer) Look(now mono.Time) {
	p.sought = 0
	p.seek(now)
}

// SetAdmits notes whether the other side has added us, and reports whether that is new.
func (p *Peer) SetAdmits(x wire.StandingMsg) bool {
	if x == p.admits || x == wire.StandingUnknown {
		return false
	}
	p.admits = x
	return true
}

// Admits returns whether the other side has added us, as far as it told.
func (p *Peer) Admits() wire.StandingMsg { return p.admits }
