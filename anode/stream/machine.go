package stream

import (
	"container/heap"
	"time"

	"anodenet/anode/wire"
)

// Config is what bounds the streams with one peer. Zero values stand for the defaults.
type Config struct {
	Window   int // most bytes of a stream's receive buffer: 64 MiB
	Buffer   int // most bytes that a program may write ahead: 64 MiB
	Memory   int // bytes that all receive buffers together may grow by: 256 MiB
	Streams  int // open at once, those that are over included: 32768
	HalfOpen int // that the peer opens, before they are acknowledged: 64
	Waiting  int // that the peer opened and no program accepted yet: 128

	// Random draws numbers; it must be hard to guess. It has no default.
	Random func() uint32
	// Guest reports whether a peer is one that nobody here decided on. Guests have places of
	// their own in backlogs, and less of everything. It is called while locks are held, and
	// must not wait. nil: nobody is one.
	Guest func(Remote) bool
	// Now reads the clock; a Machine does not. Default: time since the Host began.
	Now func() time.Duration
}

// guest returns the bounds of guests.
func (c Config) guest() Config {
	c.Window = min(c.Window, 1<<20)
	c.Buffer = min(c.Buffer, 1<<20)
	c.Memory = min(c.Memory, 4<<20)
	c.Streams = min(c.Streams, 64)
	c.HalfOpen = min(c.HalfOpen, 16)
	c.Waiting = min(c.Waiting, 16)
	return c
}

func (c Config) withDefaults() Config {
	set := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	set(&c.Window, MaxWindow)
	c.Window = min(c.Window, MaxWindow)
	set(&c.Buffer, 64<<20)
	set(&c.Memory, 256<<20)
	set(&c.Streams, 1<<15)
	set(&c.HalfOpen, 64)
	set(&c.Waiting, 128)
	return c
}

// Capabilities are what the peer announced that it reads as we do.
type Capabilities struct {
	DAck      bool // S_DACK with a number before the payload
	HalfClose bool // flag 1 of S_CLOSE
}

// Admission says what becomes of an S_OPEN.
type Admission uint8

const (
	Refuse Admission = iota // nothing listens on the port
	Wait                    // no room: it is dropped, and the peer tries again
	Admit
	Later // the driver finds out, and calls Decide
)

// Ports says where programs listen. A Machine calls it while it handles a message; it does
// not call back.
type Ports interface {
	// Reserve says what becomes of an S_OPEN. It takes a place in the port's backlog, if it
	// returns Admit.
	Reserve(port uint16) Admission
	// Release gives back the place of a stream that was not opened after all.
	Release(port uint16)
	// Listens reports whether the port is in use.
	Listens(port uint16) bool
}

// Counters count what was dropped, and why.
type Counters struct {
	Malformed uint64 // not a stream message
	Unknown   uint64 // for a stream that does not exist
	Strange   uint64 // against the rules of its stream
	Twice     uint64 // data that had come before
	NoRoom    uint64 // data that the buffer has no room for
	Refused   uint64 // S_OPEN for a port where nothing listens
	Withdrawn uint64 // S_OPEN that the peer took back before Decide was called
	Waiting   uint64 // S_OPEN beyond the limits
	Control   uint64 // refusals and resets beyond their budget
}

// add adds up counters.
func (c *Counters) add(x Counters) {
	c.Malformed += x.Malformed
	c.Unknown += x.Unknown
	c.Strange += x.Strange
	c.Twice += x.Twice
	c.NoRoom += x.NoRoom
	c.Refused += x.Refused
	c.Withdrawn += x.Withdrawn
	c.Waiting += x.Waiting
	c.Control += x.Control
}

const (
	maxControl  = 256 // refusals and the like that wait to be sent
	controlRate = 500 // a second, of answers to messages for streams that do not exist

	firstEphemeral = 32768 // link IDs of streams without a port of origin
	leastMessage   = 128   // the shortest that the path is believed to carry
	firstMessage   = 1232
)

// Machine is all streams with one machine of a peer.
type Machine struct {
	config Config
	ports  Ports
	mem    *pool

	peer Capabilities
	most int // bytes of a message that fits the path

	streams map[key]*Stream
	opening map[uint16]*Stream // by our link ID, for answers with another one of the peer's
	ids     map[uint16]int     // streams by our link ID
	lastID  uint32             // of streams without a port of origin
	timers  timers
	active  []*Stream // that may have something to send
	events  []*Stream
	waits   [][]byte // messages of streams that do not exist
	asked   map[key]*question
	asks    []key // of these, those that the driver does not know yet
	cancels []key // and those that were withdrawn since Withdrawn was called

	half    int // streams in phase answering
	waiting int // streams that no program accepted yet
	memory  int // bytes of receive buffers beyond the first capacity of each
	budget  float64
	budgets time.Duration // of budget

	counters Counters
	acks     wire.Acks // scratch
	head     []byte    // scratch
}

// question is an S_OPEN that Decide is to be called for.
type question struct {
	open      wire.OpenMsg
	withdrawn bool // the answer does not matter any more
}

// NewMachine makes a Machine without streams.
func NewMachine(c Config, p Ports) *Machine { return newMachine(c, p, new(pool)) }

func newMachine(c Config, p Ports, mem *pool) *Machine {
	return &Machine{config: c.withDefaults(), lastID: c.Random(), ports: p, mem: mem, most: firstMessage,
		streams: make(map[key]*Stream), opening: make(map[uint16]*Stream), ids: make(map[uint16]int),
		budget: controlRate, acks: make(wire.Acks, 0, (maxItems+1)*wire.AckItem), head: make([]byte, 0, 256)}
}

// SetPeer takes what the peer announced. Before that, the draft's letter is spoken.
func (m *Machine) SetPeer(c Capabilities) { m.peer = c }

// SetMost takes the length of the longest message, type included, that fits the path.
func (m *Machine) SetMost(most int) {
	most = max(most, leastMessage)
	if most == m.most {
		return
	}
	m.most = most
	for _, s := range m.streams {
		s.resize(most)
	}
}

// Moved has all streams try again now what they wait to repeat: the path changed, or is back.
func (m *Machine) Moved(now time.Duration) {
	for _, s := range m.streams {
		s.moved(now)
	}
}

// Unreachable ends the streams that wait for an answer to their S_OPEN: there is no path.
// Others go on: the path may come back.
func (m *Machine) Unreachable(now time.Duration) {
	for _, s := range m.streams {
		if s.phase == opening {
			s.end(now, ErrUnreachable)
			m.remove(s)
		}
	}
}

// Drop ends all streams at once, and sends nothing.
func (m *Machine) Drop(now time.Duration) {
	for _, s := range m.streams {
		s.end(now, ErrReset)
		m.remove(s)
	}
	for k, q := range m.asked {
		m.withdraw(k, q)
	}
	m.waits = nil
}

// Len returns the number of streams, those that are over included.
func (m *Machine) Len() int { return len(m.streams) }

// Counters returns what was dropped.
func (m *Machine) Counters() Counters { return m.counters }

// Open opens a stream to a port of the peer. source is the port of origin; 0: none, and any
// free link ID.
func (m *Machine) Open(now time.Duration, port, source uint16) (*Stream, error) {
	if len(m.streams) >= m.config.Streams {
		return nil, ErrBusy
	}
	k := keyOf(source, port)
	if source == 0 {
		own, ok := m.freeID()
		if !ok {
			return nil, ErrBusy
		}
		k = keyOf(own, port)
	} else if m.streams[k] != nil {
		return nil, ErrInUse
	}
	s := m.newStream(k)
	s.origin = source != 0
	s.phase, s.until = opening, now+openFor
	m.insert(s)
	if m.opening[k.own()] == nil {
		m.opening[k.own()] = s
	}
	m.touch(s)
	return s, nil
}

// freeID returns a link ID that neither a stream nor a listener has, and that no stream had
// for as long as possible: the answer to an S_OPEN does not say which one it answers, so
// that an old one could be taken for that to a new S_OPEN with the same link ID.
func (m *Machine) freeID() (uint16, bool) {
	const n = 1<<16 - firstEphemeral
	for range n {
		m.lastID++
		id := uint16(firstEphemeral + m.lastID%n)
		if m.ids[id] == 0 && !m.ports.Listens(id) {
			return id, true
		}
	}
	return 0, false
}

func (m *Machine) newStream(k key) *Stream {
	first := firstNumber(m.config.Random())
	s := &Stream{m: m, key: k, place: -1}
	s.send = newSender(m.mem, first, 0)
	s.resize(m.most)
	s.send.cc = newCubic(s.send.packet)
	s.send.sent.add(s.send.mem, openPacket, 0, 0)
	s.recv = receiver{mem: m.mem, capacity: min(firstCapacity, m.config.Window)}
	return s
}

func (m *Machine) insert(s *Stream) {
	m.streams[s.key] = s
	m.ids[s.key.own()]++
}

// unlist takes a stream out of those that wait for an answer.
func (m *Machine) unlist(s *Stream) {
	if m.opening[s.key.own()] == s {
		delete(m.opening, s.key.own())
	}
}

// remove forgets a stream.
func (m *Machine) remove(s *Stream) {
	if m.streams[s.key] != s {
		return
	}
	m.unlist(s)
	delete(m.streams, s.key)
	if m.ids[s.key.own()]--; m.ids[s.key.own()] == 0 {
		delete(m.ids, s.key.own())
	}
	s.phase, s.until = gone, 0
	m.schedule(s)
	m.signal(s)
}

// Accepted notes that a program took an incoming stream, or that it never will.
func (m *Machine) Accepted() { m.waiting-- }

// touch has Send look at a stream.
func (m *Machine) touch(s *Stream) {
	if !s.dirty {
		s.dirty = true
		m.active = append(m.active, s)
	}
}

// signal puts a stream into the events.
func (m *Machine) signal(s *Stream) {
	if !s.signaled {
		s.signaled = true
		m.events = append(m.events, s)
	}
}

// Events calls f with each stream that may have become readable, writable or open, or that
// ended, since the last call.
func (m *Machine) Events(f func(*Stream)) {
	for _, s := range m.events {
		s.signaled = false
		f(s)
	}
	clear(m.events)
	m.events = m.events[:0]
}

// Receive takes a message of the peer: type[1] message.
func (m *Machine) Receive(now time.Duration, msg []byte) {
	if len(msg) == 0 || !m.receive(now, wire.Type(msg[0]), msg[1:]) {
		m.counters.Malformed++
	}
}

func (m *Machine) receive(now time.Duration, t wire.Type, b []byte) bool {
	switch t {
	case wire.SOpen:
		o, err := wire.ParseOpen(b)
		if err == nil {
			m.onOpen(now, o)
		}
		return err == nil
	case wire.SClose:
		c, err := wire.ParseClose(b)
		if err == nil {
			m.onClose(now, c)
		}
		return err == nil
	case wire.SData:
		d, err := wire.ParseData(b)
		if err == nil {
			m.onData(now, d.Link, d.Seq, d.Payload)
		}
		return err == nil
	case wire.SAck:
		a, err := wire.ParseAck(b)
		if err == nil {
			m.onAck(now, a)
		}
		return err == nil
	case wire.SDAck:
		return m.onDAck(now, b)
	}
	return false
}

func (m *Machine) onDAck(now time.Duration, b []byte) bool {
	a, err := wire.ParseDAckAcks(b)
	if err != nil {
		return false
	}
	m.onAck(now, a)
	if !m.peer.DAck {
		return true
	}
	d, err := wire.ParseDAck(b)
	if err == nil {
		m.onData(now, d.Link, d.Seq, d.Payload)
	}
	return err == nil
}

// find returns the stream of a message, or nil.
func (m *Machine) find(l wire.Link) *Stream { return m.streams[keyOf(l.Port, l.ID)] }

// early reports whether a message may be of a stream that the peer has accepted under a link
// ID of its own, which we do not know before its S_OPEN: that is late, or will be repeated, and
// so will the message.
func (m *Machine) early(l wire.Link) bool {
	q := m.asked[keyOf(l.Port, l.ID)]
	return m.opening[l.Port] != nil || q != nil && !q.withdrawn
}

func (m *Machine) onAck(now time.Duration, a wire.AckMsg) {
	s := m.find(a.Link)
	if s == nil {
		m.counters.Unknown++
		return
	}
	s.onAck(now, a.Acks, a.Window)
}

func (m *Machine) onData(now time.Duration, l wire.Link, seq uint32, b []byte) {
	s := m.find(l)
	if s == nil {
		m.counters.Unknown++
		if !m.early(l) && m.spend(now) {
			m.control(wire.SClose, wire.CloseMsg{Link: wire.Link{ID: l.Port, Port: l.ID}, Reason: wire.CloseProtocol, ISN: seq, Seq: seq}.Append)
		}
		return
	}
	s.onData(now, seq, b)
}

// onClose takes an S_CLOSE. That of a stream which was forgotten is acknowledged, so that
// the peer can forget it too.
func (m *Machine) onClose(now time.Duration, c wire.CloseMsg) {
	s := m.find(c.Link)
	if s != nil {
		s.onClose(now, c)
		return
	}
	k := keyOf(c.Link.Port, c.Link.ID)
	if q := m.asked[k]; q != nil && q.takenBackBy(c) {
		m.withdraw(k, q)
	} else {
		m.counters.Unknown++
	}
	if c.ISN != c.Seq && !m.early(c.Link) && m.spend(now) {
		m.acknowledge(k, c.Seq)
	}
}

// takenBackBy reports whether an S_CLOSE leaves nothing to do for a stream that is not open yet: it
// ends both directions, and nothing was sent.
func (q *question) takenBackBy(c wire.CloseMsg) bool {
	nothing := c.Flags&wire.FlagHalfClose == 0 && c.Seq == q.open.ISN+1
	return c.ISN == q.open.ISN && (c.Reason != wire.CloseNormal || nothing)
}

// withdraw has the driver give up finding out what becomes of an S_OPEN. It keeps its place
// until Decide is called: whoever opens and closes by turns has no more questions running.
func (m *Machine) withdraw(k key, q *question) {
	if !q.withdrawn {
		q.withdrawn = true
		m.counters.Withdrawn++
		m.cancels = append(m.cancels, k)
	}
}

func (m *Machine) onOpen(now time.Duration, o wire.OpenMsg) {
	if s := m.find(o.Link); s != nil && s.onOpen(now, o) {
		return
	}
	if s := m.opening[o.Link.Port]; s != nil && !m.ports.Listens(o.Link.Port) {
		m.rename(s, o.Link.ID)
		s.onOpen(now, o)
		return
	}
	m.accept(now, o)
}

// rename takes another link ID of the peer than the port that was opened.
func (m *Machine) rename(s *Stream, id uint16) {
	delete(m.streams, s.key)
	s.key = keyOf(s.key.own(), id)
	m.streams[s.key] = s
}

// accept takes an S_OPEN of a new stream.
func (m *Machine) accept(now time.Duration, o wire.OpenMsg) {
	k := keyOf(o.Link.Port, o.Link.ID)
	if q := m.asked[k]; q != nil && q.withdrawn {
		m.counters.Waiting++
		return
	} else if q != nil {
		q.open = o
		return
	}
	switch m.ports.Reserve(o.Link.Port) {
	case Wait:
		m.counters.Waiting++
	case Refuse:
		m.refuse(o)
	case Later:
		m.ask(k, o)
	case Admit:
		if m.full() {
			m.ports.Release(o.Link.Port)
			m.counters.Waiting++
			return
		}
		m.admit(now, o)
	}
}

// full reports whether the peer may open no more streams now.
func (m *Machine) full() bool {
	return m.half+len(m.asked) >= m.config.HalfOpen || m.waiting >= m.config.Waiting || len(m.streams) >= m.config.Streams
}

// ask has the driver find out what becomes of an S_OPEN.
func (m *Machine) ask(k key, o wire.OpenMsg) {
	if m.full() {
		m.counters.Waiting++
		return
	}
	if m.asked == nil {
		m.asked = make(map[key]*question)
	}
	m.asked[k] = &question{open: o}
	m.asks = append(m.asks, k)
}

// Asks calls f with the link IDs of each S_OPEN, since the last call, for which Decide is
// to be called.
func (m *Machine) Asks(f func(own, peer uint16)) {
	for _, k := range m.asks {
		f(k.own(), k.peer())
	}
	m.asks = m.asks[:0]
}

// Withdrawn calls f with the link IDs of each S_OPEN, since the last call, that nobody waits
// for any more. Decide is to be called all the same, once whoever finds out has ended.
func (m *Machine) Withdrawn(f func(own, peer uint16)) {
	for _, k := range m.cancels {
		f(k.own(), k.peer())
	}
	m.cancels = m.cancels[:0]
}

// Decide says what becomes of an S_OPEN for which Reserve returned Later. It returns the
// stream; nil if it was not admitted.
func (m *Machine) Decide(now time.Duration, own, peer uint16, admit bool) *Stream {
	k := keyOf(own, peer)
	q := m.asked[k]
	delete(m.asked, k)
	switch {
	case q == nil || q.withdrawn || m.streams[k] != nil:
		return nil
	case !admit:
		m.refuse(q.open)
		return nil
	}
	return m.admit(now, q.open)
}

// admit answers an S_OPEN by one of our own.
func (m *Machine) admit(now time.Duration, o wire.OpenMsg) *Stream {
	s := m.newStream(keyOf(o.Link.Port, o.Link.ID))
	s.origin, s.theirs = true, true
	s.phase, s.until, s.heardAt = answering, now+answerFor, now
	s.recv.begin(firstNumber(o.ISN))
	s.send.window = int(o.Window) << 10
	m.half++
	m.waiting++
	m.insert(s)
	m.touch(s)
	return s
}

// refuse answers an S_OPEN of a port where nothing listens.
func (m *Machine) refuse(o wire.OpenMsg) {
	m.counters.Refused++
	m.control(wire.SClose, wire.CloseMsg{Link: wire.Link{ID: o.Link.Port, Port: o.Link.ID}, Reason: wire.CloseRefused, ISN: o.ISN, Seq: o.ISN}.Append)
}

// spend takes one answer to a message for a stream that does not exist from the budget.
func (m *Machine) spend(now time.Duration) bool {
	m.budget = min(m.budget+(now-m.budgets).Seconds()*controlRate, controlRate)
	m.budgets = now
	if m.budget < 1 {
		m.counters.Control++
		return false
	}
	m.budget--
	return true
}

// acknowledge sends an S_ACK of one number of a stream that holds no more data.
func (m *Machine) acknowledge(k key, seq uint32) {
	m.control(wire.SAck, wire.AckMsg{Link: wire.Link{ID: k.own(), Port: k.peer()}, Acks: wire.Acks{}.AppendAck(seq, 1)}.Append)
}

// control queues a message that belongs to no stream.
func (m *Machine) control(t wire.Type, appendTo func([]byte) []byte) {
	if len(m.waits) >= maxControl {
		m.counters.Control++
		return
	}
	m.waits = append(m.waits, appendTo([]byte{byte(t)}))
}

// write puts a short message into the batch, and reports false if there is no room.
func (m *Machine) write(b *Batch, t wire.Type, appendTo func([]byte) []byte) bool {
	msg := appendTo(append(m.head[:0], byte(t)))
	to := b.room(len(msg))
	copy(to, msg)
	return to != nil
}

// Send writes what is to be sent now to the batch, and reports whether there is more, for
// which the batch has no room.
func (m *Machine) Send(now time.Duration, b *Batch) (more bool) {
	m.expire(now)
	for len(m.waits) > 0 {
		to := b.room(len(m.waits[0]))
		if to == nil {
			return true
		}
		copy(to, m.waits[0])
		m.waits = m.waits[1:]
	}
	for len(m.active) > 0 {
		s := m.active[0]
		result := s.emit(now, b)
		if result == overfull {
			return true
		}
		m.active[0] = nil
		m.active = m.active[1:]
		s.dirty = false
		if result == ongoing {
			m.touch(s)
		}
		m.schedule(s)
	}
	m.active = nil
	return false
}

// expire ticks the streams that are due.
func (m *Machine) expire(now time.Duration) {
	for len(m.timers) > 0 && m.timers[0].due <= now {
		s := m.timers[0]
		heap.Remove(&m.timers, s.place)
		s.due = 0
		s.tick(now)
		m.touch(s)
	}
}

// Due returns when Send is to be called; 0: not before something else happens.
func (m *Machine) Due() time.Duration {
	switch {
	case len(m.active) > 0 || len(m.waits) > 0:
		return 1
	case len(m.timers) > 0:
		return m.timers[0].due
	}
	return 0
}

// schedule puts a stream into the heap.
func (m *Machine) schedule(s *Stream) {
	due := s.next()
	switch {
	case due == 0 && s.place >= 0:
		heap.Remove(&m.timers, s.place)
	case due != 0 && s.place >= 0:
		s.due = due
		heap.Fix(&m.timers, s.place)
	case due != 0:
		s.due = due
		heap.Push(&m.timers, s)
	}
}

// timers is a heap of streams by the time at which they are due.
type timers []*Stream

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due < t[j].due }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}
func (t *timers) Push(x any) {
	s := x.(*Stream)
	s.place = len(*t)
	*t = append(*t, s)
}
func (t *timers) Pop() any {
	old := *t
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	s.place = -1
	return s
}
