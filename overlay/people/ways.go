package people

import (
	"fmt"
	"slices"
	"sort"

	"anodenet/anode"
	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// Ways are where a peer can be reached, as a link, an introduction or the user says. They are kept as
// long as the peer: after a restart nothing else may lead to it.
type Ways struct {
	Endpoints []wire.Endpoint `json:"endpoints,omitempty"`
	Relays    []Relay         `json:"relays,omitempty"`
	Hosts     []book.Host     `json:"hosts,omitempty"` // names of machines, of somebody who was asked: those of peers are in the book
}

// IsZero reports whether there are none.
func (w Ways) IsZero() bool { return len(w.Endpoints)+len(w.Relays)+len(w.Hosts) == 0 }

// check reports why an endpoint cannot be used.
func (w Ways) check() error {
	for _, e := range w.Endpoints {
		if err := book.CheckEndpoint(e); err != nil {
			return err
		}
	}
	if len(w.Hosts) > book.MaxHosts {
		return fmt.Errorf("%w: more than %d host names for one peer", book.ErrEndpoint, book.MaxHosts)
	}
	return nil
}

// waysOf returns the ways that a link has.
func waysOf(l invite.Link) (w Ways) {
	w.Endpoints = l.Endpoints
	for _, r := range l.Relays {
		w.Relays = append(w.Relays, Relay(r))
	}
	return w
}

// maxKnown is how many endpoints of a peer are kept, and how many relays.
const maxKnown = 8

// know has a transaction keep the ways to a peer, whose record the caller writes. No ways change nothing.
func (p *person) know(x *tx, w Ways) {
	if w.IsZero() {
		return
	}
	p.Ways = Ways{slices.Clone(w.Endpoints[:min(len(w.Endpoints), maxKnown)]), slices.Clone(w.Relays[:min(len(w.Relays), maxKnown)]), slices.Clone(w.Hosts)}
	x.do(Know{p.Address, p.Ways})
}

// forgetWays has a transaction end the use of the ways to a peer.
func (c *Core) forgetWays(x *tx, k Key) {
	if p := c.people.m[k]; !p.Ways.IsZero() {
		x.do(Know{Address: p.Address})
	}
}

// beginWays has the peers looked for where they were before a restart.
func (c *Core) beginWays() {
	var list []Know
	for _, p := range c.people.m {
		if !p.Ways.IsZero() {
			list = append(list, Know{p.Address, p.Ways})
		}
	}
	sort.Slice(list, func(i, j int) bool { return compare(list[i].Address, list[j].Address) < 0 })
	for _, k := range list {
		c.do(k)
	}
}

func compare(a, b anode.Address) int { return slices.Compare(a[:], b[:]) }
