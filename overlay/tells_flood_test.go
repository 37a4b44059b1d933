//go:build linux

package overlay

import (
	"container/heap"
	"net/netip"
	"testing"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
)

// crowd is a node to which many strangers come, each of which shakes hands and says one thing, and
// goes on until it is answered. Time and the network are the test's: see scaleWorld.
type crowd struct {
	*scaleWorld
	queue  moments
	order  int
	delay  time.Duration // one way
	heard  map[anode.Address]int
	answer []Heard
	first  map[anode.Address]time.Duration
	by     map[netip.AddrPort]*visitor
	issued seal.Invitation
	guests map[anode.Address]time.Duration // when each proved the invitation
}

type moment struct {
	at    time.Duration
	order int
	do    func()
}

type moments []moment

func (q moments) Len() int { return len(q) }
func (q moments) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q moments) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *moments) Push(x any)   { *q = append(*q, x.(moment)) }
func (q *moments) Pop() any {
	old := *q
	m := old[len(old)-1]
	*q = old[:len(old)-1]
	return m
}

func newCrowd(tb testing.TB, peers int) *crowd {
	c := &crowd{scaleWorld: newScaleWorld(tb, peers), delay: 50 * time.Millisecond, heard: map[anode.Address]int{}, first: map[anode.Address]time.Duration{},
		by: map[netip.AddrPort]*visitor{}, guests: map[anode.Address]time.Duration{}}
	c.n.cfg.People = c
	return c
}

// issue has the node know one invitation.
func (c *crowd) issue() seal.Invitation {
	c.issued = seal.Invitation{ID: InvitationID{1, 2, 3}, PSK: [32]byte{4, 5, 6}}
	return c.issued
}

func (c *crowd) Heard(h Heard) bool {
	if c.heard[h.From]++; c.heard[h.From] == 1 {
		c.first[h.From] = c.clock.since
	}
	c.answer = append(c.answer, h)
	return true
}

func (c *crowd) Told(anode.Address, wire.ToldMsg) {}
func (c *crowd) Up(u Up) {
	if _, ok := c.guests[u.Address]; !ok && u.Issued {
		c.guests[u.Address] = c.clock.since
	}
}
func (c *crowd) Refused(anode.Address, InvitationID) {
}
func (c *crowd) Invitation(id InvitationID, _ anode.Address) (psk [32]byte, ok bool) {
	return c.issued.PSK, id == c.issued.ID
}

func (c *crowd) later(d time.Duration, do func()) {
	c.order++
	heap.Push(&c.queue, moment{c.clock.since + d, c.order, do})
}

// until lets everything happen up to a time. Between, the node looks at its timers.
func (c *crowd) until(end time.Duration) {
	for len(c.queue) > 0 && c.queue[0].at <= end {
		m := heap.Pop(&c.queue).(moment)
		for c.clock.since+20*time.Millisecond < m.at {
			c.clock.since += 20 * time.Millisecond
			c.drain()
			c.carry()
		}
		c.clock.since = m.at
		m.do()
		c.carry()
	}
	c.clock.since = end
	c.drain()
	c.carry()
}

// carry has what the node says arrive.
func (c *crowd) carry() {
	for len(c.answer) > 0 {
		h := c.answer[0]
		c.answer = c.answer[1:]
		if p := c.l.peers.get(h.From); p != nil {
			c.l.tells.back(p, wire.ToldMsg{ID: h.Msg.ID})
		}
		c.drain()
	}
	for _, s := range c.wire.take() {
		if v := c.by[s.to.Addr]; v != nil {
			c.later(c.delay, func() { v.receive(s.b) })
		}
	}
}

// visitor is a stranger with something to say.
type visitor struct {
	*remote
	c     *crowd
	told  bool
	rude  bool // and it goes on although it was answered
	gone  bool
	tries int
	chain int           // of tries
	next  time.Duration // of the Set
	tell  wire.TellMsg
	guest *seal.Invitation // it comes with this, and asks nothing; nil: with none
}

func (c *crowd) visitor(a netip.Addr) *visitor {
	v := &visitor{remote: newRemote(c.tb, c.n.address, a), c: c, tell: wire.TellMsg{ID: newTellID(), Kind: wire.TellAsk, Body: make([]byte, 100)}}
	v.local.Clock = c.clock.Now
	c.by[v.ep.Addr] = v
	return v
}

// come begins, and says it when there is a session.
func (v *visitor) come() {
	v.set = seal.NewSet(v.local, v.node, 0)
	if v.guest != nil {
		if err := v.set.Join(v.c.clock.since, v.guest, 30*time.Second); err != nil {
			v.c.tb.Error(err)
		}
		v.tick()
		return
	}
	v.set.Want(v.c.clock.since)
	v.tick()
	v.say()
}

func (v *visitor) leave() {
	v.gone = true
	delete(v.c.by, v.ep.Addr)
	v.set, v.session = nil, nil
}

// say says it now and again: after 1, 2, 4 and 8 s, as long as it is not answered.
func (v *visitor) say() {
	if v.gone || v.told {
		return
	}
	if s := v.set.Current(v.c.clock.since); s != nil {
		v.session = s
		v.send(v.sealed(v.c.clock, v.tell.Append([]byte{byte(wire.Tell)})))
		s.Sent(int64(v.c.clock.since))
		s.Activate()
	} else {
		v.set.Want(v.c.clock.since)
	}
	v.chain++
	chain := v.chain
	v.c.later(time.Second<<min(v.tries, 3), func() {
		if chain == v.chain {
			v.say()
		}
	})
	v.tries++
	v.tick()
}

func (v *visitor) send(p []byte) {
	v.c.later(v.c.delay, func() { v.c.feed(p, v.ep) })
}

func (v *visitor) tick() {
	if v.gone {
		return
	}
	now := v.c.clock.since
	do, next := v.set.Tick(now)
	if do.Hello != nil {
		v.send(v.plain(wire.Hello, do.Hello.Body))
	}
	if do.Keepalive != nil {
		v.session = do.Keepalive
		v.send(v.sealed(v.c.clock, nil))
	}
	if next > now && (v.next <= now || next < v.next) {
		v.next = next
		v.c.later(next-now, v.tick)
	}
}

func (v *visitor) receive(p []byte) {
	if v.gone {
		return
	}
	now := v.c.clock.since
	if wire.IsSealed(p) {
		for _, s := range v.set.Live() {
			msg, err := s.Open(make([]byte, len(p)), p, int64(now))
			if err != nil {
				continue
			}
			s.Received(int64(now), len(msg) > 0)
			if len(msg) > 0 && wire.Type(msg[0]) == wire.Told {
				v.told = !v.rude
			}
			if len(msg) > 0 && wire.Type(msg[0]) == wire.EPCReq {
				v.session = s
				v.send(v.sealed(v.c.clock, append([]byte{byte(wire.EPC)}, msg[1:]...)))
			}
		}
		return
	}
	h, msg, err := wire.Parse(p)
	if err != nil {
		return
	}
	switch h.Type {
	case wire.EPCReq:
		v.send(v.plain(wire.EPC, msg))
	case wire.Cookie:
		if m, err := v.set.OnCookie(now, msg); err == nil && m != nil {
			v.send(v.plain(wire.Hello, m.Body))
		}
	case wire.Welcome:
		if _, err := v.set.OnWelcome(now, h.SenderPeer, msg); err == nil && v.tries > 0 {
			v.tries = 0
			v.c.later(0, v.say)
		}
	}
	v.tick()
}

// Ten thousand strangers come in a minute, each from a network of its own, and a tenth of them goes on asking
// although it was answered. One who is honest gets to speak within a minute, the node's memory hardly grows, and what an added peer
// sends is not touched.
func TestTenThousandStrangers(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 key agreements and more")
	}
	const strangers = 10_000
	c := newCrowd(t, 10)
	began := c.clock.since
	before := heapInUse()
	var list []*visitor
	for k := range strangers {
		c.later(time.Minute*time.Duration(k)/strangers, func() {
			v := c.visitor(netip.AddrFrom4([4]byte{100 + byte(k>>14), byte(k >> 8), byte(k), 1}))
			v.rude = k%10 == 0
			list = append(list, v)
			v.come()
		})
	}
	var honest []*visitor
	for k := range 20 {
		c.later(15*time.Second+time.Duration(k)*time.Second, func() {
			v := c.visitor(netip.AddrFrom4([4]byte{150, 1, byte(k), 1}))
			honest = append(honest, v)
			v.come()
		})
	}
	most := 0
	for s := range 100 {
		c.until(began + time.Duration(s)*time.Second)
		most = max(most, len(c.l.peers.strangers.of))
	}
	in, slowest := 0, time.Duration(0)
	for k, v := range honest {
		at, ok := c.first[v.local.Identity.Address()]
		took := at - began - 15*time.Second - time.Duration(k)*time.Second
		if ok && took < time.Minute {
			in++
			slowest = max(slowest, took)
		}
	}
	all := len(c.first)
	for _, v := range append(list, honest...) {
		v.leave()
	}
	list, honest, c.queue, c.heard, c.first, c.by, c.answer = nil, nil, nil, nil, nil, nil, nil
	c.wire.take()
	grown := heapInUse() - before
	t.Logf("%d of 20 honest ones are heard, the last after %v; %d in all; %d strangers at most; %d KiB more", in, slowest, all, most, grown>>10)
	for _, k := range []counter{dStrangers, dBudget, dSourceRate, dTells, dUnknownSession} {
		t.Logf("%s: %d", counterNames[k], c.n.counters[k].Load())
	}
	if in < 20 {
		t.Errorf("%d of 20 honest strangers get to speak", in)
	}
	if most > strangersMax || grown > 1<<20 {
		t.Errorf("%d strangers, %d KiB more", most, grown>>10)
	}
}
