package overlay

import (
	"encoding/binary"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

const (
	protoTCP  = 6
	protoUDP  = 17
	udpHeader = 8

	socketQueue = 256     // datagrams that wait to be read
	socketBytes = 1 << 20 // of them
	mostDgram   = 1<<16 - 1 - udpHeader

	spokenMost = 256 // strangers that a socket sent to, and whose answers are let in
	spokenFor  = 3 * time.Minute
)

// sockets are the sockets by their ports. Programs write the table, the lanes read it.
type sockets struct {
	mu     sync.Mutex
	closed bool
	list   atomic.Pointer[map[uint16]*socket] // nil: there is none
}

// get returns the socket of a port, or nil.
func (t *sockets) get(port uint16) *socket {
	if list := t.list.Load(); list != nil {
		return (*list)[port]
	}
	return nil
}

// add enters a socket, at a free port if it has none.
func (t *sockets) add(s *socket) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	next := map[uint16]*socket{}
	if old := t.list.Load(); old != nil {
		next = maps.Clone(*old)
	}
	for tries := 0; s.own.Port == 0 && tries < 1<<16; tries++ {
		if port := ephemeral(); next[port] == nil {
			s.own.Port = port
		}
	}
	if s.own.Port == 0 || next[s.own.Port] != nil {
		return ErrPortInUse
	}
	next[s.own.Port] = s
	t.list.Store(&next)
	return nil
}

// remove takes a socket out.
func (t *sockets) remove(s *socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.list.Load()
	if old == nil || (*old)[s.own.Port] != s {
		return
	}
	if len(*old) == 1 {
		t.list.Store(nil)
		return
	}
	next := maps.Clone(*old)
	delete(next, s.own.Port)
	t.list.Store(&next)
}

func (t *sockets) closeAll() {
	t.mu.Lock()
	t.closed = true
	list := t.list.Load()
	t.mu.Unlock()
	if list == nil {
		return
	}
	for _, s := range *list {
		_ = s.Close()
	}
}

// socket sends and takes datagrams at one port. It is a net.PacketConn, and, if it was made
// by Dial, a net.Conn. Any goroutine calls any method.
type socket struct {
	p     *programs
	own   Addr
	far   *Addr // the only one that it speaks with; nil: it speaks with all
	who   Who
	queue chan datagram
	held  atomic.Int64 // bytes in queue

	sent    atomic.Bool   // to far
	refused chan struct{} // far told that nothing listens there; room for one

	closing sync.Once
	closed  chan struct{}
	read    waitLimit

	mu     sync.Mutex
	spoken map[Addr]mono.Time // strangers, and when they were last sent to
}

// datagram is one that waits to be read.
type datagram struct {
	from Addr
	data []byte
}

// newSocket opens a socket.
func (p *programs) newSocket(port uint16, far *Addr, who Who) (*socket, error) {
	s := &socket{p: p, own: Addr{Peer: p.n.address, Port: port}, far: far, who: who,
		queue: make(chan datagram, socketQueue), refused: make(chan struct{}, 1), closed: make(chan struct{}), read: newWaitLimit()}
	return s, p.sockets.add(s)
}

// deliver takes a datagram, and copies it. It does not wait.
func (s *socket) deliver(from Addr, data []byte, n *lanes) {
	if s.held.Load()+int64(len(data)) > socketBytes {
		n.counters.count(dSocketFull)
		return
	}
	select {
	case s.queue <- datagram{from, append([]byte(nil), data...)}:
		s.held.Add(int64(len(data)))
	default:
		n.counters.count(dSocketFull)
	}
}

// admits reports whether a datagram is let in.
func (s *socket) admits(from Addr, trusted bool, standing book.Standing, now mono.Time) bool {
	if s.far != nil {
		return from == *s.far && standing != book.Blocked
	}
	if s.who.admits(from.Peer, trusted, standing) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.spoken[from]
	return ok && now.Sub(at) < spokenFor && standing != book.Blocked
}

// speak notes that a stranger was sent to.
func (s *socket) speak(to Addr, now mono.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spoken == nil {
		s.spoken = map[Addr]mono.Time{}
	}
	if _, known := s.spoken[to]; !known && len(s.spoken) >= spokenMost {
		var oldest Addr
		for a, at := range s.spoken {
			if first, ok := s.spoken[oldest]; !ok || at < first {
				oldest = a
			}
		}
		delete(s.spoken, oldest)
	}
	s.spoken[to] = now
}

// opError says which operation of the socket failed, as package net does.
func (s *socket) opError(op string, to net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "anode", Source: &s.own, Addr: to, Err: err}
}

// ReadFrom waits for a datagram. What does not fit b is cut off. The address is an *Addr. The
// error of a socket that was dialled is syscall.ECONNREFUSED, once, when the peer has told that
// nothing listens at its port.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-s.closed:
		return 0, nil, s.opError("read", nil, net.ErrClosed)
	case <-s.read.past():
		return 0, nil, s.opError("read", nil, os.ErrDeadlineExceeded)
	case <-s.refused:
		return 0, nil, s.opError("read", s.far, syscall.ECONNREFUSED)
	default:
	}
	for {
		past, changed := s.read.wait()
		select {
		case d := <-s.queue:
			s.held.Add(-int64(len(d.data)))
			return copy(b, d.data), &d.from, nil
		case <-s.refused:
			return 0, nil, s.opError("read", s.far, syscall.ECONNREFUSED)
		case <-s.closed:
			return 0, nil, s.opError("read", nil, net.ErrClosed)
		case <-past:
			return 0, nil, s.opError("read", nil, os.ErrDeadlineExceeded)
		case <-changed:
		}
	}
}

// Read is ReadFrom without the address.
func (s *socket) Read(b []byte) (int, error) {
	n, _, err := s.ReadFrom(b)
	return n, err
}

// WriteTo sends a datagram, as far as that takes no waiting for a path. The address is an
// *Addr, or has the ULA of a peer that is known.
func (s *socket) WriteTo(b []byte, to net.Addr) (int, error) {
	if s.far != nil {
		return 0, s.opError("write", to, net.ErrWriteToConnected)
	}
	a, err := s.p.addrOf(to)
	if err != nil {
		return 0, s.opError("write", to, err)
	}
	return s.send(b, a)
}

// Write sends a datagram to the peer that was dialled.
func (s *socket) Write(b []byte) (int, error) {
	if s.far == nil {
		return 0, s.opError("write", nil, syscall.EDESTADDRREQ)
	}
	return s.send(b, *s.far)
}

func (s *socket) send(b []byte, to Addr) (int, error) {
	select {
	case <-s.closed:
		return 0, s.opError("write", &to, net.ErrClosed)
	default:
	}
	if len(b) > mostDgram {
		return 0, s.opError("write", &to, syscall.EMSGSIZE)
	}
	c := s.p.n.contact(&to.Peer)
	switch {
	case to.Peer == s.p.n.address:
		return 0, s.opError("write", &to, ErrSelf)
	case c != nil && c.Standing() == book.Blocked:
		return 0, s.opError("write", &to, ErrBlocked)
	case s.far == nil && (c == nil || !s.p.n.trusts(c)):
		s.speak(to, s.p.n.now())
	}
	if s.far != nil {
		s.sent.Store(true)
	}
	m := wire.DgramMsg{Source: s.own.Port, Destination: to.Port, Payload: b}
	s.p.sendDgram(c, &to, m.Append(append(make([]byte, 0, 1+wire.DgramHeader+len(b)), byte(wire.Dgram))))
	return len(b), nil
}

// Close ends the socket.
func (s *socket) Close() error {
	err := s.opError("close", nil, net.ErrClosed)
	s.closing.Do(func() {
		err = nil
		s.p.sockets.remove(s)
		s.read.stop()
		close(s.closed)
	})
	return err
}

// LocalAddr returns our address and the port.
func (s *socket) LocalAddr() net.Addr { return &s.own }

// RemoteAddr returns the address that was dialled; nil: none.
func (s *socket) RemoteAddr() net.Addr {
	if s.far == nil {
		return nil
	}
	return s.far
}

// SetDeadline sets when reading ends; sending does not wait.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline sets when reading ends by os.ErrDeadlineExceeded; the zero time: never.
func (s *socket) SetReadDeadline(t time.Time) error {
	select {
	case <-s.closed:
		return s.opError("set", nil, net.ErrClosed)
	default:
	}
	s.read.set(t)
	return nil
}

// SetWriteDeadline does nothing: sending does not wait.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// waitLimit is a time after which nobody waits.
type waitLimit struct{ x *limitState }

type limitState struct {
	mu      sync.Mutex
	timer   *time.Timer
	ended   chan struct{} // closed when the time is past
	changed chan struct{} // closed when another time is set
}

func newWaitLimit() waitLimit {
	return waitLimit{&limitState{ended: make(chan struct{}), changed: make(chan struct{})}}
}

// past returns a channel that is closed if the time is past.
func (l waitLimit) past() <-chan struct{} {
	past, _ := l.wait()
	return past
}

// wait returns what ends a wait: the time is past, or another one was set.
func (l waitLimit) wait() (past, changed <-chan struct{}) {
	l.x.mu.Lock()
	defer l.x.mu.Unlock()
	return l.x.ended, l.x.changed
}

// set sets the time; zero: none.
func (l waitLimit) set(t time.Time) {
	x := l.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.timer != nil {
		x.timer.Stop()
		x.timer = nil
	}
	ended := make(chan struct{})
	x.ended = ended
	close(x.changed)
	x.changed = make(chan struct{})
	if t.IsZero() {
		return
	}
	if left := time.Until(t); left > 0 {
		x.timer = time.AfterFunc(left, func() { close(ended) })
	} else {
		close(ended)
	}
}

// stop stops the timer.
func (l waitLimit) stop() {
	l.x.mu.Lock()
	defer l.x.mu.Unlock()
	if l.x.timer != nil {
		l.x.timer.Stop()
		l.x.timer = nil
	}
}

// sendDgram sends a DGRAM, or has it wait for a path.
func (p *programs) sendDgram(c *peer.Contact, to *Addr, msg []byte) {
	if c == nil {
		p.n.post(event{kind: evSpeak, contact: peer.NewContact(to.Peer), msg: msg})
		return
	}
	r := c.Route.Load()
	if many := c.Machines.Load(); many != nil && r != nil {
		flow, _ := flowOf(msg)
		if x := many.Route(flow); x != nil {
			r = x
		} else {
			many.Note(flow, r.PeerID)
		}
	}
	if r == nil {
		p.wait(c, msg)
		return
	}
	s := p.take(&c.Address)
	defer p.give(s)
	p.n.sendWhole(s, c, r, msg)
}

// datagram takes a message if it is for a socket: DGRAM, or UDP in IP6 or IP6P.
func (rx *receiver) datagram(in *peer.Inbound, msg []byte, t *link.Train) (taken bool) {
	if rx.refused(in, msg) {
		return true
	}
	c := in.Contact
	m, unproved, ok := readUDP(msg)
	if !ok {
		return false
	}
	s := rx.n.programs.sockets.get(m.Destination)
	if s == nil {
		return false
	}
	from := Addr{Peer: c.Address, Port: m.Source}
	switch {
	case unproved != nil && !soundUDP(unproved, &c.ULA, &rx.n.ula):
		rx.n.counters.count(dMessage)
	case !s.admits(from, rx.noted.trusted, c.Standing(), rx.now):
		rx.n.counters.count(dSocketRefused)
		rx.tell(in, t)
	default:
		s.deliver(from, m.Payload, rx.n)
	}
	return true
}

// readUDP reads a message that is UDP for the other side: DGRAM, IP6 or IP6P. ok is false if
// it is not. unproved is the UDP packet where its checksum has to be right; nil: it has none.
func readUDP(msg []byte) (m wire.DgramMsg, unproved []byte, ok bool) {
	if wire.Type(msg[0]) == wire.Dgram {
		m, err := wire.ParseDgram(msg[1:])
		return m, nil, err == nil
	}
	x, err := wire.ParseIP6(msg[1:])
	if err != nil || x.NextHeader != protoUDP || len(x.Payload) < udpHeader {
		return m, nil, false
	}
	n := int(binary.BigEndian.Uint16(x.Payload[4:]))
	if n < udpHeader || n > len(x.Payload) {
		return m, nil, false
	}
	b := x.Payload[:n]
	m = wire.DgramMsg{Source: binary.BigEndian.Uint16(b), Destination: binary.BigEndian.Uint16(b[2:]), Payload: b[udpHeader:]}
	if wire.Type(msg[0]) == wire.IP6P {
		return m, nil, true
	}
	return m, b, true
}

// soundUDP reports whether a UDP packet has a checksum, and the right one.
func soundUDP(b []byte, from, to *anode.ULA) bool {
	return binary.BigEndian.Uint16(b[6:]) != 0 && checksum(b, pseudoSum(from, to, protoUDP, len(b))) == 0
}

// pseudoSum is the sum of the pseudo-header of TCP or UDP (RFC 8200, 8.1).
func pseudoSum(from, to *anode.ULA, proto byte, n int) uint32 {
	return sum16(from[:], sum16(to[:], uint32(n)+uint32(proto)))
}

// sum16 adds up b in words of 16 bits.
func sum16(b []byte, sum uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// checksum is the internet checksum of b, with what sum holds already; 0 if b has the right
// one.
func checksum(b []byte, sum uint32) uint16 {
	sum = sum16(b, sum)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
