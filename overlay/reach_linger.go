package overlay

import (
	"net/netip"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// linger holds the LINGERs of others until they are to be answered: one of each peer.
// Strangers share half of the places, by the network that they come from.
type linger struct {
	of        map[*peer.Peer]*late
	strangers map[netip.Addr]int // how many of a site's strangers are in it
	count     int                // of strangers
	due       mono.Time
}

// late is an answer that is due later.
type late struct {
	request uint32
	to      link.Endpoint
	machine uint8
	at      mono.Time
	site    netip.Addr // of a stranger; invalid: it was added
}

// maxLate bounds the memory: some hundred bytes each, 64 KB in all.
const maxLate = 512

// lingerAsked takes a LINGER. A second one of the same peer is refused while the first waits.
func (r *reach) lingerAsked(m *message) error {
	x, err := wire.ParseLinger(m.body)
	if err != nil {
		return err
	}
	g := &r.linger
	answer := &late{request: x.Request, to: m.from, machine: m.machine, at: r.l.now.Add(x.Delay)}
	if m.peer.Standing() < book.Added {
		answer.site = mono.Site(m.from.Addr.Addr())
	}
	if g.of[m.peer] != nil || len(g.of) == maxLate || m.hop != 0 || !g.room(answer.site) {
		r.l.n.counters.count(dLinger)
		return nil
	}
	due := answer.at
	g.of[m.peer] = answer
	g.note(answer.site, 1)
	if len(g.of) == 1 || due < g.due {
		g.due = due
	}
	return nil
}

// room reports whether a site may have one more stranger here.
func (g *linger) room(site netip.Addr) bool {
	return !site.IsValid() || share(g.strangers[site], g.count, maxLate/2)
}

// note counts the strangers of a site.
func (g *linger) note(site netip.Addr, more int) {
	if !site.IsValid() {
		return
	}
	if g.strangers == nil {
		g.strangers = map[netip.Addr]int{}
	}
	g.count += more
	if g.strangers[site] += more; g.strangers[site] == 0 {
		delete(g.strangers, site)
	}
}

// forget drops the answer for a peer, if there is one.
func (g *linger) forget(p *peer.Peer) {
	if x := g.of[p]; x != nil {
		delete(g.of, p)
		g.note(x.site, -1)
	}
}

// tickLinger sends the answers that are due.
func (r *reach) tickLinger() mono.Time {
	g := &r.linger
	if len(g.of) == 0 {
		return mono.Never
	}
	if r.l.now < g.due {
		return g.due
	}
	g.due = mono.Never
	for p, x := range g.of {
		if x.at > r.l.now {
			g.due = min(g.due, x.at)
			continue
		}
		g.forget(p)
		if r.l.now.Sub(x.at) < time.Second { // after a sleep it would show nothing
			p.Reply(r.l.now, x.to, x.machine, wire.NetID, wire.NetIDMsg{Request: x.request, Endpoint: wire.UDP(x.to.Addr)}.Append(nil))
		}
	}
	return g.due
}
