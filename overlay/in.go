package overlay

import (
	"errors"
	"sync/atomic"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// readTrains is how many trains one read may bring; a Conn has fewer buffers where
// trains are long.
const readTrains = 32

// receiver is the state of one in loop.
type receiver struct {
	n        *lanes
	q        Queue
	beacons  bool // reads the beacons' socket, where nothing sealed belongs
	relay    *relay
	reply    *sender       // PONGs
	bare     bool          // there is no adapter
	gathered gathered      // of streams
	answers  outbox        // to clients
	sources  mono.Networks // of what is not authentic
	proofs   proofs        // of those who may want to register
	stun     mono.Bucket   // of answers of STUN servers
	ahead    ahead         // what was looked up of the batch
	scratch  seal.Scratch

	now    mono.Time
	last   *peer.Inbound // of the packet before, since trains come from one peer
	sender anode.ID      // of that packet

	noted noted
	from  *link.Train // that is being read

	packets, bytes int
}

// noted is the bookkeeping of packets that one session opened in a row.
type noted struct {
	in       *peer.Inbound  // nil: nothing was opened
	trusted  bool           // the policy lets everything of it in
	replies  bool           // it lets only replies of ours in, or has not told yet
	machines *peer.Machines // nil: at most one is up
	bytes    int
	data     bool // more than keepalives was among them
}

func newReceiver(n *lanes, q Queue, lane int, w link.Writer) *receiver {
	_, bare := q.(*noQueue)
	return &receiver{n: n, q: q, sources: newSources(), relay: newRelay(w, &n.counters), reply: newSender(w, lane, replySize, &n.counters),
		answers: outbox{w: w, counters: &n.counters}, proofs: newProofs(), bare: bare, gathered: gathered{host: n.programs.host}}
}

// inLoop moves packets from a socket to where they belong, until it is closed. beacons
// says that it is the beacons' socket.
func (n *lanes) inLoop(c link.Conn, q Queue, lane int, w link.Writer, beacons bool) error {
	rx := newReceiver(n, q, lane, w)
	rx.beacons = beacons
	trains := make([]link.Train, readTrains)
	for {
		k, err := c.Read(trains)
		if err != nil {
			return err
		}
		rx.now = n.now()
		rx.batch(trains[:k])
		rx.gathered.end()
		rx.relay.flush()
		rx.reply.flush()
		rx.answers.flush()
		if err := q.Flush(); err != nil {
			n.log.Debug("adapter", "err", err)
		}
		n.counters.add(cRxPackets, rx.packets)
		n.counters.add(cRxBytes, rx.bytes)
		rx.packets, rx.bytes = 0, 0
	}
}

// newSources is what may come in unsealed and unauthenticated: 200 packets a second of a
// host, and of all together no more than the loop takes without delay.
func newSources() mono.Networks {
	return mono.Networks{Each: mono.Rate{PerSecond: 200, Burst: 100}, Total: mono.Rate{PerSecond: 1000, Burst: 1000}, Prefix: mono.Host}
}

// batch takes the trains of one read.
func (rx *receiver) batch(ts []link.Train) {
	a := &rx.ahead
	looked := rx.lookAhead(ts)
	for i := range ts {
		if looked {
			a.train, a.hash = &ts[i], a.hashes[i]
		}
		rx.train(&ts[i])
	}
	a.train = nil
}

func (rx *receiver) train(t *link.Train) {
	rx.from = t
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
// authenticated by the loop, or by its MAC.
func (rx *receiver) packet(p []byte, t *link.Train) {
	n := rx.n
	if len(p) < wire.MinPacket {
		rx.foreign(p, t, dShort)
		return
	}
	to, why, ok := rx.recipient(p)
	if !ok {
		rx.foreign(p, t, why)
		return
	}
	if to != n.id && !to.IsZero() {
		if p[0] == 1 && p[1] == wire.FlagFullSender && n.looksSTUN(p) {
			rx.foreign(p, t, dNotOurs)
			return
		}
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

// foreign drops what is no packet of ours, unless it is the answer of a STUN server that was asked.
func (rx *receiver) foreign(p []byte, t *link.Train, why counter) {
	if !rx.n.looksSTUN(p) || rx.beacons {
		rx.n.counters.count(why)
	} else if rx.stun.Allow(rx.now, stunRate) {
		rx.n.post(event{kind: evSTUN, ep: t.Endpoint, msg: append([]byte(nil), p...)})
	} else {
		rx.n.counters.count(dBudget)
	}
}

// recipient returns the short ID that a packet is for, or why it is dropped. No
// short ID is computed for a full address that we do not know: see index.
func (rx *receiver) recipient(p []byte) (to anode.ID, why counter, ok bool) {
	if p[1]&wire.FlagFullRecipient == 0 {
		to, ok = wire.RecipientID(p)
		return to, dFlags, ok
	}
	h, _, err := wire.Parse(p)
	if err != nil {
		return to, dFlags, false
	}
	if h.Recipient.Address == rx.n.address {
		return rx.n.id, 0, true
	}
	if c := rx.n.index.byParty(&h.Recipient); c != nil {
		return c.ID, 0, true
	}
	if c := rx.n.clients.get(&h.Recipient.Address); c != nil {
		return c.id, 0, true
	}
	return to, dNotOurs, false
}

// signedRate bounds the unsealed packets of one added peer that bear its MAC. Whoever
// recorded them can send them again.
var signedRate = mono.Rate{PerSecond: 100, Burst: 200}

// unsealed hands a packet to the loop. What bears the MAC of an added peer shares
// nothing with what anybody can make: neither a budget nor an inbox.
func (rx *receiver) unsealed(p []byte, t *link.Train) {
	n := rx.n
	if rx.reply.lane != 0 { // of a broadcast each lane gets a copy
		n.counters.count(dCopies)
		return
	}
	h, msg, err := wire.Parse(p)
	if err != nil {
		n.counters.count(dHeader)
		return
	}
	if h.RecipientPeer != 0 && h.RecipientPeer != n.peerID() {
		n.counters.count(dMachine)
		return
	}
	if c := rx.questioned(&h, msg); c != nil && c.Marks.Signed.Allow(rx.now, signedRate) {
		n.post(event{kind: evCookie, contact: c, ep: t.Endpoint, msg: append([]byte(nil), p...)})
		return
	}
	c := rx.signer(&h, p)
	if c == nil {
		if x := rx.client(&h, p); x != nil {
			rx.fromClient(x, &h, msg, p, t.Endpoint)
			return
		}
	}
	switch {
	case c != nil && c.Marks.Signed.Allow(rx.now, signedRate):
		n.post(event{kind: evSigned, contact: c, ep: t.Endpoint, msg: append([]byte(nil), p...)})
	case c != nil:
		n.counters.count(dBudget)
	case rx.unkeyed(&h):
		n.post(event{kind: evUnsigned, ep: t.Endpoint, msg: append([]byte(nil), p...)})
	case rx.registers(&h):
		rx.newcomer(&h, msg, p, t.Endpoint)
	case rx.sources.Allow(rx.now, t.Endpoint.Addr.Addr()):
		n.post(event{kind: evUnsigned, ep: t.Endpoint, msg: append([]byte(nil), p...)})
	default:
		n.counters.count(dSourceRate)
	}
}

// questioned returns the contact whose HELLO a COOKIE answers, or nil.
func (rx *receiver) questioned(h *wire.Header, msg []byte) *peer.Contact {
	if h.Type != wire.Cookie || h.MAC != [8]byte{} {
		return nil
	}
	x, err := seal.ParseChallenge(msg)
	if err != nil {
		return nil
	}
	for c := rx.n.index.byParty(&h.Sender); c != nil; c = c.Next.Load() {
		if q := c.Asked.Load(); q != nil && *q == x.First {
			return c
		}
	}
	return nil
}

// signer returns the added peer whose MAC a packet bears, or nil.
func (rx *receiver) signer(h *wire.Header, p []byte) *peer.Contact {
	if h.MAC == [8]byte{} || h.Flags&wire.FlagAuthError != 0 {
		return nil
	}
	for c := rx.n.index.byParty(&h.Sender); c != nil; c = c.Next.Load() {
		if mac := c.MAC.Load(); mac != nil && mac.Verify(p, &rx.scratch) {
			return c
		}
		if h.Sender.Full() {
			break
		}
	}
	return nil
}

// unkeyed reports whether a packet names an added peer without an agreed
// key. That happens once for each peer.
func (rx *receiver) unkeyed(h *wire.Header) bool {
	if !h.Sender.Full() || h.MAC == [8]byte{} {
		return false
	}
	c := rx.n.index.byParty(&h.Sender)
	return c != nil && c.Standing() >= book.Added && c.MAC.Load() == nil && rx.n.budgets.unkeyed.Allow(rx.now)
}

// open finds the session of a sealed packet and opens it into the queue's slot.
func (rx *receiver) open(p []byte, t *link.Train) (*peer.Inbound, []byte) {
	n := rx.n
	sender, index := wire.SealedSender(p), wire.SealedIndex(p)
	slot := rx.slot(len(p) - wire.SealedMin)
	if in := rx.last; in != nil && rx.sender == sender && in.Has(index) {
		if msg, err := in.Session.Open(slot, p, int64(rx.now)); err == nil {
			rx.opened(in, p, t)
			return in, msg
		}
	}
	found := false
	err := seal.ErrAuth
	for c := n.index.byID(sender); c != nil; c = c.Next.Load() {
		for in := c.Find(index, nil); in != nil; in = c.Find(index, in) {
			found = true
			var msg []byte
			if msg, err = in.Session.Open(slot, p, int64(rx.now)); err == nil {
				rx.last, rx.sender = in, sender
				rx.opened(in, p, t)
				return in, msg
			}
		}
	}
	switch {
	case !found:
		n.counters.count(dUnknownSession)
		rx.unknown(p, sender)
	case errors.Is(err, seal.ErrReplay):
		n.counters.count(dSealReplay)
	case errors.Is(err, seal.ErrAuth):
		n.counters.count(dSealAuth)
	default:
		n.counters.count(dSealOther)
	}
	return nil, nil
}

// opened does what every authentic packet causes, whatever is in it.
func (rx *receiver) opened(in *peer.Inbound, p []byte, t *link.Train) {
	if rx.noted.in != in {
		rx.begin(in, p, t)
	}
	rx.noted.bytes += len(p)
	rx.noted.data = rx.noted.data || len(p) > wire.SealedMin
}

// begin does what the first of a train's packets in a session causes: the others are
// alike.
func (rx *receiver) begin(in *peer.Inbound, p []byte, t *link.Train) {
	rx.note()
	rx.noted = noted{in: in, trusted: rx.n.trusts(in.Contact), machines: in.Contact.Machines.Load()}
	if in.Pending.Load() && in.Pending.CompareAndSwap(true, false) {
		if !rx.n.post(event{kind: evConfirm, in: in, ep: t.Endpoint, hop: p[0]}) {
			in.Pending.Store(true) // the next packet tries again
		}
		in.Answer()
		in.Line.Announce(in.Session.Said().Capabilities) // the loop confirms later than this packet is judged
	}
	r := in.Line.Route.Load()
	rx.noted.replies = rx.noted.trusted && (r == nil || r.Refuses)
	if r != nil && !r.Way.Endpoint.Same(&t.Endpoint) {
		rx.roamed(in, p, t)
	}
}

// note does the bookkeeping of the packets that one session opened in a row.
func (rx *receiver) note() {
	in := rx.noted.in
	if in == nil {
		return
	}
	in.Session.Received(int64(rx.now), rx.noted.data)
	in.Contact.RxBytes.Add(uint64(rx.noted.bytes))
	in.Contact.Marks.Heard.Store(int64(rx.now))
	if r := in.Line.Route.Load(); r != nil && r.Way.Endpoint.Same(&rx.from.Endpoint) {
		in.Line.Heard.Store(int64(rx.now))
	}
	if in.Session.Activate() && !rx.n.post(event{kind: evActive, contact: in.Contact}) {
		in.Session.Deactivate()
	}
	rx.noted = noted{}
}

// markEvery is how often a lane does what it does once in a while for a contact.
const markEvery = time.Second

// due reports whether a mark is older than markEvery, and sets it then.
func (rx *receiver) due(mark *atomic.Int64) bool {
	if rx.now.Sub(mono.Time(mark.Load())) < markEvery {
		return false
	}
	mark.Store(int64(rx.now))
	return true
}

// roamed proposes a new endpoint.
func (rx *receiver) roamed(in *peer.Inbound, p []byte, t *link.Train) {
	if in.Session.Newest(p) && rx.due(&in.Contact.Marks.Roamed) {
		rx.n.post(event{kind: evRoam, in: in, ep: t.Endpoint, hop: p[0]})
	}
}

// unknownRate bounds the handshakes that packets in unknown sessions begin. Anybody can
// send such packets in the name of every added peer, and each handshake costs two key
// agreements. A peer that waits for us in vain begins one itself.
var unknownRate = mono.Rate{PerSecond: 100, Burst: 100}

// unknown asks for a new session with an added peer that has one which we lost.
func (rx *receiver) unknown(p []byte, sender anode.ID) {
	from, to := wire.SealedPeers(p)
	if to != 0 && to != rx.n.peerID() {
		return // it is another machine's
	}
	for c := rx.n.index.byID(sender); c != nil; c = c.Next.Load() {
		if c.Standing() >= book.Added && rx.due(&c.Marks.Unknown) && rx.n.budgets.unknown.Allow(rx.now) {
			rx.n.post(event{kind: evUnknown, contact: c, machine: from})
		}
	}
}

// sealedRate bounds the sealed messages of one added peer that the loop takes.
var sealedRate = mono.Rate{PerSecond: 200, Burst: 400}

// deliver acts on an authentic message, if the rules admit it. msg is in the queue's
// slot.
func (rx *receiver) deliver(in *peer.Inbound, msg, p []byte, t *link.Train) {
	if len(msg) == 0 {
		return // a keepalive
	}
	n, c, kind := rx.n, in.Contact, wire.Type(msg[0])
	standing := c.Standing()
	if in.Session.Invited() {
		if !aside[kind] {
			n.counters.count(dAside)
			return
		}
		standing = invited(kind, standing)
	}
	if !freely[kind] {
		if a := n.admit(rx.now, kind, true, standing); a != admitted {
			n.countRefused(a, kind, true)
			return
		}
	}
	switch kind {
	case wire.IP6P, wire.Dgram, wire.IP6, wire.IP4:
		if many := rx.noted.machines; many != nil { // the flow keeps its machine
			flow, _ := flowOf(msg)
			many.Note(flow, in.PeerID)
		}
		if kind != wire.IP4 { // of which programs have none
			if msg = rx.forPrograms(in, msg, t); msg == nil {
				return
			}
		}
		if rx.noted.replies {
			rx.q.Came(c.ULA, msg)
		}
		if rx.q.Put(c.ULA, rx.noted.trusted, msg) {
			rx.tell(in, t)
		}
	case wire.Group:
		rx.group(in, msg)
	case wire.Ping:
		rx.pong(in, msg, t)
	case wire.Pong:
		if !n.pings.answer(c, msg[1:], t.Endpoint, p[0]) {
			rx.q.Put(c.ULA, n.trusts(c), msg)
		}
	case wire.SData, wire.SAck, wire.SDAck, wire.SOpen, wire.SClose:
		rx.stream(in, msg, t)
	case wire.Frag:
		rx.fragment(in, msg, p, t)
	case wire.Tell, wire.Told:
		if standing >= book.Added && !c.Marks.Tells.Allow(rx.now, tellsOfOne) {
			n.counters.count(dTells)
			return
		}
		rx.post(in, msg, p, t)
	default:
		rx.post(in, msg, p, t)
	}
}

// forPrograms gives a message to the socket of a program, and returns what is for the adapter; nil: nothing.
func (rx *receiver) forPrograms(in *peer.Inbound, msg []byte, t *link.Train) []byte {
	if rx.bare {
		if msg = rx.whole(in, msg); msg == nil {
			return nil
		}
	}
	if rx.n.programs.sockets.list.Load() != nil && rx.datagram(in, msg, t) {
		return nil
	}
	if rx.bare && rx.noted.trusted {
		rx.closedPort(in, msg)
	}
	return msg
}

// tellRate is how often a peer is told that it is not let in.
var tellRate = mono.Rate{PerSecond: 1, Burst: 1}

// tell has the sender of a packet that was refused told that it is not let in.
func (rx *receiver) tell(in *peer.Inbound, t *link.Train) {
	if in.Contact.Marks.Told.Allow(rx.now, tellRate) {
		rx.n.post(event{kind: evTell, in: in, ep: t.Endpoint})
	}
}

// post hands a message to the loop.
func (rx *receiver) post(in *peer.Inbound, msg, p []byte, t *link.Train) {
	if !in.Contact.Marks.Sealed.Allow(rx.now, sealedRate) {
		rx.n.counters.count(dBudget)
		return
	}
	rx.n.post(event{kind: evSealed, in: in, ep: t.Endpoint, hop: p[0], msg: append([]byte(nil), msg...)})
}

// pong answers an echo request where its session's packets go. While there is no
// such place, the loop does it, after it has confirmed the session.
func (rx *receiver) pong(in *peer.Inbound, msg []byte, t *link.Train) {
	r := in.Line.Route.Load()
	if r == nil {
		rx.n.post(event{kind: evSealed, in: in, ep: t.Endpoint, msg: append([]byte(nil), msg...)})
		return
	}
	msg[0] = byte(wire.Pong)
	rx.answer(in, r, msg)
}

// answer sends a message to where a session's packets go.
func (rx *receiver) answer(in *peer.Inbound, r *peer.Route, msg []byte) {
	rx.reply.now = rx.now
	if len(msg)+wire.SealedMin > r.Datagram {
		rx.n.sendFragments(rx.reply, in.Contact, r, msg) // as what it answers came
	} else if counter, ok := r.Session.Reserve(rx.reply.lane, 1, int64(rx.now)); ok {
		rx.reply.seal(r, counter, msg)
		in.Contact.TxBytes.Add(uint64(len(msg) + wire.SealedMin))
	} else {
		rx.n.counters.count(dKeyEnded)
	}
	r.Session.Sent(int64(rx.now))
}
