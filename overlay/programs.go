package overlay

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync/atomic"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/stream"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/peer"
)

// programs is what the programs of this process say to peers through the node itself, and
// not through the adapter: streams, and the datagrams of sockets.
//
//	Dial, Listen ---- stream.Host -- Send --.
//	                                        +-- sender: sealed trains --> link.Write
//	ListenPacket ---- socket -- WriteTo ----'
//	in.go: S_OPEN ... S_DACK -- gather --> stream.Host.Deliver, once a batch
//	       DGRAM, UDP in IP6 and IP6P ---> socket
//
// It is the stream.Carrier.
type programs struct {
	n       *lanes
	host    *stream.Host
	senders []chan *sender // of each lane, those that are free
	open    openPorts      // listeners that let strangers in
	sockets sockets
}

// newPrograms makes the programs' half of a node, which cannot send before writeTo.
func newPrograms(n *lanes) *programs {
	p := &programs{n: n}
	p.host = stream.NewHost(n.address, p, stream.Config{Random: random, HalfOpen: openAtOnce, Waiting: openAtOnce, Guest: p.guest})
	return p
}

// writeTo makes the senders of so many lanes. writer makes a writer of one.
func (p *programs) writeTo(lanes int, writer func(lane int) link.Writer) {
	each := max(2, runtime.GOMAXPROCS(0))
	for lane := range lanes {
		free := make(chan *sender, each)
		for range each {
			free <- newSender(lazyWriter(func() link.Writer { return writer(lane) }), lane, sendSize, &p.n.counters)
		}
		p.senders = append(p.senders, free)
	}
}

// openAtOnce is how many streams one machine of a peer may have half open, and how many that
// no program has accepted yet. A listener has places for those of eight.
const openAtOnce = 512

// guest reports whether a peer is a stranger.
func (p *programs) guest(r stream.Remote) bool {
	c := p.n.contact(&r.Address)
	return c == nil || c.Standing() < book.Added
}

// random returns a number that is hard to guess.
func random() uint32 {
	var b [4]byte
	cryptorand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// lazyWriter returns a writer that is made for the first packet: many never have one.
func lazyWriter(open func() link.Writer) link.Writer { return &lazy{open: open} }

type lazy struct {
	open func() link.Writer
	w    link.Writer
}

func (l *lazy) Write(ts []link.Train) (int, error) {
	if l.w == nil {
		l.w = l.open()
	}
	return l.w.Write(ts)
}

// close ends all streams and sockets, and waits for their goroutines.
func (p *programs) close() {
	_ = p.host.Close()
	p.sockets.closeAll()
}

// take waits for a sender of the lane on which packets to an address leave.
func (p *programs) take(to *anode.Address) *sender {
	s := <-p.senders[int(to[len(to)-1])%len(p.senders)]
	s.now = p.n.now()
	return s
}

// give writes what a sender sealed, and gives it back.
func (p *programs) give(s *sender) {
	s.flush()
	p.senders[s.lane] <- s
}

// contact returns an address as the lanes see it; nil: it is not known.
func (n *lanes) contact(a *anode.Address) *peer.Contact {
	return n.index.byParty(&wire.Party{Address: *a})
}

// line returns what is shared of a machine of a peer; nil if there is no session with it.
func (p *programs) line(of *stream.Remote) (*peer.Contact, *peer.Line) {
	c := p.n.contact(&of.Address)
	if c == nil || c.Standing() == book.Blocked {
		return nil, nil
	}
	return c, c.Machine(of.Machine)
}

// Send implements stream.Carrier.
func (p *programs) Send(to stream.Remote, trains []stream.Train) error {
	c, line := p.line(&to)
	if c == nil {
		return ErrUnreachable
	}
	var r *peer.Route
	if line != nil {
		r = line.Route.Load()
	}
	if r == nil {
		p.wait(c, trains[0].Buf[:min(trains[0].Size, len(trains[0].Buf))])
		return nil
	}
	s := p.take(&to.Address)
	defer p.give(s)
	for i := range trains {
		p.n.sendTrain(s, c, r, &trains[i])
	}
	return nil
}

// wait has the loop find a way and make a session for a message. The others are sent again
// when there is one.
func (p *programs) wait(c *peer.Contact, msg []byte) {
	p.n.post(event{kind: evWaiting, ula: c.ULA, msg: append([]byte(nil), msg...)})
}

// sendTrain seals a train of messages.
func (n *lanes) sendTrain(s *sender, c *peer.Contact, r *peer.Route, t *stream.Train) {
	if t.Size+wire.SealedMin > r.Datagram {
		for b := t.Buf; len(b) > 0; {
			m := b[:min(t.Size, len(b))]
			b = b[len(m):]
			n.sendWhole(s, c, r, m)
		}
		return
	}
	count := (len(t.Buf) + t.Size - 1) / t.Size
	first, ok := r.Session.Reserve(s.lane, count, int64(s.now))
	if !ok {
		n.counters.count(dKeyEnded)
		n.post(event{kind: evWaiting, ula: c.ULA, msg: append([]byte(nil), t.Buf[:min(t.Size, len(t.Buf))]...)})
		return
	}
	for b := t.Buf; len(b) > 0; first++ {
		m := b[:min(t.Size, len(b))]
		b = b[len(m):]
		s.seal(r, first, m)
	}
	c.TxBytes.Add(uint64(len(t.Buf) + count*wire.SealedMin))
	n.sentOn(c, r, min(t.Size, len(t.Buf))+wire.SealedMin, s.now)
}

// sendWhole seals one message, in parts if the path does not take it whole.
func (n *lanes) sendWhole(s *sender, c *peer.Contact, r *peer.Route, msg []byte) {
	if len(msg)+wire.SealedMin > r.Datagram {
		n.sendFragments(s, c, r, msg)
	} else if counter, ok := r.Session.Reserve(s.lane, 1, int64(s.now)); ok {
		s.seal(r, counter, msg)
		c.TxBytes.Add(uint64(len(msg) + wire.SealedMin))
	} else {
		n.counters.count(dKeyEnded)
		return
	}
	n.sentOn(c, r, min(len(msg)+wire.SealedMin, r.Datagram), s.now)
}

// mostUnknown is how long a message may be while no path is known.
const mostUnknown = minMTU - ip6Headers - wire.SealedMin

// Most implements stream.Carrier.
func (p *programs) Most(to stream.Remote) int {
	if _, line := p.line(&to); line != nil {
		if r := line.Route.Load(); r != nil {
			return r.Datagram - wire.SealedMin
		}
	}
	return mostUnknown
}

// Capabilities implements stream.Carrier.
func (p *programs) Capabilities(to stream.Remote) stream.Capabilities {
	_, line := p.line(&to)
	if line == nil {
		return stream.Capabilities{}
	}
	return stream.Capabilities{DAck: line.Can(seal.ReadsDAck), HalfClose: line.Can(seal.HalfCloses)}
}

// moved has streams with a peer try again: its path changed, or is back. Those that are being
// opened with a machine that is lost end if another one of the peer is up.
func (p *programs) moved(c *peer.Contact) {
	for _, r := range p.host.Remotes(c.Address) {
		if _, line := p.line(&r); line != nil && line.Route.Load() != nil {
			p.host.Moved(r)
		} else if c.Route.Load() != nil {
			p.host.Unreachable(r)
		}
	}
}

// unreachable ends the streams that are being opened with a peer: there is no path.
func (p *programs) unreachable(a anode.Address) {
	for _, r := range p.host.Remotes(a) {
		if _, line := p.line(&r); line == nil || line.Route.Load() == nil {
			p.host.Unreachable(r)
		}
	}
}

// isStream reports whether a message is one of a stream.
func isStream(t wire.Type) bool { return t >= wire.SOpen && t <= wire.SDAck }

// gathered are messages of streams with one machine, until they are delivered: once a batch,
// or when one of another machine comes. It belongs to a receiver.
type gathered struct {
	host *stream.Host
	from *peer.Inbound // the session of msgs
	msgs [][]byte
	buf  []byte
	used int // of buf
}

const (
	gatherSize = 4 * link.MaxTrain
	gatherMost = 1024 // messages
)

// slot returns n bytes for a message. They are given up by the next call, unless put keeps
// them.
func (g *gathered) slot(n int) []byte {
	if g.used+n > len(g.buf) {
		g.flush()
		g.used = 0
		if n > len(g.buf) {
			g.buf = make([]byte, max(n, gatherSize))
		}
	}
	return g.buf[g.used : g.used+n : g.used+n]
}

// put keeps the message at the start of the last slot.
func (g *gathered) put(in *peer.Inbound, msg []byte) {
	if in != g.from || len(g.msgs) == gatherMost {
		g.flush()
		g.from = in
	}
	g.msgs = append(g.msgs, msg)
	g.used += len(msg)
}

// flush delivers the messages. Their memory is not used again before the next slot that does
// not fit, or end.
func (g *gathered) flush() {
	if len(g.msgs) > 0 {
		g.host.Deliver(stream.Remote{Address: g.from.Contact.Address, Machine: g.from.PeerID}, g.msgs...)
		clear(g.msgs)
		g.msgs = g.msgs[:0]
	}
}

// end is called after a batch.
func (g *gathered) end() {
	g.flush()
	g.used, g.from = 0, nil
}

// slot returns n bytes for the next message to be opened into: where a node has no adapter,
// most messages are of streams, and are not copied.
func (rx *receiver) slot(n int) []byte {
	if rx.bare {
		return rx.gathered.slot(n)
	}
	return rx.q.Slot(n)
}

// stream takes a message of a stream, from a peer that is let in, or from a stranger that a
// program here speaks with or lets in.
func (rx *receiver) stream(in *peer.Inbound, msg []byte, t *link.Train) {
	if !rx.noted.trusted && !rx.strange(in, msg) {
		rx.n.counters.count(dStream)
		rx.tell(in, t)
		return
	}
	if !rx.bare {
		slot := rx.gathered.slot(len(msg))
		copy(slot, msg)
		msg = slot
	}
	rx.gathered.put(in, msg)
}

// strange reports whether a message of a stream is let in although the policy does not let its sender
// in.
func (rx *receiver) strange(in *peer.Inbound, msg []byte) bool {
	p := rx.n.programs
	if in.Contact.Standing() == book.Blocked {
		return false
	}
	if wire.Type(msg[0]) == wire.SOpen {
		o, err := wire.ParseOpen(msg[1:])
		if err == nil && p.open.has(o.Link.Port) {
			return true
		}
	}
	return p.host.Has(stream.Remote{Address: in.Contact.Address, Machine: in.PeerID})
}

// openPorts are the ports of listeners that let strangers in. Listen and Close write it, the
// lanes read it.
type openPorts struct {
	list atomic.Pointer[map[uint16]struct{}]
}

func (o *openPorts) has(port uint16) bool {
	list := o.list.Load()
	if list == nil {
		return false
	}
	_, ok := (*list)[port]
	return ok
}

// none reports whether there is no such listener.
func (o *openPorts) none() bool {
	list := o.list.Load()
	return list == nil || len(*list) == 0
}

// set enters a port, or takes it out.
func (o *openPorts) set(port uint16, open bool) {
	for {
		old := o.list.Load()
		next := map[uint16]struct{}{}
		if old != nil {
			for p := range *old {
				next[p] = struct{}{}
			}
		}
		if delete(next, port); open {
			next[port] = struct{}{}
		}
		if o.list.CompareAndSwap(old, &next) {
			return
		}
	}
}

// ephemeral returns a port at random that programs do not choose by themselves.
func ephemeral() uint16 { return uint16(firstEphemeral + rand.IntN(1<<16-firstEphemeral)) }

const firstEphemeral = 32768

// counters writes the counters of streams that have counted anything.
func (p *programs) counters(m map[string]uint64) {
	c := p.host.Counters()
	for name, v := range map[string]uint64{
		"drop_stream_malformed": c.Malformed, "drop_stream_unknown": c.Unknown, "drop_stream_strange": c.Strange,
		"drop_stream_twice": c.Twice, "drop_stream_no_room": c.NoRoom, "drop_stream_refused": c.Refused,
		"drop_stream_waiting": c.Waiting, "drop_stream_control": c.Control,
		"drop_stream_withdrawn": c.Withdrawn,
	} {
		if v != 0 {
			m[name] = v
		}
	}
}
