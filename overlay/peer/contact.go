package peer

import (
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Contact is one address as the lanes see it. The loop writes what is behind the
// atomic pointers, each of which is one immutable value; the lanes read them, and
// write only the marks at the end.
type Contact struct {
	// What never changes.
	Address anode.Address
	ULA     anode.ULA
	ID      anode.ID

	// Written by the loop.
	Next     atomic.Pointer[Contact]  // another address with the same short ID
	Route    atomic.Pointer[Route]    // nil: nothing can be sent yet
	Machines atomic.Pointer[Machines] // nil: at most one machine is up
	Inbound  atomic.Pointer[[]*Inbound]
	Forward  atomic.Pointer[Forward]
	MAC      atomic.Pointer[seal.MAC] // of an added peer: what bears it is authentic
	Asked    atomic.Pointer[Question] // our HELLO that waits for an answer
	standing atomic.Uint32

	// Written by the lanes.
	RxBytes, TxBytes atomic.Uint64 // of sealed packets
	Marks            Marks
}

// Marks are times at which lanes last did what they do once in a while for a contact.
// Each kind of event has its own, and what can be forged never has that of what is
// authentic.
type Marks struct {
	Heard   atomic.Int64 // a sealed packet was opened
	Roamed  atomic.Int64 // a new endpoint was proposed by an authentic packet
	Unknown atomic.Int64 // a packet named a session that does not exist; anybody can send one
	Signed  Budget       // unsealed packets with the right MAC, which can be replayed
	Beacon  Budget       // beacons, which anybody on the link can forge
	Whois   Budget       // WHOIS by broadcast, the same
	Checks  Budget       // checks of a relay because others' packets seem to come from it
	Sealed  Budget       // sealed messages to the loop
	Refused Budget       // packets that were not sent, since the peer would drop them
	NATT    Budget       // NAT_T
	Told    Budget       // STANDINGs because of packets of the peer that were refused
	Tells   Budget       // what people tell
	Closed  Budget       // errors about UDP to ports where nothing listens
}

// Question is what a COOKIE repeats of a HELLO: the first bytes of its noise message.
// Who did not see the HELLO cannot know them.
type Question [16]byte

// NewContact makes the contact of an address, a stranger's.
func NewContact(a anode.Address) *Contact {
	u := a.ULA()
	c := &Contact{Address: a, ULA: u, ID: u.ID()}
	c.SetStanding(book.Stranger)
	return c
}

// Standing returns what people decided on the address.
func (c *Contact) Standing() book.Standing { return book.Standing(c.standing.Load()) }

func (c *Contact) added() bool   { return c.Standing() >= book.Added }
func (c *Contact) blocked() bool { return c.Standing() == book.Blocked }

// SetStanding is for the loop.
func (c *Contact) SetStanding(s book.Standing) { c.standing.Store(uint32(s)) }

// Route is the way on which packets to one machine leave now: one immutable value.
// Direct and relayed routes differ in it alone.
type Route struct {
	Session  *seal.Session
	Way      path.Way
	PeerID   uint8
	Datagram int  // length of the longest sealed packet that the way takes, bytes
	Large    int  // from which length on one is noted in Line.Large
	Trains   bool // several packets may leave as one train
	Refuses  bool // the machine lets only replies in, and drops what else is sent
	Line     *Line
}

// Line is what the lanes share of one machine.
type Line struct {
	Route atomic.Pointer[Route] // nil: nothing can be sent to it
	Large atomic.Int64          // when a large datagram was last sent, see Route
	Heard atomic.Int64          // when a packet was last opened that came on the way of Route
	can   atomic.Uint64
	bare  atomic.Bool
}

// Announce notes what the machine said in a handshake that is proved to be fresh.
func (l *Line) Announce(x seal.Capabilities) {
	l.can.Store(uint64(x))
	l.bare.Store(x&seal.TakesIP6 == 0)
}

// Can reports whether the machine announced all of some capabilities.
func (l *Line) Can(x seal.Capabilities) bool { return seal.Capabilities(l.can.Load())&x == x }

// OnlyStreams reports whether the machine said that it has no adapter.
func (l *Line) OnlyStreams() bool { return l.bare.Load() }

// Inbound is one session on which packets may come in.
type Inbound struct {
	Session *seal.Session
	Contact *Contact
	Line    *Line
	PeerID  uint8
	Pending atomic.Bool // the peer began it, and nothing has been opened in it yet
}

// Answer has what leaves from now on sealed in the session, in which the first packet was opened, if
// the machine has started anew since that of its route was made: it does not know that one, and what
// programs answer leaves before the loop has confirmed this one. A lane calls it, and the loop keeps to it.
func (in *Inbound) Answer() {
	for {
		old := in.Line.Route.Load()
		if old == nil || in.Session.Invited() || !in.Session.Restarted(old.Session) {
			return
		}
		next := *old
		next.Session = in.Session
		if in.Line.Route.CompareAndSwap(old, &next) { // else the loop has just published another route
			in.Contact.Route.CompareAndSwap(old, &next)
			return
		}
	}
}

// Has reports whether a receiver index is one of the session's block.
func (in *Inbound) Has(index uint16) bool {
	return index-in.Session.Index() < uint16(in.Session.Lanes())
}

// Find returns the next session with a receiver index behind after, or the first for
// nil. Two machines of one address may use the same index.
func (c *Contact) Find(index uint16, after *Inbound) *Inbound {
	list := c.Inbound.Load()
	if list == nil {
		return nil
	}
	passed := after == nil
	for _, in := range *list {
		if passed && in.Has(index) {
			return in
		}
		passed = passed || in == after
	}
	return nil
}

// Machine returns what the lanes share of a machine with a session; nil if there is none.
func (c *Contact) Machine(peerID uint8) *Line {
	list := c.Inbound.Load()
	if list == nil {
		return nil
	}
	for _, in := range *list {
		if in.PeerID == peerID {
			return in.Line
		}
	}
	return nil
}

// Forward is where a relay sends packets to an address: its machines that answered,
// with the one that was last found at a new endpoint in front.
type Forward []Hop

// Hop is one machine's endpoint.
type Hop struct {
	PeerID   uint8
	Endpoint link.Endpoint
}

// To returns the endpoint for packets to a machine, or for any machine where it is 0
// or unknown; ok is false if there is none.
func (f Forward) To(peerID uint8) (ep link.Endpoint, ok bool) {
	for _, h := range f {
		if peerID != 0 && h.PeerID == peerID {
			return h.Endpoint, true
		}
	}
	if len(f) == 0 {
		return link.Endpoint{}, false
	}
	return f[0].Endpoint, true
}

// Machines are the routes to the machines of an address of which several are up. A flow
// keeps its machine: what comes in notes which machine it came from, and what leaves in
// the same flow goes there.
type Machines struct {
	Routes [16]*Line // by peer ID; nil: none
	flows  [flowSlots]atomic.Uint64
}

const flowSlots = 1024

// with returns the routes together with the flows of m, which may be nil.
func (m *Machines) with(routes [16]*Line) *Machines {
	next := &Machines{Routes: routes}
	if m != nil {
		for k := range m.flows {
			next.flows[k].Store(m.flows[k].Load())
		}
	}
	return next
}

// Refuse reports whether any machine lets only replies in.
func (m *Machines) Refuse() bool {
	for _, line := range m.Routes {
		if line == nil {
			continue
		}
		if r := line.Route.Load(); r != nil && r.Refuses {
			return true
		}
	}
	return false
}

// Note remembers the machine of a flow, named by a hash that is the same both ways.
func (m *Machines) Note(flow uint64, peerID uint8) {
	slot := &m.flows[flow%flowSlots]
	if v := flow&^15 | uint64(peerID&15); slot.Load() != v {
		slot.Store(v)
	}
}

// Route returns the route of a flow's machine; nil if the flow is not known or its
// machine is not up.
func (m *Machines) Route(flow uint64) *Route {
	v := m.flows[flow%flowSlots].Load()
	if v == 0 || v&^15 != flow&^15 {
		return nil
	}
	if line := m.Routes[v&15]; line != nil {
		return line.Route.Load()
	}
	return nil
}

// Budget is a token bucket of any number of goroutines in one word: it counts in units
// of time how far ahead of its rate the traffic is. The zero value is full.
type Budget struct{ ahead atomic.Int64 }

// Allow reports whether one more event is within rate.
func (b *Budget) Allow(now mono.Time, r mono.Rate) bool {
	each := int64(1e9 / r.PerSecond)
	most := int64(now) + int64(r.Burst-1)*each
	for {
		old := b.ahead.Load()
		at := max(old, int64(now))
		if at > most {
			return false
		}
		if b.ahead.CompareAndSwap(old, at+each) {
			return true
		}
	}
}
