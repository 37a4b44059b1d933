package peer

import (
	"slices"
	"time"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// machines are those of one peer, and what concerns one of them alone or all alike.
type machines struct {
	known   []*Machine // by peer ID, at most one for each
	unknown *Machine   // nil unless whichever machine answers is looked for
}

// all lists the machines, the unknown one last.
func (ms *machines) all() []*Machine {
	if ms.unknown == nil {
		return ms.known
	}
	return append(slices.Clip(ms.known), ms.unknown)
}

// with returns the one with a peer ID, or nil.
func (ms *machines) with(peerID uint8) *Machine {
	for _, m := range ms.known {
		if m.ID() == peerID {
			return m
		}
	}
	return nil
}

// supersede forgets the machines that were the same instance as m: it has taken another
// peer ID, and nobody receives what is sent to the old one.
func (ms *machines) supersede(m *Machine, it wire.Instance) {
	if it == (wire.Instance{}) {
		return
	}
	ms.known = slices.DeleteFunc(ms.known, func(x *Machine) bool {
		was := x != m && instance(x.set) == it
		if was {
			x.close()
		}
		return was
	})
}

// trying reports whether a handshake is under way.
func (ms *machines) trying() bool {
	return slices.ContainsFunc(ms.all(), func(m *Machine) bool { return m.state == Seeking || m.state == Shaking })
}

// spoken returns the machine that is up and was heard last; nil if none is up.
func (ms *machines) spoken() (best *Machine) {
	for _, m := range ms.known {
		if m.state == Up && (best == nil || m.heard() > best.heard()) {
			best = m
		}
	}
	return best
}

// patience is how long messages wait.
func (ms *machines) patience() time.Duration {
	if slices.ContainsFunc(ms.known, func(m *Machine) bool { return m.state == Lost }) {
		return patienceLost
	}
	return patience
}

// Current reports whether there is a session to send on.
func (ms *machines) Current(now mono.Time) bool {
	return slices.ContainsFunc(ms.all(), func(m *Machine) bool { return m.set.Current(now.Duration()) != nil })
}

// Best returns the way that is used with the machine that is spoken to, or would be.
func (ms *machines) Best() (path.Info, bool) {
	if m := ms.spoken(); m != nil {
		return m.ways.Best()
	}
	for _, m := range ms.all() {
		if w, ok := m.ways.Best(); ok {
			return w, true
		}
	}
	return path.Info{}, false
}

// Each lists the machines of which the peer ID is known.
func (ms *machines) Each() []*Machine { return ms.known }

// asked returns the machine whose outstanding HELLO a message answers.
func (ms *machines) asked(t wire.Type, body []byte) (*Machine, error) {
	index, ok := seal.Answers(t, body)
	if !ok {
		return nil, seal.ErrBody
	}
	for _, m := range ms.all() {
		if m.set.Outstanding(index) {
			return m, nil
		}
	}
	return nil, seal.ErrUnexpected
}

// of returns the machine of a session; nil if it has ended.
func (ms *machines) of(in *Inbound) *Machine {
	for _, m := range ms.all() {
		if m.line == in.Line {
			return m
		}
	}
	return nil
}

// Cookie takes a COOKIE, which has no MAC: the HELLO goes out again, with it.
func (ms *machines) Cookie(now mono.Time, body []byte, ep link.Endpoint) error {
	m, err := ms.asked(wire.Cookie, body)
	if err != nil {
		return err
	}
	again, err := m.set.OnCookie(now.Duration(), body)
	if again != nil {
		m.hello = again
		m.handshake(ep, again)
	}
	return err
}

// Stale takes a STALE: a new handshake begins, with a greater stamp.
func (ms *machines) Stale(now mono.Time, body []byte) error {
	m, err := ms.asked(wire.Stale, body)
	if err != nil {
		return err
	}
	return m.set.OnStale(now.Duration(), body)
}

// Answered takes a sealed EPC in a session, and reports whether it was the answer of an
// instance that shares its peer ID with another. That one is told so.
func (ms *machines) Answered(now mono.Time, in *Inbound, id uint32) bool {
	m := ms.of(in)
	if m == nil || m.clash.id == 0 || m.clash.id != id || m.clash.newcomer == in.Session {
		return false
	}
	c := m.clash
	m.clash = clash{}
	it, ok := c.newcomer.Announced()
	if !ok || c.newcomer.Ended() {
		return true
	}
	r := Route{Session: c.newcomer, Way: c.at, PeerID: m.ID(), Line: m.line}
	m.peer.env.Shell.Seal(m.peer.Contact, &r, it.Instance.Append([]byte{byte(wire.Clash)}), 0)
	m.peer.env.Shell.Changed(m.peer, ChangedClash)
	return true
}

// Roamed takes another way than the one in use that the newest packet of a session came
// along.
func (ms *machines) Roamed(now mono.Time, in *Inbound, w path.Way) {
	if m := ms.of(in); m != nil {
		m.came(now, w, path.Roamed)
		m.ways.Heard(now, w.Endpoint, w.Via)
	}
}

// ProbeAck takes the answer to a probe of the path's size, which came along w; ok is false if w
// leads through a relay that is not known. The answer to a probe that left along a way which is
// checked, and came back along it, is as good as one to the check.
func (ms *machines) ProbeAck(now mono.Time, in *Inbound, x wire.ProbeMsg, w path.Way, ok bool) {
	m := ms.of(in)
	if m == nil {
		return
	}
	for _, s := range m.sizes.list {
		rtt := s.Answered(now, x.ID, int(x.Size))
		if rtt != 0 && ok && s.way == w && w.Direct() && m.ways.Proved(now, w, rtt) {
			m.learned()
		}
	}
}

// Recheck has all ways checked, so that those behind a relay notice that it lost them.
func (ms *machines) Recheck(now mono.Time) {
	for _, m := range ms.all() {
		m.ways.Suspect(now)
	}
}

// LinksChanged has the ways in use checked again: addresses, routes or links are other
// ones than before. Of a machine that nobody speaks to only those are checked that
// worked, for it to know where we are; others are when somebody wants it.
func (ms *machines) LinksChanged(now mono.Time) {
	for _, m := range ms.all() {
		for _, w := range m.ways.Ways() {
			if _, on := m.peer.env.Shell.Link(w.Endpoint); on != w.OnLink {
				m.ways.Add(now, w.Way, w.Origin, on)
			}
		}
		m.ways.Moved(now, m.state != Idle && m.state != Unreachable, m.coordinated)
		m.moves(now)
		m.told = 0
		if r := m.line.Route.Load(); r != nil {
			limit, _ := m.peer.env.Shell.Link(r.Way.Endpoint)
			m.sizes.of(m.peer.env, r.Way).Restart(limit)
		}
	}
}

// PunchAnew begins the attempts to open direct ways anew, since it is known now how the outside sees us.
func (ms *machines) PunchAnew() {
	for _, m := range ms.all() {
		m.opening.plan.Reset()
	}
}

// Heard allows a lost machine another HELLO: somebody heard it.
func (ms *machines) Heard(now mono.Time) {
	for _, m := range ms.known {
		m.again(now)
	}
}

// Ways lists the ways to all machines of the peer, the best of each first.
func (ms *machines) Ways(yield func(path.Info) bool) {
	for _, m := range ms.all() {
		for _, w := range m.ways.Ways() {
			if !yield(w) {
				return
			}
		}
	}
}

// Direct lists the endpoints at which machines of the peer are confirmed without a
// relay.
func (ms *machines) Direct(yield func(path.Info) bool) {
	for _, m := range ms.all() {
		for _, w := range m.ways.Ways() {
			if w.State == path.Confirmed && w.Direct() && !yield(w) {
				return
			}
		}
	}
}

// Unanswered returns for how long HELLOs to the peer have gone unanswered.
func (ms *machines) Unanswered(now mono.Time) (d time.Duration) {
	for _, m := range ms.all() {
		d = max(d, m.set.Unanswered(now.Duration()))
	}
	return d
}
