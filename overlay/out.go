package overlay

import (
	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
)

// sendSize is the length of a sender's buffer: four trains.
const sendSize = 4 * link.MaxTrain

// sender seals messages into trains and writes them. It is for one goroutine, and
// its memory is fixed: sendSize.
type sender struct {
	w        link.Writer
	lane     int
	counters *counters

	buf      []byte // sealed packets
	trains   []link.Train
	start    int  // of the last train, in buf
	segments int  // of the last train
	open     bool // the last train takes more: it has no short packet yet

	packets, bytes int // since the last flush
}

func newSender(w link.Writer, lane int, c *counters) *sender {
	return &sender{w: w, lane: lane, counters: c, buf: make([]byte, 0, sendSize), trains: make([]link.Train, 0, 64)}
}

// seal appends one message to the batch, which is flushed first if it is full.
func (s *sender) seal(f *flight, counter uint64, msg []byte) {
	n := len(msg) + wire.SealedMin
	fits := s.fits(f, n)
	if len(s.buf)+n > sendSize || len(s.trains) == cap(s.trains) && !fits {
		s.flush()
		fits = false
	}
	at := len(s.buf)
	s.buf = f.session.Seal(s.buf, counter, msg)
	if fits {
		t := &s.trains[len(s.trains)-1]
		t.Buf = s.buf[s.start:]
		s.segments++
		s.open = n == t.Size
	} else {
		s.trains = append(s.trains, link.Train{Buf: s.buf[at:], Size: n, Endpoint: f.way.Endpoint})
		s.start, s.segments, s.open = at, 1, true
	}
	s.packets++
	s.bytes += n
}

// fits tells whether a packet of n bytes may join the last train.
func (s *sender) fits(f *flight, n int) bool {
	if !s.open || s.segments == link.MaxSegments {
		return false
	}
	t := &s.trains[len(s.trains)-1]
	return n <= t.Size && len(s.buf)-s.start+n <= link.MaxTrain && t.Endpoint == f.way.Endpoint
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
	s.buf, s.trains = s.buf[:0], s.trains[:0]
	s.packets, s.bytes, s.open = 0, 0, false
}

// full tells whether a batch is worth writing before more is read.
func (s *sender) full() bool { return len(s.buf) >= link.MaxTrain*3/4 }

// outLoop moves packets from one queue of the device to the network, until the
// device is closed.
func (n *Node) outLoop(q Queue, lane int) error {
	s := newSender(n.conns[lane].NewWriter(), lane, &n.counters)
	for {
		to, ok, err := q.Read(true)
		now := n.now() // of the batch: asking for each packet would be a system call more
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

// outPacket seals the packet just read from q, or hands it to the control loop.
func (n *Node) outPacket(q Queue, s *sender, to anode.ULA, now int64) {
	r := n.table.Load().byULA[to]
	if r == nil || r.flight.Load() == nil {
		n.outWaiting(q, r, to)
		return
	}
	f := r.flight.Load()
	if !r.trusted.Load() {
		q.Track(to)
	}
	count, size, last := q.Shape()
	if size+wire.SealedMin > f.datagram {
		n.outTooBig(q, s, r, f, now)
		return
	}
	first, ok := f.session.Reserve(s.lane, count, now)
	if !ok {
		n.outWaiting(q, r, to)
		return
	}
	for msg := q.Next(); msg != nil; msg = q.Next() {
		s.seal(f, first, msg)
		first++
	}
	r.txBytes.Add(uint64((count-1)*(size+wire.SealedMin) + last + wire.SealedMin))
	n.sentOn(r, f, now)
}

// sentOn does the bookkeeping of the session's timers.
func (n *Node) sentOn(r *remote, f *flight, now int64) {
	f.session.Sent(now)
	if f.session.Activate() && !n.post(event{kind: evActive, ula: r.ula}) {
		f.session.Deactivate()
	}
}

// outWaiting copies the packet's messages for the control loop, which has to find
// the peer or make a session first.
func (n *Node) outWaiting(q Queue, r *remote, to anode.ULA) {
	if r == nil || !r.trusted.Load() {
		q.Track(to)
	}
	for msg := q.Next(); msg != nil; msg = q.Next() {
		n.post(event{kind: evWaiting, ula: to, msg: append([]byte(nil), msg...)})
	}
}

// outTooBig answers packets beyond the path's MTU. IPv6 promises 1280 bytes, so
// below that they are cut into FRAG messages.
func (n *Node) outTooBig(q Queue, s *sender, r *remote, f *flight, now int64) {
	mtu := f.mtu()
	for msg := q.Next(); msg != nil; msg = q.Next() {
		if packetSize(msg) > max(mtu, minMTU) {
			n.counters.count(dTooBig)
			n.cfg.Device.TooBig(r.ula, msg, max(mtu, minMTU))
			return
		}
		if len(msg)+wire.SealedMin <= f.datagram {
			if c, ok := f.session.Reserve(s.lane, 1, now); ok {
				s.seal(f, c, msg)
			}
			continue
		}
		n.sendFragments(s, r, f, msg, now)
	}
	n.sentOn(r, f, now)
}
