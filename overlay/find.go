package overlay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/path"
)

// Finding a peer. Of a peer whose address is known, ways are wanted: those that the
// user gave or that worked before, its answer to a WHOIS on the LAN, and every peer
// that can be reached directly as a relay. Of a ULA or short ID alone, the address
// is wanted first: a quest.

const (
	searchEvery = time.Second
	questFor    = 3 * time.Second
	questEvery  = 500 * time.Millisecond
	maxQuests   = 128
	maxRelays   = 4 // tried for one peer at a time
)

// quest is the search for the address behind a ULA, or behind a short ID alone.
type quest struct {
	request uint32
	key     wire.WhoisMsg
	queue   waitingQueue
	started time.Duration
	asked   time.Duration // last
	found   []chan<- anode.Address
}

// waiting takes a message of the adapter's for a ULA that it could not be sent to.
func (c *control) waiting(u anode.ULA, msg []byte) {
	if u == c.n.ula {
		return
	}
	if p := c.byULA[u]; p != nil {
		if p.Blocked {
			c.n.counters.count(dBlocked)
			c.n.cfg.Device.Prohibited(u, msg)
			return
		}
		c.sendMessage(p, msg, nil)
		return
	}
	if q := c.seek(wire.WhoisMsg{Kind: wire.WhoisULA, ULA: u, ID: u.ID()}); q == nil || !q.queue.add(waitingMessage{msg, nil}, c.now) {
		c.n.counters.count(dWaitingFull)
	}
}

// sendMessage sends type | message to a peer now or as soon as there is a session
// and a way. If it cannot be sent, failed gets the reason; it may be nil.
func (c *control) sendMessage(p *peer, msg []byte, failed chan error) {
	p.touched = true
	if p.Blocked {
		c.n.counters.count(dBlocked)
		if failed != nil {
			failed <- ErrBlocked
		}
		return
	}
	if p.route(c); p.remote.flight.Load() != nil {
		c.sealTo(p, msg)
		return
	}
	if !p.queue.add(waitingMessage{msg, failed}, c.now) {
		c.n.counters.count(dWaitingFull)
		if failed != nil {
			failed <- fmt.Errorf("%w: too much waits for it already", ErrUnreachable)
		}
		return
	}
	c.search(p)
	p.again(c)
	if err := p.set.Want(c.now); err != nil {
		c.n.log.Warn("handshake", "peer", p.label(), "err", err)
	}
}

// add puts a message into the queue, unless that is full.
func (q *waitingQueue) add(m waitingMessage, now time.Duration) bool {
	if len(q.msgs) >= waitingMessages || q.bytes+len(m.msg) > waitingBytes {
		return false
	}
	if len(q.msgs) == 0 {
		q.since = now
	}
	q.msgs = append(q.msgs, m)
	q.bytes += len(m.msg)
	return true
}

// search looks for ways to a peer, at most once a second.
func (c *control) search(p *peer) {
	best, ok := p.ways.Best()
	if ok && best.Direct() && !p.ways.Checking() {
		return
	}
	if p.searched != 0 && c.now-p.searched < searchEvery {
		return
	}
	p.searched = max(c.now, 1)
	p.touched = true
	for _, e := range slices.Concat(p.Endpoints, p.saved) {
		if e.Kind == wire.UDP4 || e.Kind == wire.UDP6 {
			ep := link.Endpoint{Addr: e.Addr}
			_, on := c.onLink(ep)
			p.ways.Add(c.now, path.Way{Endpoint: ep}, path.Stored, on)
		}
	}
	c.askLAN(wire.WhoisMsg{Request: requestID(), Kind: wire.WhoisID, ID: p.remote.id})
	relays := 0
	for _, r := range c.peers {
		if r == p || !r.added || r.Blocked || relays == maxRelays {
			continue
		}
		if w, ok := r.ways.Best(); ok && w.Direct() {
			p.ways.Add(c.now, path.Way{Endpoint: w.Endpoint, Via: r.Address}, path.Relay, w.OnLink)
			relays++
		} else if !ok {
			r.ways.Suspect(c.now) // it may be back, and the next search finds it
			r.touched = true
		}
	}
}

// seek starts or continues a quest; nil if there are too many.
func (c *control) seek(key wire.WhoisMsg) *quest {
	if key.Kind == wire.WhoisULA {
		if q := c.quests[key.ULA]; q != nil {
			return q
		}
	} else if q := c.asking[key.ID]; q != nil {
		return q
	}
	if len(c.quests)+len(c.asking) >= maxQuests {
		return nil
	}
	key.Request = requestID()
	q := &quest{request: key.Request, key: key, started: c.now}
	if key.Kind == wire.WhoisULA {
		c.quests[key.ULA] = q
	} else {
		c.asking[key.ID] = q
	}
	return q
}

// settleQuests asks again for what is wanted, and gives up what nobody knows.
func (c *control) settleQuests() (next time.Duration) {
	visit := func(q *quest) (over bool) {
		if c.now-q.started > questFor {
			c.endQuest(q, nil)
			return true
		}
		if q.asked == 0 || c.now-q.asked >= questEvery {
			q.asked = max(c.now, 1)
			c.askLAN(q.key)
			c.askPeers(q.key)
		}
		if t := q.asked + questEvery; next == 0 || t < next {
			next = t
		}
		return false
	}
	for u, q := range c.quests {
		if visit(q) {
			delete(c.quests, u)
		}
	}
	for id, q := range c.asking {
		if visit(q) {
			delete(c.asking, id)
		}
	}
	return next
}

// endQuest hands a quest's messages to the peer that was found, or answers them.
func (c *control) endQuest(q *quest, p *peer) {
	for _, f := range q.found {
		if p != nil {
			f <- p.Address
		}
		close(f)
	}
	for _, m := range q.queue.msgs {
		if p != nil {
			c.sendMessage(p, m.msg, nil)
			continue
		}
		c.n.counters.count(dNoRoute)
		if c.n.cfg.Device != nil {
			c.n.cfg.Device.NoRoute(q.key.ULA, m.msg)
		}
	}
}

// askLAN broadcasts a WHOIS on every link. There is no key to sign it with.
func (c *control) askLAN(m wire.WhoisMsg) {
	c.broadcast(wire.Header{Recipient: wire.Party{ID: m.ID}, Type: wire.Whois}, m.Append(nil))
}

// askPeers asks the peers that were added and can be reached directly.
func (c *control) askPeers(m wire.WhoisMsg) {
	asked := 0
	for _, p := range c.peers {
		if w, ok := p.ways.Best(); ok && p.added && !p.Blocked && w.Direct() && asked < maxRelays {
			c.plainTo(p, w.Endpoint, wire.Whois, m.Append(nil))
			asked++
		}
	}
}

// askedOnLAN answers a WHOIS that came by broadcast, if it is for us. Peers that
// were added are looked at in turn, so that both sides know a way at once.
func (c *control) askedOnLAN(from anode.Address, msg []byte, ep link.Endpoint) {
	m, err := wire.ParseWhois(msg)
	if err != nil {
		c.n.counters.count(dMessage)
		return
	}
	if !m.Matches(c.n.address) {
		return // only the owner answers
	}
	p := c.neighbour(from, ep)
	if p == nil {
		return
	}
	c.plainTo(p, ep, wire.IAm, wire.IAmMsg{Request: m.Request, Address: c.n.address}.Append(nil))
}

// neighbour is the peer behind something unsigned from our own link. Strangers have
// a small budget.
func (c *control) neighbour(from anode.Address, ep link.Endpoint) *peer {
	p := c.peers[from]
	if p == nil || !p.added {
		if c.blockedKey(from) {
			c.n.counters.count(dBlocked)
			return nil
		}
		if !c.hints.allow(c.n.now(), 5, 5) || p == nil && !c.keys.allow(ep.Addr.Addr(), c.n.now()) {
			c.n.counters.count(dBudget)
			return nil
		}
	}
	if p == nil {
		checked, err := anode.AddressFromBytes(from[:])
		if err != nil {
			c.n.counters.count(dHeader)
			return nil
		}
		if p, err = c.meet(checked); err != nil {
			return nil
		}
	}
	if p.Blocked {
		c.n.counters.count(dBlocked)
		return nil
	}
	p.touched = true
	if p.added {
		c.heardFrom(p, ep, 0)
	}
	return p
}

// whois answers an authentic WHOIS: for ourselves, and as a relay for the peers that
// were added, to peers that were added.
func (c *control) whois(p *peer, m wire.WhoisMsg, reply func(wire.Type, []byte)) {
	if m.Matches(c.n.address) {
		reply(wire.IAm, wire.IAmMsg{Request: m.Request, Address: c.n.address}.Append(nil))
		return
	}
	if !p.added {
		c.n.counters.count(dReflection)
		return
	}
	var found anode.Address
	for _, q := range c.byID[m.ID] {
		if q.added && !q.Blocked && m.Matches(q.Address) {
			found = q.Address
		}
	}
	reply(wire.IAm, wire.IAmMsg{Request: m.Request, Address: found}.Append(nil))
}

// iAm takes the answer to a WHOIS of ours. The address proves itself; it becomes a
// stranger, never "added".
func (c *control) iAm(p *peer, m wire.IAmMsg, ep link.Endpoint, hop uint8) {
	if m.Address == p.Address {
		c.heardFrom(p, ep, hop)
	}
	q := c.quests[anode.Address(m.Address).ULA()]
	if q == nil {
		q = c.asking[anode.Address(m.Address).ID()]
	}
	if q == nil || q.request != m.Request || m.Address.IsZero() || !q.key.Matches(m.Address) {
		return // not found, or not asked for
	}
	a, err := anode.AddressFromBytes(m.Address[:])
	if err != nil {
		c.n.counters.count(dMessage)
		return
	}
	found, err := c.meet(a)
	if err != nil {
		return
	}
	if q.key.Kind == wire.WhoisULA {
		delete(c.quests, q.key.ULA)
	} else {
		delete(c.asking, q.key.ID)
	}
	c.endQuest(q, found)
	c.search(found)
}

// resolve finds the address behind a ULA or short ID.
func (n *Node) resolve(ctx context.Context, key wire.WhoisMsg) (anode.Address, error) {
	answer := make(chan anode.Address, 1)
	err := n.call(ctx, func(c *control) error {
		if key.Matches(n.address) {
			answer <- n.address
			return nil
		}
		for _, p := range c.byID[key.ID] {
			if key.Matches(p.Address) {
				answer <- p.Address
				return nil
			}
		}
		q := c.seek(key)
		if q == nil {
			return fmt.Errorf("%d searches are under way already", maxQuests)
		}
		q.found = append(q.found, answer)
		return nil
	})
	if err != nil {
		return anode.Address{}, err
	}
	select {
	case a, ok := <-answer:
		if !ok {
			return anode.Address{}, ErrUnknownPeer
		}
		return a, nil
	case <-ctx.Done():
		return anode.Address{}, ctx.Err()
	case <-n.done:
		return anode.Address{}, ErrClosed
	}
}

// ResolveULA finds the address behind a ULA: among the peers, on the LAN, and by
// asking peers. It returns ErrUnknownPeer after three seconds without an answer.
func (n *Node) ResolveULA(ctx context.Context, u anode.ULA) (anode.Address, error) {
	return n.resolve(ctx, wire.WhoisMsg{Kind: wire.WhoisULA, ULA: u, ID: u.ID()})
}

// ResolveID finds the address behind a short ID, as ResolveULA does. The ID alone
// proves less than a ULA.
func (n *Node) ResolveID(ctx context.Context, id anode.ID) (anode.Address, error) {
	return n.resolve(ctx, wire.WhoisMsg{Kind: wire.WhoisID, ID: id})
}
