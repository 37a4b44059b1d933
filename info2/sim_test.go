package info2

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// sim is an internet of cores under virtual time: streams in order with a
// delay, connections that break, hosts that cannot reach each other. One seed,
// one run.
type sim struct {
	t     testing.TB
	rng   *rand.Rand
	now   time.Time
	queue simQueue
	seq   uint64
	nodes []*simNode
	at    map[netip.Addr]*simNode
	conns []*simConn

	// blocked hosts cannot connect; connections between them stall.
	blocked func(a, b netip.Addr) bool
}

type simNode struct {
	addr   netip.Addr
	core   *core
	ends   map[linkID]*simEnd
	tickAt time.Time
	heard  map[MID]time.Time
	twice  int
	texts  []string
	// attempts counts the connections that were tried towards it.
	attempts map[netip.Addr]int
	// crude hosts have no core: they get what arrives and may answer.
	crude func(e *simEnd, data []byte)
	opens func(e *simEnd)
	over  func(e *simEnd) // the other side has ended its half
}

type simConn struct {
	a, b *simEnd
	dead bool
}

type simEnd struct {
	node  *simNode
	id    linkID
	conn  *simConn
	peer  *simEnd
	last  time.Time // of what is under way to the peer
	stuck bool      // the peer reads nothing
}

type simEvent struct {
	at  time.Time
	seq uint64
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = simEvent{}
	*q = old[:len(old)-1]
	return e
}

var simStart = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newSim(t testing.TB, seed uint64) *sim {
	t.Logf("seed %d", seed)
	return &sim{t: t, rng: seeded(seed, 0), now: simStart, at: make(map[netip.Addr]*simNode), blocked: func(a, b netip.Addr) bool { return false }}
}

func seeded(seed, stream uint64) *rand.Rand {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	binary.LittleEndian.PutUint64(key[8:], stream)
	return rand.New(rand.NewChaCha8(key))
}

// addNode adds a servent at 10.x.y.z.
func (s *sim) addNode(i int) *simNode {
	n := s.addCrude(netip.AddrFrom4([4]byte{10, byte(i % 250), byte(i / 250), 1}))
	n.core = newCore(s.now, rules{listening: true}, seeded(uint64(i), 1))
	s.nodes = append(s.nodes, n)
	s.act(n)
	return n
}

// addCrude adds a host that is no servent of ours.
func (s *sim) addCrude(a netip.Addr) *simNode {
	n := &simNode{addr: a, ends: make(map[linkID]*simEnd), heard: make(map[MID]time.Time), attempts: make(map[netip.Addr]int)}
	s.at[a] = n
	return n
}

func (s *sim) after(d time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{s.now.Add(d), s.seq, do})
}

// run lets time pass.
func (s *sim) run(d time.Duration) {
	end := s.now.Add(d)
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = end
}

// latency is 10 to 60 ms between two hosts, always the same, with jitter.
func (s *sim) latency(a, b netip.Addr) time.Duration {
	x, y := a.As4(), b.As4()
	base := 10 + (int(x[1])*7+int(y[1])*7+int(x[2])*31+int(y[2])*31)%40
	return time.Duration(base)*time.Millisecond + time.Duration(s.rng.Int64N(int64(10*time.Millisecond)))
}

// act does what the core of n asks for, and plans its next tick.
func (s *sim) act(n *simNode) {
	for _, a := range n.core.fx.take() {
		switch a.op {
		case opDial:
			s.dial(n, a.id, a.addr)
		case opWrite, opWriteLast:
			if e := n.ends[a.id]; e != nil {
				s.write(e, a.data)
				if a.op == opWriteLast {
					s.endHalf(e)
				}
			}
		case opClose:
			if e := n.ends[a.id]; e != nil {
				s.shut(e)
			}
		case opDeliver:
			if _, again := n.heard[a.message.MID]; again {
				n.twice++
			}
			n.heard[a.message.MID] = s.now
			n.texts = append(n.texts, a.message.Text)
		}
	}
	at := n.core.next(s.now)
	if at.IsZero() || at.Equal(n.tickAt) {
		return
	}
	if at.Before(s.now) {
		at = s.now
	}
	n.tickAt = at
	s.after(at.Sub(s.now), func() {
		if !n.tickAt.Equal(at) {
			return
		}
		n.tickAt = time.Time{}
		n.core.tick(s.now)
		// A tick must move next forward, else a real servent would spin.
		if next := n.core.next(s.now); len(n.core.fx.actions) == 0 && !next.IsZero() && !next.After(s.now) {
			s.t.Fatalf("tick at %v of %v leaves work for the same moment", s.now.Sub(simStart), n.addr)
		}
		s.act(n)
	})
}

var errSim = errors.New("unreachable")

// dial connects two hosts.
func (s *sim) dial(from *simNode, id linkID, to netip.Addr) {
	if t := s.at[to]; t != nil {
		t.attempts[from.addr]++
	}
	s.after(s.latency(from.addr, to), func() {
		t := s.at[to]
		if t == nil || s.blocked(from.addr, to) || t.core == nil && t.opens == nil {
			s.after(3*time.Second, func() { from.core.dialed(s.now, id, netip.Addr{}, errSim); s.act(from) })
			return
		}
		c := &simConn{}
		mine, theirs := &simEnd{node: from, id: id, conn: c}, &simEnd{node: t, conn: c}
		mine.peer, theirs.peer, c.a, c.b = theirs, mine, mine, theirs
		from.ends[id] = mine
		s.conns = append(s.conns, c)
		if t.core == nil {
			t.opens(theirs)
		} else {
			tid, ok := t.core.accepted(s.now, from.addr, t.addr)
			if ok {
				theirs.id = tid
				t.ends[tid] = theirs
			} else {
				c.dead = true
				s.after(s.latency(from.addr, to), func() { s.eofAt(mine) })
			}
			s.act(t)
		}
		if from.core != nil {
			from.core.dialed(s.now, id, from.addr, nil)
			s.act(from)
		}
	})
}

// dialCrude connects a crude host to a servent, and gives its end of it.
func (s *sim) dialCrude(from *simNode, to *simNode) *simEnd {
	c := &simConn{}
	mine, theirs := &simEnd{node: from, conn: c}, &simEnd{node: to, conn: c}
	mine.peer, theirs.peer, c.a, c.b = theirs, mine, mine, theirs
	s.conns = append(s.conns, c)
	id, ok := to.core.accepted(s.now, from.addr, to.addr)
	if !ok {
		c.dead = true
	} else {
		theirs.id = id
		to.ends[id] = theirs
	}
	s.act(to)
	return mine
}

// arrive runs do at the peer of e, after all that is under way.
func (s *sim) arrive(e *simEnd, do func()) {
	at := s.now.Add(s.latency(e.node.addr, e.peer.node.addr))
	if !at.After(e.last) {
		at = e.last.Add(time.Microsecond)
	}
	e.last = at
	s.after(at.Sub(s.now), do)
}

func (s *sim) write(e *simEnd, data []byte) {
	if e.stuck || s.blocked(e.node.addr, e.peer.node.addr) {
		return // never sent: the window is closed
	}
	s.arrive(e, func() {
		p := e.peer
		if e.conn.dead || p.node.core != nil && p.node.ends[p.id] != p {
			return
		}
		if p.node.core == nil {
			if p.node.crude != nil {
				p.node.crude(p, data)
			}
			return
		}
		p.node.core.received(s.now, p.id, data)
		s.act(p.node)
	})
	if n := e.node; n.core != nil {
		s.after(time.Millisecond, func() { n.core.sent(s.now, e.id); s.act(n) })
	}
}

// endHalf ends one direction.
func (s *sim) endHalf(e *simEnd) {
	p := e.peer
	s.arrive(e, func() {
		if p.node.over != nil {
			p.node.over(p)
		}
		if p.node.core != nil && p.node.ends[p.id] == p {
			p.node.core.eof(s.now, p.id)
			s.act(p.node)
		}
	})
}

// shut closes one end; the other sees the end of the stream.
func (s *sim) shut(e *simEnd) {
	if e.node.core != nil {
		delete(e.node.ends, e.id)
	}
	p := e.peer
	s.arrive(e, func() { s.eofAt(p) })
}

func (s *sim) eofAt(p *simEnd) {
	p.conn.dead = true
	if p.node.over != nil {
		p.node.over(p)
	}
	if p.node.core == nil || p.node.ends[p.id] != p {
		return
	}
	p.node.core.eof(s.now, p.id)
	s.act(p.node)
}

// snap breaks a connection for both ends, with all that is under way.
func (s *sim) snap(c *simConn) {
	c.dead = true
	for _, e := range []*simEnd{c.a, c.b} {
		if e.node.core != nil && e.node.ends[e.id] == e {
			delete(e.node.ends, e.id)
			e.node.core.failed(s.now, e.id)
			s.act(e.node)
		}
	}
}

// links gives the connections that are open at both ends.
func (s *sim) links() (list []*simConn) {
	live := s.conns[:0]
	for _, c := range s.conns {
		if c.dead {
			continue
		}
		live = append(live, c)
		if c.a.node.core == nil || c.b.node.core == nil {
			continue
		}
		a, b := c.a.node.core.links.find(c.a.id), c.b.node.core.links.find(c.b.id)
		if a != nil && b != nil && a.receives() && b.receives() {
			list = append(list, c)
		}
	}
	clear(s.conns[len(live):])
	s.conns = live
	return list
}

// failLinks breaks a share of all links every minute, at random moments.
func (s *sim) failLinks(share float64, stop *bool) {
	const step = 2 * time.Second
	var round func()
	round = func() {
		if *stop {
			return
		}
		for _, c := range s.links() {
			if s.rng.Float64() < share*step.Minutes() {
				s.snap(c)
			}
		}
		s.after(step, round)
	}
	s.after(0, round)
}

// grow starts n servents within a minute; each knows two that were there before.
func (s *sim) grow(n int) {
	for i := range n {
		s.after(time.Duration(i)*time.Minute/time.Duration(n), func() {
			node := s.addNode(i)
			for range 2 {
				if i > 0 {
					node.core.hosts.add(s.now, s.nodes[s.rng.IntN(i)].addr, netip.Addr{})
				}
			}
			node.core.pump(s.now)
			s.act(node)
		})
	}
}

// said is one message of a test.
type said struct {
	mid MID
	at  time.Time
	by  *simNode
}

// talk has random servents say something, one text every so often.
func (s *sim) talk(count int, every time.Duration) []said {
	var list []said
	for i := range count {
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		mid, err := n.core.say(s.now, fmt.Sprintf("message %d", i))
		if err == nil {
			list = append(list, said{mid, s.now, n})
		}
		s.act(n)
		s.run(every)
	}
	return list
}

// figures are what the issue judges by.
type figures struct {
	delivered float64 // share of all (message, servent) pairs
	median    time.Duration
	worst     time.Duration
	perLink   float64 // messages written per link and message
	twice     int
}

func (s *sim) figures(list []said, sentBefore uint64, links float64) figures {
	var f figures
	var times []time.Duration
	for _, m := range list {
		for _, n := range s.nodes {
			if at, ok := n.heard[m.mid]; ok && n != m.by {
				times = append(times, at.Sub(m.at))
			}
		}
	}
	for _, n := range s.nodes {
		f.twice += n.twice
	}
	f.delivered = float64(len(times)) / float64(len(list)*(len(s.nodes)-1))
	slices.Sort(times)
	if len(times) > 0 {
		f.median, f.worst = times[len(times)/2], times[len(times)-1]
	}
	f.perLink = float64(s.total(MessagesOut)-sentBefore) / (links * float64(len(list)))
	return f
}

func (f figures) String() string {
	return fmt.Sprintf("delivered %.4f%%, median %v, worst %v, %.3f messages per link and message, %d twice",
		100*f.delivered, f.median, f.worst, f.perLink, f.twice)
}

func (s *sim) total(what Counter) (n uint64) {
	for _, node := range s.nodes {
		n += node.core.fx.counters[what]
	}
	return n
}
