package vnet

import (
	"net/netip"

	"anodenet/overlay/link"
)

// ICMPKind is the kind of an ICMP error.
type ICMPKind uint8

// The kinds of ICMP errors.
const (
	PortUnreachable ICMPKind = iota + 1 // nobody listens on the port
	HostUnreachable                     // no route, or no machine has the address
	Prohibited                          // a firewall rejects the packet
	TooBig                              // the next link's MTU is smaller
)

// String returns the kind in words.
func (k ICMPKind) String() string {
	switch k {
	case PortUnreachable:
		return "port unreachable"
	case HostUnreachable:
		return "host unreachable"
	case Prohibited:
		return "prohibited"
	case TooBig:
		return "too big"
	}
	return "unknown"
}

// symptom is what the error says to somebody who diagnoses.
func (k ICMPKind) symptom() link.Symptom {
	switch k {
	case PortUnreachable:
		return link.PortClosed
	case HostUnreachable:
		return link.NoHost
	case Prohibited:
		return link.Rejected
	}
	return link.Silence
}

// ICMPError is an ICMP error about a UDP packet that a host sent.
type ICMPError struct {
	Kind     ICMPKind
	MTU      int            // bytes, with TooBig
	From, To netip.AddrPort // of the packet, as the host sent it
}

// OnICMP calls f for each ICMP error that reaches the host, from the world's goroutine.
// f must not block. Sockets never hear of these errors, like those of link.System.
func (h *Host) OnICMP(f func(ICMPError)) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.onICMP = append(h.onICMP, f)
}

// complain sends an ICMP error about p to its sender. It travels like any packet. There
// is none about another error, or about a broadcast (RFC 1122, 3.2.2).
func (h *Host) complain(p *packet, kind ICMPKind, mtu int) {
	if p.icmp != nil || p.seg != nil || p.to.Addr().IsMulticast() || p.to.Addr() == limitedBroadcast {
		return
	}
	x, err := h.find(link.Endpoint{Addr: p.from})
	if err != nil {
		return
	}
	h.w.count["icmp_errors"]++
	e := packet{from: netip.AddrPortFrom(x.from, 0), to: p.from, hops: 64, icmp: &ICMPError{kind, mtu, p.from, p.to}}
	switch {
	case x.out == nil && h.nat != nil && h.nat.errorIn(&e):
		h.route(nil, e)
	case x.out == nil:
		h.accept(x.in, e)
	default:
		h.leave(e, x)
	}
}

// hear takes an ICMP error about a packet of the host itself.
func (h *Host) hear(e ICMPError) {
	if told := h.probes[e.From.Port()]; told != nil {
		told(e.Kind.symptom())
	}
	for _, f := range h.onICMP {
		h.w.tapped = append(h.w.tapped, func() { f(e) })
	}
}
