package seal

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// world is two or more machines, the links between all of them, and the time.
type world struct {
	t     testing.TB
	rand  *rand.Rand
	now   time.Duration
	sides []*side
	queue packets
	order int

	loss, twice float64 // of packets
	delay       func() time.Duration
	drop        func(p *packet) bool // in addition
	wire        [][]byte             // all that was sent
	record      bool
}

// packet is under way.
type packet struct {
	at       time.Duration
	order    int
	from, to *side
	msg      *Message // unsealed
	sealed   []byte
}

type packets []*packet

func (q packets) Len() int { return len(q) }
func (q packets) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *packets) Push(x any)   { *q = append(*q, x.(*packet)) }
func (q *packets) Pop() any {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}

// side is one machine, as far as the Set needs an engine.
type side struct {
	w     *world
	name  string
	local *Local
	set   *Set
	other *side // that it sends to

	table   map[uint16][]*Session // that it receives on
	waiting [][]byte
	next    time.Duration
	got     []string
	gotAt   time.Duration
	hellos  int
	ticks   int
	keeps   int
	gaveUp  int
	errs    map[error]int
}

// newWorld makes two sides, a with the lower address if lower.
func newWorld(t testing.TB, seed uint64) (w *world, a, b *side) {
	w = &world{t: t, rand: rand.New(rand.NewPCG(seed, 99)), now: time.Hour}
	w.delay = func() time.Duration { return 10 * time.Millisecond }
	a, b = w.add("a", 1, 3), w.add("b", 2, 5)
	w.connect(a, b)
	return w, a, b
}

// randomness is deterministic.
type randomness struct{ r *rand.Rand }

func (r randomness) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.r.Uint32())
	}
	return len(b), nil
}

// epoch is when a world's clock stands at 0.
var epoch = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

func (w *world) add(name string, key byte, peerID uint8) *side {
	s := &side{w: w, name: name}
	s.local = &Local{Identity: identity(w.t, key), PeerID: peerID, Rand: randomness{w.rand},
		Clock: func() time.Time { return epoch.Add(w.now) }}
	w.sides = append(w.sides, s)
	return s
}

func (w *world) connect(a, b *side) {
	a.other, b.other = b, a
	a.restart()
	b.restart()
}

// restart forgets everything but the identity.
func (s *side) restart() {
	s.set = NewSet(s.local, s.other.local.Identity.Address(), 0)
	s.table = map[uint16][]*Session{}
	s.errs = map[error]int{}
	s.waiting, s.next = nil, 0
}

func (w *world) send(p *packet) {
	if w.record {
		if p.msg != nil {
			w.wire = append(w.wire, bytes.Clone(p.msg.Body))
		} else {
			w.wire = append(w.wire, bytes.Clone(p.sealed))
		}
	}
	if w.drop != nil && w.drop(p) || w.rand.Float64() < w.loss {
		return
	}
	for range 1 + btoi(w.rand.Float64() < w.twice) {
		c := *p
		w.order++
		c.at, c.order = w.now+w.delay(), w.order
		heap.Push(&w.queue, &c)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// run lets everything happen up to a time from now.
func (w *world) run(d time.Duration) {
	end := w.now + d
	for {
		var first *side
		for _, s := range w.sides {
			if s.next != 0 && (first == nil || s.next < first.next) {
				first = s
			}
		}
		switch {
		case len(w.queue) > 0 && w.queue[0].at <= end && (first == nil || w.queue[0].at <= first.next):
			p := heap.Pop(&w.queue).(*packet)
			w.now = max(w.now, p.at)
			p.to.receive(p)
		case first != nil && first.next <= end:
			w.now = max(w.now, first.next)
			first.tick()
		default:
			w.now = end
			return
		}
	}
}

// tick does what is due.
func (s *side) tick() {
	w := s.w
	for range 20 {
		s.ticks++
		do, next := s.set.Tick(w.now)
		if do.Hello != nil {
			s.hellos++
			w.send(&packet{from: s, to: s.other, msg: do.Hello})
		}
		if do.Keepalive != nil {
			s.keeps++
			s.seal(do.Keepalive, nil)
		}
		if do.GaveUp {
			s.gaveUp++
			s.waiting = nil
		}
		for _, x := range do.Ended {
			if !x.Ended() {
				w.t.Errorf("%s: an ended session has keys", s.name)
			}
		}
		s.check()
		s.table = map[uint16][]*Session{}
		for _, x := range s.set.Live() {
			s.table[x.Index()] = append(s.table[x.Index()], x)
		}
		if cur := s.set.Current(w.now); cur != nil && len(s.waiting) > 0 {
			for _, msg := range s.waiting {
				s.seal(cur, msg)
			}
			s.waiting = nil
			continue
		}
		if s.next = next; next == 0 || next > w.now {
			return
		}
	}
	w.t.Fatalf("%s: Tick does not come to rest", s.name)
}

// check is what must always hold.
func (s *side) check() {
	if n := len(s.set.live); n > maxLive {
		s.w.t.Errorf("%s: %d live sessions", s.name, n)
	}
	if n := len(s.set.pending); n > maxPending {
		s.w.t.Errorf("%s: %d pending sessions", s.name, n)
	}
}

// seal sends one message; an empty one is a keepalive.
func (s *side) seal(x *Session, msg []byte) {
	c, ok := x.Reserve(0, 1, int64(s.w.now))
	if !ok {
		s.w.t.Errorf("%s: no counter", s.name)
		return
	}
	s.w.send(&packet{from: s, to: s.other, sealed: x.Seal(nil, c, msg)})
	if len(msg) > 0 {
		x.Sent(int64(s.w.now))
		if x.Activate() {
			s.next = s.w.now
		}
	}
}

// say sends a message as soon as there is a session.
func (s *side) say(msg string) {
	cur := s.set.Current(s.w.now)
	if cur == nil {
		s.waiting = append(s.waiting, []byte(msg))
		s.note(s.set.Want(s.w.now))
		s.tick()
		return
	}
	s.seal(cur, []byte(msg))
	if s.next == s.w.now {
		s.tick()
	}
}

func (s *side) note(err error) {
	if err == nil {
		return
	}
	for _, e := range []error{ErrBody, ErrVersion, ErrUnexpected, ErrDuplicate, ErrStale, ErrMachine, ErrRandom,
		ErrShort, ErrHeader, ErrReplay, ErrAuth, ErrEnded, ErrUninvited, ErrLater, ErrRefused, errUnknown} {
		if errors.Is(err, e) {
			s.errs[e]++
			return
		}
	}
	s.w.t.Errorf("%s: unknown error %v", s.name, err)
}

var errUnknown = errors.New("unknown index")

func (s *side) receive(p *packet) {
	if p.msg == nil {
		s.open(p)
		return
	}
	now, body := s.w.now, p.msg.Body
	switch p.msg.Type {
	case wire.Hello:
		reply, _, err := s.set.OnHello(now, p.from.local.PeerID, body)
		s.note(err)
		s.tick() // which publishes the session
		if reply != nil {
			s.w.send(&packet{from: s, to: p.from, msg: reply})
		}
	case wire.Welcome:
		_, err := s.set.OnWelcome(now, p.from.local.PeerID, body)
		s.note(err)
	case wire.Cookie:
		m, err := s.set.OnCookie(now, body)
		s.note(err)
		if m != nil {
			s.w.send(&packet{from: s, to: p.from, msg: m})
		}
	case wire.Stale:
		s.note(s.set.OnStale(now, body))
	}
	s.tick()
}

func (s *side) open(p *packet) {
	index := uint16(p.sealed[2])<<8 | uint16(p.sealed[3])
	candidates := s.table[index]
	if len(candidates) == 0 {
		s.note(errUnknown)
		if p.from.local.PeerID == s.set.PeerID() || s.set.PeerID() == 0 {
			s.note(s.set.OnUnknown(s.w.now))
			s.tick()
		}
		return
	}
	for i, x := range candidates {
		msg, err := x.Open(make([]byte, len(p.sealed)), p.sealed, int64(s.w.now))
		if err != nil {
			if i == len(candidates)-1 {
				s.note(err)
			}
			continue
		}
		x.Received(int64(s.w.now), len(msg) > 0)
		if len(msg) > 0 {
			s.got, s.gotAt = append(s.got, string(msg)), s.w.now
		}
		s.set.Confirm(s.w.now, x)
		x.Activate()
		s.tick()
		return
	}
}

// chat has both sides say something every so often, and returns how much of it came.
func (w *world) chat(d, every time.Duration, sides ...*side) (said int) {
	for end := w.now + d; w.now < end; w.run(every) {
		for _, s := range sides {
			said++
			s.say(fmt.Sprintf("%s %d %v", s.name, said, w.now))
		}
	}
	return said
}

// sameSession reports whether two sessions are the ends of one.
func sameSession(a, b *Session) bool {
	return a != nil && b != nil && a.remote == b.index && b.remote == a.index
}

func address(s *side) anode.Address { return s.local.Identity.Address() }
