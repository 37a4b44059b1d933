package overlay

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// virtualLAN is the part that knows who is in our virtual LAN. Each chosen peer is told so by GROUPS, with
// the groups that our programs have joined, and says the same to us:
//
//	off --- chosen by people ---> chosen --- its GROUPS, which says that we are in its ---> member
//	 ^                              | ^                                                       |
//	 '-------- taken out -----------' '---- its GROUPS that says otherwise, its new run, -----'
//	                                        or its word that it has not added us
//
// A GROUPS is repeated until it is acknowledged, and said again in each new session: the other side may
// have started anew, or have forgotten us meanwhile. Nothing else is sent while nothing changes.
type virtualLAN struct {
	l      *loop
	all    bool // all added peers are in it
	limits LANLimits
	groups []netip.Addr // that our programs have joined, in order
	floor  uint32       // the greatest serial that a peer was told which is forgotten

	peers map[*peer.Peer]*lanPeer
	due   map[*lanPeer]struct{} // those that are to be told something
	greet lanGreetings

	changed   bool // the lanes have not seen what holds
	published mono.Time
	shown     *lanView // what they have seen

	aliasesChanged bool
	moved          map[anode.Address]bool // peers whose alias was found to be taken
}

// lanPeer is a peer that is in our virtual LAN, or has not acknowledged yet that it is no more.
type lanPeer struct {
	peer     *peer.Peer
	chosen   bool   // false: it is to learn that it was taken out
	told     bool   // it was told that it is in
	serial   uint32 // of what it is told
	machines map[uint8]*lanMachine
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

const (
	lanTries   = 5                      // of one GROUPS in a session, at 0, 1, 3, 7 and 15 s
	lanFirst   = time.Second            // until the first repetition
	lanGather  = 250 * time.Millisecond // changes that follow each other are told at once
	lanPublish = 100 * time.Millisecond // between what the lanes are shown because of what peers say
)

// lanChanges is how often one machine may change what it wants. More is not acknowledged, and so comes again.
var lanChanges = mono.Rate{PerSecond: 10, Burst: 20}

func newVirtualLAN(l *loop) virtualLAN {
	cfg := l.n.cfg.LAN
	v := virtualLAN{l: l, all: cfg.All, limits: DefaultLANLimits(), peers: map[*peer.Peer]*lanPeer{}, due: map[*lanPeer]struct{}{},
		shown: l.n.lan.view.Load(), moved: map[anode.Address]bool{}}
	if cfg.Limits != nil {
		v.limits = cfg.Limits.filled()
	}
	return v
}

// decide takes what people decided about a peer, before it is in force. Whoever is no added peer any more,
// and so has no session a moment later, is told once.
func (v *virtualLAN) decide(p *peer.Peer, e book.Entry) {
	added := e.Standing() == book.Added
	if added != (p.Standing() == book.Added) {
		v.aliasesChanged = true
	}
	x := v.peers[p]
	switch chosen := added && (e.LAN || v.all); {
	case chosen:
		v.choose(p)
	case x == nil:
	case added:
		v.leave(x)
	default:
		v.part(x)
		v.forget(p)
	}
}

// choose puts a peer into our virtual LAN.
func (v *virtualLAN) choose(p *peer.Peer) {
	x := v.peers[p]
	if x != nil && x.chosen {
		return
	}
	if x == nil {
		x = &lanPeer{peer: p, serial: max(v.floor, uint32(v.l.now.Duration()/time.Second)), machines: map[uint8]*lanMachine{}}
		v.peers[p] = x
	}
	x.chosen, x.member = true, &lanMember{contact: p.Contact}
	v.changed = true
	v.renew(x)
}

// leave takes an added peer out of our virtual LAN.
func (v *virtualLAN) leave(x *lanPeer) {
	if !x.chosen {
		return
	}
	x.chosen, x.member = false, nil
	for _, m := range x.machines {
		m.said, m.joins, m.groups = nil, false, nil
	}
	v.changed = true
	if !x.told {
		v.forget(x.peer)
		return
	}
	v.renew(x)
}

// part tells a peer once that it is no more in our virtual LAN.
func (v *virtualLAN) part(x *lanPeer) {
	if !x.told {
		return
	}
	x.chosen = false
	x.serial++
	for _, r := range routesOf(x.peer) {
		v.tell(x, r)
	}
}

// forget drops a peer.
func (v *virtualLAN) forget(p *peer.Peer) {
	x := v.peers[p]
	if x == nil {
		return
	}
	v.floor = max(v.floor, x.serial+1)
	v.changed = v.changed || x.member != nil
	delete(v.peers, p)
	delete(v.due, x)
}

// end tells all members that the node ends. There is no time to wait for an answer.
func (v *virtualLAN) end() {
	for _, x := range v.peers {
		v.part(x)
	}
	v.l.shell.flush()
}

// setAll has all added peers in, or only the chosen ones.
func (v *virtualLAN) setAll(all bool) {
	if v.all == all {
		return
	}
	v.all = all
	for _, p := range v.l.peers.byAddress {
		if p.Standing() == book.Added {
			v.decide(p, v.l.n.book.Get(p.Address))
			v.l.touch(p)
		}
	}
	v.publish()
}

// setGroups takes the groups that our programs have joined.
func (v *virtualLAN) setGroups(groups []netip.Addr) {
	list := make([]netip.Addr, 0, len(groups))
	for _, g := range groups {
		if g = g.Unmap().WithZone(""); tellable(g) {
			list = append(list, g)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	list = slices.Compact(list)
	if extra := len(list) - wire.MaxGroups; extra > 0 {
		v.l.n.counters.add(dLANGroups, extra)
		list = list[:wire.MaxGroups]
	}
	if slices.Equal(list, v.groups) {
		return
	}
	v.groups = list
	for _, x := range v.peers {
		if x.chosen {
			v.renew(x)
		}
	}
}

// solicited are the groups in which neighbors ask for each other's link addresses (RFC 4291, 2.7.1).
var solicited = netip.MustParsePrefix("ff02::1:ff00:0/104")

// tellable reports whether members need to know that a group was joined: all are in that of all nodes, and
// some groups never leave a machine or a link.
func tellable(g netip.Addr) bool {
	return g.IsMulticast() && !g.IsInterfaceLocalMulticast() && !solicited.Contains(g) && !everybody(g.As16())
}

// renew has all machines of a peer told what is new, and a session made if there is none.
func (v *virtualLAN) renew(x *lanPeer) {
	x.serial++
	for _, m := range x.machines {
		m.acked, m.tries, m.next = false, 0, 0
	}
	routes := routesOf(x.peer)
	for _, r := range routes {
		m := x.machine(r.PeerID)
		m.session = r.Session
		v.schedule(x, m, max(v.l.now, m.at.Add(lanGather)))
	}
	if len(routes) == 0 {
		v.greet.add(x.peer)
	}
}

// schedule has a machine told what holds, at a time.
func (v *virtualLAN) schedule(x *lanPeer, m *lanMachine, at mono.Time) {
	m.next = at
	v.due[x] = struct{}{}
}

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

// follow looks at the routes to a peer, which may be new ones.
func (v *virtualLAN) follow(p *peer.Peer) {
	x := v.peers[p]
	if x == nil {
		return
	}
	if p.Admits() == wire.StandingNotAdded {
		v.dismissed(x)
		return // it would drop what we say
	}
	if many := p.Machines.Load(); many == nil {
		if r := p.Route.Load(); r != nil {
			v.routed(x, r)
		}
		return
	}
	for _, r := range routesOf(p) {
		v.routed(x, r)
	}
}

// routed takes a route to a machine of a peer. In a new session it is told everything again, and what it
// said in an earlier run means nothing any more.
func (v *virtualLAN) routed(x *lanPeer, r *peer.Route) {
	if x.member != nil && x.member.at != r.Way.Endpoint {
		x.member.at = r.Way.Endpoint
		v.changed = v.changed || x.joins()
	}
	m := x.machine(r.PeerID)
	if m.session == r.Session {
		return
	}
	m.session = r.Session
	if m.said != nil && m.said != r.Session && r.Session.Restarted(m.said) {
		m.before = m.said
		v.says(x, m, nil, wire.GroupsMsg{})
	}
	m.acked, m.tries = false, 0
	v.schedule(x, m, v.l.now)
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

// message takes GROUPS and GROUPS_ACK. Who is not in our virtual LAN gets no answer, not even to what is
// malformed.
func (v *virtualLAN) message(m *message) error {
	x := v.peers[m.peer]
	if x == nil || m.type_ == wire.Groups && !x.chosen {
		v.l.n.counters.count(dLANOutsider)
		return nil
	}
	if m.type_ == wire.GroupsAck {
		ack, err := wire.ParseGroupsAck(m.body)
		if err == nil && uint32(ack) == x.serial {
			v.acked(x, m.machine)
		}
		return err
	}
	g, err := wire.ParseGroups(m.body)
	if err == nil && v.heard(x, m, g) {
		v.l.reply(m, wire.GroupsAck, wire.GroupsAckMsg(g.Serial).Append(nil))
	}
	return err
}

// acked takes it that a machine knows what holds.
func (v *virtualLAN) acked(x *lanPeer, machine uint8) {
	m := x.machine(machine)
	m.acked, m.next = true, 0
	if x.chosen {
		return
	}
	for _, m := range x.machines {
		if m.session != nil && !m.acked {
			return
		}
	}
	v.forget(x.peer)
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

// tick tells what is due, and shows the lanes what has changed.
func (v *virtualLAN) tick() mono.Time {
	v.setAliases()
	next := min(v.greet.tick(v), v.tellDue())
	if !v.changed {
		return next
	}
	if at := v.published.Add(lanPublish); v.published.Happened() && v.l.now < at {
		return min(next, at)
	}
	v.publish()
	return next
}

// tellDue tells the machines that are due.
func (v *virtualLAN) tellDue() (next mono.Time) {
	next = mono.Never
	for x := range v.due {
		due := mono.Never
		routes := routesOf(x.peer)
		for id, m := range x.machines {
			if m.next == 0 {
				continue
			}
			if m.next <= v.l.now {
				v.again(x, m, id, routes)
			}
			if m.next != 0 {
				due = min(due, m.next)
			}
		}
		if due == mono.Never {
			delete(v.due, x)
		}
		next = min(next, due)
	}
	return next
}

// again tells a machine what holds, unless there is no session any more, or that was tried often enough.
func (v *virtualLAN) again(x *lanPeer, m *lanMachine, id uint8, routes []*peer.Route) {
	m.next = 0
	k := slices.IndexFunc(routes, func(r *peer.Route) bool { return r.PeerID == id })
	if k < 0 || m.acked || m.tries == lanTries {
		return
	}
	v.tell(x, routes[k])
	m.at = v.l.now
	if m.tries++; m.tries < lanTries {
		m.next = v.l.now.Add(lanFirst << (m.tries - 1))
	}
}

// tell sends a GROUPS.
func (v *virtualLAN) tell(x *lanPeer, r *peer.Route) {
	x.told = x.told || x.chosen
	g := wire.GroupsMsg{Serial: x.serial, Member: x.chosen, Groups: v.groups}
	v.l.shell.Seal(x.peer.Contact, r, g.Append([]byte{byte(wire.Groups)}), 0)
}

// linksChanged has those looked for that could not be reached before.
func (v *virtualLAN) linksChanged() { v.seek() }

// seek looks for the chosen peers that have not told yet whether we are in their virtual LAN.
func (v *virtualLAN) seek() {
	for p, x := range v.peers {
		if x.chosen && !x.joins() && p.Route.Load() == nil && p.Admits() != wire.StandingNotAdded {
			v.greet.add(p)
		}
	}
}

// publish shows the lanes who is in our virtual LAN.
func (v *virtualLAN) publish() {
	if !v.changed {
		return
	}
	v.changed, v.published = false, v.l.now
	next := &lanView{chosen: make(map[*peer.Contact]*lanMember, len(v.peers)), echoes: v.shown.echoes}
	for _, x := range v.peers {
		if x.member == nil {
			continue
		}
		next.chosen[x.peer.Contact] = x.member
		if x.joins() {
			next.members = append(next.members, x.member)
		}
	}
	slices.SortFunc(next.members, func(a, b *lanMember) int { // what goes to one relay is one train
		return cmp.Or(a.at.Addr.Compare(b.at.Addr), cmp.Compare(a.at.Kind, b.at.Kind), slices.Compare(a.contact.ULA[:], b.contact.ULA[:]))
	})
	next.rates = v.limits.rates(len(next.chosen))
	if next.echoes == nil && len(next.chosen) > 0 {
		next.echoes = newEchoes()
	}
	v.shown = next
	v.l.n.lan.view.Store(next)
}

// setAliases gives the added peers their IPv4 aliases.
func (v *virtualLAN) setAliases() {
	t := v.l.n.cfg.Aliases
	if !v.aliasesChanged || t == nil {
		return
	}
	v.aliasesChanged = false
	var list []anode.ULA
	for _, p := range v.l.peers.byAddress {
		if p.Standing() == book.Added {
			list = append(list, p.ULA)
		}
	}
	t.Set(list)
	before := maps.Clone(v.moved)
	clear(v.moved)
	for _, p := range v.l.peers.byAddress {
		if p.Standing() != book.Added || !t.Moved(p.ULA) {
			continue
		}
		v.moved[p.Address] = true
		if a, _ := t.Alias(p.ULA); !before[p.Address] {
			v.l.n.log.Warn("the IPv4 alias of a peer is taken; it has another one on this machine alone", "peer", p.Label(), "alias", netip.AddrFrom4(a))
		}
	}
}

// status is the virtual LAN as a whole.
func (v *virtualLAN) status() LANStatus {
	s := LANStatus{All: v.all, Groups: append([]netip.Addr{}, v.groups...), Limits: v.limits}
	for _, x := range v.peers {
		if x.chosen {
			s.Chosen++
		}
		if x.joins() {
			s.Members++
		}
	}
	if t := v.l.n.cfg.Aliases; t != nil {
		s.Range, s.Alias = t.Range().String(), t.Self().String()
	}
	return s
}

// peerStatus adds what concerns the virtual LAN to a peer's status.
func (v *virtualLAN) peerStatus(p *peer.Peer, s *PeerStatus) {
	s.LAN, s.LANGroups = LANOff, []netip.Addr{}
	if x := v.peers[p]; x != nil && x.chosen {
		s.LAN = LANChosen
		if x.joins() {
			s.LAN = LANMember
		}
		for _, m := range x.machines {
			s.LANGroups = append(s.LANGroups, m.groups...)
		}
		slices.SortFunc(s.LANGroups, netip.Addr.Compare)
		s.LANGroups = slices.Compact(s.LANGroups)
	}
	if t := v.l.n.cfg.Aliases; t != nil {
		if a, ok := t.Alias(p.ULA); ok {
			s.Alias, s.AliasMoved = netip.AddrFrom4(a).String(), t.Moved(p.ULA)
		}
	}
}

// lanGreetings are peers with which a session is wanted, for them to be told something: a few at a time, since
// all added peers may be in the virtual LAN.
type lanGreetings struct {
	waits []*peer.Peer
	has   map[*peer.Peer]bool
	at    mono.Time // when to go on with them
}

const (
	lanGreetMost  = 64
	lanGreetEvery = time.Second
)

func (g *lanGreetings) add(p *peer.Peer) {
	if g.has[p] {
		return
	}
	if g.has == nil {
		g.has = map[*peer.Peer]bool{}
	}
	g.has[p] = true
	g.waits = append(g.waits, p)
}

// tick has the next sessions made. What is to be told follows when there is one.
func (g *lanGreetings) tick(v *virtualLAN) mono.Time {
	if len(g.waits) == 0 {
		return mono.Never
	}
	if v.l.now < g.at {
		return g.at
	}
	k := min(len(g.waits), lanGreetMost)
	for _, p := range g.waits[:k] {
		delete(g.has, p)
		if v.peers[p] == nil || v.l.peers.get(p.Address) != p {
			continue
		}
		p.Send(v.l.now, peer.Waiting{Ready: make(chan uint8, 1), Failed: make(chan error, 1)})
		v.l.touch(p)
	}
	g.at = v.l.now.Add(lanGreetEvery)
	if g.waits = g.waits[k:]; len(g.waits) == 0 {
		g.waits = nil
		return mono.Never
	}
	return g.at
}
