package overlay

import (
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// Beacons: EPI by broadcast to UDP port 8737 (draft 4.2.6), a burst after each link
// event and then ever more seldom, so that an idle node hardly wakes.
const (
	beaconFirst = 500 * time.Millisecond // doubles up to beaconLast
	beaconLast  = 15 * time.Minute
)

type beacon struct {
	next  time.Duration // 0: none
	pause time.Duration
}

// restart begins the back-off anew.
func (b *beacon) restart(now time.Duration) { b.next, b.pause = max(now, 1), beaconFirst }

func (c *control) settleBeacon() (next time.Duration) {
	b := &c.beacon
	if b.next != 0 && b.next <= c.now {
		c.broadcast(wire.Header{Type: wire.EPI}, wire.EPIMsg{}.Append(nil))
		b.next = c.now + b.pause
		b.pause = min(2*b.pause, beaconLast)
	}
	return b.next
}

var allNodes = netip.MustParseAddr("ff02::1")

// broadcast sends an unsigned packet, with our full address, on every link.
func (c *control) broadcast(h wire.Header, body []byte) {
	h.Sender = wire.Party{Address: c.n.address}
	h.SenderPeer = c.n.peerID
	b := h.Append(c.buf[:0], body)
	for _, i := range c.interfaces {
		for _, a := range i.Broadcast {
			c.write(b, link.Endpoint{Addr: netip.AddrPortFrom(a, link.Port), If: i.Index})
		}
		if i.Multicast {
			c.write(b, link.Endpoint{Addr: netip.AddrPortFrom(allNodes, link.Port), If: i.Index})
		}
	}
}

// heardBeacon answers the beacon of an added peer by EPC_REQ to its source. That of a
// stranger is only remembered, so that people see who else is there.
func (c *control) heardBeacon(from anode.Address, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseEPI(msg)
	if err != nil || m.Endpoint.Kind != wire.Unspecified {
		c.n.counters.count(dMessage)
		return
	}
	p := c.peers[from]
	switch {
	case p == nil && c.blockedKey(from):
		c.n.counters.count(dBlocked)
	case p == nil && !c.strangers.allow(c.n.now(), 5, 20):
		c.n.counters.count(dBudget)
	case p == nil:
		if _, err := anode.AddressFromBytes(from[:]); err != nil {
			c.n.counters.count(dHeader)
			return
		}
		c.meet(from) // or not, if there are too many
	case p.Blocked:
		c.n.counters.count(dBlocked)
	case p.added:
		c.heardFrom(p, ep, 0)
		p.again(c)
		p.touched = true
	default:
		p.seen = c.n.cfg.Clock.Now()
	}
}
