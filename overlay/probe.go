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

// datagramSizes are what is asked for beside the largest: common links and tunnels, and
// what IPv6's least leaves (UDP over IPv6 takes 48).
var datagramSizes = [...]int{8900, 4352, 1450, 1424, 1392, 1352, 1312, minMTU - 48, 1160, 1024, 548}

const (
	probeTries = 3
	probeEvery = 250 * time.Millisecond
)

// probe finds how long a datagram the path in use takes (wire.md, PROBE). Until two
// probes are lost it trusts the link; then it asks for all sizes at once and takes the
// largest that is answered, so that a black hole costs a second and not the connection.
type probe struct {
	way     path.Way // being measured, or measured
	largest int      // what the link promises
	size    int      // what is used
	id      uint32
	wide    bool // all sizes are asked for
	tries   int  // of this phase
	acked   bool
	done    bool // size is known
	next    time.Duration
}

// restart has the path measured again.
func (p *probe) restart() { *p = probe{} }

// datagram is the longest sealed packet that may be sent along a way.
func (p *probe) datagram(c *control, best path.Info) int {
	if p.size == 0 || p.way != best.Way {
		n := c.startSize(best)
		*p = probe{way: best.Way, largest: n, size: n, id: requestID(), next: max(c.now, 1)}
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

// answered takes a PROBE_ACK.
func (p *probe) answered(m wire.ProbeMsg) {
	if m.ID != p.id || int(m.Size) > p.largest || p.done {
		return
	}
	if !p.acked || int(m.Size) > p.size {
		p.size = int(m.Size)
	}
	p.acked = true
	if p.size == p.largest {
		p.done, p.next = true, 1
	}
}

// settleProbe sends the probes that are due, on the peer's flight.
func (p *peer) settleProbe(c *control) time.Duration {
	b := &p.probe
	f := p.remote.flight.Load()
	if f == nil || b.size == 0 || b.done {
		return 0
	}
	if b.next > c.now {
		return b.next
	}
	switch {
	case b.wide && b.acked:
		b.done = true
		return 0
	case b.wide && b.tries == probeTries:
		// Nothing gets through at all, which the timers of the session will notice.
		b.size, b.done = b.largest, true
		p.route(c)
		return 0
	case !b.wide && b.tries == probeTries-1:
		b.wide, b.tries = true, 0
		b.size = datagramSizes[len(datagramSizes)-1]
		p.route(c)
	}
	b.tries++
	b.next = c.now + probeEvery + p.rtt()
	p.sendProbe(c, b.id, b.largest)
	for _, size := range datagramSizes {
		if b.wide && size < b.largest {
			p.sendProbe(c, b.id, size)
		}
	}
	return b.next
}

// rtt is the round trip of the way in use.
func (p *peer) rtt() time.Duration {
	best, _ := p.ways.Best()
	return best.RTT
}

func (p *peer) sendProbe(c *control, id uint32, size int) {
	m := wire.ProbeMsg{ID: id, Size: uint16(size)}
	c.sealFlight(p.remote.flight.Load(), p, m.AppendProbe([]byte{byte(wire.Probe)}))
}
