package overlay

import (
	"time"

	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// lanGreetings are peers with which a session is wanted, for them to be told something: a few at a time, since
// all added peers may be in the virtual LAN.
type lanGreetings struct {
	waits []*peer.Peer
	has   map[*peer.Peer]bool
	at    mono.Time // when to go on with them
}

const (
	lanGreetMost  = 64
	lanGreetEvery = time.Second
)

func (g *lanGreetings) add(p *peer.Peer) {
	if g.has[p] {
		return
	}
	if g.has == nil {
		g.has = map[*peer.Peer]bool{}
	}
	g.has[p] = true
	g.waits = append(g.waits, p)
}

// tick has the next sessions made. What is to be told follows when there is one.
func (g *lanGreetings) tick(v *virtualLAN) mono.Time {
	if len(g.waits) == 0 {
		return mono.Never
	}
	if v.l.now < g.at {
		return g.at
	}
	k := min(len(g.waits), lanGreetMost)
	for _, p := range g.waits[:k] {
		delete(g.has, p)
		if v.peers[p] == nil || v.l.peers.get(p.Address) != p {
			continue
		}
		p.Send(v.l.now, peer.Waiting{Ready: make(chan uint8, 1), Failed: make(chan error, 1)})
		v.l.touch(p)
	}
	g.at = v.l.now.Add(lanGreetEvery)
	if g.waits = g.waits[k:]; len(g.waits) == 0 {
		g.waits = nil
		return mono.Never
	}
	return g.at
}
