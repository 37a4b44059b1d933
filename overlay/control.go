package overlay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/anode/seal"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// eventKind says what an event is about, and which of its fields are set.
type eventKind uint8

const (
	evUnsealed eventKind = iota // msg: a whole packet from ep
	evSealed                    // msg: type | message, opened in session in, from ep after hop relays
	evConfirm                   // in: the first packet was opened in it, from ep after hop relays
	evRoam                      // in: its newest packet came from ep
	evUnknown                   // ula: an added peer sends in a session that we do not have
	evActive                    // ula: a session of the peer is in use again and needs its timers
	evWaiting                   // msg: type | message for ula, which cannot be sent yet
)

type event struct {
	kind eventKind
	hop  uint8
	in   *inbound
	ula  anode.ULA
	ep   link.Endpoint
	msg  []byte
}

// control is the state of the control loop, which alone touches it.
type control struct {
	n     *Node
	now   time.Duration
	local *seal.Local
	send  *sender     // sealed messages
	plain link.Writer // unsealed ones
	buf   []byte      // of the unsealed message being written

	peers  map[anode.Address]*peer
	byID   map[anode.ID][]*peer
	byULA  map[anode.ULA]*peer
	quests map[anode.ULA]*quest
	asking map[anode.ID]*quest // those that were asked for by short ID

	interfaces []link.Interface
	beacon     beacon
	cookies    seal.Cookies
	keys       prefixLimit // key agreements with strangers
	hints      bucket      // EPC_REQs because a stranger said something
	errors     bucket      // ERRORs that are sent
	reflect    bucket      // NETIDs
	strangers  bucket      // beacons of strangers that are not known yet

	stale bool // peers or sessions changed: publish a new table
	saver *saver
}

const (
	maxStrangers  = 256
	sealedRounds  = 64 // events of one inbox before timers are looked at
	slack         = time.Millisecond
	roamEvery     = time.Second
	strangerGrace = 3 * time.Minute // a stranger is remembered this long after it spoke
)

func newControl(n *Node) (*control, error) {
	c := &control{
		n:      n,
		now:    time.Duration(n.now()),
		send:   newSender(n.conns[0].NewWriter(), 0, &n.counters),
		plain:  n.conns[0].NewWriter(),
		peers:  map[anode.Address]*peer{},
		byID:   map[anode.ID][]*peer{},
		byULA:  map[anode.ULA]*peer{},
		quests: map[anode.ULA]*quest{},
		asking: map[anode.ID]*quest{},
		keys:   prefixLimit{rate: 50, burst: 50},
		saver:  newSaver(n.cfg.Store, n.log),
	}
	c.local = &seal.Local{Identity: n.cfg.Identity, PSK: n.cfg.PSK, PeerID: n.peerID, Clock: n.cfg.Clock.Now, Lanes: len(n.conns), StandardAES: n.cfg.StandardAES}
	stored, err := n.cfg.Store.Peers()
	if err != nil {
		return nil, err
	}
	for _, p := range stored {
		if err := c.restore(p); err != nil {
			return nil, err
		}
	}
	for _, p := range n.cfg.Peers {
		if p.Address == n.address {
			return nil, fmt.Errorf("peer %s: %w", p.Address, ErrSelf)
		}
		c.adopt(p)
	}
	return c, nil
}

// run is the control loop.
func (c *control) run(ctx context.Context) error {
	defer c.saver.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := c.settle()
		wait := time.Duration(1<<63 - 1)
		if next != 0 {
			wait = max(next-time.Duration(c.n.now()), slack)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case k := <-c.n.calls:
			c.tick()
			k.done <- k.run(c)
		case e := <-c.n.sealed:
			c.tick()
			c.handle(e)
			for range min(len(c.n.sealed), sealedRounds) {
				c.handle(<-c.n.sealed)
			}
		case e := <-c.n.unsealed:
			c.tick()
			c.handle(e)
			for range min(len(c.n.unsealed), sealedRounds) {
				c.handle(<-c.n.unsealed)
			}
		case links := <-c.n.links:
			c.tick()
			c.linksChanged(links)
		case <-timer.C:
			c.tick()
		}
	}
}

func (c *control) tick() { c.now = time.Duration(c.n.now()) }

// settle brings everything up to date after events: timers that are due, messages
// that they ask for, the table. It returns when it is needed again, 0 for never.
func (c *control) settle() (next time.Duration) {
	sooner := func(t time.Duration) {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	for _, p := range c.peers {
		if p.touched || p.due != 0 && p.due <= c.now {
			c.settlePeer(p)
		}
		sooner(p.due)
	}
	sooner(c.settleQuests())
	sooner(c.settleBeacon())
	if c.stale {
		c.publish()
	}
	c.send.flush()
	return next
}

func (c *control) handle(e event) {
	switch e.kind {
	case evUnsealed:
		c.unsealedPacket(e.msg, e.ep)
	case evSealed:
		c.sealedMessage(e)
	case evConfirm:
		c.confirm(e)
	case evRoam:
		c.roam(e)
	case evUnknown:
		if p := c.byULA[e.ula]; p != nil && p.added {
			p.sessionLost(c)
		}
	case evActive:
		if p := c.byULA[e.ula]; p != nil {
			p.touched = true
		}
	case evWaiting:
		c.waiting(e.ula, e.msg)
	}
}

// publish makes the table anew.
func (c *control) publish() {
	c.stale = false
	t := &table{
		byULA:    make(map[anode.ULA]*remote, len(c.peers)),
		byID:     map[anode.ID]*remote{},
		sessions: map[sessionKey]*inbound{},
		sources:  map[link.Endpoint]*remote{},
	}
	for _, p := range c.peers {
		if p.Blocked {
			continue
		}
		t.byULA[p.remote.ula] = p.remote
		for _, in := range p.inbound {
			for lane := range in.session.Lanes() {
				key := sessionKey{p.remote.id, in.session.Index() + uint16(lane)}
				entry := *in
				entry.next = t.sessions[key]
				t.sessions[key] = &entry
			}
		}
		if !p.added {
			continue
		}
		t.byID[p.remote.id] = p.remote
		for _, w := range p.ways.Ways() {
			if w.State == path.Confirmed && w.Direct() {
				t.sources[at(w.Endpoint)] = p.remote
			}
		}
	}
	c.n.table.Store(t)
}

// linksChanged has every way checked again that was in use: an address or a route may
// have gone, or a better one come.
func (c *control) linksChanged(links link.State) {
	c.interfaces = links.Interfaces
	c.beacon.restart(c.now)
	for _, p := range c.peers {
		p.linksChanged(c)
	}
}

// onLink tells whether an address is on one of our links, and the link's MTU.
func (c *control) onLink(ep link.Endpoint) (mtu int, ok bool) {
	a := ep.Addr.Addr()
	for _, i := range c.interfaces {
		if a.IsLinkLocalUnicast() && a.Is6() {
			if i.Index == ep.If {
				return i.MTU, true
			}
			continue
		}
		for _, p := range i.Prefixes {
			if p.Contains(a) && p.Addr() != a {
				return i.MTU, true
			}
		}
	}
	return 0, false
}

// mayHint tells whether a packet may be sent to an endpoint because somebody named
// it: never to loopback, multicast, broadcast or overlay ranges, to private ones
// only if they are on one of our links.
func (c *control) mayHint(ep link.Endpoint) bool {
	a := ep.Addr.Addr()
	if !a.IsValid() || ep.Addr.Port() == 0 || !a.IsGlobalUnicast() && !a.IsLinkLocalUnicast() {
		return false
	}
	for _, i := range c.interfaces {
		for _, b := range i.Broadcast {
			if a == b {
				return false
			}
		}
	}
	if c.overlayRange(a) {
		return false
	}
	_, onLink := c.onLink(ep)
	return onLink || !a.IsPrivate() && !a.IsLinkLocalUnicast()
}

// overlayRange tells whether a is in a zone's prefix that somebody here uses.
func (c *control) overlayRange(a netip.Addr) bool {
	if !a.Is6() || a.As16()[0] != 0xfd {
		return false
	}
	if c.n.address.Zone().Prefix().Contains(a) {
		return true
	}
	for _, p := range c.peers {
		if p.Address.Zone().Prefix().Contains(a) {
			return true
		}
	}
	return false
}

// describe tells what kind of way an endpoint is, for people.
func (c *control) describe(ep link.Endpoint, hop uint8) PathStatus {
	s := PathStatus{Kind: PathDirect, Endpoint: wire.UDP(ep.Addr).String()}
	if hop != 0 {
		s.Kind = PathRelay
		if r := c.n.table.Load().sources[at(ep)]; r != nil {
			via := r.address
			s.Via = &via
		}
		return s
	}
	if _, ok := c.onLink(ep); ok {
		s.Kind = PathLAN
	}
	return s
}

func requestID() uint32 { return rand.Uint32() }
