package overlay

import (
	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// hopLimit is how many relays a packet may cross (draft 3.1).
const hopLimit = 3

// relayTrains is how many trains are written at once: of mixed traffic, each packet is one.
const relayTrains = 256

// relay forwards packets for peers that were added, and for clients (draft 2.3), without
// keys, in the buffers that they were read into: a train that goes to one peer stays one.
type relay struct {
	w        link.Writer
	counters *counters
	trains   []link.Train
	open     bool // the last train may grow

	// Of the batch that was read, whose packets are alike: what the index said last.
	from   *link.Train // nil: nothing yet
	sender payer
	hop    hop

	credit         credit // of the limit of all clients
	packets, bytes int
	clientPackets  int // of packets
	clientBytes    int // of bytes
}

// hop is where packets to one machine go next.
type hop struct {
	to      anode.ID // zero: none yet
	machine uint8
	ep      link.Endpoint
	refused counter // why they go nowhere; 0: they do
	served  bool    // it is of a zone that we relay for
}

func newRelay(w link.Writer, c *counters) *relay {
	return &relay{w: w, counters: c, trains: make([]link.Train, 0, relayTrains)}
}

// forward relays one packet of a train that was read. Only what comes from an endpoint of
// an added peer or a client is relayed, and only to such: a stranger can spend nothing of
// ours. A client's packets bear its own ID.
func (rx *receiver) forward(p []byte, t *link.Train, to anode.ID) {
	n, r := rx.n, rx.relay
	if machine := recipientPeer(p); r.hop.to != to || r.hop.machine != machine {
		r.hop = n.nextHop(to, machine)
	}
	if r.from != t {
		r.from, r.sender = t, rx.payer(t)
	}
	y := &r.sender
	switch {
	case r.hop.refused != 0:
		n.counters.count(r.hop.refused)
	case !y.allowed || r.hop.ep.Same(&t.Endpoint): // or it would go back to where it came from
		n.counters.count(dRelayRefused)
	case y.client != nil && (!y.client.sent(p) || y.client.guest && !r.hop.served):
		n.counters.count(dRelayRefused)
	case rx.pay(y, t) != 0:
		n.counters.count(y.verdict)
	case !wire.BumpHop(p, hopLimit):
		n.counters.count(dRelayHops)
	default:
		r.add(p, t, r.hop.ep)
	}
}

// payer returns who a train is relayed for.
func (rx *receiver) payer(t *link.Train) payer {
	if c := rx.n.index.source(t.Endpoint); c != nil && c.Standing() >= book.Added {
		return payer{allowed: true}
	}
	if rx.n.serves.Load() == nil {
		return payer{}
	}
	b := rx.berthOf(t)
	if b == nil {
		return payer{}
	}
	if rx.now.Sub(mono.Time(b.heard.Load())) >= markEvery {
		b.heard.Store(int64(rx.now))
	}
	return payer{allowed: true, client: b.client}
}

// nextHop looks up where packets to a machine go: to an added peer, or else to a client.
func (n *lanes) nextHop(to anode.ID, machine uint8) hop {
	h := hop{to: to, machine: machine, refused: dNotOurs}
	c := n.index.byID(to)
	if c != nil {
		h.refused = dRelayRefused
		if !n.relays.Load() || c.Standing() == book.Blocked {
			return h
		}
		if ep, ok := forwardTo(c, machine); ok {
			h.ep, h.refused, h.served = ep, 0, n.servesZone(c.Address.Zone())
			return h
		}
	}
	if n.serves.Load() == nil || !n.relays.Load() {
		return h
	}
	if x, b := n.clientNamed(to, machine); x != nil {
		h.ep, h.refused, h.served = b.place.endpoint(), 0, !x.guest
	}
	return h
}

// forwardTo returns where packets to a machine of an added peer go; ok is false if it is
// none, or nowhere.
func forwardTo(c *peer.Contact, machine uint8) (ep link.Endpoint, ok bool) {
	if f := c.Forward.Load(); f != nil && c.Standing() >= book.Added {
		return f.To(machine)
	}
	return ep, false
}

// recipientPeer is the recipient's peer ID in any packet that RecipientID has read.
func recipientPeer(p []byte) uint8 {
	if p[1] == wire.FlagSealed {
		_, id := wire.SealedPeers(p)
		return id
	}
	h, _, _ := wire.Parse(p)
	return h.RecipientPeer
}

// add appends a packet, which lies in t.Buf, to the batch.
func (r *relay) add(p []byte, t *link.Train, to link.Endpoint) {
	r.packets++
	r.bytes += len(p)
	if r.sender.client != nil {
		r.clientPackets++
		r.clientBytes += len(p)
	}
	if k := len(r.trains) - 1; r.open && k >= 0 {
		last := &r.trains[k]
		end := len(last.Buf)
		if last.Endpoint == to && len(p) <= last.Size && cap(last.Buf) > end && &last.Buf[:end+1][end] == &p[0] {
			last.Buf = last.Buf[:end+len(p)]
			r.open = len(p) == last.Size && len(last.Buf)+last.Size <= link.MaxTrain && len(last.Buf) < link.MaxSegments*last.Size
			return
		}
	}
	if len(r.trains) == cap(r.trains) {
		r.flush()
	}
	r.trains = append(r.trains, link.Train{Buf: p, Size: len(p), Endpoint: to})
	r.open = true
}

// flush writes what was gathered, and forgets what the index said.
func (r *relay) flush() {
	r.from, r.hop.to = nil, anode.ID{}
	if len(r.trains) == 0 {
		return
	}
	if sent, err := r.w.Write(r.trains); err != nil {
		r.counters.add(dWrite, len(r.trains)-sent)
	}
	r.counters.add(cRelayedPackets, r.packets)
	r.counters.add(cRelayedBytes, r.bytes)
	r.counters.add(cClientPackets, r.clientPackets)
	r.counters.add(cClientBytes, r.clientBytes)
	r.clientPackets, r.clientBytes = 0, 0
	r.trains, r.open, r.packets, r.bytes = r.trains[:0], false, 0, 0
}
