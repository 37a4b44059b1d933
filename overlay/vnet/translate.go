package vnet

import (
	"net/netip"
	"time"
)

// separates reports whether the NAT keeps packets from going from one interface to the
// other: from the outside in without a mapping, or between isolated inside interfaces.
func (n *NAT) separates(from, to *Interface) bool {
	return n.config.Isolated && from != nil && from != n.outside && to != n.outside && from != to
}

// receive handles a packet that arrives at the router, if it is one that concerns the
// NAT otherwise than by leaving: one to an outside address, or from the outside.
func (n *NAT) receive(in *Interface, p *packet) (done bool) {
	n = n.of(p)
	to := p.to.Addr()
	if !to.Is4() || in.broadcast(to) {
		return false
	}
	switch {
	case n.outside.has(to) && in == n.outside:
		return n.inbound(in, p)
	case n.outside.has(to):
		return n.hairpin(in, p)
	case in == n.outside && n.host.forward && !n.host.owns(to):
		n.host.w.count["drop_nat_unmapped"]++ // an inside address means nothing outside
		return true
	}
	return false
}

// outbound translates a packet that leaves by the outside interface. It returns false
// after dropping it.
func (n *NAT) outbound(p *packet) bool {
	if !p.from.Addr().Is4() {
		return true
	}
	n = n.of(p)
	if p.icmp != nil {
		return n.errorOut(p)
	}
	if n.lost(p) {
		return false
	}
	now := time.Now()
	m := n.from(p.from, p.to, now)
	if m == nil {
		n.host.w.count["drop_nat_no_port"]++
		return false
	}
	n.use(m, p.to, now)
	p.from = m.outside
	return true
}

// lost drops a segment of a connection that the NAT does not know: only what begins one makes a
// mapping.
func (n *NAT) lost(p *packet) bool {
	if p.seg == nil || p.seg.kind == segSYN || n.known(p.from, p.to) != nil {
		return false
	}
	n.host.w.count["drop_nat_unknown_stream"]++
	return true
}

// inbound translates a packet from the outside and sends it on. It returns false if the
// packet is for the router itself.
func (n *NAT) inbound(in *Interface, p *packet) (done bool) {
	if p.icmp != nil {
		if n.errorIn(p) {
			n.host.route(in, *p)
			return true
		}
		return false
	}
	now := time.Now()
	m := n.at(p.to, p.from, now)
	switch {
	case m == nil && n.listens(p):
		return false
	case m == nil:
		n.host.w.count["drop_nat_unmapped"]++
		return true
	case !n.admits(m, p.from, now):
		n.host.w.count["drop_nat_filtered"]++
		return true
	}
	if n.config.InboundRefresh {
		n.use(m, p.from, now)
	}
	p.to = m.inside
	n.host.route(in, *p)
	return true
}

// hairpin handles a packet from the inside to an outside address. It returns false if the
// packet is for the router itself.
func (n *NAT) hairpin(in *Interface, p *packet) (done bool) {
	w := n.host.w
	if p.icmp != nil {
		n.hidden(p)
		return n.inbound(in, p)
	}
	now := time.Now()
	switch {
	case n.at(p.to, p.from, now) == nil && n.listens(p):
		return false
	case n.config.Hairpin == NoHairpin:
		w.count["drop_nat_hairpin"]++
		return true
	}
	if n.lost(p) {
		return true
	}
	sender := n.from(p.from, p.to, now)
	if sender == nil {
		w.count["drop_nat_no_port"]++
		return true
	}
	n.use(sender, p.to, now)
	m := n.at(p.to, sender.outside, now)
	switch {
	case m == nil:
		w.count["drop_nat_unmapped"]++
	case !n.admits(m, sender.outside, now):
		w.count["drop_nat_filtered"]++
	default:
		n.turn(p, sender, m, now)
	}
	return true
}

// turn sends a packet back to the inside.
func (n *NAT) turn(p *packet, from, to *mapping, now time.Time) {
	if n.config.InboundRefresh {
		n.use(to, from.outside, now)
	}
	if n.config.Hairpin == HairpinExternal {
		p.from = from.outside
	}
	p.to = to.inside
	n.host.route(nil, *p) // by no interface: isolation does not count
}

// errorIn translates an ICMP error about a packet that was translated outbound. It
// returns false if there is no mapping, and then the error is the router's own.
func (n *NAT) errorIn(p *packet) bool {
	m := n.at(p.icmp.From, p.icmp.To, time.Now())
	if m == nil || n.config.NoICMP {
		return false
	}
	e := *p.icmp
	e.From = m.inside
	p.to, p.icmp = m.inside, &e
	return true
}

// errorOut translates an ICMP error from the inside about a packet that was translated
// inbound. It returns false after dropping it.
func (n *NAT) errorOut(p *packet) bool {
	m := n.known(p.icmp.To, p.icmp.From)
	if m == nil || n.config.NoICMP {
		n.host.w.count["drop_nat_icmp"]++
		return false
	}
	e := *p.icmp
	e.To = m.outside
	p.from = netip.AddrPortFrom(m.outside.Addr(), 0)
	p.icmp = &e
	return true
}

// hidden has an ICMP error about a packet that took the hairpin speak of the outside
// endpoint that the packet was sent to.
func (n *NAT) hidden(p *packet) {
	if m := n.known(p.icmp.To, p.icmp.From); m != nil {
		e := *p.icmp
		e.To = m.outside
		p.icmp = &e
	}
}

// known returns the mapping of an inside endpoint if there is one.
func (n *NAT) known(inside, remote netip.AddrPort) *mapping {
	now := time.Now()
	n.expire(now)
	if m := n.declared(inside, now); m != nil {
		return m
	}
	return n.out[mapKey{inside, n.config.Mapping.of(remote)}]
}
