package peer

import (
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// sizes are what was measured of the ways used last, the present one in front.
type sizes []*sized

// sized is a way and what was measured of it.
type sized struct {
	way path.Way
	path.Search
}

// maxSized is of how many ways a machine keeps what was measured.
const maxSized = 4

// of returns the search for the size of a way, begun if the way is new.
func (s *sizes) of(env *Env, w path.Way) *path.Search {
	list := *s
	k := slices.IndexFunc(list, func(x *sized) bool { return x.way == w })
	if k < 0 {
		limit, _ := env.Shell.Link(w.Endpoint)
		list = append(list, &sized{w, path.NewSearch(limit, env.Request)})
		k = len(list) - 1
	}
	x := list[k]
	copy(list[1:k+1], list[:k])
	list[0] = x
	*s = list[:min(len(list), maxSized)]
	return &x.Search
}

// measure sends the probes of the path's size that are due, to added peers.
func (m *Machine) measure(now mono.Time) (next mono.Time) {
	r := m.line.Route.Load()
	if r == nil || !m.peer.added() {
		return mono.Never
	}
	x := m.sizes.of(m.peer.env, r.Way)
	best, _ := m.ways.Best()
	probes, next := x.Due(now, best.RTT, path.Traffic{Large: mono.Time(m.line.Large.Load()), Heard: m.heard()},
		m.peer.env.Trains() && r.Way.Direct())
	for _, b := range probes {
		msg := wire.ProbeMsg{ID: b.ID, Size: uint16(b.Size)}
		m.peer.env.Shell.Seal(m.peer.Contact, r, msg.AppendProbe([]byte{byte(wire.Probe)}), b.Count)
	}
	if x.Size() != r.Datagram || x.Trains() != r.Trains {
		m.route(now)
	}
	return next
}
