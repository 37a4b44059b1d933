package peer

import (
	"slices"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// sizes are what was measured of the ways used last, the present one in front.
type sizes struct {
	list    []*sized
	doubted mono.Time // when one was last verified because the peer probed
}

// sized is a way and what was measured of it.
type sized struct {
	way path.Way
	path.Search
}

// maxSized is of how many ways a machine keeps what was measured.
const maxSized = 8

// of returns the search for the size of a way, begun if the way is new.
func (s *sizes) of(env *Env, w path.Way) *path.Search {
	list := s.list
	k := slices.IndexFunc(list, func(x *sized) bool { return x.way == w })
	if k < 0 {
		limit, _ := env.Shell.Link(w.Endpoint)
		list = append(list, &sized{w, path.NewSearch(limit, env.Request)})
		k = len(list) - 1
	}
	x := list[k]
	copy(list[1:k+1], list[:k])
	list[0] = x
	s.list = list[:min(len(list), maxSized)]
	return &x.Search
}

// find returns what was measured of a way, or nil.
func (s *sizes) find(w path.Way) *path.Search {
	for _, x := range s.list {
		if x.way == w {
			return &x.Search
		}
	}
	return nil
}

// doubtEvery is how often a probe of the peer's makes us verify our own size.
const doubtEvery = 2 * time.Second

// Probed takes a probe that came in a session, a datagram of size bytes. If that is less
// than what we send, the path from there may have become shorter, and ours with it. To
// find that out by lost data would take a round trip of the users' programs more.
func (ms *machines) Probed(now mono.Time, in *Inbound, size int) {
	m := ms.of(in)
	if m == nil || now.Sub(m.sizes.doubted) < doubtEvery {
		return
	}
	if r := m.line.Route.Load(); r != nil && size < r.Datagram {
		m.sizes.doubted = now
		m.sizes.of(m.peer.env, r.Way).Doubt()
	}
}

// measure sends the probes of the path's size that are due, to added peers: on the way in
// use, and on direct ones that are to be used once a large packet got through.
func (m *Machine) measure(now mono.Time) (next mono.Time) {
	r := m.line.Route.Load()
	if r == nil || !m.peer.added() {
		return mono.Never
	}
	next = m.try(now, r)
	if r.Way.Direct() && r.Way.Endpoint.Kind.Connected() {
		return next // what the adapter takes fits in
	}
	x := m.sizes.of(m.peer.env, r.Way)
	best, _ := m.ways.Best()
	next = min(next, m.probe(now, r, x, best.RTT, path.Traffic{Large: mono.Time(m.line.Large.Load()), Heard: m.heard()}))
	if x.Size() != r.Datagram || x.Trains() != r.Trains {
		m.route(now)
	}
	return next
}

// try probes the direct ways on which no large packet was answered.
func (m *Machine) try(now mono.Time, r *Route) (next mono.Time) {
	next = mono.Never
	for _, w := range m.ways.Ways() {
		if w.State != path.Confirmed || !byUDP(w.Way) || w.Fitness != path.Unproven && w.Fitness != path.Small || w.Way == r.Way {
			continue
		}
		x := m.sizes.of(m.peer.env, w.Way)
		x.Try()
		to := *r
		to.Way = w.Way
		used := path.Traffic{Heard: m.heard()}
		if w.Trial() {
			used.Large = now // it is measured as if it was used
		}
		next = min(next, m.probe(now, &to, x, w.RTT, used))
	}
	return next
}

// prove sends a large packet with the first request to where an added peer says that it is. The
// answer saves a round trip before the way is used.
func (m *Machine) prove(now mono.Time, r path.Request) {
	s := m.set.Current(now.Duration())
	ep := r.Way.Endpoint
	if s == nil || r.Try != 0 || !r.Way.Direct() || !m.peer.added() || !slices.Contains(m.opening.said.there, ep) {
		return
	}
	x := m.sizes.of(m.peer.env, r.Way)
	if x.Proven() || !m.peer.budget.Proof(now) {
		return
	}
	if b, ok := x.Early(now); ok {
		to := Route{Session: s, Way: r.Way, PeerID: m.ID(), Line: m.line}
		msg := wire.ProbeMsg{ID: b.ID, Size: uint16(b.Size)}
		m.peer.env.Shell.Seal(m.peer.Contact, &to, msg.AppendProbe([]byte{byte(wire.Probe)}), b.Count)
	}
}

// probe sends the probes of one way that are due.
func (m *Machine) probe(now mono.Time, r *Route, x *path.Search, rtt time.Duration, used path.Traffic) (next mono.Time) {
	probes, next := x.Due(now, rtt, used, m.peer.env.Trains() && r.Way.Direct())
	for _, b := range probes {
		msg := wire.ProbeMsg{ID: b.ID, Size: uint16(b.Size)}
		m.peer.env.Shell.Seal(m.peer.Contact, r, msg.AppendProbe([]byte{byte(wire.Probe)}), b.Count)
	}
	return next
}
