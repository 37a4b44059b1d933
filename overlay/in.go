package overlay

import (
	"errors"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// readTrains is how many trains one read may bring; a Conn has fewer buffers where
// trains are long.
const readTrains = 32

// receiver is the state of one in loop.
type receiver struct {
	n       *Node
	q       Queue
	beacons bool // reads the beacons' socket, where nothing sealed belongs
	relay   *relay
	reply   *sender // PONGs
	sources sourceLimit

	t    *table
	now  int64
	last *inbound // of the packet before, since trains come from one peer
	key  sessionKey

	noted      *inbound // whose packets noteBytes counts
	notedBytes int
	notedData  bool // more than keepalives was among them

	packets, bytes int
}

// inLoop moves packets from a socket to where they belong, until it is closed.
func (n *Node) inLoop(c link.Conn, q Queue, lane int) error {
	rx := &receiver{n: n, q: q, beacons: c == n.beacons,
		relay: newRelay(n.conns[lane].NewWriter(), &n.counters),
		reply: newSender(n.conns[lane].NewWriter(), lane, &n.counters)}
	trains := make([]link.Train, readTrains)
	for {
		k, err := c.Read(trains)
		if err != nil {
			return err
		}
		if t := n.table.Load(); t != rx.t {
			rx.t, rx.last = t, nil
		}
		rx.now = n.now()
		for i := range trains[:k] {
			rx.train(&trains[i])
		}
		rx.relay.flush()
		rx.reply.flush()
		if err := q.Flush(); err != nil {
			n.log.Debug("adapter", "err", err)
		}
		n.counters.add(cRxPackets, rx.packets)
		n.counters.add(cRxBytes, rx.bytes)
		rx.packets, rx.bytes = 0, 0
	}
}

func (rx *receiver) train(t *link.Train) {
	rx.packets += (len(t.Buf) + t.Size - 1) / max(t.Size, 1)
	rx.bytes += len(t.Buf)
	for b := t.Buf; len(b) > 0; {
		p := b[:min(t.Size, len(b))]
		b = b[len(p):]
		rx.packet(p, t)
	}
	rx.note()
}

// packet is the security order: length, header, whose it is, and for sealed packets
// session, replay, authentication; only then effects. What is not sealed is
// authenticated by the control loop.
func (rx *receiver) packet(p []byte, t *link.Train) {
	n := rx.n
	if len(p) < wire.MinPacket {
		n.counters.count(dShort)
		return
	}
	to, ok := wire.RecipientID(p)
	if !ok {
		n.counters.count(dFlags)
		return
	}
	if to != n.id && !to.IsZero() {
		rx.forward(p, t, to)
		return
	}
	if p[1]&wire.FlagSealed == 0 {
		rx.unsealed(p, t)
		return
	}
	if len(p) < wire.SealedMin || rx.beacons {
		n.counters.count(dShort)
		return
	}
	in, msg := rx.open(p, t)
	if in == nil {
		return
	}
	rx.deliver(in, msg, p, t)
}

// unsealed hands a packet to the control loop, within its source's rate.
func (rx *receiver) unsealed(p []byte, t *link.Train) {
	if rx.reply.lane != 0 { // of a broadcast each lane gets a copy
		rx.n.counters.count(dCopies)
		return
	}
	if !rx.sources.allow(t.Endpoint.Addr.Addr(), rx.now) {
		rx.n.counters.count(dSourceRate)
		return
	}
	rx.n.postUnsealed(event{kind: evUnsealed, ep: t.Endpoint, msg: append([]byte(nil), p...)})
}

// open finds the session of a sealed packet and opens it into the queue's slot.
func (rx *receiver) open(p []byte, t *link.Train) (*inbound, []byte) {
	n := rx.n
	key := sessionKey{wire.SealedSender(p), wire.SealedIndex(p)}
	in := rx.last
	if in == nil || rx.key != key {
		in = rx.t.sessions[key]
		if in == nil {
			n.counters.count(dUnknownSession)
			rx.unknown(p, key.sender)
			return nil, nil
		}
	}
	slot := rx.q.Slot(len(p) - wire.SealedMin)
	for ; in != nil; in = in.next {
		msg, err := in.session.Open(slot, p, rx.now)
		switch {
		case err == nil:
			rx.last, rx.key = in, key
			rx.opened(in, p, t)
			return in, msg
		case in.next != nil: // another peer may share the key
		case errors.Is(err, seal.ErrReplay):
			n.counters.count(dSealReplay)
		case errors.Is(err, seal.ErrAuth):
			n.counters.count(dSealAuth)
		default:
			n.counters.count(dSealOther)
		}
	}
	return nil, nil
}

// opened does what every authentic packet causes, whatever is in it.
func (rx *receiver) opened(in *inbound, p []byte, t *link.Train) {
	if rx.noted != in {
		rx.note()
		rx.noted = in
	}
	rx.notedBytes += len(p)
	rx.notedData = rx.notedData || len(p) > wire.SealedMin
	if in.pending.Load() && in.pending.CompareAndSwap(true, false) {
		if !rx.n.post(event{kind: evConfirm, in: in, ep: t.Endpoint, hop: p[0]}) {
			in.pending.Store(true) // the next packet tries again
		}
	}
	if f := in.remote.flight.Load(); f != nil && p[0] == 0 && f.way.Endpoint.Addr != t.Endpoint.Addr {
		rx.roamed(in, p, t)
	}
}

// note does the bookkeeping of the packets that one session opened in a row.
func (rx *receiver) note() {
	in := rx.noted
	if in == nil {
		return
	}
	in.session.Received(rx.now, rx.notedData)
	in.remote.rxBytes.Add(uint64(rx.notedBytes))
	in.remote.heard.Store(rx.now)
	if in.session.Activate() && !rx.n.post(event{kind: evActive, ula: in.remote.ula}) {
		in.session.Deactivate()
	}
	rx.noted, rx.notedBytes, rx.notedData = nil, 0, false
}

// roamed proposes a new endpoint, at most once a second.
func (rx *receiver) roamed(in *inbound, p []byte, t *link.Train) {
	last := in.remote.roamAt.Load()
	if last != 0 && rx.now-last < int64(roamEvery) || !in.session.Newest(p) {
		return
	}
	in.remote.roamAt.Store(rx.now)
	rx.n.post(event{kind: evRoam, in: in, ep: t.Endpoint})
}

// unknown asks for a new session with an added peer that has one which we lost.
func (rx *receiver) unknown(p []byte, sender anode.ID) {
	if r := rx.t.byID[sender]; r != nil {
		last := r.roamAt.Load()
		if last != 0 && rx.now-last < int64(roamEvery) {
			return
		}
		r.roamAt.Store(rx.now)
		rx.n.post(event{kind: evUnknown, ula: r.ula})
	}
}

// deliver acts on an authentic message. msg is in the queue's slot.
func (rx *receiver) deliver(in *inbound, msg, p []byte, t *link.Train) {
	if len(msg) == 0 {
		return // a keepalive
	}
	r := in.remote
	switch wire.Type(msg[0]) {
	case wire.IP6P, wire.Dgram, wire.IP6:
		rx.q.Put(r.ula, r.trusted.Load(), msg)
	case wire.Ping:
		rx.pong(in, msg, t)
	case wire.Pong:
		if rx.n.pings.answer(r, msg[1:], t.Endpoint, p[0]) {
			return
		}
		rx.q.Put(r.ula, r.trusted.Load(), msg)
	case wire.Frag:
		rx.fragment(in, msg, p, t)
	case wire.EPCReq, wire.EPC, wire.EPI, wire.NATT, wire.NetIDReq, wire.NetID, wire.Error,
		wire.Probe, wire.ProbeAck, wire.Whois, wire.IAm:
		if !r.trusted.Load() && !rx.n.strangerCalls.allow(rx.now) {
			rx.n.counters.count(dBudget) // strangers shall not fill the inbox that all share
			return
		}
		rx.n.post(event{kind: evSealed, in: in, ep: t.Endpoint, hop: p[0], msg: append([]byte(nil), msg...)})
	default:
		rx.n.counters.count(dSealType)
	}
}

// pong answers an echo request where its session's packets go. While there is no
// such place, the control loop does it, after it has confirmed the session.
func (rx *receiver) pong(in *inbound, msg []byte, t *link.Train) {
	r := in.remote
	if !r.trusted.Load() && !rx.n.strangerPings.allow(rx.now) {
		rx.n.counters.count(dBudget)
		return
	}
	f := r.flight.Load()
	if f == nil {
		rx.n.post(event{kind: evSealed, in: in, ep: t.Endpoint, msg: append([]byte(nil), msg...)})
		return
	}
	if len(msg)+wire.SealedMin > f.datagram {
		rx.n.counters.count(dPong)
		return
	}
	c, ok := f.session.Reserve(rx.reply.lane, 1, rx.now)
	if !ok {
		rx.n.counters.count(dKeyEnded)
		return
	}
	msg[0] = byte(wire.Pong)
	rx.reply.seal(f, c, msg)
	r.txBytes.Add(uint64(len(msg) + wire.SealedMin))
	f.session.Sent(rx.now)
}
