package overlay

import (
	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
)

// hopLimit is how many relays a packet may cross (draft 3.1).
const hopLimit = 3

// relayTrains is how many trains are written at once: of mixed traffic, each packet is one.
const relayTrains = 256

// relay forwards packets for peers that were added (draft 2.3), without keys, in
// the buffers that they were read into: a train that goes to one peer stays one.
type relay struct {
	w        link.Writer
	counters *counters
	trains   []link.Train
	open     bool // the last train may grow

	// Of the batch that was read, whose packets are alike: what the index said last.
	from    *link.Train // nil: nothing yet
	allowed bool        // an added peer sent it
	hop     hop

	packets, bytes int
}

// hop is where packets to one machine go next.
type hop struct {
	to      anode.ID // zero: none yet
	machine uint8
	ep      link.Endpoint
	refused counter // why they go nowhere; 0: they do
}

func newRelay(w link.Writer, c *counters) *relay {
	return &relay{w: w, counters: c, trains: make([]link.Train, 0, relayTrains)}
}

// forward relays one packet of a train that was read. Only what comes from an
// endpoint of an added peer is relayed, and only to an added peer: a stranger can
// spend nothing of ours.
func (rx *receiver) forward(p []byte, t *link.Train, to anode.ID) {
	n, r := rx.n, rx.relay
	if machine := recipientPeer(p); r.hop.to != to || r.hop.machine != machine {
		r.hop = n.nextHop(to, machine)
	}
	if r.from != t {
		c := n.index.source(t.Endpoint)
		r.from, r.allowed = t, c != nil && c.Standing() >= book.Added
	}
	switch {
	case r.hop.refused != 0:
		n.counters.count(r.hop.refused)
	case !r.allowed || r.hop.ep.Addr == t.Endpoint.Addr: // or it would go back to where it came from
		n.counters.count(dRelayRefused)
	case !wire.BumpHop(p, hopLimit):
		n.counters.count(dRelayHops)
	default:
		r.add(p, t, r.hop.ep)
	}
}

// nextHop looks up where packets to a machine go.
func (n *lanes) nextHop(to anode.ID, machine uint8) hop {
	h := hop{to: to, machine: machine, refused: dNotOurs}
	c := n.index.byID(to)
	if c == nil {
		return h
	}
	h.refused = dRelayRefused
	f := c.Forward.Load()
	if f == nil || !n.relays.Load() || c.Standing() < book.Added {
		return h
	}
	if ep, ok := f.To(machine); ok {
		h.ep, h.refused = ep, 0
	}
	return h
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
	r.trains, r.open, r.packets, r.bytes = r.trains[:0], false, 0, 0
}
