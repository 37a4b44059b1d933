package peer

import (
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// Account is what is known of the ways to one machine, and of the attempts to open direct
// ones. It is for people to read.
type Account struct {
	PeerID   uint8
	Ways     []WayAccount
	Useless  []link.Endpoint // that the machine names, and to which nothing is sent
	Takes    bool            // it takes part in attempts
	Kind     path.MappingKind
	Ports    path.PortKind // of the NAT in front of it, as it says
	Attempts int
	Requests int       // that attempts sent
	Last     Attempt   // its zero value if there was none
	Next     mono.Time // when the next attempt may begin, while data flows
}

// WayAccount is what is known of one way.
type WayAccount struct {
	path.Info
	Size   int  // of the longest datagram; 0: nothing was tried
	Proven bool // a datagram of this size was answered
	Used   bool // packets leave on it now
}

// Accounts returns what is known of the ways to each machine.
func (p *Peer) Accounts() (list []Account) {
	for _, m := range p.all() {
		o := &m.opening
		a := Account{PeerID: m.ID(), Useless: o.said.useless, Takes: o.said.takes, Attempts: o.total.attempts, Requests: o.total.requests, Last: o.try.Attempt, Next: o.plan.Next()}
		a.Kind, a.Ports = MappingOf(o.said.mapping)
		r := m.line.Route.Load()
		for _, w := range m.ways.Ways() {
			x := WayAccount{Info: w, Used: r != nil && r.Way == w.Way}
			if s := m.sizes.find(w.Way); s != nil {
				x.Size, x.Proven = s.Size(), s.Proven()
			}
			a.Ways = append(a.Ways, x)
		}
		list = append(list, a)
	}
	return list
}
