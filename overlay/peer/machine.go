package peer

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Machine is one machine of a peer: what is kept for each peer ID.
type Machine struct {
	peer    *Peer
	set     *seal.Set
	ways    *path.Set
	sizes   sizes
	line    *Line
	inbound []*Inbound
	state   State

	hello  *seal.Message // the last one sent
	shakes shakes        // when it was sent

	welcomed   path.Way // where the WELCOME for a session went that nothing came in yet; zero: none
	welcomedAt mono.Time

	answered link.Endpoint // where the last WELCOME, or the first packet in the last session of the machine, came from
	retried  mono.Time     // when a lost machine was last sent a HELLO out of turn
	cameAt   mono.Time     // when data last came, as far as it was looked at
	dense    bool          // it came more often than pausedFor
	paused   mono.Time     // when the way was last checked because data stopped coming
	onWay    mono.Time     // when a packet last came on the way in use, as the ways know
	told     mono.Time     // when the peer was last told where we are
	routed   mono.Time     // since when its packets take the way in use
	others   uint16        // of the unknown machine: the peer IDs that answered checks, a bit each
	clash    clash
	opening  opening
	stand    stand     // what it said about us
	doubted  mono.Time // when the relay was last asked since nothing came by it
	repeats  int       // how often its HELLO came again, although we answered it
	renewed  mono.Time // when a handshake was last begun because of what it said
}

// Times of silence.
const (
	silentFor   = 3 * time.Second        // with HELLOs unanswered: the machine is lost
	unheardFor  = time.Second            // data sent and nothing heard: its ways are checked
	doubtLeast  = 300 * time.Millisecond // data sent and nothing heard: the relay, or a stale way, is checked
	staleAfter  = 5 * time.Second        // a way that was not heard for so long may be gone
	doubtMore   = 200 * time.Millisecond // than two round trips
	relayEvery  = 2 * time.Second        // a peer that only receives answers after half a second
	pausedFor   = 750 * time.Millisecond // data stopped coming: its way is checked once
	flowing     = 2 * time.Second        // data came or went so recently: it flows
	tellEvery   = 15 * time.Second       // our endpoints to a peer behind a relay
	rehello     = time.Second
	searchAfter = 200 * time.Millisecond // a HELLO unanswered: other ways are looked for
)

func newMachine(p *Peer, peerID uint8) *Machine {
	m := &Machine{peer: p, set: seal.NewSet(p.env.Local, p.Address, peerID), line: new(Line), ways: p.newWays()}
	m.set.SetStanding(p.admits(), p.added())
	return m
}

// newWays returns the ways to a machine of which none is known.
func (p *Peer) newWays() *path.Set {
	s := path.NewSet(p.env.Request)
	s.Blocked, s.Lower, s.Dead = p.env.Silent, p.lower(), p.env.Dead
	return s
}

// ID returns the machine's peer ID; 0: not known.
func (m *Machine) ID() uint8 { return m.set.PeerID() }

// State returns how far things are with the machine.
func (m *Machine) State() State { return m.state }

// heard is when anything sealed of the machine was last opened.
func (m *Machine) heard() mono.Time { return mono.Time(m.set.Flow().Received) }

// instance is what a machine announced last; zero if it did not.
func instance(set *seal.Set) (last wire.Instance) {
	for _, s := range set.Live() {
		if it, ok := s.Announced(); ok {
			last = it.Instance
		}
	}
	return last
}

// close ends the machine's sessions.
func (m *Machine) close() {
	m.set.Close()
	m.line.Route.Store(nil)
	m.peer.unforward(m.ID())
	m.inbound = nil
}

// name adds the endpoints of one origin. Where people gave one of UDP, the peer takes connections
// as well, unless it was told otherwise.
func (m *Machine) name(now mono.Time, es []wire.Endpoint, o path.Origin) {
	for _, e := range es {
		ep, ok := link.FromWire(e)
		if !ok {
			continue
		}
		_, on := m.peer.env.Shell.Link(ep)
		m.ways.Add(now, path.Way{Endpoint: ep}, o, on)
		if ep.Kind == link.UDP && o >= path.Named {
			ep.Kind = link.TCP
			m.ways.Add(now, path.Way{Endpoint: ep}, o, on)
		}
	}
}

// tick does what is due for the machine.
func (m *Machine) tick(now mono.Time) (due mono.Time, gaveUp bool) {
	do, next := m.set.Tick(now.Duration())
	due = mono.Due(next)
	if len(do.Ended) > 0 {
		m.sessions()
	}
	if do.Hello != nil {
		m.hello = do.Hello
		m.shake(now)
	}
	due = min(due, m.shakeAgain(now))
	if do.Keepalive != nil {
		m.keepalive(do.Keepalive)
	}
	m.noteHeard(now)
	due = min(due, m.listen(now), m.clash.tick(now))
	due = min(due, m.check(now, do.Hello != nil), m.judge(now))
	m.route(now)
	if m.ways.Turned() { // at the end of a trial, for one: nothing came just then
		m.peer.env.Shell.Changed(m.peer, ChangedWays)
	}
	m.transit(now, do.GaveUp)
	m.flush(now)
	return min(due, m.measure(now), m.tell(now), m.punch(now)), do.GaveUp
}

// shake sends the HELLO that is due. The way in use may be dead: it is checked, and
// after a while without an answer others are looked for.
func (m *Machine) shake(now mono.Time) {
	if best, ok := m.ways.Best(); ok && now.Sub(best.Heard) > time.Second {
		m.silent(now)
	}
	d := m.set.Unanswered(now.Duration())
	if d > searchAfter {
		m.peer.seek(now)
	}
	m.peer.unanswered(now, d)
	if h, err := seal.ParseHello(m.hello.Body); err == nil {
		q := Question(h.Noise)
		m.peer.Asked.Store(&q)
	}
	m.everyWay(now)
}

// everyWay sends the HELLO along every way that may work. It is too long for one that a
// session's packet proposed: see maxProposed.
func (m *Machine) everyWay(now mono.Time) {
	m.shakes.note(now, now.Add(-m.set.Unanswered(now.Duration())))
	for _, w := range m.ways.Ways() {
		if w.State == path.Confirmed && w.Fitness != path.Stale || w.State == path.Candidate && w.Origin != path.Roamed && !w.Punched && !w.Waiting() {
			m.handshake(w.Endpoint, m.hello)
		}
	}
}

// handshake sends a message of the handshake, which always bears the full address.
func (m *Machine) handshake(ep link.Endpoint, x *seal.Message) {
	m.peer.env.Shell.Plain(m.peer, ep, wire.Type(x.Type), x.Body, x.PeerID, true)
}

// again sends a lost machine the HELLO that it owes an answer to, at most once in
// rehello: somebody wants to speak to it, or it was heard.
func (m *Machine) again(now mono.Time) {
	if m.state != Lost || m.hello == nil || m.set.Unanswered(now.Duration()) == 0 || now.Sub(m.retried) < rehello {
		return
	}
	m.retried = now
	m.everyWay(now)
}

// check sends the EPC_REQs that are due. A way that is new gets the HELLO that waits for
// an answer with it, so that nothing is lost; shook is set if all ways just got it.
func (m *Machine) check(now mono.Time, shook bool) (next mono.Time) {
	m.ways.Flows(now, m.active(now) || now.Sub(m.peer.carried) <= 2*flowing)
	requests, next := m.ways.Requests(now)
	for _, r := range requests {
		if r.Try > 0 && m.peer.Standing() < book.Relay && m.set.Empty() {
			continue // nobody here wants this stranger: one question has to do
		}
		if m.peer.Standing() < book.Relay && m.set.Unproved() {
			continue // our WELCOME asks already: what comes back in its session proves the way
		}
		m.ask(now, r)
		m.prove(now, r)
		if !shook && (r.Try == 0 || r.Early) && r.Origin != path.Roamed && !r.Burst && m.hello != nil && m.set.Unanswered(now.Duration()) > 0 {
			m.shakes.note(now, now.Add(-m.set.Unanswered(now.Duration())))
			m.handshake(r.Way.Endpoint, m.hello)
		}
	}
	return next
}

// maxProposed is how many questions a proposed endpoint gets: no more bytes than three
// times those of the packet that proposed it.
const maxProposed = 2

// ask sends one EPC_REQ. One to an endpoint that a session's packet proposed is sealed in
// that session, as is one of an attempt, since what comes by such a way is no replay; others
// go to machines that may have no session with us.
func (m *Machine) ask(now mono.Time, r path.Request) {
	s := m.set.Current(now.Duration())
	if r.Origin != path.Roamed && !r.Burst || s == nil {
		m.peer.Reply(now, r.Way.Endpoint, m.ID(), wire.EPCReq, wire.AppendEPC(nil, r.ID))
		return
	}
	if r.Try < maxProposed || r.Burst {
		to := Route{Session: s, Way: r.Way, PeerID: m.ID(), Line: m.line}
		m.peer.env.Shell.Seal(m.peer.Contact, &to, wire.AppendEPC([]byte{byte(wire.EPCReq)}, r.ID), 0)
	}
}

// keepalive sends an empty message where the session's packets go, or, before any way
// was confirmed, where the handshake's answer came from.
func (m *Machine) keepalive(s *seal.Session) {
	r := Route{Session: s, Way: path.Way{Endpoint: m.answered}, PeerID: m.ID(), Line: m.line}
	if old := m.line.Route.Load(); old != nil {
		r.Way = old.Way
	} else if best, ok := m.ways.Best(); ok {
		r.Way = best.Way
	}
	if r.Way.Endpoint != (link.Endpoint{}) {
		m.peer.env.Shell.Seal(m.peer.Contact, &r, nil, 0)
	}
}

// silent has the ways in use checked, since an answer is missing. Relays that they lead
// through are checked too: they may have lost us, and then drop what we send.
func (m *Machine) silent(now mono.Time) {
	if _, checked := m.ways.Silent(now); !checked {
		return
	}
	m.opening.need.changed = now
	for _, w := range m.ways.Ways() {
		if w.State == path.Confirmed && !w.Direct() {
			m.peer.env.Shell.CheckRelay(w.Via)
		}
	}
}

// noteHeard records that packets came on the way in use.
func (m *Machine) noteHeard(now mono.Time) {
	r := m.line.Route.Load()
	if r == nil {
		return
	}
	if at := mono.Time(m.line.Heard.Load()); at > m.onWay {
		m.onWay = at
		m.ways.Heard(at, r.Way.Endpoint, r.Way.Via)
	}
}

// listen has ways checked where data is unanswered, or stopped coming: whoever only
// receives would otherwise never notice that nothing can come any more.
func (m *Machine) listen(now mono.Time) (next mono.Time) {
	next = mono.Never
	if m.state != Up {
		return mono.Never
	}
	f := m.set.Flow()
	if f.Unheard != 0 && now.Sub(mono.Time(f.Unheard)) >= unheardFor {
		m.silent(now)
		m.peer.seek(now)
	} else if f.Unheard != 0 {
		next = m.doubt(now, mono.Time(f.Unheard))
	}
	data := mono.Time(f.Data)
	if data > m.cameAt {
		m.dense, m.cameAt = data.Sub(m.cameAt) < pausedFor, data
	}
	if data == 0 || !m.dense || m.paused >= data || now.Sub(data) > flowing {
		return next
	}
	if now.Sub(data) < pausedFor {
		return min(next, data.Add(pausedFor))
	}
	m.paused = now
	if best, ok := m.ways.Best(); ok && m.replaceable(&best) {
		m.ways.Check(now, best.Way) // if it does not answer, the other way takes over
		m.peer.more = true
	} else {
		m.silent(now)
	}
	return next
}

// doubt has the way in use checked if data has gone unanswered for two round trips: a relay that
// has lost us drops what we send, and says nothing, and so does a NAT that has forgotten us while
// nothing was said. One exchange with the relay is cheap, and of direct ways only those are doubted
// that were not heard just before, so this comes before all ways are checked. since is when the
// data was sent.
func (m *Machine) doubt(now, since mono.Time) mono.Time {
	best, ok := m.ways.Best()
	if ok && m.replaceable(&best) {
		return m.doubtDirect(now, since, best)
	}
	if !ok || m.doubted >= since || now.Sub(m.doubted) < relayEvery || best.Direct() && since.Sub(best.Heard) < staleAfter {
		return mono.Never
	}
	at := since.Add(max(2*best.RTT+doubtMore, doubtLeast))
	if now < at {
		return at
	}
	m.doubted = now
	if best.Direct() {
		m.silent(now)
		m.peer.seek(now)
	} else {
		m.peer.env.Shell.CheckRelay(best.Via)
	}
	return mono.Never
}

// route publishes the session and the best way to the lanes.
func (m *Machine) route(now mono.Time) {
	m.forward()
	best, ok := m.ways.Best()
	old := m.line.Route.Load()
	s := m.session(now, old)
	if !ok || s == nil || m.lost(now) || m.peer.blocked() {
		if old != nil {
			m.line.Route.Store(nil)
			m.peer.publish()
		}
		return
	}
	x := m.sizes.of(m.peer.env, best.Way)
	r := Route{Session: s, Way: best.Way, PeerID: m.ID(), Datagram: x.Size(), Large: x.Large(), Trains: x.Trains(), Refuses: m.stand.refuses, Line: m.line}
	if old != nil && *old == r {
		return
	}
	if !m.line.Route.CompareAndSwap(old, new(r)) { // r itself stays on the stack: this is seldom reached
		m.route(now) // a lane has called Answer, which it does once for a session
		return
	}
	m.peer.publish()
	if old == nil || old.Way != r.Way {
		m.routed = now
		m.logPath(&best)
		m.peer.remember()
		m.peer.env.Shell.Changed(m.peer, ChangedState)
	}
}

// session returns the session to send on, or nil. If a lane has changed that of the route by Answer, it stays
// until the loop confirms it.
func (m *Machine) session(now mono.Time, r *Route) *seal.Session {
	if r != nil && m.set.Pending(r.Session) {
		return r.Session
	}
	return m.set.Current(now.Duration())
}

// logPath reports the way in use. Strangers come as they like, and must not fill a disk.
func (m *Machine) logPath(best *path.Info) {
	level := slog.LevelInfo
	if m.peer.Standing() < book.Relay {
		level = slog.LevelDebug
	}
	if log := m.peer.env.Log; log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, "path", "peer", m.peer.Label(), "endpoint", best.Endpoint, "relayed", !best.Direct(), "rtt", best.RTT)
	}
}

// lost reports whether the machine left HELLOs unanswered for silentFor, and was not
// heard otherwise either. What can be a replay, or another machine's, does not count.
func (m *Machine) lost(now mono.Time) bool {
	best, _ := m.ways.Best()
	heard := max(m.heard(), best.Heard)
	return m.set.Unanswered(now.Duration()) > silentFor && now.Sub(heard) > silentFor
}

// transit moves the state on.
func (m *Machine) transit(now mono.Time, gaveUp bool) {
	_, way := m.ways.Best()
	next := m.state.next(facts{
		way:     way,
		session: m.set.Current(now.Duration()) != nil,
		trying:  m.set.Unanswered(now.Duration()) > 0 || m.set.Invited(now.Duration()) != nil,
		silent:  m.lost(now),
		gaveUp:  gaveUp,
	})
	if next == m.state {
		return
	}
	m.state = next
	if next == Up {
		m.peer.failed = false
		m.peer.relieve(true)
	} else if next == Unreachable || next == Lost {
		m.peer.failed = m.peer.spoken() == nil
	}
	m.peer.publish()
	m.peer.env.Shell.Changed(m.peer, ChangedState)
}

// flush sends what waited for a route.
func (m *Machine) flush(now mono.Time) {
	r := m.line.Route.Load()
	if r == nil {
		m.flushAside(now)
		return
	}
	if len(m.peer.queue.msgs) == 0 {
		return
	}
	for _, w := range m.peer.queue.take() {
		m.send(now, r, w)
	}
}

// send sends a message on the machine's route, or answers it if the machine would drop it.
func (m *Machine) send(now mono.Time, r *Route, w Waiting) {
	if w.Ready != nil {
		w.Ready <- r.PeerID
		return
	}
	if r.Refuses && w.Unasked {
		m.peer.env.Shell.Undelivered(m.peer, w, &UnreachableError{Reason: NotAddedThere})
		m.peer.Refused(now)
		return
	}
	m.peer.env.Shell.Seal(m.peer.Contact, r, w.Msg, 0)
	m.used(now, r)
	if w.Sent != nil {
		w.Sent <- r.PeerID
	}
}

// used notes that data was sent in a session, for its timers.
func (m *Machine) used(now mono.Time, r *Route) {
	r.Session.Sent(int64(now))
	if r.Session.Activate() {
		m.peer.more = true
	}
}

// tell sends our endpoints to an added peer behind a relay, so that it tries directly
// (draft 4.2.6), as long as data flows. Those that take NAT_T get PUNCH instead.
func (m *Machine) tell(now mono.Time) (next mono.Time) {
	r := m.line.Route.Load()
	if r == nil || byUDP(r.Way) || !m.peer.added() || m.opening.said.takes {
		return mono.Never
	}
	if now.Sub(m.told) < tellEvery {
		return mono.Never
	}
	f := m.set.Flow()
	if m.told != 0 && now.Sub(mono.Time(max(f.Sent, f.Data))) > flowing {
		return mono.Never
	}
	m.told = now
	for _, e := range m.peer.env.Shell.Own() {
		x := wire.EPIMsg{Endpoint: e}
		m.peer.env.Shell.Seal(m.peer.Contact, r, x.Append([]byte{byte(wire.EPI)}), 0)
	}
	return mono.Never
}

// sessions has the lanes receive on the machine's live sessions and no others.
func (m *Machine) sessions() {
	live := m.set.Live()
	m.inbound = slices.DeleteFunc(m.inbound, func(in *Inbound) bool { return !slices.Contains(live, in.Session) })
	for _, s := range live {
		if slices.ContainsFunc(m.inbound, func(in *Inbound) bool { return in.Session == s }) {
			continue
		}
		in := &Inbound{Session: s, Contact: m.peer.Contact, Line: m.line, PeerID: s.PeerID()}
		in.Pending.Store(!s.Initiator())
		m.inbound = append(m.inbound, in)
	}
	m.peer.publish()
}
