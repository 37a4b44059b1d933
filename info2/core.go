package info2

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// rules are what the core is told about its network.
type rules struct {
	allow     func(netip.Addr) bool // who may be a neighbour; nil: anybody
	loopback  bool                  // 127/8 and ::1 may be dialled
	listening bool                  // so BACKCONNECT makes sense
	closed    bool                  // nobody is looked for beyond the friends
}

// core is a servent without I/O. Each event method takes the time and leaves
// actions, to be fetched from fx; tick must be called when next says. One
// goroutine at a time.
//
// Its parts own what they are named after, and know each other as follows:
//
//	topology  what to dial, which links go     -> links, neighbours, hosts, reach
//	flood     messages, once to everybody      -> links, neighbours
//	friends   FRIEND REQUEST and its answers   -> links, neighbours, hosts, sources, reach
//	links, neighbours, hosts, sources, reach   know nobody
//
// The core itself holds what an event means for several of them.
type core struct {
	fx         effects
	reach      reach
	sources    sources
	hosts      hosts
	links      links
	neighbours neighbours
	topology   topology
	flood      flood
	friends    friends
	presence   presence
	leaving    bool // logoff was called
}

func newCore(now time.Time, r rules, rng *rand.Rand) *core {
	c := &core{
		reach:    reach{allow: r.allow, loopback: r.loopback, self: make(map[netip.Addr]bool)},
		sources:  sources{byAddr: make(map[netip.Addr]*source)},
		hosts:    hosts{byAddr: make(map[netip.Addr]*host)},
		presence: presence{listening: r.listening},
	}
	c.links = links{fx: &c.fx}
	c.neighbours = neighbours{fx: &c.fx}
	c.topology = topology{
		fx: &c.fx, reach: &c.reach, links: &c.links, neighbours: &c.neighbours, hosts: &c.hosts, rng: rng,
		closed: r.closed, dials: newBucket(dialRate, dialBurst),
	}
	c.flood = flood{
		fx: &c.fx, links: &c.links, neighbours: &c.neighbours, rng: rng,
		memory: newMemory(), own: newBucket(messageRate, messageBurst), bridge: newBucket(messageRate, arriveBurst),
	}
	c.friends = friends{
		fx: &c.fx, reach: &c.reach, links: &c.links, neighbours: &c.neighbours, hosts: &c.hosts, sources: &c.sources, rng: rng,
	}
	c.topology.planExplore(now)
	return c
}

// received takes bytes that came over a link; they may be reused afterwards.
func (c *core) received(now time.Time, id linkID, b []byte) {
	l := c.links.find(id)
	if l == nil {
		return
	}
	if s := c.sources.get(now, l.addr); !s.read(now, len(b)) && s.overdo(now) {
		c.fx.inc(ReadsOver)
		c.cutFlooder(l.addr)
		return
	}
	frames, err := l.in.feed(now, b, nil)
	if len(frames) == 0 && err == nil {
		return // a part of a message changes nothing
	}
	c.handleAll(now, l, frames, err)
	c.pump(now)
}

// sent says that the write asked for is done.
func (c *core) sent(now time.Time, id linkID) {
	l := c.links.find(id)
	if l == nil {
		return
	}
	l.out.writing = time.Time{}
	if l.state != awaitOK {
		l.out.last = now
	}
	if c.leaving && len(l.out.box.list) == 0 {
		c.links.close(l)
	}
	c.pump(now)
}

// failed says that a connection is broken.
func (c *core) failed(now time.Time, id linkID) { c.over(now, id, true) }

// eof says that the other side has ended its half of the stream.
func (c *core) eof(now time.Time, id linkID) { c.over(now, id, false) }

// over ends the stream, the last message with it.
func (c *core) over(now time.Time, id linkID, broken bool) {
	l := c.links.find(id)
	if l == nil {
		return
	}
	frames, err := l.in.end(nil)
	c.handleAll(now, l, frames, err)
	if c.links.has(l) {
		c.ended(now, l, broken)
	}
	c.pump(now)
}

// tick does what has become due.
func (c *core) tick(now time.Time) {
	for _, l := range slices.Clone(c.links.list) {
		c.tickLink(now, l)
	}
	c.neighbours.expire(now, c.links.delivering)
	c.topology.prune(now)
	c.pump(now)
}

func (c *core) tickLink(now time.Time, l *link) {
	if !c.links.has(l) {
		return
	}
	frames, err := l.in.tick(now, nil)
	c.handleAll(now, l, frames, err)
	if !c.links.has(l) {
		return
	}
	c.fx.add(DroppedStale, l.out.box.expire(now))
	if !l.backconnect.IsZero() && now.Sub(l.backconnect) >= perMessage {
		c.stays(now, l)
	}
	stalled := l.out.stalled()
	switch {
	case !stalled.IsZero() && !now.Before(stalled):
		c.fx.inc(Stalled)
		c.links.close(l)
	case l.deadline.IsZero() || now.Before(l.deadline):
	case l.state == dialing, l.state == awaitOK:
		c.fx.inc(HandshakeLate)
		c.failDial(now, l)
	case l.state == awaitHello:
		c.fx.inc(HandshakeLate)
		c.links.close(l)
	default:
		c.links.close(l)
	}
}

// next returns when tick has something to do, if nothing happens before; zero:
// never.
func (c *core) next(now time.Time) time.Time {
	at := sooner(c.links.next(now), c.neighbours.expires(c.links.delivering), c.topology.nextPrune(now))
	if !c.leaving {
		at = sooner(at, c.topology.next(now))
	}
	return at
}

// pump dials, and writes what is due on every link.
func (c *core) pump(now time.Time) {
	if !c.leaving {
		c.topology.dial(now)
	}
	c.links.pump(now)
}

// say sends a text of ours, cleaned and short enough.
func (c *core) say(now time.Time, text string) (MID, error) {
	mid, err := c.flood.say(now, text)
	c.pump(now)
	return mid, err
}

// inject takes a message from another network, as if a link had brought it.
func (c *core) inject(now time.Time, mid MID, text string) {
	c.flood.inject(now, mid, text)
	c.pump(now)
}

// connect dials an address that the user names.
func (c *core) connect(now time.Time, addr netip.Addr) error {
	if !c.reach.dialable(addr) {
		return fmt.Errorf("%w: %s", ErrForbidden, addr)
	}
	c.topology.want(now, addr)
	c.pump(now)
	return nil
}

// wake forgets pauses, because the network has changed, and tries links to
// friends that seemed to want one message each.
func (c *core) wake(now time.Time) {
	c.hosts.wake()
	clear(c.reach.self)
	c.neighbours.dropThose(func(n *neighbour) bool { return !n.registered && c.hosts.isFriend(n.addr) })
	c.pump(now)
}

// logoff tells every link that we leave, in place of all that waits for it, and
// closes it when that is sent. Nothing new begins from now on.
func (c *core) logoff(now time.Time) {
	c.leaving = true
	mid := c.flood.newMID(now, kindLogoff)
	for _, l := range slices.Clone(c.links.list) {
		if !l.receives() || !l.local.IsValid() {
			c.links.close(l)
			continue
		}
		c.fx.add(DroppedClosed, l.out.only())
		c.links.push(now, l, frame{kind: kindLogoff, mid: mid, addr: l.local})
	}
	c.pump(now)
}
