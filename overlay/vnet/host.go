package vnet

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"anodenet/overlay/link"
)

// Host is a computer with its interfaces and sockets. It is a link.Network. One that
// forwards is a router.
type Host struct {
	w       *World
	name    string
	number  uint64
	forward bool

	// under w.mu
	asleep   bool
	refuses  bool
	ifs      []*Interface
	routes   []route
	conns    map[uint16]*Conn
	beacons  []*Conn
	writers  uint64
	nextPort uint16
	watches  map[*watch]struct{}
	nat      *NAT
	streams  streams
	portal   *Portal
	probes   map[uint16]func(link.Symptom) // the ports of Diagnose
	onICMP   []func(ICMPError)
}

var _ link.Network = (*Host)(nil)

// route names the router for a prefix.
type route struct {
	prefix netip.Prefix
	via    netip.Addr
}

// watch is one call of Watch.
type watch struct{ events chan struct{} }

// Host makes a host without interfaces.
func (w *World) Host(name string) *Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &Host{w: w, name: name, number: uint64(len(w.hosts) + 1), nextPort: 40000,
		conns: make(map[uint16]*Conn), watches: make(map[*watch]struct{}),
		probes: make(map[uint16]func(link.Symptom))}
	h.streams.init()
	w.hosts = append(w.hosts, h)
	return h
}

// Router makes a host that forwards between its interfaces.
func (w *World) Router(name string) *Host {
	h := w.Host(name)
	h.forward = true
	return h
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Attach joins the host to a segment, by a new interface with these addresses, each with
// the length of its on-link prefix. Without a link-local IPv6 address, the interface has
// no IPv6 multicast.
func (h *Host) Attach(s *Segment, prefixes ...netip.Prefix) *Interface {
	h.w.mu.Lock()
	n := len(h.ifs)
	i := &Interface{host: h, seg: s, name: fmt.Sprintf("eth%d", n), index: n + 2, up: true,
		prefixes: slices.Clone(prefixes), sender: h.number<<32 | 1<<31 | uint64(n), latest: make(map[*Interface]time.Time)}
	i.random = h.w.source(i.sender)
	h.ifs = append(h.ifs, i)
	s.ifs = append(s.ifs, i)
	h.w.mu.Unlock()
	h.changed()
	return i
}

// Route routes prefix through the router with the address via, which must be on-link. The
// longest prefix counts; among equals, the last one added.
func (h *Host) Route(prefix netip.Prefix, via netip.Addr) {
	h.w.mu.Lock()
	h.routes = slices.Insert(h.routes, 0, route{prefix.Masked(), via})
	slices.SortStableFunc(h.routes, func(a, b route) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	h.w.mu.Unlock()
	h.changed()
}

// Gateway routes everything of via's family through via.
func (h *Host) Gateway(via netip.Addr) {
	h.Route(netip.PrefixFrom(via, 0), via)
}

// SetAsleep puts the host to sleep, or wakes it. Asleep it neither receives nor sends.
// The goroutines of its node go on; the test must stop their clock.
func (h *Host) SetAsleep(asleep bool) {
	h.w.mu.Lock()
	h.asleep = asleep
	h.w.mu.Unlock()
	if !asleep {
		h.changed()
	}
}

// SetRefuses has the host's own firewall refuse everything that is sent.
func (h *Host) SetRefuses(refuses bool) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.refuses = refuses
}

// changed has all watches look.
func (h *Host) changed() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for x := range h.watches {
		select {
		case x.events <- struct{}{}:
		default: // it has not seen the last one yet
		}
	}
}

// Watch implements link.Network.
func (h *Host) Watch(ctx context.Context, known link.State, changed func(link.State)) error {
	x := &watch{events: make(chan struct{}, 1)}
	x.events <- struct{}{} // for what changed since known
	h.w.mu.Lock()
	h.watches[x] = struct{}{}
	h.w.mu.Unlock()
	defer func() {
		h.w.mu.Lock()
		delete(h.watches, x)
		h.w.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.events:
		}
		if now, _ := h.State(); !now.Same(known) { // it never fails
			known = now
			changed(now)
		}
	}
}

// far4 and far6 are addresses to which only a default route leads.
var (
	far4 = netip.AddrFrom4([4]byte{2})
	far6 = netip.AddrFrom16([16]byte{0x26})
)

// State implements link.Network.
func (h *Host) State() (link.State, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return link.State{Interfaces: h.interfaces(), Route4: h.routeTo(far4), Route6: h.routeTo(far6)}, nil
}

// routeTo returns the route to a distant address, for State.
func (h *Host) routeTo(to netip.Addr) link.Route {
	x, err := h.find(link.Endpoint{Addr: netip.AddrPortFrom(to, link.Port)})
	if err != nil || x.out == nil {
		return link.Route{}
	}
	return link.Route{Via: x.next, If: x.out.index, Source: x.from}
}

func (h *Host) interfaces() (list []link.Interface) {
	for _, i := range h.ifs {
		if !i.up {
			continue
		}
		d := link.Interface{Name: i.name, Index: i.index, MTU: i.seg.mtu, Prefixes: slices.Clone(i.prefixes)}
		for _, p := range i.prefixes {
			if b, ok := directedBroadcast(p); ok {
				d.Broadcast = append(d.Broadcast, b)
			}
			d.Multicast = d.Multicast || p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()
		}
		list = append(list, d)
	}
	return list
}

// Listen implements link.Network.
func (h *Host) Listen(port uint16) (link.Conn, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.closed {
		return nil, link.ErrClosed
	}
	if port == 0 {
		port = h.freePort()
	}
	if h.conns[port] != nil {
		return nil, fmt.Errorf("vnet: port %d: %w", port, syscall.EADDRINUSE)
	}
	c := newConn(h, port)
	h.conns[port] = c
	return c, nil
}

// freePort returns a port that no socket has.
func (h *Host) freePort() uint16 {
	for h.conns[h.nextPort] != nil || h.probes[h.nextPort] != nil || h.nextPort == 0 {
		h.nextPort++
	}
	h.nextPort++
	return h.nextPort - 1
}

// ListenBeacons implements link.Network. Any number of such sockets share the port; they
// receive only broadcasts and multicasts.
func (h *Host) ListenBeacons() (link.Conn, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.closed {
		return nil, link.ErrClosed
	}
	c := newConn(h, link.Port)
	c.shared = true
	h.beacons = append(h.beacons, c)
	return c, nil
}

// close ends the host's sockets.
func (h *Host) close() {
	for _, c := range h.conns {
		c.shut()
	}
	for _, c := range h.beacons {
		c.shut()
	}
	clear(h.conns)
	h.beacons = nil
	h.streams.close()
}

// path is how a packet leaves a host.
type path struct {
	out  *Interface // nil: it stays on the host
	in   *Interface // on which it arrives if it stays
	next netip.Addr // the neighbour, or a broadcast address
	from netip.Addr
}

// find returns the path of a packet to the endpoint, with the same errors as Linux.
func (h *Host) find(e link.Endpoint) (path, error) {
	dst := e.Addr.Addr()
	for _, i := range h.ifs {
		if i.has(dst) && (e.If == 0 || e.If == i.index || !dst.IsLinkLocalUnicast()) {
			return path{in: i, from: cmp.Or(e.Local, dst)}, nil
		}
	}
	if e.Local.IsValid() && !slices.ContainsFunc(h.ifs, func(i *Interface) bool { return i.has(e.Local) }) {
		return path{}, syscall.EINVAL
	}
	if dst == limitedBroadcast || dst.IsMulticast() || dst.IsLinkLocalUnicast() {
		i := h.byIndex(e.If)
		if i == nil {
			return path{}, syscall.ENETUNREACH
		}
		return h.by(i, dst, e)
	}
	for _, i := range h.ifs {
		if i.up && i.onLink(dst) && (e.If == 0 || e.If == i.index) {
			return h.by(i, dst, e)
		}
	}
	for _, r := range h.routes {
		if !r.prefix.Contains(dst) {
			continue
		}
		for _, i := range h.ifs {
			if i.up && i.onLink(r.via) && (e.If == 0 || e.If == i.index) {
				return h.by(i, r.via, e)
			}
		}
	}
	return path{}, syscall.ENETUNREACH
}

// by returns the path out of interface i to the neighbour next.
func (h *Host) by(i *Interface, next netip.Addr, e link.Endpoint) (path, error) {
	p := path{out: i, next: next, from: e.Local}
	if !i.up {
		return path{}, syscall.ENETUNREACH
	}
	if !p.from.IsValid() {
		to := next
		if dst := e.Addr.Addr(); next.IsLinkLocalUnicast() && !dst.IsLinkLocalUnicast() {
			to = dst // a gateway's address says nothing about the scope of the source
		}
		if p.from = h.source(i, to); !p.from.IsValid() {
			return path{}, syscall.EADDRNOTAVAIL
		}
	}
	return p, nil
}

// source chooses the address from which to send to next by i: one with next on-link,
// else another of the interface's, else any that reaches beyond its link.
func (h *Host) source(i *Interface, next netip.Addr) netip.Addr {
	local := next.Is6() && (next.IsLinkLocalUnicast() || next.IsLinkLocalMulticast())
	var best netip.Addr
	for _, p := range i.prefixes {
		a := p.Addr()
		switch {
		case a.Is4() != next.Is4() || a.IsLinkLocalUnicast() != local:
		case p.Contains(next):
			return a
		case !best.IsValid():
			best = a
		}
	}
	if best.IsValid() || local {
		return best
	}
	for _, other := range h.ifs {
		for _, p := range other.prefixes {
			if p.Addr().Is4() == next.Is4() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

func (h *Host) byIndex(index int) *Interface {
	if index < 2 || index-2 >= len(h.ifs) {
		return nil
	}
	return h.ifs[index-2]
}

// send lets a packet leave by the path that was found when it was written.
func (h *Host) send(p packet, x path) {
	w := h.w
	if h.asleep {
		w.count["drop_asleep"]++
		return
	}
	if x.out == nil {
		h.accept(x.in, p)
		return
	}
	if x.out.broadcast(x.next) {
		h.accept(x.out, p) // a host receives its own broadcasts
	}
	x.out.transmit(p, x.next)
}

// receive takes a packet that arrives by an interface.
func (h *Host) receive(in *Interface, p packet) {
	dst := p.to.Addr()
	switch {
	case h.asleep:
		h.w.count["drop_asleep"]++
	case in.firewall != nil && !in.firewall.in(&p):
	case h.portal != nil && h.portal.stops(in, &p):
	case h.nat != nil && h.nat.receive(in, &p):
	case in.broadcast(dst), h.owns(dst):
		h.accept(in, p)
	case h.forward:
		h.route(in, p)
	default:
		h.w.count["drop_not_mine"]++
	}
}

// owns reports whether a is an address of the host.
func (h *Host) owns(a netip.Addr) bool {
	for _, i := range h.ifs {
		if i.has(a) {
			return true
		}
	}
	return false
}

// route forwards a packet that came in by an interface; nil is by none.
func (h *Host) route(in *Interface, p packet) {
	w := h.w
	if p.hops--; p.hops <= 0 {
		w.count["drop_hops"]++
		return
	}
	if p.to.Addr().IsLinkLocalUnicast() || p.from.Addr().IsLinkLocalUnicast() {
		w.count["drop_link_local"]++
		return
	}
	x, err := h.find(link.Endpoint{Addr: p.to})
	if err != nil || x.out == nil {
		w.count["drop_no_route"]++
		h.complain(&p, HostUnreachable, 0)
		return
	}
	if x.out.broadcast(x.next) {
		w.count["drop_broadcast"]++ // a router keeps directed broadcasts out (RFC 2644)
		return
	}
	if h.nat != nil && h.nat.separates(in, x.out) {
		w.count["drop_nat_isolated"]++
		return
	}
	h.leave(p, x)
}

// leave lets a packet that the host does not send itself leave by a path.
func (h *Host) leave(p packet, x path) {
	if h.nat != nil && x.out == h.nat.outside && !h.nat.outbound(&p) {
		return
	}
	x.out.transmit(p, x.next)
}

// accept passes a packet for this host to its sockets.
func (h *Host) accept(in *Interface, p packet) {
	if p.icmp != nil {
		h.hear(*p.icmp)
		return
	}
	if p.seg != nil {
		h.segments(p)
		return
	}
	e := link.Endpoint{Addr: p.from, Local: p.to.Addr(), If: in.index}
	all := in.broadcast(p.to.Addr())
	if all {
		e.Local = netip.Addr{}
		if p.to.Addr().Is4() {
			e.Local = h.source(in, p.from.Addr())
		}
		if p.to.Port() == link.Port {
			for _, c := range h.beacons {
				c.put(e, p.data)
			}
		}
	}
	c := h.conns[p.to.Port()]
	switch {
	case c != nil:
		c.put(e, p.data)
	case !all:
		h.w.count["drop_no_socket"]++
		h.complain(&p, PortUnreachable, 0)
	}
}
