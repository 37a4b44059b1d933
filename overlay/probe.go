package overlay

import (
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/path"
)

// minMTU is what IPv6 promises (RFC 8200, 5): shorter paths are crossed by FRAG.
const minMTU = 1280

// mtuOverhead is what a sealed packet is longer than the IPv6 packet in it that it
// carries as IP6: 27 header, 1 type and 16 tag; 34 of the 40 bytes go.
const mtuOverhead = wire.SealedOverhead + wire.IP6Header - 40

// mtu is the longest IPv6 packet that goes into one datagram of the path.
func (f *flight) mtu() int { return f.datagram - mtuOverhead }

// packetSize is the length of the IPv6 packet that a message was made of.
func packetSize(msg []byte) int {
	switch wire.Type(msg[0]) {
	case wire.IP6, wire.IP6P:
		return len(msg) - 1 - wire.IP6Header + 40
	case wire.Dgram:
		return len(msg) - 1 - wire.DgramHeader + 40 + 8
	}
	return len(msg) - 5 + 40 + 8 // PING: ident and seq are part of ICMPv6's 8
}

// datagramSizes are tried in turn after the largest: what common tunnels leave of 1500,
// and what IPv6's least leaves (UDP over IPv6 takes 48).
var datagramSizes = [...]int{1450, 1424, 1392, 1352, 1312, minMTU - 48, 1160, 1024, 548}

const (
	probeTries = 3
	probeEvery = 300 * time.Millisecond
)

// probe finds how long a datagram the path in use takes (wire.md, PROBE). Until the
// first probe is lost it trusts the link; each loss of three makes the guess smaller,
// so that a black hole costs a second and not the connection.
type probe struct {
	way   path.Way // being measured, or measured
	size  int      // the guess
	done  bool
	id    uint32
	tries int
	next  time.Duration
}

// restart has the path measured again.
func (p *probe) restart() { *p = probe{} }

// datagram is the longest sealed packet that may be sent along a way.
func (p *probe) datagram(c *control, best path.Info) int {
	if p.size == 0 || p.way != best.Way {
		*p = probe{way: best.Way, size: c.startSize(best), id: requestID(), next: max(c.now, 1)}
	}
	return p.size
}

// startSize is what the device sends at most, if the link takes it.
func (c *control) startSize(best path.Info) int {
	want := 1500 - mtuOverhead
	if d := c.n.cfg.Device; d != nil {
		want = d.MTU() + mtuOverhead
	}
	mtu, ok := c.onLink(best.Endpoint)
	if !ok {
		mtu = 0
		for _, i := range c.interfaces {
			mtu = max(mtu, i.MTU)
		}
	}
	if mtu == 0 {
		return want
	}
	if best.Endpoint.Addr.Addr().Is4() {
		return min(want, mtu-28)
	}
	return min(want, mtu-48)
}

// acked takes a PROBE_ACK.
func (p *probe) acked(m wire.ProbeMsg) {
	if m.ID == p.id && int(m.Size) == p.size {
		p.done, p.next = true, 0
	}
}

// settleProbe sends the probe that is due, on the peer's flight.
func (p *peer) settleProbe(c *control) time.Duration {
	b := &p.probe
	f := p.remote.flight.Load()
	if f == nil || b.done || b.size == 0 {
		return 0
	}
	if b.next > c.now {
		return b.next
	}
	if b.tries == probeTries {
		b.tries = 0
		b.id = requestID()
		smaller := 0
		for _, s := range datagramSizes {
			if s < b.size {
				smaller = s
				break
			}
		}
		if smaller == 0 {
			b.restart() // nothing gets through: the timers of the session will notice
			b.done = true
			return 0
		}
		b.size = smaller
		p.route(c)
		f = p.remote.flight.Load()
	}
	b.tries++
	b.next = c.now + probeEvery
	m := wire.ProbeMsg{ID: b.id, Size: uint16(b.size)}
	c.sealFlight(f, p, m.AppendProbe([]byte{byte(wire.Probe)}))
	return b.next
}
