package overlay

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"anodenet/overlay/link"
)

// Discovery is how a node shows itself on the real LAN. A beacon, and a WHOIS to everybody, has our address
// in clear; FRIENDS has not.
type Discovery struct {
	// Off has the node be silent: it broadcasts nothing, and answers only peers that were added.
	Off bool
	// Friends has it broadcast only what peers that were added recognise, and answer only those. Strangers see
	// that a node is there, at which IP address, port and MAC.
	Friends bool
	// Silent reports on which links the node is silent as if Off were set; nil: on none. It is called by
	// the loop and must not wait. A link without IP has a name only.
	Silent func(link.Interface) bool
}

// silent reports whether nothing may be broadcast on a link.
func (d *Discovery) silent(i link.Interface) bool { return d.Off || d.Silent != nil && d.Silent(i) }

// SetDiscovery changes how the node shows itself on the real LAN.
func (n *Node) SetDiscovery(ctx context.Context, d Discovery) error {
	return n.call(ctx, func(l *loop) error {
		l.shell.discovery = d
		l.beacon.linksChanged()
		return nil
	})
}

// hides reports whether strangers at an endpoint must not learn of us.
func (s *shell) hides(ep link.Endpoint) bool {
	if s.discovery.Off || s.discovery.Friends || s.discovery.Silent == nil {
		return s.discovery.Off || s.discovery.Friends
	}
	i, ok := s.l.links.of(ep)
	return ok && s.discovery.silent(i)
}

// of returns the link that an endpoint is on.
func (k *links) of(ep link.Endpoint) (link.Interface, bool) {
	for _, i := range k.state.Interfaces {
		if ep.If != 0 && ep.If == i.Index {
			return i, true
		}
	}
	if ep.Kind == link.Ethernet { // one without IP
		dev, err := net.InterfaceByIndex(ep.If)
		if err != nil {
			return link.Interface{}, false
		}
		return link.Interface{Name: dev.Name, Index: dev.Index}, true
	}
	for _, i := range k.state.Interfaces {
		if slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Contains(ep.Addr.Addr()) }) {
			return i, true
		}
	}
	return link.Interface{}, false
}
