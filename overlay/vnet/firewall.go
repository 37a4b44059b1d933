package vnet

import (
	"net/netip"
	"slices"
	"time"
)

// FirewallConfig describes a stateful firewall (RFC 6092): what a remote sends comes in
// only after something went out to it. The zero value lets in what is sent to any endpoint
// that ever sent something.
type FirewallConfig struct {
	// Filtering is how much of the remote must be the same.
	Filtering Behaviour
	// Lifetime is how long after the last packet out answers come in; 0 is for ever.
	Lifetime time.Duration
	// InboundRefresh has answers renew it.
	InboundRefresh bool
	// NoUDP drops all UDP in both directions, except to and from the remote ports in Allow.
	NoUDP bool
	Allow []uint16
	// Deny drops UDP to and from these remote ports.
	Deny []uint16
	// NoTCP drops all TCP in both directions, except to and from the remote ports in AllowTCP.
	// Connections that are allowed go out, and come in only to pinholes.
	NoTCP    bool
	AllowTCP []uint16
	// Open lets in what is not forbidden, whoever began.
	Open bool
	// Rejects answers what must not go out with an ICMP error; otherwise it is
	// dropped silently.
	Rejects bool
}

// Firewall watches over an interface: what leaves by it is from the protected side, also if
// the interface is a router's. It sees addresses as they are outside a NAT.
type Firewall struct {
	iface *Interface

	// under w.mu
	config   FirewallConfig
	flows    fresh[mapKey]
	streams  fresh[mapKey] // connections
	pinholes map[netip.AddrPort]struct{}
}

// Firewall puts a firewall on the interface, in place of one that is there.
func (i *Interface) Firewall(c FirewallConfig) *Firewall {
	i.host.w.mu.Lock()
	defer i.host.w.mu.Unlock()
	f := &Firewall{iface: i, config: c, pinholes: make(map[netip.AddrPort]struct{})}
	i.firewall = f
	return f
}

// SetConfig changes how the firewall behaves. What it knows stays.
func (f *Firewall) SetConfig(change func(*FirewallConfig)) {
	f.iface.host.w.mu.Lock()
	defer f.iface.host.w.mu.Unlock()
	change(&f.config)
}

// Pin lets everyone send to a local endpoint, as PCP does; Unpin ends that.
func (f *Firewall) Pin(local netip.AddrPort) {
	f.iface.host.w.mu.Lock()
	defer f.iface.host.w.mu.Unlock()
	f.pinholes[local] = struct{}{}
}

// Unpin ends what Pin did.
func (f *Firewall) Unpin(local netip.AddrPort) {
	f.iface.host.w.mu.Lock()
	defer f.iface.host.w.mu.Unlock()
	delete(f.pinholes, local)
}

// Reboot forgets all flows and pinholes.
func (f *Firewall) Reboot() {
	f.iface.host.w.mu.Lock()
	defer f.iface.host.w.mu.Unlock()
	f.flows, f.streams = fresh[mapKey]{}, fresh[mapKey]{}
	clear(f.pinholes)
}

// forbids reports whether a packet to or from a remote port is blocked.
func (c *FirewallConfig) forbids(p *packet, remote uint16) bool {
	if p.seg != nil {
		return c.NoTCP && !slices.Contains(c.AllowTCP, remote)
	}
	return c.NoUDP && !slices.Contains(c.Allow, remote) || slices.Contains(c.Deny, remote)
}

func (f *Firewall) flow(local, remote netip.AddrPort) mapKey {
	return mapKey{local, f.config.Filtering.of(remote)}
}

// out notes a packet that leaves. It returns false after dropping it.
func (f *Firewall) out(p *packet) bool {
	if p.icmp != nil {
		return true
	}
	if f.config.forbids(p, p.to.Port()) {
		f.iface.host.w.count["drop_firewall_out"]++
		if f.config.Rejects {
			f.iface.host.complain(p, Prohibited, 0)
		}
		return false
	}
	if p.seg != nil {
		return f.stream(p.from, p.to, p.seg.kind == segSYN)
	}
	f.flows.use(f.flow(p.from, p.to), time.Now(), f.config.Lifetime)
	return true
}

// in reports whether a packet that arrives may come in. It counts it if not.
func (f *Firewall) in(p *packet) bool {
	if p.seg != nil {
		return !f.config.forbids(p, p.from.Port()) && f.stream(p.to, p.from, false)
	}
	now := time.Now()
	local, remote, udp := p.to, p.from, p.icmp == nil
	if !udp {
		local, remote = p.icmp.From, p.icmp.To
	}
	key := f.flow(local, remote)
	_, pinned := f.pinholes[local]
	known := f.flows.has(key, now, f.config.Lifetime)
	if udp && f.config.forbids(p, remote.Port()) || !known && !pinned && !f.config.Open {
		f.iface.host.w.count["drop_firewall_in"]++
		return false
	}
	if udp && known && f.config.InboundRefresh {
		f.flows.use(key, now, f.config.Lifetime)
	}
	return true
}

// stream reports whether a segment may pass. Only what begins a connection makes it known.
func (f *Firewall) stream(local, remote netip.AddrPort, begins bool) bool {
	key, now := mapKey{local, remote}, time.Now()
	_, pinned := f.pinholes[local]
	if !begins && !pinned && !f.config.Open && !f.streams.has(key, now, connectionLifetime) {
		f.iface.host.w.count["drop_firewall_stream"]++
		return false
	}
	f.streams.use(key, now, connectionLifetime)
	return true
}
