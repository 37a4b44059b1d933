package info2

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// op is what the shell is asked to do.
type op uint8

const (
	opDial    op = iota // addr; then dialed
	opWrite             // data to id, in one write; then sent, or failed
	opClose             // id, after what is being written; no event follows
	opDeliver           // message is for the people here
)

// action is one thing for the shell to do, in order.
type action struct {
	op      op
	id      linkID
	addr    netip.Addr
	data    []byte
	message Message
}

// rules are what the core is told about its network.
type rules struct {
	allow     func(netip.Addr) bool // who may be a neighbour; nil: anybody
	loopback  bool                  // 127/8 and ::1 may be dialled
	listening bool                  // so BACKCONNECT makes sense
	closed    bool                  // nobody is looked for beyond the friends
}

// core is a servent without I/O. Each event method takes the time and leaves
// actions, to be fetched by take; tick must be called when next says. One
// goroutine at a time.
type core struct {
	rules
	rng *rand.Rand

	links      []*link      // by id
	neighbours []*neighbour // by arrival
	lastID     linkID
	self       map[netip.Addr]bool // our addresses, learned from connections

	memory  memory
	hosts   hosts
	sources sources
	bridge  bucket
	own     bucket

	dials   bucket
	wanted  []netip.Addr // to connect, asked for by the user
	checks  []netip.Addr // to be asked whether they listen
	filling bool         // fewer than linksLow links, until linksWanted
	explore time.Time    // next look at more of the network
	turn    int          // whose dial comes first

	leaving   bool      // logoff was called
	firstOut  time.Time // since when we have had a link of our own making
	inboundAt time.Time // last hello that came in

	counters counters
	actions  []action
}

func newCore(now time.Time, r rules, rng *rand.Rand) *core {
	c := &core{
		rules:   r,
		rng:     rng,
		self:    make(map[netip.Addr]bool),
		memory:  newMemory(),
		hosts:   hosts{byAddr: make(map[netip.Addr]*host)},
		sources: sources{byAddr: make(map[netip.Addr]*source)},
		bridge:  newBucket(messageRate, arriveBurst),
		own:     newBucket(messageRate, messageBurst),
		dials:   newBucket(dialRate, dialBurst),
	}
	c.planExplore(now)
	return c
}

// take gives the actions since the last call.
func (c *core) take() []action {
	a := c.actions
	c.actions = nil
	return a
}

func (c *core) do(a action) { c.actions = append(c.actions, a) }

func (c *core) newLink(now time.Time, addr netip.Addr, d direction, p purpose, s linkState, wait time.Duration) *link {
	c.lastID++
	l := &link{
		id: c.lastID, addr: addr, direction: d, purpose: p,
		state: s, since: now, deadline: now.Add(wait),
		rate: newBucket(messageRate, messageBurst),
	}
	c.links = append(c.links, l)
	return l
}

func (c *core) find(id linkID) *link {
	i, ok := slices.BinarySearchFunc(c.links, id, func(l *link, id linkID) int { return cmp.Compare(l.id, id) })
	if !ok {
		return nil
	}
	return c.links[i]
}

// close ends a connection from our side.
func (c *core) close(l *link) {
	c.do(action{op: opClose, id: l.id})
	c.remove(l)
}

func (c *core) remove(l *link) {
	if i := slices.Index(c.links, l); i >= 0 {
		c.links = slices.Delete(c.links, i, i+1)
		c.counters.add(DroppedClosed, l.out.messages())
	}
	if l.purpose == deliver {
		if n := c.neighbour(l.addr); n != nil {
			n.dialled = false
		}
	}
}

// accepted takes a connection that came in. It returns false if the shell shall
// close it, else the name that it has from now on.
func (c *core) accepted(now time.Time, remote, local netip.Addr) (linkID, bool) {
	if c.leaving {
		return 0, false
	}
	c.learnSelf(local)
	if c.allow != nil && !c.allow(remote) {
		c.counters.inc(RefusedForeign)
		return 0, false
	}
	s := c.sources.get(now, remote)
	if s.isBanned(now) {
		c.counters.inc(RefusedBanned)
		return 0, false
	}
	if !s.conns.take(now) {
		c.counters.inc(DroppedBudget)
		if s.overdo(now) {
			c.cutFlooder(remote)
		}
		return 0, false
	}
	same := 0
	for _, l := range c.links {
		if l.addr == remote {
			same++
		}
	}
	if len(c.links) >= connsMax || same >= connsPer {
		c.counters.inc(RefusedFull)
		return 0, false
	}
	l := c.newLink(now, remote, inbound, keep, awaitHello, helloWait)
	l.local = local
	return l.id, true
}

// learnSelf notes an address of ours, never to be dialled.
func (c *core) learnSelf(local netip.Addr) {
	if !local.IsValid() || local.IsLoopback() {
		return
	}
	if len(c.self) >= connsMax {
		clear(c.self) // old ones: the network has changed often
	}
	c.self[local] = true
}

// dialed answers opDial.
func (c *core) dialed(now time.Time, id linkID, local netip.Addr, err error) {
	l := c.find(id)
	if l == nil {
		if err == nil {
			c.do(action{op: opClose, id: id})
		}
		return
	}
	if err != nil {
		c.failDial(now, l)
		return
	}
	c.learnSelf(local)
	if l.addr == local && !local.IsLoopback() {
		c.counters.inc(Twins)
		c.hosts.rest(now, l.addr, hearsayForget)
		c.close(l)
		return
	}
	l.local, l.state, l.since, l.deadline = local, awaitOK, now, now.Add(helloWait)
	c.write(now, l, frame{kind: kindHello}.append(nil), sendGap)
}

// failDial ends a connection of ours that came to nothing.
func (c *core) failDial(now time.Time, l *link) {
	c.counters.inc(DialsFailed)
	c.hosts.bad(now, l.addr, pauseFirst)
	if l.purpose == deliver {
		c.deliveryFailed(now, l)
	}
	if l.state == dialing {
		c.remove(l)
	} else {
		c.close(l)
	}
}

// deliveryFailed gives the message one more try: a servent that takes one
// connection at a time may be busy with another.
func (c *core) deliveryFailed(now time.Time, l *link) {
	n := c.neighbour(l.addr)
	if n == nil {
		return
	}
	if n.failed {
		c.dropNeighbour(l.addr)
		return
	}
	n.failed = true
	l.parcel.due = now.Add(retryWait)
	n.out.push(l.parcel)
}

// received takes bytes that came over a link; they may be reused afterwards.
func (c *core) received(now time.Time, id linkID, b []byte) {
	l := c.find(id)
	if l == nil {
		return
	}
	frames, err := l.in.feed(now, b, nil)
	c.handleAll(now, l, frames)
	if err != nil && c.find(id) == l {
		c.counters.inc(TooLong)
		c.punish(now, l)
	}
	c.pump(now)
}

// handleAll stops at the frame that closes the link.
func (c *core) handleAll(now time.Time, l *link, frames []frame) {
	for _, f := range frames {
		if c.find(l.id) != l {
			return
		}
		c.handle(now, l, f)
	}
}

// punish closes a link for what came over it.
func (c *core) punish(now time.Time, l *link) {
	if l.state == awaitOK {
		c.failDial(now, l)
		return
	}
	if l.direction == outbound {
		c.hosts.bad(now, l.addr, pauseFirst)
	}
	c.close(l)
}

// sent says that the write asked for is done.
func (c *core) sent(now time.Time, id linkID) {
	l := c.find(id)
	if l == nil {
		return
	}
	l.writing = time.Time{}
	if l.state != awaitOK {
		l.lastSent = now
	}
	if c.leaving && len(l.out.list) == 0 {
		c.close(l)
	}
	c.pump(now)
}

// failed says that a connection is broken.
func (c *core) failed(now time.Time, id linkID) { c.over(now, id, true) }

// eof says that the other side has ended its half of the stream.
func (c *core) eof(now time.Time, id linkID) { c.over(now, id, false) }

// over ends the stream, the last message with it.
func (c *core) over(now time.Time, id linkID, broken bool) {
	l := c.find(id)
	if l == nil {
		return
	}
	c.handleAll(now, l, l.in.end(nil))
	if c.find(id) == l {
		c.ended(now, l, broken)
	}
	c.pump(now)
}

// ended decides what the end of a stream means. A broken one may be a close with
// something unread, as well as the network's fault.
func (c *core) ended(now time.Time, l *link, broken bool) {
	age, patience := now.Sub(l.opened), brief
	if broken {
		patience = soon
	}
	switch {
	case l.state == awaitOK:
		c.failDial(now, l)
		return
	case l.state == awaitHello:
		c.counters.inc(BadHandshake)
	case l.purpose != keep:
	case l.direction == inbound && !l.backconnect.IsZero() && now.Sub(l.backconnect) <= perMessage:
		c.addNeighbour(now, l.addr)
	case l.direction == inbound && !l.spoke && !broken && c.count(hearing) < hearersMax:
		// netcat ends its half when its input ends, and goes on reading.
		l.state, l.since, l.deadline = hearing, now, now.Add(neighbourFor)
		return
	case l.direction == inbound:
	case age < patience && !l.lastSent.IsZero() && now.Sub(l.lastSent) < soon:
		// It took one message and left: so it wants every one of them.
		c.addNeighbour(now, l.addr)
	case broken:
	case age < young:
		c.hosts.bad(now, l.addr, pauseShort) // it has links enough, probably
	default:
		c.hosts.lasting(l.addr)
		c.hosts.rest(now, l.addr, askAgain)
	}
	c.close(l)
}

func (c *core) count(s linkState) (n int) {
	for _, l := range c.links {
		if l.state == s {
			n++
		}
	}
	return n
}

// write hands bytes to the shell; the link is busy until sent.
func (c *core) write(now time.Time, l *link, data []byte, gap time.Duration) {
	l.writing, l.free = now, now.Add(gap)
	c.do(action{op: opWrite, id: l.id, data: data})
}

// tick does what has become due.
func (c *core) tick(now time.Time) {
	for _, l := range slices.Clone(c.links) {
		c.tickLink(now, l)
	}
	c.dropNeighbours(func(n *neighbour) bool {
		c.counters.add(DroppedStale, n.out.expire(now))
		return !n.dialled && !now.Before(n.until)
	})
	c.prune(now)
	c.pump(now)
}

func (c *core) tickLink(now time.Time, l *link) {
	c.handleAll(now, l, l.in.tick(now, nil))
	if c.find(l.id) != l {
		return
	}
	c.counters.add(DroppedStale, l.out.expire(now))
	switch {
	case !l.writing.IsZero() && now.Sub(l.writing) >= stallWait:
		c.counters.inc(Stalled)
		c.close(l)
	case l.deadline.IsZero() || now.Before(l.deadline):
	case l.state == dialing, l.state == awaitOK:
		c.counters.inc(HandshakeLate)
		c.failDial(now, l)
	case l.state == awaitHello:
		c.counters.inc(HandshakeLate)
		c.close(l)
	default:
		c.close(l)
	}
}

// next is when tick has something to do, if nothing happens before; zero: never.
func (c *core) next(now time.Time) time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, l := range c.links {
		sooner(l.in.deadline())
		sooner(l.deadline)
		if t, ok := l.sendable(now); ok {
			sooner(t)
		}
		if !l.writing.IsZero() {
			sooner(l.writing.Add(stallWait))
		}
	}
	for _, n := range c.neighbours {
		if !n.dialled {
			sooner(n.until)
		}
	}
	sooner(c.nextPrune(now))
	sooner(c.nextDial(now))
	return at
}

// say sends a text of ours, cleaned and short enough.
func (c *core) say(now time.Time, text string) (MID, error) {
	if !slices.ContainsFunc(c.links, (*link).receives) && len(c.neighbours) == 0 {
		return MID{}, ErrNobody
	}
	f := frame{kind: kindSend, mid: c.newMID(now, kindSend), text: text}
	c.counters.inc(OwnMessages)
	c.memory.add(now, memoryKey{kindSend, f.mid}, text)
	c.do(action{op: opDeliver, message: Message{Time: now, MID: f.mid, Text: text, Own: true}})
	c.flood(now, f, ownMessage, netip.Addr{})
	c.pump(now)
	return f.mid, nil
}

// inject takes a message from another network, as if a link had brought it.
func (c *core) inject(now time.Time, mid MID, text string) {
	f := frame{kind: kindSend, mid: mid, text: text}
	switch {
	case !c.bridge.take(now):
		c.counters.inc(DroppedBudget)
	case c.learn(now, f):
		c.do(action{op: opDeliver, message: Message{Time: now, MID: mid, Text: text, Bridged: true}})
		c.flood(now, f, bridged, netip.Addr{})
	}
	c.pump(now)
}

// connect dials an address that the user names.
func (c *core) connect(now time.Time, addr netip.Addr) error {
	if !c.dialable(addr) {
		return fmt.Errorf("%w: %s", ErrForbidden, addr)
	}
	c.hosts.add(now, addr, netip.Addr{})
	if h := c.hosts.byAddr[addr]; h != nil {
		h.failures, h.next = 0, time.Time{}
	}
	c.dropNeighbour(addr)
	if len(c.wanted) < connsMax && !slices.Contains(c.wanted, addr) {
		c.wanted = append(c.wanted, addr)
	}
	c.pump(now)
	return nil
}

// newMID draws an identifier that is not in the memory.
func (c *core) newMID(now time.Time, k kind) MID {
	for {
		mid := midOf(100000 + c.rng.Uint32N(900000))
		if known, _ := c.memory.recall(now, memoryKey{k, mid}, ""); !known {
			return mid
		}
	}
}

// wake forgets pauses, because the network has changed, and tries links to
// friends that have been dialled per message.
func (c *core) wake(now time.Time) {
	c.hosts.wake()
	clear(c.self)
	c.dropNeighbours(func(n *neighbour) bool {
		h := c.hosts.byAddr[n.addr]
		return h != nil && h.standing == friend
	})
	c.pump(now)
}

// logoff tells every link that we leave, in place of all that waits for it, and
// closes it when that is sent. Nothing new begins from now on.
func (c *core) logoff(now time.Time) {
	c.leaving = true
	mid := c.newMID(now, kindLogoff)
	for _, l := range slices.Clone(c.links) {
		if !l.receives() || !l.local.IsValid() {
			c.close(l)
			continue
		}
		c.counters.add(DroppedClosed, l.out.messages())
		l.out = outbox{}
		l.rate = newBucket(messageRate, messageBurst)
		c.push(now, l, frame{kind: kindLogoff, mid: mid, addr: l.local})
	}
	c.pump(now)
}
