package platform

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Names tells the system's resolver which names to ask us for.
//
//	program -> libc -> resolver -> anode.internal, reverse zones ------> our DNS server
//	                      '-----> all other names -> whoever it asked before
//
// Linux has systemd-resolved, which is told by D-Bus and forgets all when the adapter goes; macOS
// has files in /etc/resolver, and Windows a rule in the registry. The other systems get
// instructions. /etc/resolv.conf is nobody's business here, and neither is any other link.
//
// All methods may be called at once. A failure is in the report and in the error, for the log; it
// is never a reason to stop.
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

// NameFlusher is a Names that can have the resolver forget its answers. Flush is called when a
// name became somebody else's or went, which otherwise is seen when the TTL has passed.
type NameFlusher interface {
	Flush(ctx context.Context) error
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

// clone returns settings that share nothing with s.
func (s NameSettings) clone() NameSettings {
	s.Domains = slices.Clone(s.Domains)
	return s
}

// check says whether the settings make sense.
func (s NameSettings) check() error {
	if s.Link <= 0 || !s.Server.IsValid() || s.Server.Port() == 0 || len(s.Domains) == 0 {
		return fmt.Errorf("names: settings are incomplete: %+v", s)
	}
	for _, d := range s.Domains {
		// "." would send all of the machine's names to us, and "/" would be a path.
		if strings.Trim(d, ".") != d || d == "" || strings.ContainsFunc(d, notOfDomain) {
			return fmt.Errorf("names: %q is not a domain", d)
		}
	}
	return nil
}

// notOfDomain reports whether a domain cannot hold a character.
func notOfDomain(r rune) bool {
	return r != '.' && r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

// NameReport is what Describe says.
type NameReport struct {
	Manager      string // "systemd-resolved", "systemd-networkd", "dnsmasq", "NetworkManager", "none", ...
	Applied      bool
	Why          string // in words, if not applied
	Try          string // what to do about it; perhaps several lines
	Instructions string // name of the "anode dns instructions" page that fits, "" for none
}

// The names of managers in a report.
const (
	ManagerResolved       = "systemd-resolved"
	ManagerNetworkd       = "systemd-networkd"
	ManagerNetworkManager = "NetworkManager"
	ManagerDnsmasq        = "dnsmasq"
	ManagerUnbound        = "unbound"
	ManagerResolvconf     = "resolvconf"
	ManagerOpenresolv     = "openresolv"
	ManagerDhcpcd         = "dhcpcd"
	ManagerConnMan        = "ConnMan"
	ManagerLocal          = "local" // on this machine, of which no more is known
	ManagerNone           = "none"
)

// The pages of "anode dns instructions" that a report may name.
const (
	PageDnsmasq  = "dnsmasq"
	PageUnbound  = "unbound"
	PageNM       = "nm"
	PageDelegate = "delegate"
	PagePlain    = "plain" // no resolver runs here
)
