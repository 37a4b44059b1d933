package main_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"anodenet/anode/wire"
)

// What follows are the draft's stream messages (draft 5), written from the draft's text alone.
// Nodes take users' data only sealed, so a session of an outsider carries them, which
// announces none of our capabilities: the node has to speak the draft's letter.

// The message types (draft 5.1, decimal), the flag of S_OPEN (5.2.1) and the reasons of S_CLOSE (5.2.2).
const (
	draftOpen, draftClose, draftData, draftAck, draftDAck = 20, 21, 22, 23, 24

	draftFromPort = 1

	draftEnded, draftRefused, draftProtocol, draftTimedOut = 0, 1, 2, 3
)

// The small sender: so many packets of that size at most, each sent again after that time, or
// once so many later ones were acknowledged.
const (
	draftPackets  = 128
	draftPayload  = 1200
	draftRepeat   = 40 * time.Millisecond
	draftProbe    = 500 * time.Millisecond
	draftOvertake = 3
	draftRoom     = 256 << 10 // of the receiver, in bytes
)

var (
	errDraftRefused = errors.New("connection refused")
	errDraftLimit   = errors.New("nothing came in time")
)

// draftNumbers tells how far sequence number a is behind b; numbers wrap.
func draftNumbers(a, b uint32) int { return int(int32(b - a)) }

// draftLine is what a draft peer does to the messages that it sends and receives.
type draftLine struct {
	loss   float64              // share of messages lost, each way
	twice  bool                 // each one is sent twice
	mix    int                  // so many are kept, and sent in any order
	drop   func(kind byte) bool // loses those, sent or received, that it is true for
	old    bool                 // some of the first S_ACKs come again and again
	acks   func(s *draftStream, number uint32)
	waits  bool // it never probes a window that is shut
	letter byte // form of link IDs: draftFromPort, or 0
}

// draftPeer has the streams of one program with one node. Its loop takes what comes; all
// is under one lock, and whoever waits is woken by each change.
type draftPeer struct {
	t    *testing.T
	o    *outsider
	mu   sync.Mutex
	wake *sync.Cond
	line draftLine
	rand *rand.Rand
	held [][]byte // by mix: type and message
	past [][]byte // S_ACKs, for old

	streams   []*draftStream
	listening map[uint16]chan *draftStream
	nextLink  uint16
	count     map[byte]int // messages that came, by type

	parts wire.Reassembler // belongs to the loop
}

// newDraftPeer makes a peer of a node, which it has a session with.
func newDraftPeer(from *host, node *host, at string, seed uint64) *draftPeer {
	from.t.Helper()
	p := &draftPeer{t: from.t, rand: rand.New(rand.NewPCG(seed, 5)), listening: map[uint16]chan *draftStream{}, count: map[byte]int{}}
	p.wake = sync.NewCond(&p.mu)
	p.nextLink = uint16(40000 + p.rand.IntN(1000))
	p.o = newOutsider(from, newIdentity(from.t), 1, node, at)
	return p
}

// start begins the loop, after the handshake.
func (p *draftPeer) start() {
	p.t.Helper()
	p.o.meets()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		p.run(stop)
	}()
	p.t.Cleanup(func() {
		close(stop)
		<-ended
	})
}

func (p *draftPeer) run(stop chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case a := <-p.o.came:
			if kind, msg := p.whole(a); a.sealed {
				p.mu.Lock()
				p.arrives(byte(kind), msg)
				p.wake.Broadcast()
				p.mu.Unlock()
			}
		case <-tick.C:
			p.mu.Lock()
			p.flush()
			for _, s := range p.streams {
				s.repeat()
			}
			p.wake.Broadcast()
			p.mu.Unlock()
		}
	}
}

// whole puts together what the session cut because it was too long for the path. It belongs
// to the loop.
func (p *draftPeer) whole(a arrival) (wire.Type, []byte) {
	if a.kind != wire.Frag {
		return a.kind, a.msg
	}
	if m, err := wire.ParseFrag(a.msg); err == nil {
		if msg, result := p.parts.Add(p.o.now(), m, 1<<20); result == wire.FragWhole {
			return wire.Type(msg[0]), msg[1:]
		}
	}
	return a.kind, a.msg
}

// on sets what happens to messages from now on.
func (p *draftPeer) on(l draftLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.acks == nil {
		l.acks = (*draftStream).ackEach
	}
	p.line, p.past = l, nil
}

// until waits for something, under the lock, and reports whether it came in time.
func (p *draftPeer) until(f func() bool) bool {
	for limit := time.Now().Add(dialWait); !f(); p.wake.Wait() {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}

// send sends a message, if the line lets it.
func (p *draftPeer) send(kind byte, parts ...[]byte) {
	m := append([]byte{kind}, slices.Concat(parts...)...)
	if p.line.drop != nil && p.line.drop(kind) {
		return
	}
	if p.line.old && kind == draftAck {
		if p.past = append(p.past, m); len(p.past) > 50 {
			p.past = p.past[:50]
			p.leave(p.past[p.rand.IntN(50)])
		}
	}
	copies := 1
	if p.line.twice {
		copies = 2
	}
	for range copies {
		if p.line.mix > 0 {
			p.held = append(p.held, m)
		} else {
			p.leave(m)
		}
	}
	if len(p.held) >= p.line.mix {
		p.flush()
	}
}

// flush sends what is held, in any order.
func (p *draftPeer) flush() {
	p.rand.Shuffle(len(p.held), func(i, j int) { p.held[i], p.held[j] = p.held[j], p.held[i] })
	for _, m := range p.held {
		p.leave(m)
	}
	p.held = nil
}

func (p *draftPeer) leave(m []byte) {
	if p.rand.Float64() >= p.line.loss {
		p.o.say(wire.Type(m[0]), m[1:])
	}
}

// arrives takes a message, if the line lets it, and checks its form.
func (p *draftPeer) arrives(kind byte, m []byte) {
	if p.count[kind]++; kind < draftOpen || kind > draftDAck {
		return
	}
	if p.rand.Float64() < p.line.loss || p.line.drop != nil && p.line.drop(kind) {
		return
	}
	if kind == draftDAck {
		p.t.Errorf("an S_DACK came, and the draft does not say where its sequence number is: %x", m)
		return
	}
	if len(m) < map[byte]int{draftOpen: 11, draftClose: 14, draftData: 8, draftAck: 11}[kind] {
		p.t.Errorf("type %d is too short: %x", kind, m)
		return
	}
	there, here := binary.BigEndian.Uint16(m), binary.BigEndian.Uint16(m[2:])
	switch kind {
	case draftOpen:
		p.opened(there, here, m)
	case draftClose:
		p.closed(there, here, m)
	default:
		if s := p.find(there, here); s != nil && kind == draftData {
			s.data(binary.BigEndian.Uint32(m[4:]), m[8:])
		} else if s != nil {
			s.acked(m)
		}
	}
}

// find is the stream with both link IDs, the newest if there were several.
func (p *draftPeer) find(there, here uint16) *draftStream {
	for _, s := range slices.Backward(p.streams) {
		if s.here == here && s.there == there && s.met {
			return s
		}
	}
	return nil
}

// opened takes S_OPEN: the answer to ours, a repeated one, or somebody's who wants in.
func (p *draftPeer) opened(there, here uint16, m []byte) {
	if len(m) != 11 || m[10]&^draftFromPort != 0 {
		p.t.Errorf("S_OPEN: %x", m)
	}
	isn := binary.BigEndian.Uint32(m[6:])
	room := int(binary.BigEndian.Uint16(m[4:])) << 10
	for _, s := range slices.Backward(p.streams) {
		switch {
		case s.asked && s.here == here && !s.met && s.fate == nil:
			s.meets(there, isn, room)
			s.remove(s.isn) // it answers ours
			s.sendAcks(isn)
			return
		case s.met && s.there == there && s.isn0 == isn && s.asked && s.here == here: // ours to it was lost
			s.sendAcks(isn)
			return
		case s.met && s.there == there && s.isn0 == isn && !s.asked && s.port == here:
			s.sendAgain(s.isn)
			return
		}
	}
	accept := p.listening[here]
	if accept == nil {
		p.send(draftClose, u16(here), u16(there), []byte{0, draftRefused}, u32(isn), u32(isn))
		return
	}
	s := p.newStream()
	s.port, s.here = here, here
	if p.line.letter != draftFromPort {
		s.here = p.link()
	}
	s.meets(there, isn, room)
	s.enqueue(draftOpen, s.openMessage())
	accept <- s
}

// closed takes S_CLOSE, of a stream or of an attempt.
func (p *draftPeer) closed(there, here uint16, m []byte) {
	if len(m) != 14 || m[4] != 0 || m[5] > draftTimedOut {
		p.t.Errorf("S_CLOSE: %x", m)
	}
	isn, number := binary.BigEndian.Uint32(m[6:]), binary.BigEndian.Uint32(m[10:])
	for _, s := range p.streams {
		if s.asked && !s.met && s.here == here && s.port == there && isn == s.isn && number == isn {
			if m[5] != draftRefused {
				p.t.Errorf("refused for reason %d", m[5])
			}
			s.fate = errDraftRefused
			s.sent = nil
			return
		}
	}
	s := p.find(there, here)
	switch {
	case s == nil:
	case isn != s.isn0: // another stream's: the number is there to tell them apart
	case m[5] != draftEnded:
		s.fate = fmt.Errorf("closed for reason %d", m[5])
	default:
		s.data(number, nil)
		s.last, s.closing = number, true
	}
}

func (p *draftPeer) link() uint16 {
	p.nextLink++
	return p.nextLink
}

// listen accepts streams to a port.
func (p *draftPeer) listen(port uint16) chan *draftStream {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listening[port] = make(chan *draftStream, 10)
	return p.listening[port]
}

// draftSent is a message that has a number and waits for its acknowledgement.
type draftSent struct {
	number    uint32
	kind      byte
	message   []byte
	payload   int
	at        time.Time
	overtaken int
}

// draftStream is one connection, as the draft has it.
type draftStream struct {
	p           *draftPeer
	asked       bool   // we opened it
	port        uint16 // that was opened
	here, there uint16 // link IDs
	isn, isn0   uint32 // first numbers, ours and theirs
	met         bool   // S_OPEN came
	fate        error  // why it ended before its time

	next      uint32
	sent      []*draftSent
	theirRoom int // window that was announced, in bytes

	want    uint32 // next number that has to come
	ahead   map[uint32][]byte
	got     []byte
	told    int // window that we announced, in units of 1024
	beyond  int // packets that did not fit
	closing bool
	last    uint32 // number of their S_CLOSE
	owed    []uint32
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func (p *draftPeer) newStream() *draftStream {
	s := &draftStream{p: p, isn: p.rand.Uint32(), ahead: map[uint32][]byte{}}
	if p.rand.IntN(2) == 0 {
		s.isn = -uint32(p.rand.IntN(1000)) // its numbers wrap soon
	}
	s.next = s.isn
	p.streams = append(p.streams, s)
	return s
}

// openMessage is our S_OPEN.
func (s *draftStream) openMessage() []byte {
	flags := byte(0)
	if s.p.line.letter == draftFromPort {
		flags = draftFromPort
	}
	to := s.there
	if s.asked {
		to = s.port
	}
	return slices.Concat(u16(s.here), u16(to), u16(s.room()), u32(s.isn), []byte{flags})
}

// open opens a stream to a port.
func (p *draftPeer) open(port uint16) (*draftStream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.newStream()
	s.asked, s.port, s.here = true, port, p.link()
	s.enqueue(draftOpen, s.openMessage())
	if !p.until(func() bool { return s.met || s.fate != nil }) {
		return nil, errDraftLimit
	}
	return s, s.fate
}

// meets notes the other side's S_OPEN.
func (s *draftStream) meets(there uint16, isn uint32, room int) {
	s.met, s.there, s.isn0, s.want, s.theirRoom = true, there, isn, isn+1, room
}

// room is the window to announce.
func (s *draftStream) room() uint16 {
	s.told = (draftRoom - s.holds()) >> 10
	return uint16(s.told)
}

// holds is the bytes that nobody has read yet.
func (s *draftStream) holds() int {
	n := len(s.got)
	for _, b := range s.ahead {
		n += len(b)
	}
	return n
}

// enqueue gives a message the next number, and sends it.
func (s *draftStream) enqueue(kind byte, message []byte) {
	m := &draftSent{number: s.next, kind: kind, message: message}
	if kind == draftData {
		m.payload = len(message) - 8
	}
	s.next++
	s.sent = append(s.sent, m)
	s.transmit(m)
}

func (s *draftStream) transmit(m *draftSent) {
	m.at, m.overtaken = time.Now(), 0
	s.p.send(m.kind, m.message)
}

// sendAgain repeats what has a number.
func (s *draftStream) sendAgain(number uint32) {
	for _, m := range s.sent {
		if m.number == number {
			s.transmit(m)
		}
	}
}

// repeat sends again what was not acknowledged for some time.
func (s *draftStream) repeat() {
	if s.fate != nil {
		return
	}
	for _, m := range s.sent {
		if time.Since(m.at) > draftRepeat {
			s.transmit(m)
		}
	}
	if len(s.owed) > 0 {
		s.sendAcks(s.owed...)
		s.owed = nil
	}
}

// acked takes S_ACK.
func (s *draftStream) acked(m []byte) {
	if (len(m)-6)%5 != 0 {
		s.p.t.Errorf("S_ACK: %x", m)
		return
	}
	s.theirRoom = int(binary.BigEndian.Uint16(m[4:])) << 10
	for items := m[6:]; len(items) > 0; items = items[5:] {
		first := binary.BigEndian.Uint32(items)
		for k := range uint32(items[4]) {
			if draftNumbers(first+k, s.next) <= 0 {
				s.p.t.Errorf("%d was acknowledged, and %d is sent next", first+k, s.next)
				return
			}
			s.remove(first + k)
		}
	}
}

// remove takes an acknowledgement of one number. What waits for longer has been overtaken.
func (s *draftStream) remove(number uint32) {
	at := slices.IndexFunc(s.sent, func(m *draftSent) bool { return m.number == number })
	if at < 0 {
		return
	}
	then := s.sent[at].at
	s.sent = slices.Delete(s.sent, at, at+1)
	for _, m := range s.sent[:at] {
		if m.at.After(then) {
			continue
		}
		if m.overtaken++; m.overtaken == draftOvertake {
			s.transmit(m)
		}
	}
}

// data takes what has a number: data, or S_CLOSE, which has none.
func (s *draftStream) data(number uint32, b []byte) {
	s.remove(s.isn) // who has data for us has had our S_OPEN
	if d := draftNumbers(s.want, number); d >= 0 && s.ahead[number] == nil {
		if d > draftRoom {
			s.p.t.Errorf("number %d, %d was expected", number, s.want)
			return
		}
		if s.holds()+len(b) > draftRoom {
			s.beyond++
			s.tell()
			return
		}
		s.ahead[number] = append([]byte{}, b...)
	}
	for b := s.ahead[s.want]; b != nil; b = s.ahead[s.want] {
		delete(s.ahead, s.want)
		s.got = append(s.got, b...)
		s.want++
	}
	s.p.line.acks(s, number)
}

// ackEach acknowledges each number once, in a message of its own.
func (s *draftStream) ackEach(number uint32) { s.sendAcks(number) }

// ackMany acknowledges several together.
func (s *draftStream) ackMany(number uint32) {
	if s.owed = append(s.owed, number); len(s.owed) >= 8 {
		s.sendAcks(s.owed...)
		s.owed = nil
	}
}

// ackInDAck acknowledges by S_DACK, whose payload has no number in the draft: it is either
// empty, or something that the other side must not take.
func (s *draftStream) ackInDAck(number uint32) {
	items := draftItems([]uint32{number})
	payload := []byte("without a number")[:16*s.p.rand.IntN(2)]
	s.p.send(draftDAck, u16(s.here), u16(s.there), u16(s.room()), []byte{byte(len(items) / 5)}, items, payload)
}

func (s *draftStream) sendAcks(numbers ...uint32) {
	s.p.send(draftAck, u16(s.here), u16(s.there), u16(s.room()), draftItems(numbers))
}

// tell announces the window. An S_ACK has at least one number.
func (s *draftStream) tell() { s.sendAcks(s.want - 1) }

// draftItems are acknowledgements: runs of numbers (draft 5.2.4).
func draftItems(numbers []uint32) (items []byte) {
	for len(numbers) > 0 {
		n := 1
		for n < len(numbers) && n < 255 && numbers[n] == numbers[0]+uint32(n) {
			n++
		}
		items = append(append(items, u32(numbers[0])...), byte(n))
		numbers = numbers[n:]
	}
	return items
}

// waiting is the bytes that are not acknowledged.
func (s *draftStream) waiting() (n int) {
	for _, m := range s.sent {
		n += m.payload
	}
	return n
}

// Write sends bytes, within the window. The draft does not say what happens if the message is lost that opens it again:
// as in TCP (RFC 9293, 3.8.6.1), a packet beyond it finds that out, or the peer waits.
func (s *draftStream) Write(b []byte) (n int, err error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for ; n < len(b) && s.fate == nil; n += min(len(b)-n, draftPayload) {
		part, since := b[n:min(len(b), n+draftPayload)], time.Now()
		if !s.p.until(func() bool {
			probe := !s.p.line.waits && len(s.sent) == 0 && time.Since(since) > draftProbe
			return s.fate != nil || len(s.sent) < draftPackets && s.waiting()+len(part) <= s.theirRoom || probe
		}) {
			return n, errDraftLimit
		}
		s.enqueue(draftData, slices.Concat(u16(s.here), u16(s.there), u32(s.next), part))
	}
	return n, s.fate
}

// Read returns what came in order, and io.EOF after S_CLOSE.
func (s *draftStream) Read(b []byte) (int, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	ended := func() bool { return s.closing && draftNumbers(s.last, s.want) > 0 }
	if !s.p.until(func() bool { return s.fate != nil || len(s.got) > 0 || ended() }) {
		return 0, errDraftLimit
	}
	n := copy(b, s.got)
	s.got = s.got[n:]
	switch {
	case n > 0:
		if s.told < draftRoom>>11 && draftRoom-len(s.got) > draftRoom/2 {
			s.tell() // the window has opened
		}
		return n, nil
	case ended():
		return 0, io.EOF
	}
	return 0, s.fate
}

// close sends S_CLOSE.
func (s *draftStream) close(flags, reason byte) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.enqueue(draftClose, slices.Concat(u16(s.here), u16(s.there), []byte{flags, reason}, u32(s.isn), u32(s.next)))
}

// settled waits until all is acknowledged, the S_CLOSE too.
func (s *draftStream) settled() bool {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.until(func() bool { return len(s.sent) == 0 || s.fate != nil }) && len(s.sent) == 0
}
