package vnet

import (
	"net/netip"
)

// PortOrder is how a NAT chooses the outside port of a new mapping.
type PortOrder uint8

// The orders.
const (
	// Preserving takes the inside port.
	Preserving PortOrder = iota
	// Random takes any port.
	Random
	// Sequential takes the port that follows the last one, whoever got that.
	Sequential
	// Contiguous takes the port that follows the last one of the same inside address.
	Contiguous
)

// PortChoice is how a NAT chooses outside ports (RFC 4787, 4.2).
type PortChoice struct {
	Order PortOrder
	// Fallback is used if the preserved port is taken; Preserving is the next free one.
	Fallback PortOrder
	// Step is from one port to the next one, which may be negative; 0 is 1.
	Step int
	// First is the first port of each sequence; 0 is any.
	First uint16
	// Parity keeps even ports even and odd ones odd.
	Parity bool
	// Low and High are the first and last ports; 0 is 1024 and 65535. A preserved
	// port may be any.
	Low, High uint16
}

// bounds returns the first port and the number of ports.
func (c *PortChoice) bounds() (low, size int) {
	low, high := int(c.Low), int(c.High)
	if low == 0 {
		low = 1024
	}
	if high == 0 {
		high = 65535
	}
	return low, max(1, high-low+1)
}

func (c *PortChoice) step() int {
	if c.Step == 0 {
		return 1
	}
	return c.Step
}

// ports is where sequences stand: by outside address if Sequential, by inside address
// if Contiguous.
type ports struct{ last map[netip.Addr]int }

// free reports whether a mapping to a remote may have the outside endpoint.
func (n *NAT) free(outside, remote netip.AddrPort) bool {
	if n.host.conns[outside.Port()] != nil || outside.Port() == 0 || n.in[mapKey{local: outside}] != nil {
		return false
	}
	return n.in[n.inKey(outside, remote)] == nil
}

// choose returns the outside port for a new mapping at the outside address.
func (n *NAT) choose(inside netip.AddrPort, a netip.Addr, remote netip.AddrPort) (uint16, bool) {
	c := &n.config.Ports
	order := c.Order
	usable := func(port int) bool {
		return (!c.Parity || port%2 == int(inside.Port())%2) && n.free(netip.AddrPortFrom(a, uint16(port)), remote)
	}
	if order == Preserving {
		if usable(int(inside.Port())) {
			return inside.Port(), true
		}
		order = c.Fallback
	}
	switch order {
	case Random:
		return n.scan(n.randomPort(), 1, usable)
	case Sequential:
		return n.next(a, usable)
	case Contiguous:
		return n.next(inside.Addr(), usable)
	}
	return n.scan(int(inside.Port())+1, 1, usable)
}

func (n *NAT) randomPort() int {
	low, size := n.config.Ports.bounds()
	return low + n.random.IntN(size)
}

// next takes the next port of the sequence of an address.
func (n *NAT) next(of netip.Addr, usable func(int) bool) (uint16, bool) {
	start, step := 0, n.config.Ports.step()
	if last, ok := n.ports.last[of]; ok {
		start = last + step
	} else if start = int(n.config.Ports.First); start == 0 {
		start = n.randomPort()
	}
	port, ok := n.scan(start, step, usable)
	if ok {
		n.ports.last[of] = int(port)
	}
	return port, ok
}

// scan returns the first usable port from start on in steps, around the range; if none
// of these is, any that is.
func (n *NAT) scan(start, step int, usable func(int) bool) (uint16, bool) {
	low, size := n.config.Ports.bounds()
	for _, step := range []int{step, 1} {
		for k := range size {
			at := (start - low + k*step) % size
			if at < 0 {
				at += size
			}
			if usable(low + at) {
				return uint16(low + at), true
			}
		}
	}
	return 0, false
}
