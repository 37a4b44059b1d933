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

// Beacons: EPI by broadcast to UDP port 8737 (draft 4.2.6), a burst after each change of
// links and then ever more seldom, so that an idle node hardly wakes.
const (
	beaconFirst = 500 * time.Millisecond // doubles up to beaconLast
	beaconLast  = 15 * time.Minute
)

type beacon struct {
	next  mono.Time
	pause time.Duration
}

// restart begins the back-off anew.
func (b *beacon) restart(now mono.Time) { b.next, b.pause = now, beaconFirst }

func (l *loop) settleBeacon() mono.Time {
	b := &l.beacon
	if b.next <= l.now {
		l.shell.broadcast(wire.Header{Type: wire.EPI}, wire.EPIMsg{}.Append(nil))
		b.next = l.now.Add(b.pause)
		b.pause = min(2*b.pause, beaconLast)
	}
	return b.next
}

var (
	allNodes = netip.MustParseAddr("ff02::1")
	noSite   netip.Addr
)

// heardBeacon answers a beacon by EPC_REQ to its source: that of an added peer, and,
// within a small budget, that of a stranger, so that who follows the draft alone finds
// us.
func (l *loop) heardBeacon(h *wire.Header, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseEPI(msg)
	if err != nil || m.Endpoint.Kind != wire.Unspecified {
		l.n.counters.count(dMessage)
		return
	}
	p := l.neighbour(h, ep, &l.gate.beacons, beaconRate, func(m *peer.Marks) *peer.Budget { return &m.Beacon })
	if p == nil {
		return
	}
	if p.Standing() < book.Added {
		p.Met(l.now)
	}
	if p.Came(l.now, h.SenderPeer, path.Way{Endpoint: at(ep)}, path.Beacon).Refused() {
		l.n.counters.count(dHint)
	}
	p.Heard(l.now)
	l.touch(p)
}
