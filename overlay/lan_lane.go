package overlay

import (
	"net/netip"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// lanLane is what the lanes have of the virtual LAN.
type lanLane struct {
	view  atomic.Pointer[lanView] // never nil
	out   lanBuckets
	pool  lanBuckets  // what comes in beyond the members' shares
	seeks peer.Budget // for the loop to look for those who were not reached yet
}

// lanView is who is in our virtual LAN: one immutable value, the members in an order in which those behind
// one relay follow each other.
type lanView struct {
	members []*lanMember
	chosen  map[*peer.Contact]*lanMember // members too
	rates   lanRates
	echoes  *echoes // nil: there was never anybody
}

// lanMember is a peer that is in our virtual LAN.
type lanMember struct {
	contact *peer.Contact
	at      link.Endpoint // where it was last found; the loop's

	wants  atomic.Pointer[lanWants] // nil: it has said nothing
	waits  peer.Budget              // of packets that wait for a session
	budget lanBudget                // of what comes in
}

// lanWants is what the machines of a member want, by peer ID.
type lanWants struct {
	said   uint16                    // they have told, a bit each
	groups [16]map[[16]byte]struct{} // nil: we are not in its virtual LAN
}

// has reports whether a machine wants what goes to a group; to all: it is for everybody.
func (w *lanWants) has(machine uint8, group [16]byte, toAll bool) bool {
	groups := w.groups[machine&15]
	if groups == nil || toAll {
		return groups != nil
	}
	_, ok := groups[group]
	return ok
}

// any is has of whichever machine.
func (w *lanWants) any(group [16]byte, toAll bool) bool {
	for id := range w.groups {
		if w.has(uint8(id), group, toAll) {
			return true
		}
	}
	return false
}

// refuses reports whether a machine said that we are not in its virtual LAN. Until it has said anything, a
// packet to a group says itself that we are.
func (m *lanMember) refuses(machine uint8) bool {
	w := m.wants.Load()
	return w != nil && w.said&(1<<(machine&15)) != 0 && w.groups[machine&15] == nil
}

// isGroup reports whether a packet goes to a group or by broadcast: Queue.Read then returns that in the
// place of a ULA.
func isGroup(to anode.ULA) bool { return to[0] != 0xfd }

// Groups that every node has joined.
var (
	allNodes6 = netip.MustParseAddr("ff02::1").As16()
	allNodes4 = netip.MustParseAddr("224.0.0.1").As16()
)

// everybody reports whether all members get what goes to a group: that of all nodes, or an IPv4 broadcast.
func everybody(group [16]byte) bool {
	a := netip.AddrFrom16(group).Unmap()
	return group == allNodes6 || group == allNodes4 || a.Is4() && !a.IsMulticast()
}

// lanSeekRate bounds the searches for chosen peers that were not reached yet, while programs send to groups.
var lanSeekRate = mono.Rate{PerSecond: 1. / 60, Burst: 1}

// lanWaitRate bounds the packets to one member that wait for a session with it.
var lanWaitRate = mono.Rate{PerSecond: 1, Burst: 4}

// outGroup seals the packet just read from q, which goes to a group, for each member that wants it. It is
// read once; nobody is told of what does not get through.
func (n *lanes) outGroup(q Queue, s *sender, group [16]byte, now mono.Time) {
	v := n.lan.view.Load()
	if len(v.chosen) > len(v.members) && n.lan.seeks.Allow(now, lanSeekRate) {
		n.post(event{kind: evSeekLAN})
	}
	toAll := everybody(group)
	if !v.wanted(group, toAll) {
		n.counters.count(dLANNobody)
		return
	}
	limits := v.rates.out
	for msg := q.Next(); msg != nil; msg = q.Next() {
		switch {
		case v.echoes.leaves(now, msg):
			n.counters.count(dLANEcho)
		case !n.lan.out.allow(now, len(msg), &limits):
			n.counters.count(dLANOut)
		default:
			n.counters.count(cLANTx)
			for _, m := range v.members {
				n.outMember(s, m, group, toAll, msg)
			}
		}
	}
}

// wanted reports whether any member wants what goes to a group.
func (v *lanView) wanted(group [16]byte, toAll bool) bool {
	for _, m := range v.members {
		if w := m.wants.Load(); w != nil && w.any(group, toAll) {
			return true
		}
	}
	return false
}

// outMember seals a packet to a group for the machines of one member that want it.
func (n *lanes) outMember(s *sender, m *lanMember, group [16]byte, toAll bool, msg []byte) {
	w, c := m.wants.Load(), m.contact
	if w == nil {
		return
	}
	if many := c.Machines.Load(); many != nil {
		for id, line := range many.Routes {
			if line == nil || !w.has(uint8(id), group, toAll) {
				continue
			}
			if r := line.Route.Load(); r != nil {
				n.sendGroup(s, c, r, msg)
			}
		}
		return
	}
	r := c.Route.Load()
	switch {
	case r != nil:
		if w.has(r.PeerID, group, toAll) {
			n.sendGroup(s, c, r, msg)
		}
	case !w.any(group, toAll):
	case m.waits.Allow(s.now, lanWaitRate):
		n.post(event{kind: evWaiting, ula: c.ULA, msg: append([]byte(nil), msg...)})
	default:
		n.counters.count(dLANWaiting)
	}
}

// sendGroup seals a packet to a group for one machine. What is longer than the way takes is cut: a group
// has no smallest MTU that its sender could be told.
func (n *lanes) sendGroup(s *sender, c *peer.Contact, r *peer.Route, msg []byte) {
	if r.Refuses || r.Line.OnlyStreams() {
		n.counters.count(dLANNobody)
		return
	}
	size := len(msg) + wire.SealedMin
	if size > r.Datagram {
		n.sendFragments(s, c, r, msg)
		n.sentOn(c, r, r.Datagram, s.now)
		return
	}
	counter, ok := r.Session.Reserve(s.lane, 1, int64(s.now))
	if !ok {
		n.counters.count(dKeyEnded)
		return
	}
	s.seal(r, counter, msg)
	n.counters.count(cLANCopies)
	c.TxBytes.Add(uint64(size))
	n.sentOn(c, r, size, s.now)
}

// group takes a packet to a group, from who is in our virtual LAN. It goes to the adapter and nowhere else.
func (rx *receiver) group(in *peer.Inbound, msg []byte) {
	n, v := rx.n, rx.n.lan.view.Load()
	m := v.chosen[in.Contact]
	if m == nil || m.refuses(in.PeerID) {
		n.counters.count(dLANOutsider)
		return
	}
	if why := m.budget.take(rx.now, len(msg), &v.rates, &n.lan.pool); why != 0 {
		n.counters.count(why)
		return
	}
	if v.echoes.came(rx.now, msg) {
		n.counters.count(dLANEcho)
		return
	}
	n.counters.count(cLANRx)
	rx.q.Put(in.Contact.ULA, rx.noted.trusted, msg)
}
