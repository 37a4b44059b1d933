package overlay

import (
	"net/netip"
	"slices"

	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// lanPeer is a peer that is in our virtual LAN, or has not acknowledged yet that it is no more.
type lanPeer struct {
	peer     *peer.Peer
	chosen   bool      // false: it is to learn that it was taken out
	told     bool      // it was told that it is in
	serial   uint32    // of what it is told
	sought   mono.Time // when it was last looked for, because programs send to groups
	seeks    int       // how often
	machines map[uint8]*lanMachine
	bare     bool       // none of its machines has an adapter, as far as it was heard
	member   *lanMember // as the lanes see it
}

// lanMachine is one machine of such a peer.
type lanMachine struct {
	// What it said.
	said    *seal.Session // in which it said something last; nil: it has said nothing
	before  *seal.Session // of the run before that
	serial  uint32
	joins   bool // we are in its virtual LAN
	groups  []netip.Addr
	changes mono.Bucket

	// What it was told.
	session *seal.Session // in which; nil: in none
	acked   bool
	tries   int
	at      mono.Time // when last
	next    mono.Time // when to tell it again; 0: not to
}

// lanChanges is how often one machine may change what it wants. More is not acknowledged, and so comes again.
var lanChanges = mono.Rate{PerSecond: 10, Burst: 20}

// machine returns what is known of a machine.
func (x *lanPeer) machine(id uint8) *lanMachine {
	m := x.machines[id&15]
	if m == nil {
		m = new(lanMachine)
		x.machines[id&15] = m
	}
	return m
}

// routesOf lists the routes to all machines of a peer.
func routesOf(p *peer.Peer) (list []*peer.Route) {
	if many := p.Machines.Load(); many != nil {
		for _, line := range many.Routes {
			if line == nil {
				continue
			}
			if r := line.Route.Load(); r != nil {
				list = append(list, r)
			}
		}
		return list
	}
	if r := p.Route.Load(); r != nil {
		list = append(list, r)
	}
	return list
}

// onlyStreams reports whether all machines that routes lead to said that they have no adapter.
func onlyStreams(routes []*peer.Route) bool {
	return len(routes) > 0 && !slices.ContainsFunc(routes, func(r *peer.Route) bool { return !r.Line.OnlyStreams() })
}

// dismissed takes it that a peer has not added us, and so has not got us in its virtual LAN.
func (v *virtualLAN) dismissed(x *lanPeer) {
	if !x.chosen {
		v.forget(x.peer)
		return
	}
	for _, m := range x.machines {
		if m.joins {
			v.says(x, m, m.said, wire.GroupsMsg{Serial: m.serial})
		}
	}
}

// heard takes a GROUPS, and reports whether it is to be acknowledged: what is older than what we know, or
// comes too often, is not.
func (v *virtualLAN) heard(x *lanPeer, from *message, g wire.GroupsMsg) bool {
	m, s := x.machine(from.machine), from.in.Session
	if !m.changes.Allow(v.l.now, lanChanges) {
		v.l.n.counters.count(dBudget)
		return false
	}
	again := m.said != nil && (s == m.said || !s.Restarted(m.said))
	old := again && int32(g.Serial-m.serial) < 0 || !again && s == m.before
	if old || g.Member && x.peer.Admits() == wire.StandingNotAdded { // its word that it has added us is on its way
		v.l.n.counters.count(dLANGroups)
		return false
	}
	if !again {
		m.before = m.said
	}
	joined := g.Member && !m.joins
	v.says(x, m, s, g)
	if !g.Member {
		m.acked = false // it has forgotten what we said
	} else if joined && v.l.now.Sub(m.at) >= lanGather {
		m.acked, m.tries = false, 0 // it may not have listened before
		v.schedule(x, m, v.l.now)
	}
	return true
}

// says notes what a machine said in a session; nil: it has said nothing in this run.
func (v *virtualLAN) says(x *lanPeer, m *lanMachine, s *seal.Session, g wire.GroupsMsg) {
	was := x.joins()
	same := m.joins == g.Member && slices.Equal(m.groups, g.Groups) && (m.said == nil) == (s == nil)
	m.said, m.serial, m.joins, m.groups = s, g.Serial, g.Member, g.Groups
	if same {
		return
	}
	x.show()
	v.changed = v.changed || was != x.joins()
	v.l.n.events.peer(EventPeer, x.peer)
}

// joins reports whether any machine of a peer has us in its virtual LAN.
func (x *lanPeer) joins() bool {
	for _, m := range x.machines {
		if m.joins {
			return true
		}
	}
	return false
}

// show has the lanes see what a peer wants.
func (x *lanPeer) show() {
	if x.member == nil {
		return
	}
	w := new(lanWants)
	for id, m := range x.machines {
		if m.said != nil {
			w.said |= 1 << id
		}
		if !m.joins {
			continue
		}
		w.groups[id] = make(map[[16]byte]struct{}, len(m.groups))
		for _, g := range m.groups {
			w.groups[id][g.As16()] = struct{}{}
		}
	}
	x.member.wants.Store(w)
}
