package overlay

import (
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// linger holds the LINGERs of others until they are to be answered: one of each peer.
type linger struct {
	of  map[*peer.Peer]*late
	due mono.Time
}

// late is an answer that is due later.
type late struct {
	request uint32
	to      link.Endpoint
	machine uint8
	at      mono.Time
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
	if g.of[m.peer] != nil || len(g.of) == maxLate || m.hop != 0 {
		r.l.n.counters.count(dLinger)
		return nil
	}
	due := r.l.now.Add(x.Delay)
	g.of[m.peer] = &late{x.Request, m.from, m.machine, due}
	if len(g.of) == 1 || due < g.due {
		g.due = due
	}
	return nil
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
		delete(g.of, p)
		if r.l.now.Sub(x.at) < time.Second { // after a sleep it would show nothing
			p.Reply(r.l.now, x.to, x.machine, wire.NetID, wire.NetIDMsg{Request: x.request, Endpoint: wire.UDP(x.to.Addr)}.Append(nil))
		}
	}
	return g.due
}
