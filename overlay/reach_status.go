package overlay

import (
	"context"
	"net/netip"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// ReachStatus is how the outside sees the node, and what keeps it reachable.
type ReachStatus struct {
	Mapping   string         `json:"mapping"`          // unknown, none, independent or dependent: see path.MappingKind
	Ports     string         `json:"ports"`            // unknown, preserved, sequential or random: see path.PortKind
	Step      int            `json:"port_step"`        // if ports are sequential
	Filtering string         `json:"filtering"`        // unknown, address_port_dependent or not_port_dependent: see FilteringKind
	Hairpin   string         `json:"hairpin"`          // unknown, yes or no
	Endpoint  string         `json:"endpoint"`         // at which IPv4 is seen now; empty: not known
	Lifetime  float64        `json:"lifetime_s"`       // of a mapping without a packet, at least; 0: not known
	Keepalive float64        `json:"keepalive_s"`      // between two packets that keep the way in open; 0: none is needed, or nobody to send it to
	Own       []string       `json:"own"`              // endpoints that peers are told, best first
	Public    []string       `json:"public"`           // those of them that mean the same everywhere
	Mapped    []string       `json:"mapped"`           // those of them that the router mapped
	Elsewhere []string       `json:"mapped_elsewhere"` // that the router mapped at an address at which nobody sees the node: peers are not told
	Seen      []SeenStatus   `json:"seen"`
	Anchors   []AnchorStatus `json:"anchors"`
}

// SeenStatus is what one other said about where it sees the node.
type SeenStatus struct {
	Endpoint string         `json:"endpoint"`
	By       *anode.Address `json:"by"`   // null: a STUN server
	From     string         `json:"from"` // the endpoint of who said it
	Age      float64        `json:"age_s"`
}

// AnchorStatus is a relay to which the way in is kept open.
type AnchorStatus struct {
	Address  anode.Address `json:"address"`
	Name     string        `json:"name"`
	Endpoint string        `json:"endpoint"`
	State    string        `json:"state"`      // asked, kept, idle or silent
	RTT      float64       `json:"rtt_ms"`     // 0: not known
	Age      float64       `json:"heard_s"`    // since its last answer; 0: it has not answered yet
	Interval float64       `json:"interval_s"` // between two packets to it; 0: none
}

// Reach returns how the outside sees the node.
func (n *Node) Reach(ctx context.Context) (s ReachStatus, err error) {
	err = n.call(ctx, func(l *loop) error {
		s = l.reach.status()
		return nil
	})
	return s, err
}

// SetMapped replaces the endpoints that the router has mapped to the node's port on request, at
// most 4. Peers are told them.
func (n *Node) SetMapped(ctx context.Context, list []link.Endpoint) error {
	return n.call(ctx, func(l *loop) error {
		l.reach.setMapped(list)
		return nil
	})
}

// SetSTUN replaces the STUN servers to be asked, at most 4; nil: none.
func (n *Node) SetSTUN(ctx context.Context, list []netip.AddrPort) error {
	return n.call(ctx, func(l *loop) error {
		l.reach.setSTUN(list)
		return nil
	})
}

func (r *reach) status() ReachStatus {
	o := &r.outside
	s := ReachStatus{Mapping: o.mapping.Kind.String(), Ports: o.mapping.Ports.String(), Step: o.mapping.Step,
		Filtering: r.filtering.kind.String(), Hairpin: r.hairpin.kind.String(),
		Lifetime: r.lifetime.known(r).Seconds(), Own: []string{}, Public: []string{}, Mapped: []string{}, Elsewhere: []string{}, Seen: []SeenStatus{}, Anchors: []AnchorStatus{}}
	if o.mapping.Last.IsValid() {
		s.Endpoint = wire.UDP(o.mapping.Last).String()
	}
	for _, e := range r.own() {
		s.Own = append(s.Own, e.String())
		if routable(e.Addr.Addr()) {
			s.Public = append(s.Public, e.String())
		}
	}
	for _, a := range o.mapped {
		if !o.leadsHere(a) {
			s.Elsewhere = append(s.Elsewhere, wire.UDP(a).String())
			continue
		}
		s.Mapped = append(s.Mapped, wire.UDP(a).String())
	}
	for _, t := range o.by {
		x := SeenStatus{Endpoint: wire.UDP(t.seen).String(), From: wire.UDP(t.to).String(), Age: seconds(r.l.now.Sub(t.at))}
		if !t.who.IsZero() {
			x.By = &t.who
		}
		s.Seen = append(s.Seen, x)
	}
	for _, x := range r.anchors.list {
		a := r.anchorStatus(x)
		if a.Interval != 0 && (s.Keepalive == 0 || a.Interval < s.Keepalive) {
			s.Keepalive = a.Interval
		}
		s.Anchors = append(s.Anchors, a)
	}
	return s
}

func (r *reach) anchorStatus(x *anchor) AnchorStatus {
	a := AnchorStatus{Address: x.peer.Address, Name: x.peer.Name, Endpoint: x.ep.String(), State: "kept",
		RTT: float64(x.rtt.Microseconds()) / 1000}
	if x.heard != 0 {
		a.Age = seconds(r.l.now.Sub(x.heard))
	}
	switch {
	case x.silent():
		a.State = "silent"
	case x.heard == 0:
		a.State = "asked"
	case x.next == mono.Never && !r.questions.waits(x.ep):
		a.State = "idle"
	default:
		a.Interval = seconds(r.interval(x))
	}
	return a
}

// seconds rounds to milliseconds.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
