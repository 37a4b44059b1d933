package platform

import (
	"context"
	"net/netip"
)

// Names tells the system's resolver which names to ask us for.
type Names interface {
	// Apply has the resolver ask server for the domains, on the link alone. It may be called again at any time.
	Apply(ctx context.Context, s NameSettings) error
	// Revert takes back what Apply did.
	Revert(ctx context.Context) error
	// Describe says which manager was found, whether settings are in force, and if not, why.
	Describe() NameReport
	// Run watches the manager and applies the last settings again when it restarts; it returns when ctx ends.
	Run(ctx context.Context) error
}

// NameSettings is what Apply wants.
type NameSettings struct {
	Link         int            // index of the adapter's link
	Name         string         // of the adapter
	Server       netip.AddrPort // of our DNS server
	Domains      []string       // routing-only domains without a dot in front: the suffix, reverse zones
	Search       bool           // the first domain is a search domain as well
	MulticastDNS bool           // the virtual LAN wants it
}

// NameReport is what Describe says.
type NameReport struct {
	Manager      string // "systemd-resolved", "systemd-networkd", "dnsmasq", "NetworkManager", "none", ...
	Applied      bool
	Why          string // in words, if not applied
	Try          string // what to do about it; perhaps several lines
	Instructions string // name of the "anode dns instructions" page that fits, "" for none
}
