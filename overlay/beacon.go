package overlay

import (
	"net/netip"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
	"anodenet/overlay/peer"
)

// Beacons: EPI by broadcast to UDP port 8737 and in Ethernet frames (draft 4.2.6), or FRIENDS in its place, a
// burst after each change of links and then ever more seldom, so that an idle node hardly wakes.
const (
	beaconFirst = 500 * time.Millisecond // doubles up to beaconLast
	beaconLast  = 15 * time.Minute
)

type beacon struct {
	l     *loop
	next  mono.Time
	pause time.Duration
}

func (b *beacon) message(*message) error { return nil } // a beacon has no MAC: see gate

// linksChanged begins the back-off anew, on the links that there are now.
func (b *beacon) linksChanged() {
	b.l.n.linksChanged(b.l.links.state)
	b.next, b.pause = b.l.now, beaconFirst
}

func (b *beacon) tick() mono.Time {
	if b.next <= b.l.now {
		b.announce()
		b.next = b.l.now.Add(b.pause)
		b.pause = min(2*b.pause, beaconLast)
	}
	return b.next
}

var (
	allNodes = netip.MustParseAddr("ff02::1")
	noSite   netip.Addr
)

// announce shows us to everyone, or to friends alone.
func (b *beacon) announce() {
	if b.l.shell.discovery.Friends {
		b.announceToFriends()
		return
	}
	b.l.shell.broadcast(wire.Header{Type: wire.EPI}, wire.EPIMsg{}.Append(nil))
}

// heard answers a beacon by EPC_REQ to its source: that of an added peer, and,
// within a small budget, that of a stranger, so that who follows the draft alone finds
// us.
func (b *beacon) heard(h *wire.Header, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseEPI(msg)
	if err != nil || m.Endpoint.Kind != wire.Unspecified {
		b.l.n.counters.count(dMessage)
		return
	}
	p := b.l.finder.neighbour(h, ep, &b.l.gate.beacons, beaconRate, func(m *peer.Marks) *peer.Budget { return &m.Beacon })
	if p == nil {
		return
	}
	if p.Standing() < book.Added {
		p.Met(b.l.now)
	}
	b.answer(p, h.SenderPeer, ep)
}

// answer has the place checked that a beacon came from.
func (b *beacon) answer(p *peer.Peer, machine uint8, ep link.Endpoint) {
	if p.Came(b.l.now, machine, path.Way{Endpoint: ep.Place()}, path.Beacon).Refused() {
		b.l.n.counters.count(dHint)
	}
	p.Heard(b.l.now)
	b.l.touch(p)
}
