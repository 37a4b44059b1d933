package overlay

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"anodenet/anode"
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

const (
	lanTries   = 5                      // of one GROUPS in a session, at 0, 1, 3, 7 and 15 s
	lanFirst   = time.Second            // until the first repetition
	lanGather  = 250 * time.Millisecond // changes that follow each other are told at once
	lanPublish = 100 * time.Millisecond // between what the lanes are shown because of what peers say

	lanSeekLeast = time.Minute // between searches for one peer; doubled each time
	lanSeekMost  = 6           // times
)

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
		v.first(list)
		list = list[:wire.MaxGroups]
		slices.SortFunc(list, netip.Addr.Compare)
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

// familiar are the groups of mDNS, SSDP and LLMNR, on which much depends.
var familiar = [...]netip.Addr{
	netip.MustParseAddr("224.0.0.251"), netip.MustParseAddr("ff02::fb"),
	netip.MustParseAddr("239.255.255.250"), netip.MustParseAddr("ff02::c"), netip.MustParseAddr("ff05::c"),
	netip.MustParseAddr("224.0.0.252"), netip.MustParseAddr("ff02::1:3"),
}

// first puts those first which are told if there are too many: the familiar ones, then those that members know of.
// Else any user of this machine could take the groups of others away, by joining many.
func (v *virtualLAN) first(list []netip.Addr) {
	rank := func(g netip.Addr) int {
		if slices.Contains(familiar[:], g) {
			return 0
		}
		if _, known := slices.BinarySearchFunc(v.groups, g, netip.Addr.Compare); known {
			return 1
		}
		return 2
	}
	slices.SortStableFunc(list, func(a, b netip.Addr) int { return rank(a) - rank(b) })
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
	x.bare = onlyStreams(routesOf(x.peer))
	if m.said != nil && m.said != r.Session && r.Session.Restarted(m.said) {
		m.before = m.said
		v.says(x, m, nil, wire.GroupsMsg{})
	}
	m.acked, m.tries = false, 0
	v.schedule(x, m, v.l.now)
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

// tell sends a GROUPS. A node without an adapter is in nobody's virtual LAN.
func (v *virtualLAN) tell(x *lanPeer, r *peer.Route) {
	x.told = x.told || x.chosen
	g := wire.GroupsMsg{Serial: x.serial, Member: x.chosen && v.l.n.cfg.Device != nil, Groups: v.groups}
	v.l.shell.Seal(x.peer.Contact, r, g.Append([]byte{byte(wire.Groups)}), 0)
}

// linksChanged has those looked for that could not be reached before.
func (v *virtualLAN) linksChanged() {
	for _, x := range v.peers {
		x.sought, x.seeks = 0, 0
	}
	v.seek()
}

// seek looks for the chosen peers that were not told yet that they are, each less often the longer it is
// not found. Who was told speaks to us as soon as it chooses us.
func (v *virtualLAN) seek() {
	for p, x := range v.peers {
		if !x.chosen || x.told || p.Route.Load() != nil || v.l.now.Sub(x.sought) < lanSeekLeast<<x.seeks {
			continue
		}
		x.sought, x.seeks = v.l.now, min(x.seeks+1, lanSeekMost)
		v.greet.add(p)
	}
}

// has reports whether the peer with a ULA is in our virtual LAN: it may have left it, or have been removed,
// while a packet waited for the loop.
func (v *virtualLAN) has(u anode.ULA) bool {
	c := v.l.n.index.byULA(u)
	if c == nil {
		return false
	}
	x := v.peers[v.l.peers.get(c.Address)]
	return x != nil && x.chosen
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
