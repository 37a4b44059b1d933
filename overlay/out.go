package overlay

import (
	"encoding/binary"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// minMTU is what IPv6 promises (RFC 8200, 5): shorter paths are crossed by FRAG.
const minMTU = 1280

const (
	// mtuOverhead is what a sealed packet is longer than the IPv6 packet in it that it
	// carries as IP6: 27 header, 1 type and 16 tag; 34 of the 40 bytes go.
	mtuOverhead = wire.SealedOverhead + wire.IP6Header - 40
	// mtuOverhead4 is the same for an IPv4 packet, carried as IP4.
	mtuOverhead4 = wire.SealedOverhead + wire.IP4Header - 20

	ip4Headers = 20 + 8 // IPv4 and UDP around a datagram
	ip6Headers = 40 + 8
)

// mtuOf is the longest IPv6 packet that goes into one datagram of a route.
func mtuOf(r *peer.Route) int { return r.Datagram - mtuOverhead }

// packetSize is the length of the IP packet that a message was made of.
func packetSize(msg []byte) int {
	switch wire.Type(msg[0]) {
	case wire.IP4:
		return len(msg) - 1 - wire.IP4Header + 20
	case wire.IP6, wire.IP6P:
		return len(msg) - 1 - wire.IP6Header + 40
	case wire.Dgram:
		return len(msg) - 1 - wire.DgramHeader + 40 + 8
	}
	return len(msg) - 5 + 40 + 8 // PING: ident and seq are part of ICMPv6's 8
}

// The lengths of senders' buffers: of one that sends what programs send, and of one that
// answers and controls.
const (
	sendSize  = 4 * link.MaxTrain
	replySize = link.MaxTrain

	sendTrains = 128 // that a sender writes at once
)

// sender seals messages into trains and writes them. It is for one goroutine, and
// its memory is fixed, and made for the first packet: many senders never have one.
type sender struct {
	w        link.Writer
	crowd    link.Crowd // nil: w has no queues
	lane     int
	counters *counters
	now      mono.Time // of the batch

	size     int    // of buf
	buf      []byte // sealed packets
	trains   []link.Train
	start    int  // of the last train, in buf
	segments int  // of the last train
	open     bool // the last train takes more: it has no short packet yet

	packets, bytes int // since the last flush
	marked         int // of these, those that say that a queue is crowded

	packet []byte // that was made for the gateway
}

func newSender(w link.Writer, lane, size int, c *counters) *sender {
	s := &sender{w: w, lane: lane, size: size, counters: c}
	s.crowd, _ = w.(link.Crowd)
	return s
}

// seal appends one message to the batch, which is flushed first if it is full.
func (s *sender) seal(r *peer.Route, counter uint64, msg []byte) {
	if s.buf == nil {
		s.buf, s.trains = make([]byte, 0, s.size), make([]link.Train, 0, sendTrains)
	}
	n := len(msg) + wire.SealedMin
	fits := s.fits(r, n)
	if len(s.buf)+n > s.size || len(s.trains) == cap(s.trains) && !fits {
		s.flush()
		fits = false
	}
	at := len(s.buf)
	s.buf = r.Session.Seal(s.buf, counter, msg)
	if fits {
		t := &s.trains[len(s.trains)-1]
		t.Buf = s.buf[s.start:]
		s.segments++
		s.open = n == t.Size
	} else {
		s.trains = append(s.trains, link.Train{Buf: s.buf[at:], Size: n, Endpoint: r.Way.Endpoint})
		s.start, s.segments, s.open = at, 1, r.Trains
	}
	s.packets++
	s.bytes += n
}

// crowded reports whether what goes by a route waits for long in the queue of a connection.
func (s *sender) crowded(r *peer.Route) bool {
	return s.crowd != nil && r.Way.Endpoint.Kind.Connected() && s.crowd.Crowded(&r.Way.Endpoint)
}

// slowDown tells the program that sends a packet to send less, by the mark of RFC 3168, if both ends of
// its connection understand that: what is sealed and waits in a queue can only be dropped. The node
// that made the packet can do so alone. A relay whose queue is crowded sees nothing of what is in it,
// and drops.
func (s *sender) slowDown(msg []byte) {
	if markCE(msg) {
		s.marked++
	}
}

// markCE has a message with an IP packet say that it met congestion, and reports whether it may: the
// packet's sender set one of ECT(0) and ECT(1), and nobody has said so yet. The traffic class is in no
// checksum. DGRAM has none: it stands for a class of 0, which must not be marked.
func markCE(msg []byte) bool {
	at, ce := 2, byte(0x30) // of the type, then version, class and flow label
	switch wire.Type(msg[0]) {
	case wire.IP6, wire.IP6P:
	case wire.IP4:
		at, ce = 1, 0x03
	default:
		return false
	}
	if len(msg) < 1+wire.IP6Header || msg[at]&ce == 0 || msg[at]&ce == ce {
		return false
	}
	msg[at] |= ce
	return true
}

// end closes the last train: what measures a way must not depend on what leaves with it.
func (s *sender) end(now bool) { s.open = s.open && !now }

// fits reports whether a packet of n bytes may join the last train.
func (s *sender) fits(r *peer.Route, n int) bool {
	if !s.open || s.segments == link.MaxSegments {
		return false
	}
	t := &s.trains[len(s.trains)-1]
	return n <= t.Size && len(s.buf)-s.start+n <= link.MaxTrain && t.Endpoint == r.Way.Endpoint
}

// flush writes the batch.
func (s *sender) flush() {
	if len(s.trains) == 0 {
		return
	}
	if sent, err := s.w.Write(s.trains); err != nil {
		s.counters.add(dWrite, len(s.trains)-sent)
	}
	s.counters.add(cTxPackets, s.packets)
	s.counters.add(cTxBytes, s.bytes)
	s.counters.add(cTxMarked, s.marked)
	s.buf, s.trains = s.buf[:0], s.trains[:0]
	s.packets, s.bytes, s.marked, s.open = 0, 0, 0, false
}

// full reports whether a batch is worth writing before more is read.
func (s *sender) full() bool { return len(s.buf) >= link.MaxTrain*3/4 }

// outLoop moves packets from one queue of the device to the network, until the
// device is closed.
func (n *lanes) outLoop(q Queue, w link.Writer, lane int) error {
	s := newSender(w, lane, sendSize, &n.counters)
	for {
		to, ok, err := q.Read(true)
		now := n.now() // of the batch: asking for each packet would be a system call more
		s.now = now
		for ok && err == nil {
			n.outPacket(q, s, to, now)
			if s.full() {
				break
			}
			to, ok, err = q.Read(false)
		}
		s.flush()
		if err != nil {
			return err
		}
	}
}

// outPacket seals the packet just read from q, or hands it to the loop.
func (n *lanes) outPacket(q Queue, s *sender, to anode.ULA, now mono.Time) {
	if isGroup(to) {
		n.outGroup(q, s, to, now)
		return
	}
	c := n.index.byULA(to)
	if c == nil {
		n.outWaiting(q, c, to)
		return
	}
	if many := c.Machines.Load(); many != nil {
		n.outMany(q, s, c, many, now)
		return
	}
	r := c.Route.Load()
	if r == nil {
		n.outWaiting(q, c, to)
		return
	}
	if r.Refuses && q.Unasked(to) {
		n.refuse(c, q.Next(), now) // the answer is about all that the packet becomes
		return
	}
	if !n.trusts(c) {
		q.Track(to)
	}
	if n.bridges(r) {
		n.outOnlyStreams(q, s, c, r)
		return
	}
	count, size, last := q.Shape()
	if size+wire.SealedMin > r.Datagram {
		n.outTooBig(q, s, c, r, now)
		return
	}
	first, ok := r.Session.Reserve(s.lane, count, int64(now))
	if !ok {
		n.outWaiting(q, c, to)
		return
	}
	crowded := s.crowded(r)
	for msg := q.Next(); msg != nil; msg = q.Next() {
		if crowded {
			s.slowDown(msg)
		}
		s.seal(r, first, msg)
		first++
	}
	c.TxBytes.Add(uint64((count-1)*(size+wire.SealedMin) + last + wire.SealedMin))
	n.sentOn(c, r, size+wire.SealedMin, now)
}

// outMany seals a packet for an address of which several machines are up: each message
// goes to the machine of its flow.
func (n *lanes) outMany(q Queue, s *sender, c *peer.Contact, many *peer.Machines, now mono.Time) {
	unasked := many.Refuse() && q.Unasked(c.ULA)
	if !n.trusts(c) {
		q.Track(c.ULA)
	}
	for msg := q.Next(); msg != nil; msg = q.Next() {
		flow, _ := flowOf(msg)
		r := many.Route(flow)
		if r == nil {
			if r = c.Route.Load(); r == nil {
				n.post(event{kind: evWaiting, ula: c.ULA, msg: append([]byte(nil), msg...), unasked: unasked})
				continue
			}
			many.Note(flow, r.PeerID)
		}
		if r.Refuses && unasked {
			n.refuse(c, msg, now)
			return
		}
		if n.bridges(r) && n.outBridge(s, c, msg) {
			continue
		}
		if n.outMessage(s, c, r, msg) {
			n.sentOn(c, r, len(msg)+wire.SealedMin, now)
		}
	}
}

// outMessage seals one message, whole or in parts, or answers it if it is too big.
func (n *lanes) outMessage(s *sender, c *peer.Contact, r *peer.Route, msg []byte) bool {
	if wire.Type(msg[0]) == wire.IP4 && r.Line.OnlyStreams() { // nothing there takes IPv4
		n.counters.count(dNoAdapter)
		n.device.NoRoute(c.ULA, msg)
		return false
	}
	if len(msg)+wire.SealedMin <= r.Datagram {
		counter, ok := r.Session.Reserve(s.lane, 1, int64(s.now))
		if !ok {
			n.counters.count(dKeyEnded)
			return false
		}
		if s.crowded(r) {
			s.slowDown(msg)
		}
		s.seal(r, counter, msg)
		c.TxBytes.Add(uint64(len(msg) + wire.SealedMin))
		return true
	}
	// IPv6 promises 1280 bytes, so below that packets are cut into FRAG messages. IPv4 lets
	// every router cut a packet that does not forbid it.
	mtu := max(mtuOf(r), minMTU)
	if wire.Type(msg[0]) == wire.IP4 {
		mtu = max(r.Datagram-mtuOverhead4, minMTU)
	}
	if packetSize(msg) > mtu && !mayCut(msg) {
		n.counters.count(dTooBig)
		n.device.TooBig(c.ULA, msg, mtu)
		return false
	}
	n.sendFragments(s, c, r, msg)
	return true
}

// mayCut reports whether the packet that a message was made of may be cut on its way,
// whatever its length: IPv4 without Don't Fragment (RFC 791, 3.1), and what goes to a group, for which
// nobody is told a length.
func mayCut(msg []byte) bool {
	const fragment, df = 4, 0x40 // behind the type, class and identification
	t := wire.Type(msg[0])
	return t == wire.Group || t == wire.IP4 && len(msg) > fragment && msg[fragment]&df == 0
}

// sentOn does the bookkeeping of the session's timers. size is that of the longest
// datagram.
func (n *lanes) sentOn(c *peer.Contact, r *peer.Route, size int, now mono.Time) {
	r.Session.Sent(int64(now))
	if size >= r.Large && r.Line.Large.Load() != int64(now) {
		r.Line.Large.Store(int64(now))
	}
	if r.Session.Activate() && !n.post(event{kind: evActive, contact: c}) {
		r.Session.Deactivate()
	}
}

// outWaiting copies the packet's messages for the loop, which has to find the peer or
// make a session first.
func (n *lanes) outWaiting(q Queue, c *peer.Contact, to anode.ULA) {
	unasked := q.Unasked(to)
	if c == nil || !n.trusts(c) {
		q.Track(to)
	}
	for msg := q.Next(); msg != nil; msg = q.Next() {
		n.post(event{kind: evWaiting, ula: to, msg: append([]byte(nil), msg...), unasked: unasked})
	}
}

// refusedRate is how often the loop hears of packets to a peer that were refused.
var refusedRate = mono.Rate{PerSecond: 1, Burst: 1}

// refuse answers a message that the peer would drop, because it has not added us.
func (n *lanes) refuse(c *peer.Contact, msg []byte, now mono.Time) {
	n.counters.count(dNotAddedThere)
	n.device.Prohibited(c.ULA, msg)
	if c.Marks.Refused.Allow(now, refusedRate) {
		n.post(event{kind: evRefused, contact: c})
	}
}

// outTooBig takes a packet or super-packet that is beyond the way's size. Its first
// message that is too big is answered, for all.
func (n *lanes) outTooBig(q Queue, s *sender, c *peer.Contact, r *peer.Route, now mono.Time) {
	largest := 0
	for msg := q.Next(); msg != nil; msg = q.Next() {
		if !n.outMessage(s, c, r, msg) {
			return
		}
		largest = max(largest, len(msg)+wire.SealedMin)
	}
	n.sentOn(c, r, min(largest, r.Datagram), now)
}

// flowOf returns a hash of a message's flow, the same for both directions; ok is false
// for a message without ports, which all are one flow.
func flowOf(msg []byte) (flow uint64, ok bool) {
	var proto byte
	var ports []byte
	switch wire.Type(msg[0]) {
	case wire.Dgram:
		proto, ports = 17, msg[1:]
	case wire.IP6, wire.IP6P:
		if len(msg) < 1+wire.IP6Header {
			return 1 << 4, false
		}
		proto, ports = msg[5], msg[1+wire.IP6Header:]
	case wire.IP4:
		if len(msg) < 1+wire.IP4Header {
			return 1 << 4, false
		}
		proto = msg[7]
		if binary.BigEndian.Uint16(msg[4:])&0x3fff == 0 { // else a fragment: only the first has ports
			ports = msg[1+wire.IP4Header:]
		}
	}
	if (proto != 6 && proto != 17) || len(ports) < 4 {
		return (uint64(proto) + 1) << 4, false
	}
	a, b := binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])
	h := uint64(min(a, b))<<16 | uint64(max(a, b)) | uint64(proto)<<32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29, true
}
