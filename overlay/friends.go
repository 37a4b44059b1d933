package overlay

import (
	cryptorand "crypto/rand"
	"math/rand/v2"
	"net/netip"
	"slices"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// Announcements to friends: FRIENDS has a tag for each added peer, and says nothing to others. The
// sender of one is not known before a tag is found, so each costs a tag of every added peer: gate.friends bounds them.
const (
	friendsPackets = 4   // of one announcement, on each link; with more peers, some are chosen anew each time
	friendsTried   = 256 // added peers whose tags are looked for in a packet; of more, the same
)

// friendsEach and friendsTotal are how many announcements are looked at from one address, and from all.
var (
	friendsEach  = mono.Rate{PerSecond: 2, Burst: 2 * friendsPackets}
	friendsTotal = mono.Rate{PerSecond: 50, Burst: 100}
)

// friends returns the added peers, in no order: at random some of them if there are more than most.
func (b *beacon) friends(most int) (list []*peer.Peer) {
	for _, p := range b.l.peers.byAddress {
		if p.Standing() >= book.Added {
			list = append(list, p)
		}
	}
	if len(list) > most {
		rand.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
		list = list[:most]
	}
	return list
}

// announceToFriends sends FRIENDS for the added peers on every link that is not silent.
func (b *beacon) announceToFriends() {
	list := b.friends(friendsPackets * wire.MaxFriends)
	b.l.shell.everyone(func(to link.Endpoint) {
		if !to.Local.IsValid() {
			return
		}
		for some := range slices.Chunk(list, wire.MaxFriends) {
			b.toFriends(some, to)
		}
	})
}

// toFriends sends one FRIENDS. It is as long for one peer as for many.
func (b *beacon) toFriends(list []*peer.Peer, to link.Endpoint) {
	s := b.l.shell
	var m wire.FriendsMsg
	cryptorand.Read(m.Salt[:])
	for _, p := range list {
		if mac, err := p.Key(); err == nil {
			m.Tags = append(m.Tags, mac.FriendTag(m.Salt, b.l.n.address, to.Local, &s.scratch))
		}
	}
	for len(m.Tags) < wire.MaxFriends {
		var t wire.FriendTag
		cryptorand.Read(t[:])
		m.Tags = append(m.Tags, t)
	}
	h := wire.Header{Type: wire.Friends}
	s.write(h.Append(s.buf[:0], m.Append(nil)), to)
}

// befriended has a peer that was added just now learn of us soon: nobody asks for it on the LAN.
func (b *beacon) befriended() {
	if b.l.shell.discovery.Friends {
		b.next, b.pause = b.l.now, beaconFirst
	}
}

// heardFriends answers the announcement of an added peer to us, as a beacon of it.
func (b *beacon) heardFriends(msg []byte, ep link.Endpoint) {
	n, from := b.l.n, ep.Addr.Addr()
	if b.l.links.own(from) {
		n.counters.count(dOwnAddress)
		return
	}
	m, err := wire.ParseFriends(msg)
	if err != nil {
		n.counters.count(dMessage)
		return
	}
	if !b.l.gate.friends.Allow(b.l.now, from) {
		n.counters.count(dBudget)
		return
	}
	p := b.recognise(&m, from)
	switch {
	case p == nil:
		n.counters.count(dFriends)
	case !p.Marks.Beacon.Allow(b.l.now, neighbourRate):
		n.counters.count(dHint)
	default:
		b.answer(p, 0, ep)
	}
}

// recognise returns the added peer that made a tag for us, for packets from an address; nil if none did.
func (b *beacon) recognise(m *wire.FriendsMsg, from netip.Addr) *peer.Peer {
	for _, p := range b.friends(friendsTried) {
		if !p.HasKey() && !b.l.n.budgets.unkeyed.Allow(b.l.now) {
			continue
		}
		mac, err := p.Key()
		if err == nil && slices.Contains(m.Tags, mac.FriendTag(m.Salt, p.Address, from, &b.l.shell.scratch)) {
			return p
		}
	}
	return nil
}
